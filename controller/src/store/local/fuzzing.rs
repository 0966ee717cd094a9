//! A segment that was damaged, and what a start finds in it: see [`crate::fuzzing`].

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::body;
use super::disk::{RealDisk, SharedDisk};
use super::quarantine::Quarantine;
use super::record::{self, Commit, Kind, NewHeader};
use super::replay::{self, Wanted};
use super::segment::Segment;

const SEGMENT: Segment = Segment {
    log_id: 7,
    number: 1,
    marker: 0x5eed_5eed_5eed_5eed,
    start: 1,
    first_sequence: 1,
};

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 1 to 5.
    pub kind: u8,
    pub envelope: Vec<u8>,
    /// None: it is not what was written.
    pub content: Option<Vec<u8>>,
}

/// A segment as a controller writes it.
#[derive(Debug)]
pub struct Written {
    pub bytes: Vec<u8>,
    /// The records, and where they lie.
    pub records: Vec<(Record, Range<usize>)>,
}

/// A segment of those records that a controller could write, each a commit of its own.
pub fn segment_of(records: Vec<Record>) -> Written {
    let mut written = Written {
        bytes: SEGMENT.encode().to_vec(),
        records: Vec::new(),
    };
    for record in records {
        let _ = written.add(record);
    }
    written
}

impl Written {
    fn add(&mut self, record: Record) -> Option<()> {
        let kind = Kind::from_byte(record.kind)?;
        if !body::parses(kind, &record.envelope) {
            return None;
        }
        let content = record.content.as_deref().unwrap_or_default();
        let begin = self.bytes.len();
        let end = begin + record::HEADER + record.envelope.len() + content.len();
        let sequence = self.records.len() as u64 + 1;
        let header = NewHeader {
            kind,
            sequence,
            commit: Commit {
                first: sequence,
                begin: u32::try_from(begin).ok()?,
                end: u32::try_from(end).ok()?,
            },
            wall_ms: 1_700_000_000_000,
        };
        let (offset, envelope) = (begin as u64, &record.envelope);
        record::encode(
            &mut self.bytes,
            &SEGMENT,
            offset,
            &header,
            envelope,
            content,
        );
        self.records.push((record, begin..end));
        Some(())
    }
}

/// What a start finds in a segment of these bytes, which it is given in that directory.
///
/// # Errors
/// The disk's.
pub fn records_in(segment: &[u8], directory: &Path) -> io::Result<Vec<Record>> {
    let path: PathBuf = directory.join(SEGMENT.file_name());
    std::fs::write(&path, segment)?;
    let disk: SharedDisk = Arc::new(RealDisk);
    let aside = directory.join("quarantine");
    disk.make_dir(&aside)?;
    let quarantine = Quarantine::new(Arc::clone(&disk), directory, &aside);
    let old = [(SEGMENT, path)];
    let end = replay::cut_end(&*disk, &old, &quarantine, |_| true)?;
    let mut found = Vec::new();
    let next = end.last_sequence + 1;
    replay::read(
        &*disk,
        &old,
        &quarantine,
        next,
        |_, _| Wanted::Contents,
        |it, _| {
            found.push(Record {
                kind: it.header.kind as u8,
                envelope: it.envelope.to_vec(),
                content: it.content.map(|content| content.to_vec()),
            });
            true
        },
    )?;
    Ok(found)
}
