//! A file read a piece at a time: its bytes, and holes where the disk gives none back.
//!
//! A sector that cannot be read is the more frequent half of what disks do wrong. A read of many blocks fails as a whole
//! for one of them, so it is done once more block by block; what still cannot be read is a hole of [`BLOCK`] bytes, and
//! all around it is read as ever. So whatever its file is, a bad sector costs what lay in it and nothing else.
//!
//! A disk may take seconds to say that it cannot read, so whoever looks at a block several times asks the disk once.
//!
//! # Not here
//! What a hole means: damage, see [`super::replay`].

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::body;
use super::disk::{self, DiskFile, SharedFile};
use super::record::{self, Header};
use super::segment::Segment;

/// The smallest part of a file that is read by itself, as file systems do it.
pub(crate) const BLOCK: usize = 4 << 10;
/// What is read at once. What is skipped by more than this is never read.
const PIECE: usize = 32 << 10;

/// A file, and the part of it that is in memory.
#[derive(Debug)]
pub(super) struct Pieces {
    file: SharedFile,
    len: u64,
    from: u64,
    bytes: Vec<u8>,
    /// In what is in memory.
    holes: Vec<Range<u64>>,
    /// Where the blocks begin that could not be read: they are not asked for again.
    bad: BTreeSet<u64>,
}

/// What stands in a range of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Behind the last byte that can be read and is not zero.
    pub(super) written_to: Option<u64>,
    pub(super) holes: Vec<Range<u64>>,
}

impl Pieces {
    pub(super) fn new(file: SharedFile) -> io::Result<Self> {
        Ok(Self {
            len: file.len()?,
            file,
            from: 0,
            bytes: Vec::new(),
            holes: Vec::new(),
            bad: BTreeSet::new(),
        })
    }

    /// Forgets what was read and what could not be: the disk is asked anew.
    pub(super) fn ask_again(&mut self) {
        self.bytes.clear();
        self.holes.clear();
        self.bad.clear();
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Brings a range into memory, and what lies around it.
    fn cover(&mut self, range: &Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.len);
        if range.start >= self.from && end <= self.in_memory().end {
            return Ok(());
        }
        let block = BLOCK as u64;
        self.from = range.start.min(self.len) / block * block;
        let wanted = (end.saturating_sub(self.from)).max(PIECE as u64);
        self.bytes
            .resize(index(wanted.min(self.len - self.from)), 0);
        let read = read_around(&*self.file, &mut self.bytes, self.from, &mut self.bad)?;
        if read < self.bytes.len() {
            // It is shorter than it was.
            self.bytes.truncate(read);
            self.len = self.in_memory().end;
        }
        let in_memory = self.in_memory();
        let bad = self.bad.range(in_memory.clone());
        self.holes = bad.map(|at| *at..(at + block).min(in_memory.end)).collect();
        Ok(())
    }

    fn in_memory(&self) -> Range<u64> {
        self.from..self.from + self.bytes.len() as u64
    }

    /// As much of a range as the file has; zeros where it cannot be read.
    pub(super) fn slice(&mut self, range: Range<u64>) -> io::Result<&[u8]> {
        self.cover(&range)?;
        let within = |at: u64| index(at.saturating_sub(self.from)).min(self.bytes.len());
        Ok(&self.bytes[within(range.start)..within(range.end)])
    }

    /// All of a range; None where the file ends before, or a part of it cannot be read.
    pub(super) fn whole(&mut self, range: Range<u64>) -> io::Result<Option<&[u8]>> {
        self.cover(&range)?;
        let is_in = |hole: &Range<u64>| hole.start < range.end && range.start < hole.end;
        let ends_inside = range.end <= self.len;
        match ends_inside && !self.holes.iter().any(is_in) {
            true => self.slice(range).map(Some),
            false => Ok(None),
        }
    }

    /// What stands in a range, a piece at a time: `each` is shown the pieces that are not only zeros.
    pub(super) fn look(
        &mut self,
        range: Range<u64>,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<Looked> {
        let (mut looked, mut at) = (Looked::default(), range.start);
        while at < range.end.min(self.len) {
            self.cover(&(at..at + 1))?;
            let piece = at..self.in_memory().end.min(range.end);
            for hole in &self.holes {
                let (start, end) = (hole.start.max(piece.start), hole.end.min(piece.end));
                match looked.holes.last_mut() {
                    _ if start >= end => {}
                    Some(last) if last.end == start => last.end = end,
                    _ => looked.holes.push(start..end),
                }
            }
            at = piece.end.max(at + 1);
            let bytes = self.slice(piece.clone())?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                looked.written_to = Some(piece.start + last as u64 + 1);
                each(piece.start, &bytes[..=last])?;
            }
        }
        Ok(looked)
    }

    /// The header of the record that begins at an offset; its envelope is good. None where there is none.
    pub(super) fn record(&mut self, segment: &Segment, at: u64) -> io::Result<Option<Header>> {
        let fixed = self.whole(at..at + record::HEADER as u64)?;
        let Some(header) = fixed.and_then(|fixed| record::unchecked(fixed, segment)) else {
            return Ok(None);
        };
        if at + header.len() > self.len {
            return Ok(None);
        }
        let bytes = self.whole(at..envelope_of(at, &header).end)?;
        let good = bytes.and_then(|bytes| record::decode(bytes, segment, at));
        // What nobody can read is damage, whatever its checksum says, and must not stop every start.
        let good = good.filter(|(header, envelope)| body::parses(header.kind, envelope));
        Ok(good.map(|(header, _)| header))
    }

