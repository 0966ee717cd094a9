//! A log: the tail that grows by synced commits, and reading records where they lie.
//!
//! # Invariants
//! - `commit` returns Ok only after `fdatasync`: what it wrote survives a power cut.
//! - A commit lies in one segment. A segment is synced before the next one gets a record.
//! - After any error inside a segment the log takes nothing more: what the disk holds is then unknown.
//!
//! # Not here
//! What records mean ([`super::index`], [`super::registry`]); old segments at a start ([`super::replay`]).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::disk::{SharedDisk, SharedFile, read_exact_at};
use super::record::{self, Header, Kind, NewHeader};
use super::segment::{self, Segment};

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A record to be written.
#[derive(Debug)]
pub(crate) struct NewRecord {
    pub(crate) kind: Kind,
    pub(crate) envelope: Vec<u8>,
    pub(crate) content: Bytes,
}

/// What a commit made of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) sequence: u64,
    pub(crate) place: Place,
}

/// The tail of a log, owned by its one writer.
#[derive(Debug)]
pub(crate) struct Log {
    disk: SharedDisk,
    dir: PathBuf,
    segment_bytes: u64,
    tail: Segment,
    file: SharedFile,
    offset: u64,
    next_sequence: u64,
    files: Files,
    buffer: Vec<u8>,
    failed: bool,
}

impl Log {
    /// Begins this start's own segment, synced with its directory.
    pub(crate) fn begin(
        disk: &SharedDisk,
        dir: &Path,
        segment_bytes: u64,
        tail: Segment,
        files: Files,
    ) -> io::Result<Self> {
        let file = tail.create(&**disk, dir)?;
        files.add(tail, Arc::clone(&file));
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            segment_bytes,
            tail,
            file,
            offset: segment::HEADER,
            next_sequence: tail.first_sequence,
            files,
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// Writes the records as one commit and syncs it. A crash before it returns leaves a torn commit, which the next
    /// start cuts off; nobody was told of it.
    ///
    /// # Errors
    /// Final: every later commit fails too.
    pub(crate) fn commit(
        &mut self,
        records: &[NewRecord],
        wall_ms: u64,
    ) -> io::Result<Vec<Written>> {
        if self.failed {
            return Err(io::Error::other("the log failed before"));
        }
        let result = self.try_commit(records, wall_ms);
        self.failed = result.is_err();
        result
    }

    fn try_commit(&mut self, records: &[NewRecord], wall_ms: u64) -> io::Result<Vec<Written>> {
        let bytes: u64 = records
            .iter()
            .map(|r| (record::HEADER + r.envelope.len() + r.content.len()) as u64)
            .sum();
        if self.offset + bytes > self.segment_bytes && self.offset > segment::HEADER {
            self.roll()?;
        }
        self.buffer.clear();
        let mut written = Vec::with_capacity(records.len());
        let commit = self.next_sequence;
        for (record, sequence) in records.iter().zip(commit..) {
            let offset = self.offset + self.buffer.len() as u64;
            let header = NewHeader {
                kind: record.kind,
                sequence,
                commit,
                wall_ms,
            };
            record::encode(
                &mut self.buffer,
                &self.tail,
                offset,
                &header,
                &record.envelope,
                &record.content,
            );
            let len = self.offset + self.buffer.len() as u64 - offset;
            let segment = self.tail.number;
            written.push(Written {
                sequence,
                place: Place {
                    segment,
                    offset,
                    len,
                },
            });
        }
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.file.sync_data()?;
        self.offset += self.buffer.len() as u64;
        self.next_sequence += records.len() as u64;
        // One large commit shall not keep its memory for ever.
        self.buffer.shrink_to(1 << 20);
        Ok(written)
    }

    fn roll(&mut self) -> io::Result<()> {
        let next = Segment {
            number: self.tail.number + 1,
            marker: rand::random(),
            first_sequence: self.next_sequence,
            ..self.tail
        };
        self.file = next.create(&*self.disk, &self.dir)?;
        self.files.add(next, Arc::clone(&self.file));
        self.tail = next;
        self.offset = segment::HEADER;
        Ok(())
    }

    /// Where the log ends: segment, offset, next sequence.
    pub(crate) fn end(&self) -> (u64, u64, u64) {
        (self.tail.number, self.offset, self.next_sequence)
    }
}

/// The segments that can be read, shared by all readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(Arc<RwLock<HashMap<u64, Readable>>>);

type Readable = (Segment, SharedFile);

impl Files {
    pub(crate) fn add(&self, segment: Segment, file: SharedFile) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(segment.number, (segment, file));
    }

    /// Header, envelope and content at a place, both checksums checked.
    ///
    /// # Errors
    /// The disk's; `InvalidData` where there is no valid record.
    pub(crate) fn read(&self, place: Place) -> io::Result<(Header, Bytes, Bytes)> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a record is damaged");
        let (segment, file) = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&place.segment)
            .cloned()
            .ok_or_else(damaged)?;
        let len = usize::try_from(place.len).map_err(|_| damaged())?;
        let mut bytes = vec![0; len];
        read_exact_at(&*file, &mut bytes, place.offset)?;
        let bytes = Bytes::from(bytes);
        let (header, _) = record::decode(&bytes, &segment, place.offset).ok_or_else(damaged)?;
        let content_at = record::HEADER + header.envelope_len as usize;
        if header.len() != place.len || crc32c::crc32c(&bytes[content_at..]) != header.content_crc {
            return Err(damaged());
        }
        Ok((
            header,
            bytes.slice(record::HEADER..content_at),
            bytes.slice(content_at..),
        ))
    }
}
