//! The seam: everything the rest of the controller may ask of storage, in the domain's words.
//!
//! [`local`] implements it with two append-only logs (what must not be forgotten) and sled (derived from them).
//!
//! # Invariants
//! What `accept`, `settle` and `put` answered Ok for survives a power cut. Positions are opaque: sequences, files and
//! offsets never leave this folder.
//!
//! # Not here
//! When anything is tried: [`crate::dispatch`].

pub(crate) mod local;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::intake::accept::{AcceptError, Submission};
use crate::intake::policy::Space;
use crate::spread::Spread;

pub use local::content::{ContentFile, Spooled};

/// Where a delivery stands in its site's queue: due mail first, then by the time it becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds since 1970; 0: due from the start.
    pub(in crate::store) not_before_ms: u64,
    pub(in crate::store) sequence: u64,
}

impl Position {
    /// In front of everything that becomes due at `at`, behind everything that is due before it.
    pub(crate) fn before(at: Timestamp) -> Self {
        Self {
            not_before_ms: u64::try_from(at.as_millisecond()).unwrap_or(0),
            sequence: 0,
        }
    }
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

    /// What no two messages ever share.
    pub(crate) fn number(self) -> u64 {
        self.sequence
    }
}

/// A site for which mail waits, as a start finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithMail {
    pub site: SiteName,
    pub next: NextTry,
    /// When the newest of its mail has come.
    pub newest: Timestamp,
}

/// When a site was to be tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    At(Timestamp),
    /// Nothing was known against it.
    AtOnce,
    /// The index was lost, and with it all timers.
    Unknown,
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
    /// It cannot be read, or its content cannot: shown, not tried again by itself.
    pub failed: bool,
    /// A 5yz of it was kept, for its site may be misconfigured: the next one is final.
    pub kept: bool,
    /// The sender has been told that it is late.
    pub warned: bool,
    /// What came of the last attempt, for people; empty before the first.
    pub last: String,
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

/// The part of a site's queue that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadOf {
    pub site: SiteName,
    pub after: Option<Position>,
    pub due: Timestamp,
    pub limit: usize,
}

/// What became of loading a delivery; None: it is settled.
pub type LoadedOf = (DeliveryId, Result<Option<Loaded>, StoreError>);

/// The envelope of a delivery; None where it is settled, an error where the envelope itself is damaged.
pub type EnvelopeOf = Result<Option<Envelope>, StoreError>;

#[derive(Debug)]
pub enum StoredContent {
    Inline(Bytes),
    /// Large; read in order by whoever wants it.
    File(ContentFile),
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
    /// A final answer of the site, or an operator's decision.
    Failed,
    /// An operator took it away; nobody is told.
    Removed,
    /// It was not accepted within the site's lifetime (RFC 3463 §3.5: X.4.7).
    Expired,
}

/// A settlement or a note, with the notification that it owes: one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Owing<T> {
    pub what: T,
    pub dsn: Option<Notification>,
}

impl<T> From<T> for Owing<T> {
    /// Nobody is told.
    fn from(what: T) -> Self {
        Self { what, dsn: None }
    }
}

/// A notification to a sender: a message of ours, accepted by the record that owes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub id: MessageId,
    pub envelope: Envelope,
    /// Where all its recipients are delivered to.
    pub site: SiteName,
    pub content: Bytes,
    pub arrived: Timestamp,
    /// Not tried before.
    pub not_before: Option<Timestamp>,
}

/// What is remembered about an open delivery, and not waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub delivery: DeliveryId,
    pub attempts: u32,
    pub breaks: u32,
    pub in_doubt: bool,
    pub failed: bool,
    pub kept: bool,
    pub warned: bool,
    pub not_before: Option<Timestamp>,
    /// What came of the last attempt: the reply, or a sentence where there was none.
    pub last: String,
}

/// What waits for a site, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// Where the store lies and how it behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Made, with mode 0700, where it does not exist.
    pub dir: PathBuf,
    pub segment_bytes: u64,
    /// Below it intake is told that space is short.
    pub min_free: MinFree,
    pub rebuild_index: RebuildIndex,
}

/// How much of the file system stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    Percent(u8),
    Bytes(u64),
}

/// Whether a start treats the index as if it were gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildIndex {
    No,
    Yes,
}

