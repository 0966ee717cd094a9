//! The agent's memory of what it did: "dot sent" before the dot, the reply before the report.
//!
//! An append-only file ([`record`]), and in memory what of it the controller has not acknowledged.
//!
//! # Invariants
//! - What [`Journal::dot_sent`] has returned from survives the end of this process. What [`Journal::report`] has
//!   returned from does so with the next dot, or after [`Journal::write_reports`], which comes before it is told. If this
//!   process is killed in between, the reply is as good as one that was not read yet: the dot casts doubt.
//! - While [`Sync::EachRecord`] is set (the controller is away, or owes an acknowledgement) both survive a power cut too,
//!   once [`Journal::sync_to`] has returned.
//! - What [`Journal::forget`] has returned from may come back after the end of this process: the note of it is written
//!   with the next record, or by [`Journal::write_out`]. Telling a report twice loses nothing.
//! - Only [`Journal::sync_to`], [`Journal::compact`] and [`Journal::mend`] wait for the disk. They run where sessions do not,
//!   and nothing else here waits for them.
//! - A journal that could not write or sync notes no dot until [`Journal::mend`] has made another file of what is in memory; so
//!   does one whose file was removed.
//! - A torn end is cut at open. Where something else is damaged, what is sound before and behind it is kept; what
//!   was in it nobody knows, which [`Journal::doubt`] says from then on.
//! - A new file is written, synced, renamed over the old one and its name synced: a crash leaves one of the two, whole.

mod file;
mod inner;
mod record;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::id::Lease;
use dd_proto::pb;
use prost::Message as _;

pub(crate) use file::sync_directory;
use inner::{Entry, Inner};
use record::{FRAME, Kind};

const FILE: &str = "journal";
const MAGIC: &[u8; 8] = b"ddjrnl1\n";
/// Forgotten bytes from which on another file is worth its syncs: a hundred thousand messages.
const COMPACT_FROM: u64 = 64 << 20;
/// Room there has to be before a journal that failed is used again: for some hundred records.
const ROOM: usize = 256 << 10;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be {what}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{path} is no journal of this program; move it away to start without it", path = path.display())]
    Foreign { path: PathBuf },
    /// It has failed before, and was not mended yet.
    #[error("{0}")]
    Failing(String),
}

/// How far a record gets before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Into the kernel.
    Written,
    /// Onto the disk.
    EachRecord,
}

/// Up to where the file has to be synced, for [`Journal::sync_to`]; None: it need not be.
pub type ToSync = Option<u64>;

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    directory: PathBuf,
    doubt: String,
    /// Taken before `inner`, by whoever waits for the disk.
    disk: Mutex<()>,
    inner: Mutex<Inner>,
}

impl Journal {
    /// Opens or creates the journal in `directory`, which the caller has locked.
    ///
    /// # Errors
    /// The file cannot be read or written, or belongs to another program.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(FILE);
        let error = |what| {
            let path = path.clone();
            move |source| JournalError::Io { path, what, source }
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error("opened"))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(error("read"))?;
        if content.len() < MAGIC.len() {
            // The process ended while it made the file.
            content = begin(&mut file, directory).map_err(error("initialised"))?;
        }
        if !content.starts_with(MAGIC) {
            return Err(JournalError::Foreign { path });
        }
        let mut inner = Inner::new(&path, file);
        let (end, damaged) = inner.replay(&content);
        let doubt = match damaged {
            0 => file::doubt(directory),
            _ => file::lost(directory),
        };
        let doubt = doubt.map_err(error("read"))?;
        inner.begin_behind(end).map_err(error("cut"))?;
        let journal = Self {
            path: path.clone(),
            directory: directory.to_owned(),
            doubt,
            disk: Mutex::default(),
            inner: Mutex::new(inner),
        };
        if damaged > 0 {
            tracing::error!(
                damaged,
                "the journal was damaged: what it does not know any more is in doubt"
            );
            journal.rewrite(0)?;
        }
        Ok(journal)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told with the boot id: where it changes, what was leased to this agent is in doubt.
    pub fn doubt(&self) -> &str {
        &self.doubt
    }

    /// Notes that the final dot of this lease's delivery is about to go out.
    ///
    /// # Errors
    /// It is not noted: the dot must not go out.
    pub fn dot_sent(&self, lease: &Lease, dot: &pb::DotSent) -> Result<ToSync, JournalError> {
        let payload = dot.encode_to_vec();
        let mut inner = self.lock();
        if let Some(trouble) = &inner.trouble {
            return Err(JournalError::Failing(trouble.clone()));
        }
        inner.append(Kind::DotSent, &payload);
        if let Err(error) = inner.write() {
            inner.take_back(payload.len() + FRAME);
            return Err(error);
        }
        inner.add(lease.clone(), Kind::DotSent, payload);
        Ok(inner.to_sync())
    }

    /// Notes what came of the attempt under this lease. It is told behind the next [`Journal::write_reports`]. Where that
    /// fails it is kept in memory.
    pub fn report(&self, lease: &Lease, report: &pb::Report) -> ToSync {
        let payload = report.encode_to_vec();
        let mut inner = self.lock();
        inner.append(Kind::Report, &payload);
        inner.report_waits = true;
        inner.add(lease.clone(), Kind::Report, payload);
        match inner.sync {
            Sync::Written => inner.write_later(),
            Sync::EachRecord => _ = inner.write(),
        }
        inner.to_sync()
    }

