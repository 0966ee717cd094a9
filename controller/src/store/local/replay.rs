//! What an earlier start left in a log: read in order, cut where the last commit was torn, copied aside where it is
//! damaged.
//!
//! Only the last commit of a log can be torn by a crash, for each is synced before the next one is written. There both
//! checksums are looked at, and the log ends before its first bad record. A bad record of an earlier commit is damage:
//! it costs only itself. Sequences have no holes, so records that are gone without a trace (a file cut short, a block of
//! zeros, a segment that is missing) are damage too. What the disk cannot read is damage wherever it lies, and never
//! cut: nobody knows what it was.
//!
//! A segment with a successor has its end settled: it was synced before its log went on, or cut by an earlier start
//! before that made its own segment. So only the very last segment is ever cut, even where that one is empty: that is
//! [`cut_end`], quick whatever the length of the log. [`read`] comes later, and takes as long as it takes; it reads
//! headers and envelopes, and steps over the content of what is large.
//!
//! # Not here
//! What a record means: whoever calls these. What is copied aside, and where: [`super::quarantine`].

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::disk::Disk;
use super::log::Place;
use super::pieces::{Looked, Pieces, content_of, envelope_of};
use super::quarantine::Quarantine;
use super::record::{self, Header, Kind};
use super::segment::{self, Segment};
use super::torn::{Torn, torn_at};

/// A valid record of an earlier start.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) header: Header,
    pub(crate) place: Place,
    /// The start that wrote it.
    pub(crate) start: u64,
    pub(crate) envelope: &'a [u8],
    /// What was asked for.
    pub(crate) wanted: Wanted,
    /// None: nobody asked for it, or it is not what was written.
    pub(crate) content: Option<Bytes>,
    pub(crate) after: Before,
    /// How many records are missing in front of it, by their sequences.
    pub(crate) missing: u64,
}

/// Whether the content of records is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Envelopes,
    Contents,
}

/// What stands before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Whole,
    /// Bytes that cannot be read: damage, if a record is missing.
    Unread,
    /// Bytes that are no record, of a commit that was once whole.
    Damage,
}

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Replayed {
    pub(crate) records: u64,
    pub(crate) damaged: u64,
    /// The last place with damage before it; what was recorded in front of it may have been changed by what is lost.
    pub(crate) last_damage: Option<Place>,
    /// Behind the last valid record there is damage, so no record told of it.
    pub(crate) ends_damaged: bool,
    /// How many records are missing since the last one.
    pub(crate) missing: u64,
    /// The highest sequence seen.
    last_sequence: u64,
    /// The sequence of the next record; 0 where nobody knows it.
    next_sequence: u64,
}

/// Where a log ends, once its torn commit is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct End {
    /// The last segment, and where its next record would stand; 0 without any.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) last_sequence: u64,
    /// The wall time of the last record, milliseconds.
    pub(crate) newest_ms: u64,
    /// Bytes behind the last whole commit, cut off now.
    pub(crate) torn_bytes: u64,
    /// So many records at most may lie behind the last one, where the disk cannot read. Their sequences are taken: given
    /// to other records, they would say that nothing is missing.
    pub(crate) hidden: u64,
    pub(crate) sequences: Sequences,
}

/// Whether what is left of a log says which sequences were given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sequences {
    #[default]
    Told,
    /// The header of its oldest segment cannot be read, nor any record.
    Untold,
}

/// What stands at an offset where a record may begin.
#[derive(Debug)]
pub(super) enum Stands {
    Record(Header),
    /// Up to there no record, but not only zeros.
    Gap(u64, Looked),
    /// Nothing, and nothing behind it.
    Nothing,
}

/// The end of one segment: its newest commit, and where what is in it ends.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The records of the newest commit, in order.
    pub(super) records: Vec<(u64, Header)>,
    /// Behind it there are only zeros.
    pub(super) end: u64,
}

impl Tail {
    fn of(pieces: &mut Pieces, segment: &Segment, to: u64) -> io::Result<Self> {
        let mut tail = Self {
            records: Vec::new(),
            end: segment::HEADER,
        };
        while tail.end < to {
            match stands(pieces, segment, tail.end)? {
                Stands::Record(header) => {
                    let before = tail.records.last();
                    if before.is_some_and(|(_, it)| it.commit.first != header.commit.first) {
                        tail.records.clear();
                    }
                    tail.records.push((tail.end, header));
                    tail.end += header.len();
                }
                Stands::Gap(end, _) => tail.end = end,
                Stands::Nothing => break,
            }
        }
        Ok(tail)
    }
}

