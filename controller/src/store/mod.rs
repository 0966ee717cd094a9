//! The seam: everything the rest of the controller may ask of storage, in the domain's words.
//!
//! `local/` implements it with two append-only logs (what must not be forgotten) and an index derived from them.
//!
//! # Invariants
//! What `accept`, `settle` and `put` answered Ok for survives a power cut. Positions are opaque: sequences, files and
//! offsets never leave this folder.
//!
//! # Not here
//! When anything is tried: [`crate::dispatch`].

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use dd_proto::report::{Disposition, Reply};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::intake::accept::{AcceptError, Submission};
use crate::intake::policy::Space;

mod local;

use local::Local;
pub use local::Spooled;

/// Where a delivery stands in its site's queue: due mail first, then by the time it becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds since 1970; 0: due from the start.
    pub(in crate::store) not_before_ms: u64,
    pub(in crate::store) sequence: u64,
}

#[cfg(test)]
impl Position {
    /// For stores that tests make up.
    pub(crate) fn made_up(not_before_ms: u64, sequence: u64) -> Self {
        Self {
            not_before_ms,
            sequence,
        }
    }
}

/// An open delivery as the index knows it: small, without envelope and content.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub delivery: DeliveryId,
    pub position: Position,
    pub arrived: Timestamp,
    /// None: due.
    pub not_before: Option<Timestamp>,
    pub attempts: u32,
    pub breaks: u32,
    /// An attempt may have reached the site.
    pub in_doubt: bool,
    /// A final answer that nobody could be told of yet: shown, not tried again.
    pub failed: bool,
    pub bytes: u64,
    /// Recipients that are not settled.
    pub open: Vec<RecipientNumber>,
    /// It was accepted by an earlier start of the controller.
    pub earlier_start: bool,
}

/// The due part of a site's queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    /// In the order in which they are to be tried.
    pub due: Vec<Waiting>,
    /// There are more behind the last one that are due too.
    pub more: bool,
    /// When the first one that is not due becomes due.
    pub next_due: Option<Timestamp>,
}

/// A delivery with all that an assignment needs.
#[derive(Debug)]
pub struct Loaded {
    pub waiting: Waiting,
    /// All recipients of the message, also those of other sites and those that are settled.
    pub envelope: Envelope,
    pub content: StoredContent,
}

#[derive(Debug)]
pub enum StoredContent {
    Inline(Bytes),
    /// In a file of its own; read in order.
    File(tokio::fs::File),
}

/// What became of some recipients of a delivery. It is closed when none is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub delivery: DeliveryId,
    pub recipients: Vec<(RecipientNumber, Settled)>,
}

/// The final word about one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Relayed,
    Failed,
    Removed,
}

/// What is remembered about an open delivery, and not waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub delivery: DeliveryId,
    pub attempts: u32,
    pub breaks: u32,
    pub in_doubt: bool,
    pub failed: bool,
    pub not_before: Option<Timestamp>,
    /// The reply it was kept for, shown to operators.
    pub last: Option<(Disposition, Reply)>,
}

/// What waits for a site, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// Where the store lies and how much it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    pub dir: PathBuf,
    pub segment_bytes: u64,
    /// Intake stops below it.
    pub min_free: MinFree,
    pub rebuild_index: RebuildIndex,
}

/// What must stay free of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    Percent(u8),
    Bytes(u64),
}

/// Whether an operator asked for what is derived to be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildIndex {
    No,
    Yes,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartReport {
    pub start_number: u64,
    pub open_deliveries: u64,
    pub records: u64,
    /// Records that cannot be read; copied to `quarantine/`.
    pub damaged: u64,
    /// Bytes of a commit that nobody was told of.
    pub torn_bytes: u64,
    /// Content files that no open delivery names.
    pub orphans: u64,
    /// The newest time in a record: a wall clock far behind it is wrong.
    pub newest: Option<Timestamp>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another controller runs on this state directory ({0})")]
    InUse(PathBuf),
    #[error("the state directory {dir} cannot be used: {source}")]
    Io {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The log has failed: nothing more is durable, and the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has failed")]
pub struct LogFailed;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Held and shown, never assigned.
    #[error("the content of {0} is damaged")]
    Damaged(DeliveryId),
    #[error("the store cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    LogFailed(#[from] LogFailed),
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition(pub(in crate::store) ListKey);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum ListKey {
    /// In the order of a site's queue.
    Site(Position),
    /// In the order of the messages' ids.
    All(DeliveryId),
}

/// A record of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    /// The sequence of the record that wrote it: never used again.
    pub version: u64,
    pub value: Bytes,
}

/// The store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    local: Arc<Local>,
}

