//! The agent's memory of what it did: "dot sent" before the dot, the reply before the report.
//!
//! An append-only file. Each record is a length, a kind, a protobuf message and a CRC-32C over all of them.
//!
//! # Invariants
//! - What [`Journal::dot_sent`] has returned from survives the end of this process. What [`Journal::report`] has
//!   returned from does so with the next dot, or after [`Journal::write_reports`], which comes before it is told. If this
//!   process is killed in between, the reply is as good as one that was not read yet: the dot casts doubt.
//! - While [`Sync::EachRecord`] is set (the controller is away, or owes an acknowledgement) both survive a power cut too,
//!   at once.
//! - What [`Journal::forget`] has returned from may come back after the end of this process: the note of it is written
//!   with the next record, or by [`Journal::write_out`]. Telling a report twice loses nothing.
//! - What could not be written is written with the next record; only whoever hears of the error is not waited for.
//! - A torn or damaged end is cut at open; what stood before it is kept.
//! - Compaction writes a new file, syncs it, renames it over the old one and syncs the directory: a crash leaves one
//!   of the two, whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dd_proto::id::Lease;
use dd_proto::pb;
use prost::Message as _;

const FILE: &str = "journal";
const MAGIC: &[u8; 8] = b"ddjrnl1\n";
/// Length and kind in front of a payload, CRC behind it.
const FRAME: usize = 4 + 1 + 4;
/// A report names every recipient with a reply; this is far above what intake accepts.
const MAX_RECORD: usize = 64 << 20;
/// Forgotten bytes from which on compaction is worth its syncs: some ten thousand messages.
const COMPACT_FROM: u64 = 8 << 20;
/// Records that wait for one to be written with.
const WAITING_BYTES: usize = 64 << 10;

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
}

/// How far a record gets before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Into the kernel.
    Written,
    /// Onto the disk.
    EachRecord,
}

/// What is known of one lease: messages as they are in the file.
#[derive(Debug, Default)]
struct Entry {
    dot_sent: Option<Vec<u8>>,
    report: Option<Vec<u8>>,
    bytes: u64,
    /// Place in the order of the file.
    order: u64,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    /// Records to be written; between two calls only reports, and notes of what is forgotten.
    unwritten: Vec<u8>,
    /// Whether a report is among them.
    report_waits: bool,
    bytes: u64,
    live: u64,
    next: u64,
    sync: Sync,
    entries: HashMap<Lease, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DotSent = 1,
    Report = 2,
    Forgotten = 3,
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
            file.set_len(0).map_err(error("initialised"))?;
            file.rewind().map_err(error("initialised"))?;
            file.write_all(MAGIC).map_err(error("initialised"))?;
            file.sync_all().map_err(error("initialised"))?;
            sync_directory(directory).map_err(error("initialised"))?;
            content = MAGIC.to_vec();
        }
        if !content.starts_with(MAGIC) {
            return Err(JournalError::Foreign { path });
        }
        let mut inner = Inner {
            directory: directory.to_owned(),
            path: path.clone(),
            file,
            unwritten: Vec::new(),
            report_waits: false,
            bytes: MAGIC.len() as u64,
            live: 0,
            next: 0,
            sync: Sync::EachRecord,
            entries: HashMap::new(),
        };
        let end = inner.replay(&content);
        if end < content.len() as u64 {
            tracing::warn!(
                cut = content.len() as u64 - end,
                "the journal's torn end is cut"
            );
            inner.file.set_len(end).map_err(error("cut"))?;
            inner.file.sync_all().map_err(error("cut"))?;
        }
        inner
            .file
            .seek(SeekFrom::Start(end))
            .map_err(error("read"))?;
        inner.bytes = end;
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the final dot of this lease's delivery is about to go out.
    ///
    /// # Errors
    /// It is not noted: the dot must not go out.
    pub fn dot_sent(&self, lease: &Lease, dot: &pb::DotSent) -> Result<(), JournalError> {
        let payload = dot.encode_to_vec();
        self.lock()
            .note(lease, Kind::DotSent, payload, Inner::write)
    }

    /// Notes what came of the attempt under this lease. It is told behind the next [`Journal::write_reports`].
    ///
    /// # Errors
    /// It is not noted; it may be sent all the same.
    pub fn report(&self, lease: &Lease, report: &pb::Report) -> Result<(), JournalError> {
        let payload = report.encode_to_vec();
        let mut inner = self.lock();
        let write = match inner.sync {
            Sync::Written => Inner::write_later,
            Sync::EachRecord => Inner::write,
        };
        inner.note(lease, Kind::Report, payload, write)
    }

    /// The controller has acknowledged it.
    ///
    /// # Errors
    /// It is not noted; the entry is sent again after a restart, which does no harm.
    pub fn forget(&self, lease: &Lease) -> Result<(), JournalError> {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.remove(lease) else {
            return Ok(());
        };
        inner.live -= entry.bytes;
        let message = pb::Lease::from(lease.clone()).encode_to_vec();
        inner.append(Kind::Forgotten, &message, Inner::write_later)?;
        inner.compact_if_worth_it()
    }

    /// Writes the reports that wait for that, and what else does.
    ///
    /// # Errors
    /// They are not written: if this process ends, their messages are in doubt.
    pub fn write_reports(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        match inner.report_waits {
            true => inner.write(),
            false => Ok(()),
        }
    }

    /// Writes all that waits.
    ///
    /// # Errors
    /// As above; and what was acknowledged is told again after a restart.
    pub fn write_out(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        match inner.unwritten.is_empty() {
            true => Ok(()),
            false => inner.write(),
        }
    }

    /// What the controller has not acknowledged, oldest first.
    pub fn entries(&self) -> Vec<pb::journaled::Entry> {
        let inner = self.lock();
        let mut entries: Vec<&Entry> = inner.entries.values().collect();
        entries.sort_by_key(|entry| entry.order);
        entries.into_iter().filter_map(Entry::told).collect()
    }

    /// Whether anything waits for an acknowledgement.
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// How far records get.
    pub fn sync(&self) -> Sync {
        self.lock().sync
    }

    /// Sets how far records get; turning syncs on writes and syncs what is there.
    ///
    /// # Errors
    /// That failed; another call tries to write it again.
    pub fn set_sync(&self, sync: Sync) -> Result<(), JournalError> {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.sync, sync);
        let is_behind = before == Sync::Written || !inner.unwritten.is_empty();
        match sync == Sync::EachRecord && is_behind {
            true => inner.write(),
            false => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // At worst a reply is in doubt, or the next start tells what was told.
        let _ = self.write();
    }
}

