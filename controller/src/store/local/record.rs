//! A record: header, envelope, content; two checksums, so that replay can skip content.
//!
//! ```text
//! marker u64 | kind u8 | 0 0 0 | sequence u64 | first sequence of its commit u64 | wall time ms u64
//! where its commit begins u32 | where it ends u32
//! envelope length u32 | content length u32 | CRC of header and envelope u32 | CRC of content u32
//! ```
//! Little-endian. The first CRC-32C is seeded with the segment's number and the record's offset, and covers the second:
//! a record is valid in one place only.

use crate::store::local::segment::Segment;

/// Bytes in front of the envelope.
pub(crate) const HEADER: usize = 60;
/// No envelope is longer: a length above it is damage.
pub(crate) const MAX_ENVELOPE: u32 = 16 << 20;
/// No inline content is longer.
const MAX_CONTENT: u32 = 64 << 20;

/// Where the first checksum stands; it covers all in front of it.
const CRC_AT: usize = 52;

/// What a record says; never 0, so zero-filled space is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Accepted = 1,
    Settled = 2,
    Noted = 3,
    Carried = 4,
    Put = 5,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Accepted,
            Self::Settled,
            Self::Noted,
            Self::Carried,
            Self::Put,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The commit that a record belongs to. Any record of it tells where all of it lies, so that what is torn and what was
/// whole before it can be told apart (docs/decisions/0007-preallocated-segments.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The sequence of its first record.
    pub(crate) first: u64,
    pub(crate) begin: u32,
    pub(crate) end: u32,
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) commit: Commit,
    pub(crate) wall_ms: u64,
    pub(crate) envelope_len: u32,
    pub(crate) content_len: u32,
    crc: u32,
    pub(crate) content_crc: u32,
}

impl Header {
    /// Bytes of the whole record.
    pub(crate) fn len(&self) -> u64 {
        HEADER as u64 + u64::from(self.envelope_len) + u64::from(self.content_len)
    }
}

/// Appends a record to `out`, as it stands at `offset` of `segment`.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    segment: &Segment,
    offset: u64,
    header: &NewHeader,
    envelope: &[u8],
    content: &[u8],
) {
    let at = out.len();
    out.extend_from_slice(&segment.marker.to_le_bytes());
    out.extend_from_slice(&[header.kind as u8, 0, 0, 0]);
    for field in [header.sequence, header.commit.first, header.wall_ms] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [header.commit.begin, header.commit.end] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let length =
        |bytes: &[u8]| u32::try_from(bytes.len()).expect("parts are bounded far below 4 GiB");
    out.extend_from_slice(&length(envelope).to_le_bytes());
    out.extend_from_slice(&length(content).to_le_bytes());
    let content_crc = crc32c::crc32c(content).to_le_bytes();
    let crc = checksum(segment, offset, &out[at..], content_crc, envelope);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&content_crc);
    out.extend_from_slice(envelope);
    out.extend_from_slice(content);
}

/// What a writer says about a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewHeader {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) commit: Commit,
    pub(crate) wall_ms: u64,
}

/// Reads the record that begins `bytes`, which stand at `offset` of `segment`: its header and envelope. None where
/// there is no valid one. The content is not looked at.
pub(crate) fn decode<'a>(
    bytes: &'a [u8],
    segment: &Segment,
    offset: u64,
) -> Option<(Header, &'a [u8])> {
    let header = unchecked(bytes, segment)?;
    let envelope = bytes.get(HEADER..HEADER + header.envelope_len as usize)?;
    let content_crc = header.content_crc.to_le_bytes();
    let crc = checksum(segment, offset, &bytes[..CRC_AT], content_crc, envelope);
    (crc == header.crc).then_some((header, envelope))
}

/// What stands where a record of this segment may begin, its checksum not looked at.
pub(crate) fn unchecked(bytes: &[u8], segment: &Segment) -> Option<Header> {
    let fixed = bytes.get(..HEADER)?;
    let word = |at: usize| Some(u64::from_le_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u32::from_le_bytes(fixed.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != segment.marker {
        return None;
    }
    let header = Header {
        kind: Kind::from_byte(fixed[8])?,
        sequence: word(12)?,
        commit: Commit {
            first: word(20)?,
            begin: half(36)?,
            end: half(40)?,
        },
        wall_ms: word(28)?,
        envelope_len: half(44)?,
        content_len: half(48)?,
        crc: half(CRC_AT)?,
        content_crc: half(56)?,
    };
    (header.envelope_len <= MAX_ENVELOPE && header.content_len <= MAX_CONTENT).then_some(header)
}

fn checksum(
    segment: &Segment,
    offset: u64,
    fixed: &[u8],
    content_crc: [u8; 4],
    envelope: &[u8],
) -> u32 {
    let mut crc = crc32c::crc32c(&segment.number.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc = crc32c::crc32c_append(crc, fixed);
    crc = crc32c::crc32c_append(crc, &content_crc);
    crc32c::crc32c_append(crc, envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment {
        log_id: 1,
        number: 2,
        marker: 0x1122_3344_5566_7788,
        start: 1,
        first_sequence: 1,
    };

    fn sample(offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let header = NewHeader {
            kind: Kind::Accepted,
            sequence: 5,
            commit: Commit {
                first: 4,
                begin: 64,
                end: 200,
            },
            wall_ms: 1_700_000_000_000,
        };
        encode(&mut out, &SEGMENT, offset, &header, b"envelope", b"content");
        out
    }

    #[test]
    fn a_record_is_these_bytes() {
        let golden = "88776655443322110100000005000000000000000400000000000000\
                      0068e5cf8b01000040000000c80000000800000007000000";
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let record = sample(64);
        assert_eq!(hex(&record[..CRC_AT]), golden);
        assert_eq!(&record[HEADER..], b"envelopecontent");
        assert_eq!(
            record.len() as u64,
            decode(&record, &SEGMENT, 64).unwrap().0.len()
        );
    }

    #[test]
    fn a_record_is_valid_in_one_place_only() {
        let record = sample(64);
        let (header, envelope) = decode(&record, &SEGMENT, 64).unwrap();
        assert_eq!((header.sequence, envelope), (5, &b"envelope"[..]));
        assert!(decode(&record, &SEGMENT, 128).is_none());
        let other = Segment {
            number: 3,
            ..SEGMENT
        };
        assert!(decode(&record, &other, 64).is_none());
    }

    #[test]
    fn any_flipped_bit_of_header_or_envelope_is_seen() {
        let good = sample(64);
        for byte in 0..HEADER + 8 {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            // The three bytes behind the kind are covered too: they are part of the header.
            assert!(decode(&bad, &SEGMENT, 64).is_none(), "byte {byte}");
        }
        assert!(decode(&[0; 200], &SEGMENT, 64).is_none());
    }
}
