//! A log: the tail that grows by synced commits, and reading records where they lie.
//!
//! # Invariants
//! - `append` returns Ok only after `fdatasync`: what it wrote survives a power cut.
//! - A commit lies in one segment. A segment is synced before the next one gets a record.
//! - A record goes only into space that was written and synced before, so the disk cannot be full then: what a group of
//!   records needs is there before its first byte is written.
//! - After any error inside a segment the log takes nothing more: what the disk holds is then unknown.
//!
//! # Not here
//! What records mean ([`super::index`], [`super::registry`]); old segments at a start ([`super::replay`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::disk::{self, Disk, SharedDisk, SharedFile, read_exact_at};
use super::record::{self, Commit, Header, Kind, NewHeader};
use super::segment::{self, Segment};
use super::spares::{Making, RESERVE, Spare, Spares};

/// Bytes of a record that are read to find out how long its envelope is: most envelopes end in them.
const FIRST: usize = 4 << 10;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A record to be written.
#[derive(Debug, Clone)]
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

impl NewRecord {
    pub(crate) fn len(&self) -> u64 {
        (record::HEADER + self.envelope.len() + self.content.len()) as u64
    }
}

/// Why a log does not take records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// No segment can be made, and there is no spare: nothing was written, and later there may be room.
    #[error("the disk is full")]
    Full,
    /// Final: every later append fails too.
    #[error("the log failed")]
    Failed(#[source] io::Error),
}

/// The tail of a log, owned by its one writer.
#[derive(Debug)]
pub(crate) struct Log {
    disk: SharedDisk,
    dir: PathBuf,
    spares: Spares,
    tail: Segment,
    file: SharedFile,
    /// Where the next record goes, and where the space ends that was written before.
    offset: u64,
    allocated: u64,
    next_sequence: u64,
    files: Files,
    buffer: Vec<u8>,
    failed: bool,
    pub(crate) rolled: u64,
}

/// How a log makes its segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segments {
    pub(crate) bytes: u64,
    pub(crate) making: Making,
}