impl Entry {
    fn told(&self) -> Option<pb::journaled::Entry> {
        // What was encoded here, or decoded at open, can be decoded.
        match (&self.report, &self.dot_sent) {
            (Some(report), _) => {
                let report = pb::Report::decode(report.as_slice()).ok()?;
                Some(pb::journaled::Entry::Report(report))
            }
            (None, Some(dot)) => {
                let dot = pb::DotSent::decode(dot.as_slice()).ok()?;
                Some(pb::journaled::Entry::DotSent(dot))
            }
            (None, None) => None,
        }
    }
}

impl Inner {
    fn error(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
        let path = self.path.clone();
        move |source| JournalError::Io { path, what, source }
    }

    /// Appends a record; where `write` fails it is as if that had not been asked for.
    fn append(
        &mut self,
        kind: Kind,
        payload: &[u8],
        write: fn(&mut Self) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let before = self.unwritten.len();
        frame(&mut self.unwritten, kind, payload);
        let written = write(self);
        if written.is_err() {
            self.unwritten.truncate(before);
        }
        written
    }

    fn note(
        &mut self,
        lease: &Lease,
        kind: Kind,
        payload: Vec<u8>,
        write: fn(&mut Self) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.append(kind, &payload, write)?;
        self.report_waits |= kind == Kind::Report && !self.unwritten.is_empty();
        let bytes = (payload.len() + FRAME) as u64;
        self.add(lease.clone(), bytes, kind, payload);
        Ok(())
    }

    fn write(&mut self) -> Result<(), JournalError> {
        if let Err(source) = self.file.write_all(&self.unwritten) {
            // Half a record would hide everything behind it.
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(self.error("written")(source));
        }
        self.bytes += self.unwritten.len() as u64;
        self.has_written();
        if self.sync == Sync::EachRecord {
            self.file.sync_data().map_err(self.error("synced"))?;
        }
        Ok(())
    }

    /// Nothing waits any more.
    fn has_written(&mut self) {
        self.unwritten.clear();
        self.report_waits = false;
    }

