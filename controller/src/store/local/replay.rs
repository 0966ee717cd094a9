//! What an earlier start left in a log: read in order, cut where the last commit was torn, copied aside where it is
//! damaged.
//!
//! Only the last commit of a log can be torn by a crash, for each is synced before the next one is written. There both
//! checksums are looked at, and the log ends before its first bad record. A bad record of an earlier commit is damage:
//! it costs only itself. Sequences have no holes, so records that are gone without a trace (a file cut short, a block of
//! zeros, a segment that is missing) are damage too.
//!
//! A segment with a successor has its end settled: it was synced before its log went on, or cut by an earlier start
//! before that made its own segment. So only the very last segment is ever cut, even where that one is empty: that is
//! [`cut_end`], quick whatever the length of the log. [`read`] comes later, and takes as long as it takes.
//!
//! # Not here
//! What a record means: whoever calls these.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::body;
use super::disk::{self, Disk};
use super::log::Place;
use super::record::{self, Header};
use super::segment::{self, Segment};
use super::torn::torn_at;

/// A valid record of an earlier start.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) header: Header,
    pub(crate) place: Place,
    /// The start that wrote it.
    pub(crate) start: u64,
    pub(crate) envelope: &'a [u8],
    pub(crate) content: &'a [u8],
    pub(crate) after: Before,
}

/// What stands before a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Whole,
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
    /// The highest sequence seen.
    last_sequence: u64,
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
}

/// One segment, taken apart.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) records: Vec<(u64, Header)>,
    /// Bytes that are no record and not only zeros.
    gaps: Vec<Range<u64>>,
}

