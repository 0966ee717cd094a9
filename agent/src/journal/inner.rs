//! The journal in memory, and its file as far as the kernel takes it. Nothing here waits for the disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dd_proto::id::Lease;
use dd_proto::pb;
use prost::Message as _;

use super::record::{FRAME, Kind, Record, Records, frame};
use super::{JournalError, MAGIC, Sync, ToSync};

/// Records that wait for one to be written with.
const WAITING_BYTES: usize = 64 << 10;

/// What is known of one lease: messages as they are in the file.
#[derive(Debug, Default)]
pub(super) struct Entry {
    dot_sent: Option<Vec<u8>>,
    report: Option<Vec<u8>>,
    pub(super) bytes: u64,
    /// Place in the order of the file.
    order: u64,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Records to be written; between two calls only reports, and notes of what is forgotten.
    pub(super) unwritten: Vec<u8>,
    /// Whether a report is among them.
    pub(super) report_waits: bool,
    /// Of this file.
    pub(super) bytes: u64,
    /// Of this file and those before it.
    pub(super) written: u64,
    pub(super) synced: u64,
    pub(super) live: u64,
    pub(super) next: u64,
    pub(super) sync: Sync,
    pub(super) entries: HashMap<Lease, Entry>,
    /// Records that have come since another file was begun.
    pub(super) since: Option<Vec<u8>>,
    pub(super) trouble: Option<String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // At worst a reply is in doubt, or the next start tells what was told.
        let _ = self.write();
    }
}

impl Entry {
    pub(super) fn told(&self) -> Option<pb::journaled::Entry> {
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
    pub(super) fn new(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file: Arc::new(file),
            unwritten: Vec::new(),
            report_waits: false,
            bytes: MAGIC.len() as u64,
            written: 0,
            synced: 0,
            live: 0,
            next: 0,
            sync: Sync::EachRecord,
            entries: HashMap::new(),
            since: None,
            trouble: None,
        }
    }

    pub(super) fn error(
        &self,
        what: &'static str,
    ) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
        let path = self.path.clone();
        move |source| JournalError::Io { path, what, source }
    }

    /// From here on no dot is noted.
    pub(super) fn fails(&mut self, what: &'static str, source: std::io::Error) -> JournalError {
        let error = self.error(what)(source);
        self.trouble = Some(error.to_string());
        error
    }

    pub(super) fn append(&mut self, kind: Kind, payload: &[u8]) {
        frame(&mut self.unwritten, kind, payload);
        if let Some(since) = &mut self.since {
            frame(since, kind, payload);
        }
    }

    /// The last record was not written, and shall not be.
    pub(super) fn take_back(&mut self, bytes: usize) {
        for records in std::iter::once(&mut self.unwritten).chain(&mut self.since) {
            records.truncate(records.len().saturating_sub(bytes));
        }
    }

    /// Into the kernel.
    pub(super) fn write(&mut self) -> Result<(), JournalError> {
        if let Some(trouble) = &self.trouble {
            return Err(JournalError::Failing(trouble.clone()));
        }
        if let Err(source) = (&*self.file).write_all(&self.unwritten) {
            // Half a record would hide everything behind it.
            let _ = self.file.set_len(self.bytes);
            let _ = (&*self.file).seek(SeekFrom::Start(self.bytes));
            return Err(self.fails("written", source));
        }
        self.bytes += self.unwritten.len() as u64;
        self.written += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.report_waits = false;
        Ok(())
    }

    /// Writes only what has become much.
    pub(super) fn write_later(&mut self) {
        if self.unwritten.len() >= WAITING_BYTES {
            let _ = self.write();
        }
    }

    pub(super) fn to_sync(&self) -> ToSync {
        (self.sync == Sync::EachRecord && self.synced < self.written).then_some(self.written)
    }

    pub(super) fn add(&mut self, lease: Lease, kind: Kind, payload: Vec<u8>) {
        let order = self.next;
        self.next += 1;
        let bytes = (payload.len() + FRAME) as u64;
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

    pub(super) fn in_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.order);
        entries
    }

    /// A file of what is not forgotten.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = MAGIC.to_vec();
        for entry in self.in_order() {
            if let Some(dot) = &entry.dot_sent {
                frame(&mut content, Kind::DotSent, dot);
            }
            if let Some(report) = &entry.report {
                frame(&mut content, Kind::Report, report);
            }
        }
        content
    }

    /// The file is another one, in which everything is; on the disk is what was written before it was begun.
    pub(super) fn goes_on_with(&mut self, file: File, bytes: usize, synced: u64) {
        self.file = Arc::new(file);
        self.bytes = bytes as u64;
        self.written += self.unwritten.len() as u64;
        self.synced = synced;
        self.unwritten.clear();
        self.report_waits = false;
    }

    /// Takes in what a file says. Returns where its last sound record ends, and how many bytes before that are damaged.
    pub(super) fn replay(&mut self, content: &[u8]) -> (u64, usize) {
        let mut records = Records::new(content, MAGIC.len());
        let mut nonsense = 0;
        while let Some(record) = records.next() {
            if self.apply(&record).is_none() {
                nonsense += record.payload.len() + FRAME;
            }
        }
        (records.end as u64, records.damaged + nonsense)
    }

    pub(super) fn apply(&mut self, record: &Record<'_>) -> Option<()> {
        let Some(kind) = record.kind else {
            tracing::warn!("the journal has a record of a newer version, which is passed over");
            return Some(());
        };
        let lease = match kind {
            Kind::DotSent => pb::DotSent::decode(record.payload).ok()?.lease?,
            Kind::Report => pb::Report::decode(record.payload).ok()?.lease?,
            Kind::Forgotten => pb::Lease::decode(record.payload).ok()?,
        };
        let lease: Lease = lease.try_into().ok()?;
        match kind {
            Kind::Forgotten => {
                if let Some(entry) = self.entries.remove(&lease) {
                    self.live -= entry.bytes;
                }
            }
            _ => self.add(lease, kind, record.payload.to_vec()),
        }
        Some(())
    }

    /// Cuts what is behind the last sound record, and appends there.
    pub(super) fn begin_behind(&mut self, end: u64) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        if end < length {
            tracing::warn!(cut = length - end, "the journal's torn end is cut");
            self.file.set_len(end)?;
            self.file.sync_all()?;
        }
        (&*self.file).seek(SeekFrom::Start(end))?;
        self.bytes = end;
        Ok(())
    }
}
