//! What dispatch asks of the store, so that its loop can be tested over a made-up one.

use std::future::Future;

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{ClockNews, remembered};
use crate::intake::accept::Submission;
use crate::intake::policy::Space;
use crate::store::{
    Count, Head, HeadOf, Loaded, Note, Owing, Settlement, Spooled, Store, StoreError, Waiting,
    WithMail,
};

/// The store could not do it; it has said why in its own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreFailed(pub String);

/// Why something stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// For good: it is not what was written.
    #[error("{0}")]
    Damaged(String),
    #[error("it cannot be read now: {0}")]
    NotNow(String),
}

/// What became of reading a delivery; None: it is settled.
pub type ReadOf = (DeliveryId, Result<Option<Loaded>, NotRead>);

impl From<StoreError> for NotRead {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Damaged(error.to_string()),
            _ => Self::NotNow(error.to_string()),
        }
    }
}

/// A queue that outlives the process.
pub trait Backing: Clone + Send + Sync + 'static {
    /// Durable when Ok, with the notifications owed, of which the deliveries are returned. What is settled already
    /// stays as it is.
    fn settle(
        &self,
        batch: Vec<Owing<Settlement>>,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreFailed>> + Send;
    /// Written when Ok, with the notifications owed, of which the deliveries are returned; a power cut may forget it.
    fn note(
        &self,
        batch: Vec<Owing<Note>>,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreFailed>> + Send;
    /// A mail of our own, durable when Ok.
    fn accept(
        &self,
        submission: Submission<Spooled>,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreFailed>> + Send;
    /// Whether there is room for large notifications.
    fn space(&self) -> Space;
    /// None: it has none.
    fn remember_timer(
        &self,
        site: SiteName,
        at: Option<Timestamp>,
    ) -> impl Future<Output = ()> + Send;
    /// For the next start.
    fn remember_clock(
        &self,
        news: ClockNews,
    ) -> impl Future<Output = Result<(), StoreFailed>> + Send;
    /// One for each, in this order.
    fn heads(&self, of: Vec<HeadOf>)
    -> impl Future<Output = Result<Vec<Head>, StoreFailed>> + Send;
    /// Up to so many of a site's open deliveries, whatever their state.
    fn left(
        &self,
        site: SiteName,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreFailed>> + Send;
    /// None: it is settled.
    fn load(
        &self,
        delivery: DeliveryId,
    ) -> impl Future<Output = Result<Option<Loaded>, NotRead>> + Send;
    /// The same for several, in one visit.
    fn load_all(&self, deliveries: Vec<DeliveryId>) -> impl Future<Output = Vec<ReadOf>> + Send;
    /// The open deliveries of a message.
    fn find(
        &self,
        message: MessageId,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreFailed>> + Send;
    /// From memory.
    fn count(&self, site: &SiteName) -> Count;
    fn sites_with_mail(&self) -> Vec<WithMail>;
    /// Turns true once, when all mail of earlier starts is known.
    fn all_known(&self) -> watch::Receiver<bool>;
}

impl Backing for Store {
    async fn settle(&self, batch: Vec<Owing<Settlement>>) -> Result<Vec<Waiting>, StoreFailed> {
        Self::settle(self, batch).await.map_err(failed)
    }

    async fn note(&self, batch: Vec<Owing<Note>>) -> Result<Vec<Waiting>, StoreFailed> {
        Self::note(self, batch).await.map_err(failed)
    }

    async fn accept(&self, submission: Submission<Spooled>) -> Result<Vec<Waiting>, StoreFailed> {
        Self::accept(self, submission).await.map_err(failed)
    }

    fn space(&self) -> Space {
        Self::space(self)
    }

    async fn remember_timer(&self, site: SiteName, at: Option<Timestamp>) {
        self.site_timer(site, at).await;
    }

    async fn remember_clock(&self, news: ClockNews) -> Result<(), StoreFailed> {
        remembered::remember(self, news).await
    }

    async fn heads(&self, of: Vec<HeadOf>) -> Result<Vec<Head>, StoreFailed> {
        Self::heads(self, of).await.map_err(failed)
    }

    async fn left(&self, site: SiteName, limit: usize) -> Result<Vec<Waiting>, StoreFailed> {
        let listed = self.list(Some(site), None, limit).await;
        listed.map(|(found, _)| found).map_err(failed)
    }

    async fn load(&self, delivery: DeliveryId) -> Result<Option<Loaded>, NotRead> {
        Self::load(self, &delivery).await.map_err(NotRead::from)
    }

    async fn load_all(&self, deliveries: Vec<DeliveryId>) -> Vec<ReadOf> {
        match Self::load_all(self, deliveries.clone()).await {
            Ok(loaded) => {
                let loaded = loaded.into_iter();
                loaded
                    .map(|(of, it)| (of, it.map_err(NotRead::from)))
                    .collect()
            }
            Err(error) => {
                let failed = || Err(NotRead::NotNow(error.to_string()));
                deliveries.into_iter().map(|of| (of, failed())).collect()
            }
        }
    }

    async fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreFailed> {
        Self::find(self, message).await.map_err(failed)
    }

    fn count(&self, site: &SiteName) -> Count {
        Self::count(self, site)
    }

    fn sites_with_mail(&self) -> Vec<WithMail> {
        Self::sites_with_mail(self)
    }

    fn all_known(&self) -> watch::Receiver<bool> {
        Self::all_known(self)
    }
}

fn failed(error: impl std::fmt::Display) -> StoreFailed {
    StoreFailed(error.to_string())
}