/// Cuts the torn end of a log, oldest segment first in `old`. It reads the last segment, and those before it only as
/// far back as there is no record.
///
/// `whole` says whether a record of the last commit is complete beyond its own bytes (its content file is there).
/// A crash while it cuts leaves the log to be cut again.
///
/// # Errors
/// The disk's.
pub(crate) fn cut_end(
    disk: &dyn Disk,
    old: &[(Segment, PathBuf)],
    quarantine: &Quarantine,
    whole: impl Fn(&Found<'_>) -> bool,
) -> io::Result<End> {
    let mut end = End::default();
    if !old.is_empty() {
        end.sequences = Sequences::Untold;
    }
    for (named, path) in old.iter().rev() {
        let file = disk.open(path)?;
        let mut pieces = Pieces::new(file.clone())?;
        let segment = header_of(named, &mut pieces)?;
        let mut tail = Tail::of(&mut pieces, &segment, u64::MAX)?;
        // A commit that is torn, and goes, says how many records there were in front of it, also where the disk hides them.
        let begun = tail.records.last();
        let begun = begun.map_or(0, |(_, header)| header.commit.first.saturating_sub(1));
        let mut torn = false;
        if end.segment == 0 {
            let keep = match torn_at(&tail, &mut pieces, &segment, &whole)? {
                Torn::At(from) => {
                    torn = true;
                    let behind = from..pieces.len();
                    let looked = quarantine.set_aside(&mut pieces, &segment, behind)?;
                    let used = looked.written_to.unwrap_or(from);
                    end.torn_bytes = used.saturating_sub(from);
                    tail = Tail::of(&mut pieces, &segment, from)?;
                    from
                }
                Torn::Not => tail.end,
                Torn::Unknown => pieces.len(),
            };
            // Space that was made ahead goes back too.
            if keep < pieces.len() {
                file.set_len(keep)?;
                file.sync_all()?;
            }
            let last = tail.records.last();
            end.segment = segment.number;
            end.offset = last.map_or(segment::HEADER, |(at, header)| at + header.len());
        }
        // The header of the segment behind it would count them in.
        if end.last_sequence == 0 && !torn {
            end.hidden += hidden_behind(&tail, &mut pieces)?;
        }
        let before = segment.first_sequence.saturating_sub(1).max(begun);
        end.last_sequence = end.last_sequence.max(before);
        if segment.first_sequence > 0 || begun > 0 || !tail.records.is_empty() {
            end.sequences = Sequences::Told;
        }
        if let Some((_, header)) = tail.records.last() {
            end.last_sequence = end.last_sequence.max(header.sequence);
            end.newest_ms = header.wall_ms;
            break;
        }
    }
    Ok(end)
}

/// How many records the disk may hide behind the last one of a segment, at most.
fn hidden_behind(tail: &Tail, pieces: &mut Pieces) -> io::Result<u64> {
    let last = tail.records.last();
    let from = last.map_or(segment::HEADER, |(at, header)| at + header.len());
    let looked = pieces.look(from..pieces.len(), |_, _| Ok(()))?;
    // Records stand behind each other: where there is no header, there is nothing behind it either.
    let header_end = from + record::HEADER as u64;
    let meets = |hole: &Range<u64>| hole.start < header_end;
    if looked.written_to.is_none() && !looked.holes.first().is_some_and(meets) {
        return Ok(0);
    }
    let holes_to = looked.holes.last().map(|hole| hole.end);
    let to = looked.written_to.max(holes_to).unwrap_or(from);
    Ok((to - from).div_ceil(record::HEADER as u64))
}

/// Reads the segments in `old`, oldest first; their end has been cut, and `next` is the first sequence behind it. `wanted`
/// is asked of each record, by its kind and envelope. `each` is told how many bytes lie behind, and says whether to go on.
///
/// # Errors
/// The disk's, but for what cannot be read.
pub(crate) fn read(
    disk: &dyn Disk,
    old: &[(Segment, PathBuf)],
    quarantine: &Quarantine,
    next: u64,
    wanted: impl Fn(Kind, &[u8]) -> Wanted,
    mut each: impl FnMut(Found<'_>, u64) -> bool,
) -> io::Result<Replayed> {
    let mut after = Before::Whole;
    let mut replayed = Replayed::default();
    let mut bytes_before = 0;
    for (named, path) in old {
        let mut pieces = Pieces::new(disk.open(path)?)?;
        let segment = header_of(named, &mut pieces)?;
        if segment.first_sequence > 0 {
            after = replayed.comes_to(segment.first_sequence, after);
            replayed.is_at(segment.first_sequence.saturating_sub(1));
        }
        let mut at = segment::HEADER;
        loop {
            match stands(&mut pieces, &segment, at)? {
                Stands::Nothing => break,
                Stands::Gap(end, looked) => {
                    quarantine.set_aside(&mut pieces, &segment, at..end)?;
                    after = match looked.written_to {
                        Some(_) => {
                            replayed.damaged += 1;
                            Before::Damage
                        }
                        None if after == Before::Damage => Before::Damage,
                        None => Before::Unread,
                    };
                    at = end;
                }
                Stands::Record(header) => {
                    after = replayed.comes_to(header.sequence, after);
                    let wanted = wanted(header.kind, pieces.slice(envelope_of(at, &header))?);
                    let content = match wanted {
                        Wanted::Envelopes => None,
                        Wanted::Contents => good_content(&mut pieces, at, &header)?,
                    };
                    if wanted == Wanted::Contents && content.is_none() {
                        quarantine.set_aside(&mut pieces, &segment, content_of(at, &header))?;
                    }
                    let mut found = found(&mut pieces, &segment, at, header, content)?;
                    (found.after, found.missing) = (after, replayed.missing);
                    found.wanted = wanted;
                    if after == Before::Damage {
                        replayed.last_damage = Some(found.place);
                    }
                    (after, replayed.missing) = (Before::Whole, 0);
                    replayed.records += 1;
                    replayed.is_at(header.sequence);
                    if !each(found, bytes_before + at) {
                        return Ok(replayed);
                    }
                    at += header.len();
                }
            }
        }
        bytes_before += pieces.len();
        if after == Before::Damage {
            replayed.last_damage = Some(behind(&segment));
        }
    }
    after = replayed.comes_to(next, after);
    if after == Before::Damage {
        replayed.last_damage = old.last().map(|(segment, _)| behind(segment));
    }
    replayed.ends_damaged = after == Before::Damage;
    Ok(replayed)
}

impl Replayed {
    /// What is before the record with this sequence, by what stands there and by what is missing.
    fn comes_to(&mut self, sequence: u64, after: Before) -> Before {
        // What comes first has nothing in front.
        let is_missing = self.last_sequence != 0 && sequence > self.last_sequence + 1;
        let is_next = self.next_sequence != 0 && sequence <= self.next_sequence;
        self.missing = match self.next_sequence {
            0 if after == Before::Whole => 0,
            0 => u64::MAX,
            next => self.missing.saturating_add(sequence.saturating_sub(next)),
        };
        match after {
            Before::Damage => Before::Damage,
            // Where nothing is missing nothing was there.
            Before::Unread if is_next => Before::Whole,
            Before::Whole if !is_missing => Before::Whole,
            Before::Whole | Before::Unread => {
                self.damaged += 1;
                Before::Damage
            }
        }
    }

    fn is_at(&mut self, sequence: u64) {
        self.last_sequence = self.last_sequence.max(sequence);
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }
}

/// A place behind all records of a segment.
fn behind(segment: &Segment) -> Place {
    Place {
        segment: segment.number,
        offset: u64::MAX,
        len: 0,
    }
}

/// The header's word where it is whole, else the name's.
pub(super) fn header_of(named: &Segment, pieces: &mut Pieces) -> io::Result<Segment> {
    let header = pieces.whole(0..segment::HEADER)?;
    let header = header.and_then(|bytes| Segment::decode(bytes.first_chunk()?));
    Ok(header.unwrap_or(*named))
}

pub(super) fn found<'a>(
    pieces: &'a mut Pieces,
    segment: &Segment,
    at: u64,
    header: Header,
    content: Option<Bytes>,
) -> io::Result<Found<'a>> {
    Ok(Found {
        header,
        place: Place {
            segment: segment.number,
            offset: at,
            len: header.len(),
        },
        start: segment.start,
        envelope: pieces.slice(envelope_of(at, &header))?,
        wanted: Wanted::Contents,
        content,
        after: Before::Whole,
        missing: 0,
    })
}

