//! Where the torn end of a log begins.
//!
//! Each commit is synced before the next one is written, and what is behind the last one is zeros that were synced
//! before. So whatever is not zero behind a commit says that this commit was once whole: what is bad in it is damage.
//! Only the last commit that was begun can be torn. Every record says where all of its commit lies, so one that can be
//! read is enough to tell; where none can, the unproved header of its first one is still asked whether something stands
//! behind it. Only where that is unreadable too does damage look like a torn commit.

use super::record;
use super::replay::{Found, Parsed, found, index_of};
use super::segment::{self, Segment};

/// The offset of the first bad record of the last commit; None where it is whole.
///
/// `whole` says whether a record is complete beyond its own bytes.
pub(super) fn torn_at(
    parsed: &Parsed,
    bytes: &[u8],
    segment: &Segment,
    whole: &impl Fn(&Found<'_>) -> bool,
) -> Option<u64> {
    let end = match parsed.records.last() {
        Some((_, last)) if is_zero_from(bytes, last.commit.end.into()) => {
            return first_bad(parsed, bytes, segment, last.commit, whole);
        }
        Some((_, last)) => last.commit.end.into(),
        None => segment::HEADER,
    };
    let torn = behind_what_was_whole(bytes, segment, end);
    (!is_zero_from(bytes, torn)).then_some(torn)
}

/// In the commit that nothing follows.
fn first_bad(
    parsed: &Parsed,
    bytes: &[u8],
    segment: &Segment,
    commit: record::Commit,
    whole: &impl Fn(&Found<'_>) -> bool,
) -> Option<u64> {
    let mut at = u64::from(commit.begin);
    while at < u64::from(commit.end) {
        let Ok(place) = parsed.records.binary_search_by_key(&at, |(at, _)| *at) else {
            return Some(at);
        };
        let header = parsed.records[place].1;
        let found = found(bytes, segment, at, header, super::replay::Before::Whole);
        if crc32c::crc32c(found.content) != header.content_crc || !whole(&found) {
            return Some(at);
        }
        at += header.len();
    }
    None
}

/// Skips commits of which no record is good, but behind which something stands.
fn behind_what_was_whole(bytes: &[u8], segment: &Segment, mut at: u64) -> u64 {
    while let Some(header) = bytes
        .get(index_of(at)..)
        .and_then(|rest| record::unchecked(rest, segment))
    {
        let (begin, end) = (u64::from(header.commit.begin), u64::from(header.commit.end));
        let is_first = header.sequence == header.commit.first && begin == at;
        let is_plausible = header.envelope_len > 0 && end >= at + header.len();
        if !is_first || !is_plausible || is_zero_from(bytes, end) {
            break;
        }
        at = end;
    }
    at
}

fn is_zero_from(bytes: &[u8], offset: u64) -> bool {
    let behind = bytes.get(index_of(offset)..).unwrap_or_default();
    behind.iter().all(|byte| *byte == 0)
}
