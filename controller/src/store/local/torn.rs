//! Where the torn end of a log begins.
//!
//! Each commit is synced before the next one is written, and what is behind the last one is zeros that were synced
//! before. So whatever is not zero behind a commit says that this commit was once whole: what is bad in it is damage.
//! Only the last commit that was begun can be torn. Every record says where all of its commit lies, so one that can be
//! read is enough to tell; where none can, the unproved header of its first one is still asked whether something stands
//! behind it. Only where that is unreadable too does damage look like a torn commit.
//!
//! Where the disk cannot read a part of what would tell, nobody knows, and nothing is cut: that would lose for good what
//! another disk, or another day, can read.

use std::io;

use super::pieces::Pieces;
use super::record;
use super::replay::{Found, Tail, found, good_content};
use super::segment::{self, Segment};

/// Whether a log ends with a torn commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    Not,
    /// The offset of its first bad record.
    At(u64),
    /// A part of it cannot be read.
    Unknown,
}

/// Looks at the last commit.
///
/// `whole` says whether a record is complete beyond its own bytes.
pub(super) fn torn_at(
    tail: &Tail,
    pieces: &mut Pieces,
    segment: &Segment,
    whole: &impl Fn(&Found<'_>) -> bool,
) -> io::Result<Torn> {
    let last = tail.records.last().map(|(_, header)| header.commit);
    let from = last.map_or(segment::HEADER, |commit| commit.begin.into());
    let end = last.map_or(segment::HEADER, |commit| commit.end.into());
    let looked = pieces.look(from..pieces.len(), |_, _| Ok(()))?;
    let written_to = looked.written_to.unwrap_or(from);
    // Behind the last commit the next one would begin with a header.
    let tells = written_to.max(end + record::HEADER as u64);
    // Of what was begun behind it, a hole may hide the rest, wherever that hole lies.
    let is_begun = written_to > end;
    if looked
        .holes
        .iter()
        .any(|hole| is_begun || hole.start < tells)
    {
        return Ok(Torn::Unknown);
    }
    if let Some(commit) = last.filter(|_| written_to <= end) {
        return first_bad(tail, pieces, segment, commit, whole);
    }
    let torn = behind_what_was_whole(pieces, segment, end, written_to)?;
    Ok(match torn < written_to {
        true => Torn::At(torn),
        false => Torn::Not,
    })
}

/// In the commit that nothing follows.
fn first_bad(
    tail: &Tail,
    pieces: &mut Pieces,
    segment: &Segment,
    commit: record::Commit,
    whole: &impl Fn(&Found<'_>) -> bool,
) -> io::Result<Torn> {
    let mut at = u64::from(commit.begin);
    while at < u64::from(commit.end) {
        let Ok(place) = tail.records.binary_search_by_key(&at, |(at, _)| *at) else {
            return Ok(Torn::At(at));
        };
        let header = tail.records[place].1;
        let content = good_content(pieces, at, &header)?;
        let found = found(pieces, segment, at, header, content)?;
        if found.content.is_none() || !whole(&found) {
            return Ok(Torn::At(at));
        }
        at += header.len();
    }
    Ok(Torn::Not)
}

/// Skips commits of which no record is good, but behind which something stands.
fn behind_what_was_whole(
    pieces: &mut Pieces,
    segment: &Segment,
    mut at: u64,
    written_to: u64,
) -> io::Result<u64> {
    loop {
        let fixed = pieces.whole(at..at + record::HEADER as u64)?;
        let Some(header) = fixed.and_then(|fixed| record::unchecked(fixed, segment)) else {
            return Ok(at);
        };
        let (begin, end) = (u64::from(header.commit.begin), u64::from(header.commit.end));
        let is_first = header.sequence == header.commit.first && begin == at;
        let is_plausible = header.envelope_len > 0 && end >= at + header.len();
        if !is_first || !is_plausible || written_to <= end {
            return Ok(at);
        }
        at = end;
    }
}