/// The content of the record at `at`; None where it is not what was written.
pub(super) fn good_content(
    pieces: &mut Pieces,
    at: u64,
    header: &Header,
) -> io::Result<Option<Bytes>> {
    let content = pieces.whole(content_of(at, header))?;
    let good = content.filter(|content| crc32c::crc32c(content) == header.content_crc);
    Ok(good.map(Bytes::copy_from_slice))
}

pub(super) fn stands(pieces: &mut Pieces, segment: &Segment, at: u64) -> io::Result<Stands> {
    if at >= pieces.len() {
        return Ok(Stands::Nothing);
    }
    if let Some(header) = pieces.record(segment, at)? {
        return Ok(Stands::Record(header));
    }
    let behind = pieces.look(at..pieces.len(), |_, _| Ok(()))?;
    // Records stand behind each other: where there is no header, there is nothing behind it either.
    let header = at..at + record::HEADER as u64;
    let is_read = behind
        .holes
        .first()
        .is_none_or(|hole| hole.start >= header.end);
    if behind.written_to.is_none() && is_read {
        return Ok(Stands::Nothing);
    }
    Ok(match pieces.next_record(segment, at + 1)? {
        None => Stands::Gap(pieces.len(), behind),
        Some(next) => Stands::Gap(next, pieces.look(at..next, |_, _| Ok(()))?),
    })
}