    /// Writes only what has become much.
    fn write_later(&mut self) -> Result<(), JournalError> {
        match self.unwritten.len() < WAITING_BYTES {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn add(&mut self, lease: Lease, bytes: u64, kind: Kind, payload: Vec<u8>) {
        let order = self.next;
        self.next += 1;
        let entry = self.entries.entry(lease).or_insert_with(|| Entry {
            order,
            ..Entry::default()
        });
        match kind {
            Kind::DotSent => entry.dot_sent = Some(payload),
            Kind::Report => entry.report = Some(payload),
            Kind::Forgotten => {}
        }
        entry.bytes += bytes;
        self.live += bytes;
    }

    /// Returns where the last good record ends.
    fn replay(&mut self, content: &[u8]) -> u64 {
        let mut at = MAGIC.len();
        while let Some((kind, payload, end)) = unframe(content, at) {
            let bytes = (end - at) as u64;
            if self.apply(kind, payload, bytes).is_none() {
                break;
            }
            at = end;
        }
        at as u64
    }

    fn apply(&mut self, kind: Kind, payload: &[u8], bytes: u64) -> Option<()> {
        match kind {
            Kind::DotSent => {
                let dot = pb::DotSent::decode(payload).ok()?;
                self.add(dot.lease?.try_into().ok()?, bytes, kind, payload.to_vec());
            }
            Kind::Report => {
                let report = pb::Report::decode(payload).ok()?;
                self.add(
                    report.lease?.try_into().ok()?,
                    bytes,
                    kind,
                    payload.to_vec(),
                );
            }
            Kind::Forgotten => {
                let lease: Lease = pb::Lease::decode(payload).ok()?.try_into().ok()?;
                if let Some(entry) = self.entries.remove(&lease) {
                    self.live -= entry.bytes;
                }
            }
        }
        Some(())
    }

    fn compact_if_worth_it(&mut self) -> Result<(), JournalError> {
        let forgotten = self.bytes.saturating_sub(self.live);
        if forgotten < COMPACT_FROM || forgotten < self.live {
            return Ok(());
        }
        let mut content = MAGIC.to_vec();
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.order);
        for entry in entries {
            if let Some(dot) = &entry.dot_sent {
                frame(&mut content, Kind::DotSent, dot);
            }
            if let Some(report) = &entry.report {
                frame(&mut content, Kind::Report, report);
            }
        }
        let file =
            replace(&self.directory, &self.path, &content).map_err(self.error("compacted"))?;
        self.file = file;
        self.bytes = content.len() as u64;
        // What is forgotten is not in the new file, and what is not is.
        self.has_written();
        Ok(())
    }
}

/// The new file, open at its end.
fn replace(directory: &Path, path: &Path, content: &[u8]) -> std::io::Result<File> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_directory(directory)?;
    Ok(file)
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

fn frame(records: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    let from = records.len();
    let length = u32::try_from(payload.len()).expect("a record is far smaller than 4 GiB");
    records.extend_from_slice(&length.to_le_bytes());
    records.push(kind as u8);
    records.extend_from_slice(payload);
    let crc = crc32c::crc32c(&records[from..]);
    records.extend_from_slice(&crc.to_le_bytes());
}

/// The record at `at`, and where it ends; None where there is none that is whole and sound.
fn unframe(content: &[u8], at: usize) -> Option<(Kind, &[u8], usize)> {
    let rest = content.get(at..)?;
    let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    if length > MAX_RECORD {
        return None;
    }
    let covered = rest.get(..5 + length)?;
    let crc = rest.get(5 + length..FRAME + length)?;
    if crc32c::crc32c(covered).to_le_bytes() != crc {
        return None;
    }
    let kind = match covered[4] {
        1 => Kind::DotSent,
        2 => Kind::Report,
        3 => Kind::Forgotten,
        _ => return None,
    };
    Some((kind, &covered[5..], at + FRAME + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::tests::lease;
    use dd_proto::id::{RecipientNumber, SessionId};
    use dd_proto::report::{Delays, DotSent, Observed, Outcome, Report, Stage};

    fn dot(journal: &Journal, counter: u64) {
        let dot = DotSent {
            lease: lease(counter),
            recipients: vec![RecipientNumber(0)],
        };
        journal.dot_sent(&lease(counter), &dot.into()).unwrap();
    }

    fn report(journal: &Journal, counter: u64) {
        let report = Report {
            lease: lease(counter),
            session: SessionId(1),
            outcome: Outcome::Transacted,
            detail: "the site answered".repeat(100),
            observed: Observed::default(),
            recipients: Vec::new(),
            dot_sent: true,
            reply: None,
            delays: Delays::default(),
            at: jiff::Timestamp::UNIX_EPOCH,
            stage: Stage::EndOfData,
        };
        journal.report(&lease(counter), &report.into()).unwrap();
    }

    fn kinds(journal: &Journal) -> String {
        let word = |entry| match entry {
            pb::journaled::Entry::DotSent(_) => "dot ",
            pb::journaled::Entry::Report(_) => "report ",
        };
        journal.entries().into_iter().map(word).collect()
    }

    #[test]
    fn what_was_noted_is_told_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        dot(&journal, 1);
        dot(&journal, 2);
        report(&journal, 2);
        report(&journal, 3);
        journal.forget(&lease(3)).unwrap();
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(kinds(&journal), "dot report ");
    }

    #[test]
    fn what_was_forgotten_is_written_with_the_next_record_or_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let after_a_kill = || kinds(&Journal::open(directory.path()).unwrap());
        for counter in 1..4 {
            report(&journal, counter);
        }
        journal.forget(&lease(1)).unwrap();
        assert_eq!(after_a_kill(), "report report report ");
        dot(&journal, 4);
        assert_eq!(after_a_kill(), "report report dot ");
        journal.forget(&lease(2)).unwrap();
        journal.write_out().unwrap();
        assert_eq!(after_a_kill(), "report dot ");
    }

    #[test]
    fn a_report_is_written_with_the_next_dot_or_when_asked_and_at_once_where_each_record_is_synced()
    {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.set_sync(Sync::Written).unwrap();
        let after_a_kill = || kinds(&Journal::open(directory.path()).unwrap());
        dot(&journal, 1);
        report(&journal, 1);
        assert_eq!(after_a_kill(), "dot ");
        assert_eq!(kinds(&journal), "report ");
        dot(&journal, 2);
        assert_eq!(after_a_kill(), "report dot ");
        report(&journal, 2);
        assert_eq!(after_a_kill(), "report dot ");
        journal.write_reports().unwrap();
        assert_eq!(after_a_kill(), "report report ");
        report(&journal, 3);
        journal.set_sync(Sync::EachRecord).unwrap();
        assert_eq!(after_a_kill(), "report report report ");
        report(&journal, 4);
        assert_eq!(after_a_kill(), "report report report report ");
    }

    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let journal = Journal::open(directory.path()).unwrap();
        journal.set_sync(Sync::Written).unwrap();
        dot(&journal, 1);
        report(&journal, 1);
        // A file that may not be written stands for a full disk.
        let writable = std::mem::replace(&mut journal.lock().file, File::open(&path).unwrap());
        assert!(journal.write_reports().is_err());
        let refused = DotSent {
            lease: lease(2),
            recipients: vec![RecipientNumber(0)],
        };
        assert!(journal.dot_sent(&lease(2), &refused.into()).is_err());
        assert!(journal.set_sync(Sync::EachRecord).is_err());
        assert!(journal.set_sync(Sync::EachRecord).is_err());
        assert_eq!(kinds(&Journal::open(directory.path()).unwrap()), "dot ");
        journal.lock().file = writable;
        journal.set_sync(Sync::EachRecord).unwrap();
        assert_eq!(kinds(&Journal::open(directory.path()).unwrap()), "report ");
        assert_eq!(kinds(&journal), "report ");
    }

    #[test]
    fn a_torn_end_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let journal = Journal::open(directory.path()).unwrap();
        dot(&journal, 1);
        let whole = std::fs::metadata(&path).unwrap().len();
        report(&journal, 1);
        drop(journal);
        let content = std::fs::read(&path).unwrap();
        for cut in usize::try_from(whole).unwrap()..content.len() {
            std::fs::write(&path, &content[..cut]).unwrap();
            let journal = Journal::open(directory.path()).unwrap();
            assert_eq!(kinds(&journal), "dot ");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        }
    }

    #[test]
    fn a_journal_that_is_mostly_forgotten_shrinks_and_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.set_sync(Sync::Written).unwrap();
        dot(&journal, 0);
        for counter in 1..8000 {
            report(&journal, counter);
            journal.forget(&lease(counter)).unwrap();
        }
        let length = std::fs::metadata(directory.path().join(FILE))
            .unwrap()
            .len();
        assert!(length < 2 * COMPACT_FROM, "{length}");
        report(&journal, 0);
        drop(journal);
        assert_eq!(kinds(&Journal::open(directory.path()).unwrap()), "report ");
    }
}
