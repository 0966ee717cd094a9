//! Writes histories down, and reads them at a start.
//!
//! A stop by `kill -9` costs what was not written yet: minutes of what was news, at most six hours of counts of the same.
//! Nothing rests on a history, so a record that cannot be written or read is no reason to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::name::SiteName;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::book::Book;
use super::record;
use crate::registry::Registry;
use crate::store::{Store, StoreError};

const PAUSE: Duration = Duration::from_secs(30);
/// In one go; the log takes those that come together in one write.
const AT_ONCE: usize = 256;

/// What works on the book.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub book: Arc<Book>,
    pub store: Store,
    pub registry: Registry,
}

impl Keeper {
    /// Takes over what earlier starts have left.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn recall(&self) -> Result<(), StoreError> {
        for found in self.store.records(record::FAMILY)? {
            if let Ok(site) = found.key.parse() {
                self.book.recall(site, record::decode(&found.value));
            }
        }
        Ok(())
    }

    /// Runs until it is dropped.
    pub async fn keep(self, now: fn() -> Timestamp) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.forget().await;
            let due = self.book.due(now(), AT_ONCE);
            self.write(due).await;
        }
    }

    /// At a clean stop: everything.
    pub async fn finish(&self, now: Timestamp) {
        let mut all = self.book.unwritten(now);
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(AT_ONCE));
            self.write(all).await;
            all = rest;
        }
    }

    async fn forget(&self) {
        let gone = self.book.forget(|site| {
            let smarthost = self.registry.smarthost();
            self.registry.site(site).is_some() || smarthost.is_some_and(|it| it.name == *site)
        });
        let gone = gone.into_iter();
        self.together(gone.map(|site| (site, None))).await;
    }

    async fn write(&self, pages: Vec<(SiteName, Bytes)>) {
        let pages = pages.into_iter();
        self.together(pages.map(|(site, page)| (site, Some(page))))
            .await;
    }

    async fn together(&self, records: impl Iterator<Item = (SiteName, Option<Bytes>)>) {
        let mut writing: JoinSet<()> = JoinSet::new();
        for (site, value) in records {
            writing.spawn(self.put(site, value));
        }
        while writing.join_next().await.is_some() {}
    }

    fn put(&self, site: SiteName, value: Option<Bytes>) -> impl Future<Output = ()> + use<> {
        let store = self.store.clone();
        async move {
            if let Err(error) = store.put(record::FAMILY, site.as_str(), value).await {
                tracing::warn!(%site, %error, "the last days of the site cannot be written down");
            }
        }
    }
}