impl Store {
    /// Opens the state directory, or makes it. Blocks until all is known.
    ///
    /// # Errors
    /// Another process has it, or the disk refuses.
    pub fn open(settings: Settings, now: Timestamp) -> Result<(Self, StartReport), OpenError> {
        let (local, report) = Local::open(settings, now)?;
        let local = Arc::new(local);
        Ok((Self { local }, report))
    }

    /// The high half of every lease generation of this start.
    pub fn start_number(&self) -> u64 {
        self.local.start_number()
    }

    /// Makes a message durable; one [`Waiting`] for each site. If the machine stops before it returns, the message is
    /// there or not, and the client, never told 250, tries again.
    ///
    /// # Errors
    /// No space for its content, or the log has failed.
    pub async fn accept(
        &self,
        submission: Submission<Spooled>,
    ) -> Result<Vec<Waiting>, AcceptError> {
        self.local.accept(submission).await
    }

    /// A file for a large content.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn spool(&self) -> Result<Spooled, AcceptError> {
        self.local.spool().await
    }

    /// Durable when it returns Ok.
    ///
    /// # Errors
    /// The log has failed.
    pub async fn settle(&self, batch: Vec<Settlement>) -> Result<(), LogFailed> {
        self.local.settle(batch).await
    }

    /// Seen by every later `head`; on disk with the next commit, which is not waited for.
    ///
    /// # Errors
    /// The log has failed.
    pub async fn note(&self, batch: Vec<Note>) -> Result<(), LogFailed> {
        self.local.note(batch).await
    }

    /// Remembers when a site is tried next. Not durable.
    pub async fn site_timer(&self, site: SiteName, at: Option<Timestamp>) {
        self.local.index().set_timer(site, at);
    }

    /// What of a site's queue is due, behind `after`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn head(
        &self,
        site: &SiteName,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    ) -> Result<Head, StoreError> {
        Ok(self.local.index().head(site, after, due, limit))
    }

    /// All that an assignment needs; None if the delivery is not open.
    ///
    /// # Errors
    /// Its record or content is damaged, or cannot be read.
    pub async fn load(&self, delivery: &DeliveryId) -> Result<Option<Loaded>, StoreError> {
        self.local.load(delivery).await
    }

    /// The open deliveries of a message.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn find(&self, id: MessageId) -> Result<Vec<Waiting>, StoreError> {
        Ok(self.local.index().find(id))
    }

    /// One page of what waits, and where the next begins.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn list(
        &self,
        site: Option<SiteName>,
        after: Option<ListPosition>,
        limit: usize,
    ) -> Result<(Vec<Waiting>, Option<ListPosition>), StoreError> {
        let index = self.local.index();
        Ok(index.list(site.as_ref(), after.as_ref(), limit))
    }

    pub fn count(&self, site: &SiteName) -> Count {
        self.local.index().count(site)
    }

    pub fn total(&self) -> Count {
        self.local.index().total()
    }

    /// Sites with open deliveries, and when each is to be tried next.
    pub fn sites_with_mail(&self) -> Vec<(SiteName, Option<Timestamp>)> {
        self.local.index().sites_with_mail()
    }

    /// Becomes true when everything that earlier starts left is in the index.
    pub fn all_known(&self) -> watch::Receiver<bool> {
        self.local.all_known()
    }

    pub fn space(&self) -> Space {
        self.local.space()
    }

    /// Writes or removes (None) a record of the registry. Durable when it returns the record's version.
    ///
    /// # Errors
    /// The log has failed.
    pub async fn put(
        &self,
        family: &'static str,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<u64, LogFailed> {
        self.local.put(family, key, value).await
    }

    /// All records of a family, by key.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn records(&self, family: &'static str) -> Result<Vec<Record>, StoreError> {
        Ok(self.local.records(family))
    }

    /// Resolves when the log has failed: the process ends.
    pub async fn failed(&self) {
        self.local.failed().await;
    }

    /// Writes what is pending and ends the writers.
    ///
    /// # Errors
    /// The log has failed before or now.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.local.close().await?)
    }
}