impl Log {
    /// Begins this start's own segment, synced with its directory. No other is made before [`Self::make_ahead`].
    ///
    /// # Errors
    /// The disk's: there is not even room for one segment, or it cannot be written.
    pub(crate) fn begin(
        disk: &SharedDisk,
        dir: &Path,
        segments: Segments,
        tail: Segment,
        files: Files,
    ) -> io::Result<Self> {
        let spares = Spares::open(disk, dir, segments.bytes, tail.start, segments.making)?;
        let spare = spares.take_own()?;
        tail.take_over(&**disk, dir, &spare)?;
        files.add(tail, Arc::clone(&spare.file), spare.len);
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            spares,
            tail,
            file: spare.file,
            offset: segment::HEADER,
            allocated: spare.len,
            next_sequence: tail.first_sequence,
            files,
            buffer: Vec::new(),
            failed: false,
            rolled: 0,
        })
    }

    /// From now on the next segment is there before it is needed, where the log's segments are made ahead.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn make_ahead(&mut self) -> io::Result<()> {
        self.spares.make_ahead()
    }

    /// Writes the records and syncs them: one commit for each segment that they reach into. A crash before it returns
    /// leaves a torn commit, which the next start cuts off; nobody was told of it. A new segment is taken from the
    /// spares, leaving `leave` of them.
    ///
    /// # Errors
    /// None of the records may be acknowledged.
    pub(crate) fn append(
        &mut self,
        records: &[NewRecord],
        leave: usize,
        wall_ms: u64,
    ) -> Result<Vec<Written>, AppendError> {
        if self.failed {
            return Err(AppendError::Failed(io::Error::other("it failed before")));
        }
        let result = self.try_append(records, leave, wall_ms);
        self.failed = matches!(result, Err(AppendError::Failed(_)));
        result
    }

    fn try_append(
        &mut self,
        records: &[NewRecord],
        leave: usize,
        wall_ms: u64,
    ) -> Result<Vec<Written>, AppendError> {
        let mut written = Vec::with_capacity(records.len());
        let (first, mut rest) = records.split_at(fitting(records, self.offset, self.allocated));
        let spares = self.spares_for(rest, leave)?;
        let commit = |log: &mut Self, records: &[NewRecord]| match records {
            [] => Ok(Vec::new()),
            some => log.commit(some, wall_ms),
        };
        written.extend(commit(self, first).map_err(AppendError::Failed)?);
        for spare in spares {
            let (now, later) = rest.split_at(fitting(rest, segment::HEADER, spare.len));
            self.roll(spare).map_err(AppendError::Failed)?;
            written.extend(commit(self, now).map_err(AppendError::Failed)?);
            rest = later;
        }
        Ok(written)
    }

    /// Takes the segments that hold the records, all of them or none.
    fn spares_for(&self, mut rest: &[NewRecord], leave: usize) -> Result<Vec<Spare>, AppendError> {
        let mut spares = Vec::new();
        while let Some(first) = rest.first() {
            match self.spares.take(segment::HEADER + first.len(), leave) {
                Ok(spare) => {
                    let fitting = fitting(rest, segment::HEADER, spare.len);
                    spares.push(spare);
                    rest = &rest[fitting..];
                }
                Err(error) => {
                    self.spares.give_back(spares);
                    return Err(match disk::is_full(&error) {
                        true => AppendError::Full,
                        false => AppendError::Failed(error),
                    });
                }
            }
        }
        Ok(spares)
    }

    fn commit(&mut self, records: &[NewRecord], wall_ms: u64) -> io::Result<Vec<Written>> {
        let offset_32 = |offset: u64| u32::try_from(offset).map_err(io::Error::other);
        let bytes: u64 = records.iter().map(NewRecord::len).sum();
        let commit = Commit {
            first: self.next_sequence,
            begin: offset_32(self.offset)?,
            end: offset_32(self.offset + bytes)?,
        };
        self.buffer.clear();
        let mut written = Vec::with_capacity(records.len());
        for (sequence, record) in (commit.first..).zip(records) {
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
            let place = Place {
                segment: self.tail.number,
                offset,
                len: record.len(),
            };
            written.push(Written { sequence, place });
        }
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes;
        self.next_sequence += records.len() as u64;
        // One large commit shall not keep its memory for ever.
        self.buffer.shrink_to(1 << 20);
        Ok(written)
    }

    /// Goes on in another segment. All of the old one is synced already; what is left of it stays allocated, so that its
    /// removal makes room for exactly one more.
    fn roll(&mut self, spare: Spare) -> io::Result<()> {
        let next = Segment {
            number: self.tail.number + 1,
            marker: rand::random(),
            first_sequence: self.next_sequence,
            ..self.tail
        };
        next.take_over(&*self.disk, &self.dir, &spare)?;
        tracing::info!(
            log = %self.dir.display(),
            segment = next.number,
            full = self.tail.number,
            bytes = self.offset,
            "segment rolled"
        );
        self.file = Arc::clone(&spare.file);
        self.files.add(next, spare.file, spare.len);
        self.tail = next;
        self.offset = segment::HEADER;
        self.allocated = spare.len;
        self.rolled += 1;
        Ok(())
    }

    /// Whether records of `bytes` in all can be taken without touching the reserve. Waits for a segment that is being
    /// made.
    pub(crate) fn takes_mail(&self, bytes: u64) -> bool {
        match self.offset + bytes <= self.allocated {
            true => !self.spares.is_short() || self.spares.ready() >= RESERVE,
            false => self.spares.has(RESERVE + 1),
        }
    }

    /// Bytes of the segment that is being written.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.allocated
    }

    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// Where the log ends: segment, offset, next sequence.
    pub(crate) fn end(&self) -> (u64, u64, u64) {
        (self.tail.number, self.offset, self.next_sequence)
    }

    /// A segment that is not the tail goes, durably.
    ///
    /// # Errors
    /// Final, as for an append.
    pub(crate) fn remove(&mut self, number: u64) -> Result<(), AppendError> {
        self.take_away(number, |disk, path| disk.unlink(path))
    }

    /// The same, but its file is kept in another directory.
    ///
    /// # Errors
    /// Final, as for an append.
    pub(crate) fn set_aside(&mut self, number: u64, to: &Path) -> Result<(), AppendError> {
        self.take_away(number, |disk, path| {
            let name = path.file_name().unwrap_or_default();
            disk.rename(path, &to.join(name))?;
            disk.sync_dir(to)
        })
    }

    fn take_away(
        &mut self,
        number: u64,
        take: impl FnOnce(&dyn Disk, &Path) -> io::Result<()>,
    ) -> Result<(), AppendError> {
        let Some((segment, _)) = self.files.get(number).filter(|_| number < self.tail.number)
        else {
            return Ok(());
        };
        let path = self.dir.join(segment.file_name());
        let removed = take(&*self.disk, &path).and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = removed {
            self.failed = true;
            return Err(AppendError::Failed(error));
        }
        self.files.remove(number);
        self.spares.try_again();
        Ok(())
    }
}

/// The segments that can be read, shared by all readers, with the bytes that they take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(Arc<RwLock<All>>);