/// A wall clock that is further ahead of what has passed is not believed: nothing expires by it, and no record has its time.
pub const UNBELIEVED: Duration = Duration::from_secs(2 * 86_400);

/// What a start found, before it has read what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartReport {
    /// This start's number: the high half of every lease generation.
    pub start: u64,
    /// Whether the last stop was clean, so that the index need not be rebuilt unless it disagrees.
    pub clean: bool,
    /// Damaged places in the registry's log, copied to `quarantine/`.
    pub registry_damage: u64,
    /// Bytes of a torn last commit, which nobody was told of.
    pub torn_bytes: u64,
    /// The wall time of the newest record of an earlier start: a clock far behind it is wrong.
    pub newest: Option<Timestamp>,
}

/// How far the reading of what earlier starts have left has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub stage: Stage,
    /// Records of the log, or entries of the index, that were read.
    pub records: u64,
    /// Bytes of the log that lie behind.
    pub bytes: u64,
    /// Bytes of the log, or entries of the index, in all.
    pub of: u64,
    /// Damaged places in the log, copied to `quarantine/`.
    pub damaged: u64,
}

/// What is being done to know all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    Opening,
    /// After a clean stop the index is read once.
    Checking,
    /// The index is filled from the log.
    Rebuilding,
    /// It does not fit on the disk; it goes on when so much is free.
    NoRoom { wanted: u64 },
    /// All is known.
    Done,
}

impl Progress {
    /// How much of it lies behind.
    pub fn percent(&self) -> u64 {
        let done = match self.stage {
            Stage::Opening | Stage::NoRoom { .. } => 0,
            Stage::Checking => self.records,
            Stage::Rebuilding => self.bytes,
            Stage::Done => return 100,
        };
        (done * 100).checked_div(self.of).unwrap_or(0).min(100)
    }
}

/// What the store has done since its start and what it takes, for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// Of the queue log, the one that is being written included; spares are not.
    pub log_segments: u64,
    pub log_bytes: u64,
    pub live_deliveries: u64,
    /// Bytes of records that open deliveries need: cleaning keeps the log below twice that and two segments.
    pub live_bytes: u64,
    /// Segments made ahead; below two no new mail is taken where no more can be made.
    pub spare_segments: u64,
    /// Of the file system, and below what of it no new mail is taken.
    pub free_bytes: u64,
    pub min_free_bytes: u64,
    pub rolled_segments: u64,
    pub cleaned_segments: u64,
    /// Records that cleaning has written anew, and their bytes.
    pub carried_records: u64,
    pub carried_bytes: u64,
    /// A segment is half emptied.
    pub cleaning: bool,
    pub committed_bytes: u64,
    pub commit_micros: Spread,
    pub commit_records: Spread,
}

/// A registry record. An empty value is a damaged one: whatever it was, it must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    /// The sequence that wrote it; never reused.
    pub version: u64,
    pub value: Bytes,
}

