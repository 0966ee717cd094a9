//! Writes histories down, and reads them at a start.
//!
//! A stop by `kill -9` costs what was not written yet: minutes of what was news, at most six hours of counts of the same.
//! Nothing rests on a history, so a record that cannot be written or read is no reason to stop, nor to stop later; and
//! short of space none is written: what is left is held back for what people change.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::name::SiteName;
use jiff::Timestamp;
use tokio::time::Instant;

use super::book::Book;
use super::record;
use crate::intake::policy::Space;
use crate::registry::Registry;
use crate::store::{Remembered, Store, StoreError};

const PAUSE: Duration = Duration::from_secs(30);
/// In one commit.
const AT_ONCE: usize = 256;
/// For how long a clean stop waits for this: the store is closed behind it, and that makes the next start quick.
const FINISH: Duration = Duration::from_secs(5);

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
            self.turn(now()).await;
        }
    }

    /// Short of space everything stays due.
    async fn turn(&self, now: Timestamp) {
        if self.store.space() == Space::Short {
            return;
        }
        self.forget().await;
        let due = self.book.due(now, AT_ONCE);
        self.write(due).await;
    }

    /// At a clean stop: everything, as far as there is time.
    pub async fn finish(&self, now: Timestamp) {
        let until = Instant::now() + FINISH;
        let left = self.write_while(now, || Instant::now() < until).await;
        if left > 0 {
            tracing::warn!(
                sites = left,
                "the last days of some sites are not written down: there is no time, or no room"
            );
        }
    }

    /// A commit that has begun is waited for: behind it the store may be closed. Returns of how many sites nothing was
    /// written.
    async fn write_while(&self, now: Timestamp, is_time: impl Fn() -> bool) -> usize {
        let mut left = self.book.unwritten(now);
        while !left.is_empty() && is_time() && self.store.space() == Space::Enough {
            let rest = left.split_off(left.len().min(AT_ONCE));
            let number = left.len();
            if self.write(left).await == Remembered::NoRoom {
                return number + rest.len();
            }
            left = rest;
        }
        left.len()
    }

    async fn forget(&self) {
        let gone = self.book.forget(|site| {
            let smarthost = self.registry.smarthost();
            self.registry.site(site).is_some() || smarthost.is_some_and(|it| it.name == *site)
        });
        for gone in gone.chunks(AT_ONCE) {
            let records = gone.iter().map(|site| (site.to_string(), None));
            self.remember(records.collect()).await;
        }
    }

    async fn write(&self, pages: Vec<(SiteName, Bytes)>) -> Remembered {
        let records = pages
            .iter()
            .map(|(site, page)| (site.to_string(), Some(page.clone())));
        let remembered = self.remember(records.collect()).await;
        if remembered == Remembered::NoRoom {
            let sites = pages.into_iter().map(|(site, _)| site);
            self.book.not_written(sites);
        }
        remembered
    }

    async fn remember(&self, records: Vec<(String, Option<Bytes>)>) -> Remembered {
        if records.is_empty() {
            return Remembered::Written;
        }
        let remembered = self.store.remember(record::FAMILY, records).await;
        remembered.unwrap_or_else(|error| {
            tracing::warn!(%error, "the last days of sites cannot be written down");
            Remembered::NoRoom
        })
    }
}

#[cfg(test)]
mod tests;