impl Parsed {
    /// Behind it there are only zeros.
    fn end(&self) -> u64 {
        let record = self.records.last().map(|(at, header)| at + header.len());
        let gap = self.gaps.last().map(|gap| gap.end);
        record.max(gap).unwrap_or(segment::HEADER)
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
    quarantine: &Path,
    whole: impl Fn(&Found<'_>) -> bool,
) -> io::Result<End> {
    let mut end = End::default();
    for (named, path) in old.iter().rev() {
        let bytes = disk::read(disk, path)?;
        let segment = header_of(named, &bytes);
        let mut parsed = parse(&bytes, &segment);
        if end.segment == 0 {
            let keep = match torn_at(&parsed, &bytes, &segment, &whole) {
                Some(torn) => {
                    let used = bytes.iter().rposition(|byte| *byte != 0);
                    let behind = &bytes[index_of(torn)..];
                    set_aside(disk, quarantine, &segment, torn, behind)?;
                    end.torn_bytes = used.map_or(0, |at| at as u64 + 1).saturating_sub(torn);
                    torn
                }
                None => parsed.end(),
            };
            // Space that was made ahead goes back too.
            if keep < bytes.len() as u64 {
                let file = disk.open(path)?;
                file.set_len(keep)?;
                file.sync_all()?;
            }
            parsed.records.retain(|(offset, _)| *offset < keep);
            let last = parsed.records.last();
            end.segment = segment.number;
            end.offset = last.map_or(segment::HEADER, |(at, header)| at + header.len());
        }
        let before = segment.first_sequence.saturating_sub(1);
        end.last_sequence = end.last_sequence.max(before);
        if let Some((_, header)) = parsed.records.last() {
            end.last_sequence = end.last_sequence.max(header.sequence);
            end.newest_ms = header.wall_ms;
            break;
        }
    }
    Ok(end)
}

/// Reads the segments in `old`, oldest first; their end has been cut. `each` is told how many bytes lie behind, and
/// says whether to go on.
///
/// # Errors
/// The disk's.
pub(crate) fn read(
    disk: &dyn Disk,
    old: &[(Segment, PathBuf)],
    quarantine: &Path,
    mut each: impl FnMut(Found<'_>, u64) -> bool,
) -> io::Result<Replayed> {
    let mut after = Before::Whole;
    let mut replayed = Replayed::default();
    let mut bytes_before = 0;
    for (named, path) in old {
        let bytes = disk::read(disk, path)?;
        let segment = header_of(named, &bytes);
        if replayed.skips_to(segment.first_sequence) && after == Before::Whole {
            replayed.damaged += 1;
            after = Before::Damage;
        }
        replayed.last_sequence = replayed
            .last_sequence
            .max(segment.first_sequence.saturating_sub(1));
        let parsed = parse(&bytes, &segment);
        for gap in &parsed.gaps {
            let (from, to) = (index_of(gap.start), index_of(gap.end));
            set_aside(disk, quarantine, &segment, gap.start, &bytes[from..to])?;
            replayed.damaged += 1;
        }
        for (offset, header) in &parsed.records {
            if parsed.gaps.iter().any(|gap| gap.end == *offset) {
                after = Before::Damage;
            } else if after == Before::Whole && replayed.skips_to(header.sequence) {
                replayed.damaged += 1;
                after = Before::Damage;
            }
            let found = found(&bytes, &segment, *offset, *header, after);
            if after == Before::Damage {
                replayed.last_damage = Some(found.place);
            }
            after = Before::Whole;
            replayed.records += 1;
            replayed.last_sequence = replayed.last_sequence.max(header.sequence);
            if !each(found, bytes_before + offset) {
                return Ok(replayed);
            }
        }
        let end = parsed.end();
        bytes_before += bytes.len() as u64;
        if parsed.gaps.last().is_some_and(|gap| gap.end == end) {
            after = Before::Damage;
        }
        if after == Before::Damage {
            replayed.last_damage = Some(behind(&segment));
        }
    }
    replayed.ends_damaged = after == Before::Damage;
    Ok(replayed)
}

impl Replayed {
    /// Whether records are missing in front of the one with this sequence. What comes first has nothing in front.
    fn skips_to(&self, sequence: u64) -> bool {
        self.last_sequence != 0 && sequence > self.last_sequence + 1
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

/// Offsets lie inside a segment that is in memory.
pub(super) fn index_of(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The header's word where it is whole, else the name's.
fn header_of(named: &Segment, bytes: &[u8]) -> Segment {
    bytes
        .first_chunk()
        .and_then(Segment::decode)
        .unwrap_or(*named)
}

pub(super) fn found<'a>(
    bytes: &'a [u8],
    segment: &Segment,
    offset: u64,
    header: Header,
    after: Before,
) -> Found<'a> {
    let envelope_at = index_of(offset) + record::HEADER;
    let content_at = envelope_at + header.envelope_len as usize;
    let end = content_at + header.content_len as usize;
    Found {
        header,
        place: Place {
            segment: segment.number,
            offset,
            len: header.len(),
        },
        start: segment.start,
        envelope: &bytes[envelope_at..content_at],
        content: &bytes[content_at..end],
        after,
    }
}

/// The offset of the next good record in `rest`, which begins at `from`.
pub(super) fn next_record(rest: &[u8], segment: &Segment, from: u64) -> Option<u64> {
    let marker = segment.marker.to_le_bytes();
    (0..rest.len())
        .map(|at| (at, from + at as u64))
        .find_map(|(at, offset)| {
            let here = &rest[at..];
            let good = here.starts_with(&marker) && record::decode(here, segment, offset).is_some();
            good.then_some(offset)
        })
}

fn parse(bytes: &[u8], segment: &Segment) -> Parsed {
    let mut parsed = Parsed::default();
    let mut at = index_of(segment::HEADER);
    while at < bytes.len() {
        if let Some(header) = whole_record(bytes, segment, at) {
            parsed.records.push((at as u64, header));
            at += index_of(header.len());
            continue;
        }
        if bytes[at..].iter().all(|byte| *byte == 0) {
            break;
        }
        let next = (at + 1..bytes.len()).find(|next| {
            bytes[*next..].starts_with(&segment.marker.to_le_bytes())
                && whole_record(bytes, segment, *next).is_some()
        });
        let end = next.unwrap_or(bytes.len());
        parsed.gaps.push(at as u64..end as u64);
        at = end;
    }
    parsed
}

fn whole_record(bytes: &[u8], segment: &Segment, at: usize) -> Option<Header> {
    let (header, envelope) = record::decode(&bytes[at..], segment, at as u64)?;
    let ends_inside = at as u64 + header.len() <= bytes.len() as u64;
    // What nobody can read is damage, whatever its checksum says, and must not stop every start.
    (ends_inside && body::parses(header.kind, envelope)).then_some(header)
}

/// Copies bytes that are no record, and not only zeros, to where an operator can look at them.
fn set_aside(
    disk: &dyn Disk,
    quarantine: &Path,
    segment: &Segment,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let name = format!(
        "{:016x}-{:016x}-{offset:016x}",
        segment.log_id, segment.number
    );
    disk::write(disk, quarantine, &name, bytes)
}