/// What became of records that nothing rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    Written,
    /// Nothing was changed.
    NoRoom,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition(Vec<u8>);

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another controller runs on the state directory {}: stop it first", .0.display())]
    InUse(PathBuf),
    #[error("{} cannot be read or written: {source}", path.display())]
    Disk {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Whether a controller runs on this state directory.
pub(crate) fn is_in_use(state_dir: &std::path::Path) -> bool {
    let lock = std::fs::File::open(state_dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Why something stored cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the index failed: {0}")]
    Index(String),
    #[error("the index failed: the disk is full")]
    IndexFull,
    #[error("the record of {0} is damaged; it is kept, and not delivered")]
    Damaged(DeliveryId),
    #[error("the disk failed")]
    Disk(#[source] std::io::Error),
    #[error("the store has been closed")]
    Closed,
}

/// The log takes nothing more; the process ends and starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be written")]
pub struct LogFailed;

/// Storage.
#[derive(Debug, Clone)]
pub struct Store(Arc<local::Local>);

impl Store {
    /// Opens the state directory, quick whatever waits there: [`Store::all_known`] tells when that has been read.
    ///
    /// # Errors
    /// The directory is in use, or cannot be read or written.
    pub fn open(settings: &Settings) -> Result<(Self, StartReport), OpenError> {
        let (local, report) = local::Local::open(settings)?;
        Ok((Self(Arc::new(local)), report))
    }

    /// The same, on a disk and an index that tests make up.
    #[cfg(test)]
    pub(crate) fn open_on(
        on: local::On,
        settings: &Settings,
    ) -> Result<(Self, StartReport), OpenError> {
        let (local, report) = local::Local::open_on(on, settings)?;
        Ok((Self(Arc::new(local)), report))
    }

    /// The same without threads, for simulations: what they would do is done by [`local::steps::Steps`].
    #[cfg(test)]
    pub(crate) fn open_stepped(
        on: local::On,
        settings: &Settings,
    ) -> Result<(Self, local::steps::Steps, StartReport), OpenError> {
        let (local, steps, report) = local::Local::assemble(on, settings)?;
        Ok((Self(Arc::new(local)), steps, report))
    }

    /// Log or index has failed: nothing is accepted any more.
    pub fn has_failed(&self) -> bool {
        self.0.has_failed()
    }

    /// The number of this start, one above every earlier one.
    pub fn start_number(&self) -> u64 {
        self.0.start_number()
    }

    /// Makes a message durable; one `Waiting` for each of its sites.
    ///
    /// # Errors
    /// Nothing was accepted.
    pub fn accept(
        &self,
        submission: Submission<Spooled>,
    ) -> impl Future<Output = Result<Vec<Waiting>, AcceptError>> + Send {
        // Itself, and not a future around it: each around another moves the message once more.
        self.0.accept(submission)
    }

    /// A file for a large content.
    ///
    /// # Errors
    /// There is no space.
    pub async fn spool(&self) -> Result<Spooled, AcceptError> {
        self.0.spool().await
    }

    /// Durable when Ok, together with the notifications owed, of which the deliveries are returned. Settling what is
    /// settled changes nothing.
    ///
    /// # Errors
    /// The log failed: nothing of it may be acknowledged.
    pub async fn settle<T: Into<Owing<Settlement>>>(
        &self,
        batch: Vec<T>,
    ) -> Result<Vec<Waiting>, LogFailed> {
        let batch = batch.into_iter().map(Into::into).collect();
        self.0.settle(batch).await
    }

    /// Remembers, together with the notifications owed, of which the deliveries are returned. Notes about what is
    /// settled are dropped.
    ///
    /// # Errors
    /// The log failed.
    pub async fn note<T: Into<Owing<Note>>>(
        &self,
        batch: Vec<T>,
    ) -> Result<Vec<Waiting>, LogFailed> {
        let batch = batch.into_iter().map(Into::into).collect();
        self.0.note(batch).await
    }

    /// Remembers, in the index only, when a site is tried next.
    pub async fn site_timer(&self, site: SiteName, at: Option<Timestamp>) {
        self.0.site_timer(&site, at);
    }

    /// The heads of queues, in one visit and in this order.
    ///
    /// # Errors
    /// The index failed.
    pub async fn heads(&self, of: Vec<HeadOf>) -> Result<Vec<Head>, StoreError> {
        self.0.heads(of).await
    }

    /// All that an assignment needs; None where the delivery is settled.
    ///
    /// # Errors
    /// The record is damaged, or the index failed.
    pub async fn load(&self, delivery: &DeliveryId) -> Result<Option<Loaded>, StoreError> {
        self.0.load(delivery.clone()).await
    }

    /// The same for several, in one visit; each with its own answer.
    ///
    /// # Errors
    /// The index failed.
    pub async fn load_all(&self, deliveries: Vec<DeliveryId>) -> Result<Vec<LoadedOf>, StoreError> {
        self.0.load_all(deliveries).await
    }

    /// What operators are shown of deliveries, in their order, read in one visit to the disk. Their contents are not looked
    /// at, and may be damaged.
    ///
    /// # Errors
    /// The index failed.
    pub async fn envelopes(
        &self,
        deliveries: Vec<DeliveryId>,
    ) -> Result<Vec<EnvelopeOf>, StoreError> {
        self.0.envelopes(deliveries).await
    }

    /// The open deliveries of a message.
    ///
    /// # Errors
    /// The index failed.
    pub async fn find(&self, id: MessageId) -> Result<Vec<Waiting>, StoreError> {
        self.0.find(id).await
    }

    /// Open deliveries, of one site or of all; None as position: that was the end.
    ///
    /// # Errors
    /// The index failed.
    pub async fn list(
        &self,
        site: Option<SiteName>,
        after: Option<ListPosition>,
        limit: usize,
    ) -> Result<(Vec<Waiting>, Option<ListPosition>), StoreError> {
        self.0.list(site, after, limit).await
    }

    /// What waits for a site.
    pub fn count(&self, site: &SiteName) -> Count {
        self.0.count(site)
    }

    /// What waits in all.
    pub fn total(&self) -> Count {
        self.0.total()
    }

    /// When the oldest mail that waits has come, to a few seconds; None where none waits.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.0.oldest()
    }

    /// Sites for which mail waits, with when they were to be tried next.
    pub fn sites_with_mail(&self) -> Vec<WithMail> {
        self.0.sites_with_mail()
    }

    /// Turns true when the queue of earlier starts has been read to its end.
    pub fn all_known(&self) -> watch::Receiver<bool> {
        self.0.all_known()
    }

    /// How far it is until all is known.
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// What is wrong and what to do, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let Progress { stage, damaged, .. } = self.progress();
        let mut alarms = Vec::new();
        if let Stage::NoRoom { wanted } = stage {
            let wanted = wanted >> 20;
            alarms.push(format!(
                "the disk is too full to rebuild the index: no mail is accepted, and old mail waits, until {wanted} MiB are free"
            ));
        }
        if damaged > 0 {
            alarms.push(format!(
                "the log is damaged in {damaged} places: what could not be read lies in quarantine/ below the state directory, and what was accepted before is marked in doubt"
            ));
        }
        if self.holds_all_sites() {
            alarms.push("a record of the registry cannot be read, not even whose it is: all sites are held until `ddadm registry apply`".to_owned());
        }
        alarms
    }

    /// Whether damage in the registry keeps everybody's mail: a record cannot be read, and it may be anybody's.
    pub fn holds_all_sites(&self) -> bool {
        self.0.holds_all_sites()
    }

    /// The whole registry was applied once more: damage holds nobody any longer, also after later starts.
    ///
    /// # Errors
    /// The log failed: nothing was changed.
    pub async fn registry_repaired(&self) -> Result<(), LogFailed> {
        self.0.registry_repaired().await
    }

    /// What it has done and takes.
    pub fn measures(&self) -> Measures {
        self.0.measures()
    }

    /// Whether there is room for more mail.
    pub fn space(&self) -> Space {
        self.0.space()
    }

    /// Writes a registry record, or removes it. Durable when Ok; returns its version.
    ///
    /// # Errors
    /// The log failed: nothing was changed.
    pub async fn put(
        &self,
        family: &'static str,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<u64, LogFailed> {
        self.0.put(family, key.to_owned(), value).await
    }

    /// Writes several registry records in one commit: a crash leaves all of them or none, but where they reach into another
    /// segment of the log the first of them. Durable when Ok; returns their versions, in order.
    ///
    /// # Errors
    /// The log failed: nothing was changed.
    pub async fn put_all(
        &self,
        family: &'static str,
        records: Vec<(String, Bytes)>,
    ) -> Result<Vec<u64>, LogFailed> {
        self.0.put_all(family, records).await
    }

    /// Writes registry records that nothing rests on, or removes them: all of them in one commit. Short of space none is
    /// written, for what is left is held back for records that people wait for.
    ///
    /// # Errors
    /// The log failed.
    pub async fn remember(
        &self,
        family: &'static str,
        records: Vec<(String, Option<Bytes>)>,
    ) -> Result<Remembered, LogFailed> {
        self.0.remember(family, records).await
    }

    /// What looks wrong about the wall clock of this start is durable, if anything does: from now on records have its time.
    pub fn clock_is_believed(&self) {
        self.0.clock_is_believed();
    }

    /// Somebody has confirmed the wall clock: what it says is when mail arrives.
    pub fn clock_is_right(&self) {
        self.0.clock_is_right();
    }

    /// All records of a family.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn records(&self, family: &'static str) -> Result<Vec<Record>, StoreError> {
        Ok(self.0.records(family))
    }

    /// Resolves when log or index has failed: the process must end.
    pub async fn failed(&self) {
        self.0.failed().await;
    }

    /// The clean stop: after it the next start trusts the index.
    ///
    /// # Errors
    /// The next start rebuilds the index.
    pub async fn close(&self) -> Result<(), StoreError> {
        Arc::clone(&self.0).close().await
    }
}
