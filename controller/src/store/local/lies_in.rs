//! Whose records lie in a part of a segment: what a disk that cannot read it may cost. For simulations.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use dd_proto::id::MessageId;
use prost::Message as _;

use super::body;
use super::disk::memory::MemoryDisk;
use super::record::{self, Kind};
use super::segment::{self, Segment};

/// The messages that any record there speaks of. Empty for what is no segment.
pub(crate) fn messages_in(
    disk: &MemoryDisk,
    path: &Path,
    part: &Range<u64>,
) -> BTreeSet<MessageId> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(segment) = name.and_then(Segment::from_file_name) else {
        return BTreeSet::new();
    };
    let bytes = disk.bytes_of(path);
    let (mut at, mut found) = (segment::HEADER, BTreeSet::new());
    while let Some(rest) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) {
        let Some((header, envelope)) = record::decode(rest, &segment, at) else {
            break;
        };
        if at < part.end && part.start < at + header.len() {
            found.extend(spoken_of(header.kind, envelope));
        }
        at += header.len();
    }
    found
}

fn spoken_of(kind: Kind, envelope: &[u8]) -> impl Iterator<Item = MessageId> {
    let settled = || Some(body::Settled::decode(envelope).ok()?.id);
    let noted = || Some(body::Noted::decode(envelope).ok()?.id);
    let about = match kind {
        Kind::Settled => settled(),
        Kind::Noted => noted(),
        Kind::Accepted | Kind::Carried | Kind::Put => None,
    };
    let held = body::held_in(kind, envelope).map(|(accepted, _)| accepted.id);
    let both = about.into_iter().chain(held);
    both.filter_map(|id| MessageId::try_from(&id[..]).ok())
}
