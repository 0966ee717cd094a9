//! The store on the disk of one machine: two logs that are the truth, and an index in memory, derived from them.
//!
//! `writer` owns the tail of a log (`log`, `segment`, `record`), `body` says what records hold, `fold` what they mean
//! for the `index`; `replay` and `start` bring it all back. Large contents are files (`content`).
//!
//! # Invariants
//! The index follows the log: an acceptance or a settlement is seen only after its commit is synced.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::DeliveryId;
use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::{oneshot, watch};

use crate::intake::accept::{AcceptError, Content, Submission};
use crate::intake::policy::Space;
use crate::store::{
    Loaded, LogFailed, MinFree, Note, OpenError, Record, Settings, Settlement, StartReport,
    StoreError, StoredContent, Waiting,
};

mod body;
mod content;
mod fold;
mod index;
mod log;
mod record;
mod registry;
mod replay;
mod segment;
mod start;
mod writer;

pub use content::Spooled;

use body::{Accepted, StoredDelivery};
use content::Synced;
use index::{Index, Stored};
use log::{Files, NewRecord};
use record::Kind;
use registry::Records;
use start::{Places, Started};
use writer::Writer;

/// An open state directory. Dropped, it writes what is pending, then lets the directory go.
#[derive(Debug)]
pub(super) struct Local {
    start: u64,
    min_free: MinFree,
    places: Places,
    index: Arc<Mutex<Index>>,
    records: Arc<Mutex<Records>>,
    files: Files,
    known: watch::Sender<bool>,
    queue: Writer,
    registry: Writer,
    /// Behind the writers: it is dropped after their last commit.
    _lock: File,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Local {
    pub(super) fn open(
        settings: Settings,
        now: Timestamp,
    ) -> Result<(Self, StartReport), OpenError> {
        let dir = settings.dir;
        let failed = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        let places = Places::make(&dir).map_err(failed)?;
        let lock = start::lock(&dir)?;
        let Started {
            index,
            records,
            queue,
            registry,
            files,
            report,
        } = start::start(&places, settings.segment_bytes).map_err(failed)?;
        if report.newest.is_some_and(|newest| newest > now) {
            tracing::warn!(newest = ?report.newest, "the clock is behind the newest record: check it");
        }
        let local = Self {
            start: report.start_number,
            min_free: settings.min_free,
            places,
            index: Arc::new(Mutex::new(index)),
            records: Arc::new(Mutex::new(records)),
            files,
            known: watch::channel(true).0,
            queue: Writer::spawn("queue-log", queue).map_err(failed)?,
            registry: Writer::spawn("registry-log", registry).map_err(failed)?,
            _lock: lock,
        };
        Ok((local, report))
    }

    pub(super) fn start_number(&self) -> u64 {
        self.start
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    pub(super) fn all_known(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }

    pub(super) async fn spool(&self) -> Result<Spooled, AcceptError> {
        let (dir, start) = (self.places.content.clone(), self.start);
        let made = blocking(move || Spooled::create(&dir, start, rand::random())).await;
        made.map_err(|error| {
            tracing::warn!(%error, "a content file cannot be made");
            AcceptError::Full
        })
    }

    pub(super) async fn accept(
        &self,
        submission: Submission<Spooled>,
    ) -> Result<Vec<Waiting>, AcceptError> {
        let mut accepted = accepted(&submission);
        let (inline, spooled) = match submission.content {
            Content::Inline(bytes) => (bytes, None),
            Content::Spooled(spooled) => {
                let (spooled, synced) = sync(spooled).await?;
                accepted.bytes = synced.bytes;
                accepted.file = synced.name;
                accepted.file_crc = synced.crc;
                (Bytes::new(), Some(spooled))
            }
        };
        let record = NewRecord {
            kind: Kind::Accepted,
            envelope: accepted.encode_to_vec(),
            content: inline,
        };
        if !record.fits() {
            return Err(AcceptError::Full);
        }
        self.commit_accepted(accepted, record, spooled).await
    }

    async fn commit_accepted(
        &self,
        accepted: Accepted,
        record: NewRecord,
        spooled: Option<Spooled>,
    ) -> Result<Vec<Waiting>, AcceptError> {
        let (answer, answered) = oneshot::channel();
        let index = Arc::clone(&self.index);
        let then = move |written: Result<&[log::Written], LogFailed>| {
            // Also after a failure: the record may be on the disk. If it is not, the next start finds an orphan.
            if let Some(spooled) = spooled {
                spooled.keep();
            }
            let result = written.map(|written| {
                let waiting = fold::waiting(&accepted, written[0].sequence)
                    .expect("what was just made from names and numbers parses");
                let stored = Stored {
                    place: written[0].place,
                    file: accepted.file,
                };
                locked(&index).accept(stored, &waiting);
                waiting
            });
            // Whoever asked may be gone; the message is accepted all the same.
            let _ = answer.send(result);
        };
        let failed = |_| AcceptError::LogFailed;
        self.queue.send(vec![record], then).await.map_err(failed)?;
        answered.await.unwrap_or(Err(LogFailed)).map_err(failed)
    }

    pub(super) async fn settle(&self, batch: Vec<Settlement>) -> Result<(), LogFailed> {
        let (answer, answered) = oneshot::channel();
        let records = batch.iter().map(fold::settled_record).collect();
        let index = Arc::clone(&self.index);
        let content = self.places.content.clone();
        let then = move |written: Result<&[log::Written], LogFailed>| {
            let result = written.map(|_| forget(&index, &content, &batch));
            let _ = answer.send(result);
        };
        self.queue.send(records, then).await?;
        answered.await.unwrap_or(Err(LogFailed))
    }

    pub(super) async fn note(&self, batch: Vec<Note>) -> Result<(), LogFailed> {
        let records = batch.iter().map(fold::noted_record).collect();
        {
            let mut index = self.index();
            batch.iter().for_each(|note| index.note(note));
        }
        self.queue.send(records, |_| ()).await
    }

    pub(super) async fn load(&self, delivery: &DeliveryId) -> Result<Option<Loaded>, StoreError> {
        let found = self
            .index()
            .get(delivery)
            .map(|(waiting, stored)| (waiting.clone(), stored.clone()));
        let Some((waiting, stored)) = found else {
            return Ok(None);
        };
        let (files, dir) = (self.files.clone(), self.places.content.clone());
        let read = blocking(move || read_message(&files, &dir, &stored)).await;
        match read {
            Ok((envelope, content)) => Ok(Some(Loaded {
                waiting,
                envelope,
                content,
            })),
            Err(error) if is_damage(&error) => {
                // Settled while it was read: its content file is gone, and nothing is wrong.
                if self.index().get(delivery).is_none() {
                    return Ok(None);
                }
                Err(StoreError::Damaged(delivery.clone()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn put(
        &self,
        family: &'static str,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<u64, LogFailed> {
        let (answer, answered) = oneshot::channel();
        let record = registry::put_record(family, key, value);
        let (envelope, content) = (record.envelope.clone(), record.content.clone());
        let records = Arc::clone(&self.records);
        let then = move |written: Result<&[log::Written], LogFailed>| {
            let result = written.map(|written| {
                let sequence = written[0].sequence;
                locked(&records)
                    .apply(Kind::Put, sequence, &envelope, content)
                    .expect("what was just encoded decodes");
                sequence
            });
            let _ = answer.send(result);
        };
        self.registry.send(vec![record], then).await?;
        answered.await.unwrap_or(Err(LogFailed))
    }

    pub(super) fn records(&self, family: &str) -> Vec<Record> {
        locked(&self.records).of(family)
    }

    pub(super) fn space(&self) -> Space {
        let Ok(found) = rustix::fs::statvfs(&self.places.root) else {
            return Space::Short;
        };
        let needed = match self.min_free {
            MinFree::Percent(percent) => found.f_blocks / 100 * u64::from(percent),
            MinFree::Bytes(bytes) => bytes / found.f_frsize.max(1),
        };
        if found.f_bavail > needed {
            Space::Enough
        } else {
            Space::Short
        }
    }

    pub(super) async fn failed(&self) {
        tokio::select! {
            () = self.queue.failed() => {}
            () = self.registry.failed() => {}
        }
    }

    /// Returns when all that was handed over before is synced.
    pub(super) async fn close(&self) -> Result<(), LogFailed> {
        for writer in [&self.queue, &self.registry] {
            let (answer, answered) = oneshot::channel();
            let then = |written: Result<&[log::Written], LogFailed>| {
                let _ = answer.send(written.map(|_| ()));
            };
            writer.send(Vec::new(), then).await?;
            answered.await.unwrap_or(Err(LogFailed))?;
            if writer.has_failed() {
                return Err(LogFailed);
            }
        }
        Ok(())
    }
}

fn accepted(submission: &Submission<Spooled>) -> Accepted {
    let delivery = |(site, recipients): &(dd_proto::name::SiteName, Vec<_>)| StoredDelivery {
        site: site.to_string(),
        recipients: recipients
            .iter()
            .map(|it: &dd_proto::id::RecipientNumber| u32::from(it.0))
            .collect(),
    };
    Accepted {
        id: submission.id.as_bytes().to_vec(),
        envelope: Some((&submission.envelope).into()),
        deliveries: submission.deliveries.iter().map(delivery).collect(),
        arrived_ms: index::millis(submission.arrived),
        bytes: match &submission.content {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Spooled(_) => 0,
        },
        file: String::new(),
        file_crc: 0,
    }
}

async fn sync(spooled: Spooled) -> Result<(Spooled, Synced), AcceptError> {
    let synced = blocking(move || spooled.sync().map(|synced| (spooled, synced))).await;
    synced.map_err(|error| {
        tracing::warn!(%error, "a content file cannot be synced");
        AcceptError::Full
    })
}

/// Applies settlements that are synced, and removes the content files that nothing needs any more.
fn forget(index: &Mutex<Index>, content: &std::path::Path, batch: &[Settlement]) {
    let mut files = Vec::new();
    {
        let mut index = locked(index);
        for settlement in batch {
            let numbers = settlement.recipients.iter().map(|(number, _)| *number);
            files.extend(index.settle(&settlement.delivery, numbers));
        }
    }
    for file in files {
        content::unlink(content, &file);
    }
}

fn read_message(
    files: &Files,
    dir: &std::path::Path,
    stored: &Stored,
) -> std::io::Result<(Envelope, StoredContent)> {
    let damaged = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let (_, envelope, inline) = files.read(stored.place)?;
    let accepted = Accepted::decode(envelope).map_err(|_| damaged())?;
    let envelope = accepted
        .envelope
        .and_then(|stored| Envelope::try_from(stored).ok())
        .ok_or_else(damaged)?;
    let content = if accepted.file.is_empty() {
        StoredContent::Inline(inline)
    } else {
        let file = content::open_whole(dir, &accepted.file, accepted.file_crc)?;
        StoredContent::File(tokio::fs::File::from_std(file))
    };
    Ok((envelope, content))
}

fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotFound | UnexpectedEof)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