#[derive(Debug, Default)]
struct All {
    segments: BTreeMap<u64, Readable>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Readable {
    segment: Segment,
    file: SharedFile,
    bytes: u64,
}

impl Files {
    fn read_lock(&self) -> RwLockReadGuard<'_, All> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, All> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, segment: Segment, file: SharedFile, bytes: u64) {
        let readable = Readable {
            segment,
            file,
            bytes,
        };
        let mut all = self.write_lock();
        all.bytes += bytes;
        let before = all.segments.insert(segment.number, readable);
        all.bytes -= before.map_or(0, |it| it.bytes);
    }

    fn remove(&self, number: u64) {
        let mut all = self.write_lock();
        let before = all.segments.remove(&number);
        all.bytes -= before.map_or(0, |it| it.bytes);
    }

    pub(crate) fn get(&self, number: u64) -> Option<(Segment, SharedFile)> {
        let locked = self.read_lock();
        let readable = locked.segments.get(&number)?;
        Some((readable.segment, Arc::clone(&readable.file)))
    }

    /// The number of the oldest segment.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.read_lock().segments.keys().next().copied()
    }

    /// How many segments there are, and how many bytes they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        let locked = self.read_lock();
        (locked.segments.len() as u64, locked.bytes)
    }

    /// The bytes that all segments take: as they are kept, and counted anew.
    #[cfg(test)]
    pub(crate) fn bytes_both_ways(&self) -> (u64, u64) {
        let locked = self.read_lock();
        let counted = locked.segments.values().map(|it| it.bytes);
        (locked.bytes, counted.sum())
    }

    /// Header, envelope and content at a place, both checksums checked.
    ///
    /// # Errors
    /// The disk's; `InvalidData` where there is no valid record.
    pub(crate) fn read(&self, place: Place) -> io::Result<(Header, Bytes, Bytes)> {
        let (header, envelope, content) = self.read_unjudged(place)?;
        match crc32c::crc32c(&content) == header.content_crc {
            true => Ok((header, envelope, content)),
            false => Err(damaged()),
        }
    }

    /// The same where the content does not matter: header and envelope may be good and it is not.
    ///
    /// # Errors
    /// The disk's; `InvalidData` where there is no valid header and envelope.
    pub(crate) fn read_envelope(&self, place: Place) -> io::Result<(Header, Bytes)> {
        let (segment, file) = self.get(place.segment).ok_or_else(damaged)?;
        let len = usize::try_from(place.len).map_err(|_| damaged())?;
        let mut bytes = vec![0; len.min(FIRST)];
        read_exact_at(&*file, &mut bytes, place.offset)?;
        let header = record::unchecked(&bytes, &segment).ok_or_else(damaged)?;
        let end = record::HEADER + header.envelope_len as usize;
        if header.len() != place.len {
            return Err(damaged());
        }
        if end > bytes.len() {
            bytes.resize(end, 0);
            let rest = place.offset + FIRST as u64;
            read_exact_at(&*file, &mut bytes[FIRST..], rest)?;
        }
        bytes.truncate(end);
        let bytes = Bytes::from(bytes);
        record::decode(&bytes, &segment, place.offset).ok_or_else(damaged)?;
        Ok((header, bytes.slice(record::HEADER..)))
    }

    /// Where the content of a record lies, which is not looked at.
    ///
    /// # Errors
    /// `InvalidData` where the segment is gone.
    pub(crate) fn content_at(
        &self,
        place: Place,
        header: &Header,
    ) -> io::Result<(SharedFile, u64)> {
        let (_, file) = self.get(place.segment).ok_or_else(damaged)?;
        let content = u64::from(header.content_len);
        Ok((file, place.offset + place.len - content))
    }

    fn read_unjudged(&self, place: Place) -> io::Result<(Header, Bytes, Bytes)> {
        let (segment, file) = self.get(place.segment).ok_or_else(damaged)?;
        let len = usize::try_from(place.len).map_err(|_| damaged())?;
        let mut bytes = vec![0; len];
        read_exact_at(&*file, &mut bytes, place.offset)?;
        let bytes = Bytes::from(bytes);
        let (header, _) = record::decode(&bytes, &segment, place.offset).ok_or_else(damaged)?;
        let content_at = record::HEADER + header.envelope_len as usize;
        if header.len() != place.len {
            return Err(damaged());
        }
        Ok((
            header,
            bytes.slice(record::HEADER..content_at),
            bytes.slice(content_at..),
        ))
    }
}

/// How many of the records go into a segment that is written up to `from` and has room up to `to`.
fn fitting(records: &[NewRecord], from: u64, to: u64) -> usize {
    let ends = records.iter().scan(from, |end, record| {
        *end += record.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= to).count()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is damaged")
}

#[cfg(test)]
mod tests;
