//! The records of the journal's file: a length, a kind, a protobuf message and a CRC-32C over all of them.
//!
//! # Invariants
//! What is damaged costs no sound record behind it: the next one is looked for byte by byte, and its CRC says that it is one.

/// Length and kind in front of a payload, CRC behind it.
pub(super) const FRAME: usize = 4 + 1 + 4;
/// A report names every recipient with a reply; this is far above what intake accepts.
const MAX_RECORD: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DotSent = 1,
    Report = 2,
    Forgotten = 3,
}

/// One sound record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// None: of a newer version.
    pub(super) kind: Option<Kind>,
    pub(super) payload: &'a [u8],
}

/// The records of `content` from `at` on, and what lies between them that is none.
#[derive(Debug)]
pub(super) struct Records<'a> {
    content: &'a [u8],
    /// Where the last sound record ends.
    pub(super) end: usize,
    /// Bytes in front of a sound record that are none. What is behind the last one is a torn end.
    pub(super) damaged: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(content: &'a [u8], at: usize) -> Self {
        Self {
            content,
            end: at,
            damaged: 0,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let from = self.end;
        let (at, (record, end)) = (from..self.content.len())
            .find_map(|at| unframe(self.content, at).map(|found| (at, found)))?;
        self.damaged += at - from;
        self.end = end;
        Some(record)
    }
}

pub(super) fn frame(records: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    let from = records.len();
    let length = u32::try_from(payload.len()).expect("a record is far smaller than 4 GiB");
    records.extend_from_slice(&length.to_le_bytes());
    records.push(kind as u8);
    records.extend_from_slice(payload);
    let crc = crc32c::crc32c(&records[from..]);
    records.extend_from_slice(&crc.to_le_bytes());
}

/// The record at `at`, and where it ends; None where there is none that is whole and sound.
fn unframe(content: &[u8], at: usize) -> Option<(Record<'_>, usize)> {
    let rest = content.get(at..)?;
    let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    // No version has a kind 0: a stretch of zeros is not taken for empty records.
    if length > MAX_RECORD || rest.get(4) == Some(&0) {
        return None;
    }
    let covered = rest.get(..5 + length)?;
    let crc = rest.get(5 + length..FRAME + length)?;
    if crc32c::crc32c(covered).to_le_bytes() != crc {
        return None;
    }
    let kind = match covered[4] {
        1 => Some(Kind::DotSent),
        2 => Some(Kind::Report),
        3 => Some(Kind::Forgotten),
        _ => None,
    };
    let payload = &covered[5..];
    Some((Record { kind, payload }, at + FRAME + length))
}