    /// The controller has acknowledged it.
    pub fn forget(&self, lease: &Lease) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.remove(lease) else {
            return;
        };
        inner.live -= entry.bytes;
        let message = pb::Lease::from(lease.clone()).encode_to_vec();
        inner.append(Kind::Forgotten, &message);
        inner.write_later();
    }

    /// Writes the reports that wait for that, and what else does. Those that cannot be written are in doubt if this process
    /// ends.
    pub fn write_reports(&self) {
        let mut inner = self.lock();
        if inner.report_waits {
            let _ = inner.write();
        }
    }

    /// Writes all that waits.
    pub fn write_out(&self) {
        let mut inner = self.lock();
        if !inner.unwritten.is_empty() {
            let _ = inner.write();
        }
    }

    /// What the controller has not acknowledged, oldest first.
    pub fn entries(&self) -> Vec<pb::journaled::Entry> {
        let inner = self.lock();
        inner
            .in_order()
            .into_iter()
            .filter_map(Entry::told)
            .collect()
    }

    /// Whether anything waits for an acknowledgement.
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// How far records get.
    pub fn sync(&self) -> Sync {
        self.lock().sync
    }

    /// Sets how far records get; where that is onto the disk, what is there has to come there too.
    pub fn set_sync(&self, sync: Sync) -> ToSync {
        let mut inner = self.lock();
        inner.sync = sync;
        if sync == Sync::EachRecord && !inner.unwritten.is_empty() {
            let _ = inner.write();
        }
        inner.to_sync()
    }

    /// What keeps it from noting dots; None: nothing. Looks whether the file is still there.
    pub fn trouble(&self) -> Option<String> {
        let mut inner = self.lock();
        if inner.trouble.is_none() && inner.file.metadata().is_ok_and(|file| file.nlink() == 0) {
            let removed = std::io::ErrorKind::NotFound.into();
            inner.fails("found: it was removed", removed);
        }
        inner.trouble.clone()
    }

    /// Whether it has failed and was not mended.
    pub fn is_failing(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Returns when all up to there is on the disk.
    ///
    /// # Errors
    /// It is not, and nobody knows how far it is.
    pub fn sync_to(&self, upto: u64) -> Result<(), JournalError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, written) = {
            let inner = self.lock();
            if let Some(trouble) = &inner.trouble {
                return Err(JournalError::Failing(trouble.clone()));
            }
            if inner.synced >= upto {
                return Ok(());
            }
            (Arc::clone(&inner.file), inner.written)
        };
        let synced = file.sync_data();
        let mut inner = self.lock();
        match synced {
            Ok(()) => inner.synced = written,
            Err(source) => return Err(inner.fails("synced", source)),
        }
        Ok(())
    }

    /// Another file, where most of this one is forgotten.
    ///
    /// # Errors
    /// There is none; the old one goes on.
    pub fn compact(&self) -> Result<(), JournalError> {
        self.compact_from(COMPACT_FROM)
    }

    fn compact_from(&self, from: u64) -> Result<(), JournalError> {
        {
            let inner = self.lock();
            let forgotten = inner.bytes.saturating_sub(inner.live);
            let worth = forgotten >= from && forgotten >= inner.live;
            if !worth || inner.trouble.is_some() {
                return Ok(());
            }
        }
        self.rewrite(0)
    }

    /// Another file, where this one has failed.
    ///
    /// # Errors
    /// There is none, and the journal fails as before.
    pub fn mend(&self) -> Result<(), JournalError> {
        match self.is_failing() {
            true => self.rewrite(ROOM),
            false => Ok(()),
        }
    }

    /// Writes what is in memory to another file, and goes on with that. Of what comes meanwhile nothing is synced before
    /// that one is in its place.
    fn rewrite(&self, room: usize) -> Result<(), JournalError> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let (content, written) = {
            let mut inner = self.lock();
            inner.since = Some(Vec::new());
            (inner.content(), inner.written)
        };
        let made = file::make(&self.path, &content, room);
        let (file, upto) = {
            let mut inner = self.lock();
            let since = inner.since.take().unwrap_or_default();
            let changed = made.and_then(|mut file| {
                file.write_all(&since)?;
                file::replace(&self.path)?;
                Ok(file)
            });
            match changed {
                Ok(file) => inner.goes_on_with(file, content.len() + since.len(), written),
                Err(source) => {
                    file::abandon(&self.path);
                    return Err(inner.error("written anew")(source));
                }
            }
            (Arc::clone(&inner.file), inner.written)
        };
        let synced = sync_directory(&self.directory).and_then(|()| file.sync_data());
        let mut inner = self.lock();
        match synced {
            Ok(()) => (inner.synced, inner.trouble) = (upto, None),
            Err(source) => return Err(inner.fails("synced", source)),
        }
        Ok(())
    }
}

/// An empty journal.
fn begin(file: &mut File, directory: &Path) -> std::io::Result<Vec<u8>> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(MAGIC.to_vec())
}

#[cfg(test)]
mod tests;