    /// The offset of the first record from `from` on.
    pub(super) fn next_record(
        &mut self,
        segment: &Segment,
        mut from: u64,
    ) -> io::Result<Option<u64>> {
        let marker = segment.marker.to_le_bytes();
        while from + record::HEADER as u64 <= self.len {
            let piece = from..from + PIECE as u64;
            let bytes = self.slice(piece)?;
            let found = bytes.windows(marker.len()).position(|it| it == marker);
            from = match found {
                None => from + (bytes.len() - (marker.len() - 1)) as u64,
                Some(at) => {
                    let at = from + at as u64;
                    if self.record(segment, at)?.is_some() {
                        return Ok(Some(at));
                    }
                    at + 1
                }
            };
        }
        Ok(None)
    }
}

/// Where the envelope of the record at `at` lies.
pub(super) fn envelope_of(at: u64, header: &Header) -> Range<u64> {
    let begin = at + record::HEADER as u64;
    begin..begin + u64::from(header.envelope_len)
}

/// Where its content lies.
pub(super) fn content_of(at: u64, header: &Header) -> Range<u64> {
    envelope_of(at, header).end..at + header.len()
}

/// Offsets lie inside a piece that is in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Fills `buffer` from `offset` on, which is a multiple of [`BLOCK`]. Returns how much the file has; what of it cannot be
/// read, also when it is asked for once more, is zero, and told in `bad`. What is bad already is not asked for.
fn read_around(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    offset: u64,
    bad: &mut BTreeSet<u64>,
) -> io::Result<usize> {
    let end = offset + buffer.len() as u64;
    if bad.range(offset..end).next().is_none() {
        match file.read_at(buffer, offset) {
            Err(error) if disk::is_unreadable(&error) => {}
            read => return read,
        }
    }
    let mut filled = 0;
    for block in buffer.chunks_mut(BLOCK) {
        let at = offset + filled as u64;
        if !bad.contains(&at) {
            match file.read_at(block, at) {
                Err(error) if disk::is_unreadable(&error) => {
                    tracing::error!(%error, offset = at, bytes = block.len(), "a part of a file cannot be read");
                    bad.insert(at);
                }
                read => {
                    let read = read?;
                    filled += read;
                    if read < block.len() {
                        break;
                    }
                    continue;
                }
            }
        }
        block.fill(0);
        filled += block.len();
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::disk::Disk as _;
    use super::super::disk::memory::MemoryDisk;
    use super::*;

    const LEN: usize = 100_000;

    fn file(disk: &MemoryDisk) -> SharedFile {
        let file = disk.create(Path::new("/f")).unwrap();
        let bytes: Vec<u8> = (0..LEN)
            .map(|n| u8::try_from(1 + n % 251).unwrap())
            .collect();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    #[test]
    fn a_block_that_cannot_be_read_costs_only_itself() {
        let disk = MemoryDisk::default();
        let mut pieces = Pieces::new(file(&disk)).unwrap();
        disk.unreadable(Path::new("/f"), 40_000..40_001);
        let hole = 36_864..40_960;
        for (range, can_be_read) in [
            (0..36_864, true),
            (36_863..36_864, true),
            (36_863..36_865, false),
            (40_959..50_000, false),
            (40_960..100_000, true),
            (99_999..100_001, false),
            (0..100_000, false),
        ] {
            let expected: Vec<u8> = range
                .clone()
                .map(|n: u64| u8::try_from(1 + n % 251).unwrap())
                .collect();
            let found = pieces.whole(range.clone()).unwrap();
            assert_eq!(found, can_be_read.then_some(&expected[..]), "{range:?}");
        }
        let mut seen = 0;
        let looked = pieces.look(0..100_000, |_, bytes| {
            seen += bytes.iter().filter(|byte| **byte != 0).count();
            Ok(())
        });
        let expected = Looked {
            written_to: Some(100_000),
            holes: vec![hole],
        };
        assert_eq!(looked.unwrap(), expected);
        assert_eq!(seen, LEN - BLOCK);
    }

    #[test]
    fn what_can_be_read_at_the_second_try_is_no_hole() {
        let disk = MemoryDisk::default();
        let mut pieces = Pieces::new(file(&disk)).unwrap();
        disk.fail_reads(1);
        assert!(pieces.whole(0..100_000).unwrap().is_some());
    }

    #[test]
    fn a_bad_block_is_asked_for_twice_however_often_it_is_looked_at() {
        let disk = MemoryDisk::default();
        let mut pieces = Pieces::new(file(&disk)).unwrap();
        disk.unreadable(Path::new("/f"), 40_000..40_001);
        let hole = 36_864..40_960;
        for _ in 0..3 {
            let looked = pieces.look(0..100_000, |_, _| Ok(())).unwrap();
            assert_eq!(looked.holes, std::slice::from_ref(&hole));
            assert_eq!(pieces.whole(40_000..40_010).unwrap(), None);
            assert!(pieces.whole(50_000..50_010).unwrap().is_some());
        }
        assert_eq!(disk.refused_reads(), 2);
        pieces.ask_again();
        assert_eq!(pieces.whole(40_000..40_010).unwrap(), None);
        assert_eq!(disk.refused_reads(), 4);
    }
}
