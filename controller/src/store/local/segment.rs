//! A segment: one append-only file of a log, and what its name and header say about it.
//!
//! # Invariants
//! - Log id, number, marker and start number stand in the name too, so a damaged header costs nothing.
//! - The marker is random for each segment: neither stale space nor the body of a mail can pass for a record of it.
//! - Segments are unlinked, never recycled, and never written again by a later start.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::spares::Spare;

/// Bytes of the header; the first record begins behind it.
pub(crate) const HEADER: u64 = HEADER_LEN as u64;
pub(crate) const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"DDLOG\0\0\x01";

/// What a segment is, from its name and header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) log_id: u64,
    pub(crate) number: u64,
    pub(crate) marker: u64,
    /// The start of the controller that made it.
    pub(crate) start: u64,
    /// The sequence its first record has, or would have.
    pub(crate) first_sequence: u64,
}

impl Segment {
    pub(crate) fn file_name(&self) -> String {
        format!(
            "{:016x}-{:016x}-{:016x}-{:016x}.seg",
            self.number, self.log_id, self.marker, self.start
        )
    }

    /// None for a file that is no segment. The first sequence is unknown from a name: 0.
    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".seg")?.split('-');
        let mut part = || {
            let text = parts.next().filter(|text| text.len() == 16)?;
            u64::from_str_radix(text, 16).ok()
        };
        let (number, log_id, marker, start) = (part()?, part()?, part()?, part()?);
        parts.next().is_none().then_some(Self {
            log_id,
            number,
            marker,
            start,
            first_sequence: 0,
        })
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(MAGIC);
        let fields = [
            self.log_id,
            self.number,
            self.marker,
            self.start,
            self.first_sequence,
        ];
        for (field, place) in fields.iter().zip(header[8..48].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&header[..48]);
        header[48..52].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// None where the header is damaged.
    pub(crate) fn decode(header: &[u8; HEADER_LEN]) -> Option<Self> {
        let crc = u32::from_le_bytes(header[48..52].try_into().ok()?);
        if &header[..8] != MAGIC || crc32c::crc32c(&header[..48]) != crc {
            return None;
        }
        let field = |n: usize| {
            let bytes = header[8 + 8 * n..16 + 8 * n].try_into();
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Some(Self {
            log_id: field(0),
            number: field(1),
            marker: field(2),
            start: field(3),
            first_sequence: field(4),
        })
    }

    /// Turns a spare into this segment: header, synced, then its name, synced. A crash before leaves a spare, or a
    /// segment without a record.
    pub(crate) fn take_over(&self, disk: &dyn Disk, dir: &Path, spare: &Spare) -> io::Result<()> {
        spare.file.write_all_at(&self.encode(), 0)?;
        spare.file.sync_data()?;
        disk.rename(&spare.path, &dir.join(self.file_name()))?;
        disk.sync_dir(dir)
    }
}

/// The highest number of a start that stands in a name, of spares too; 0 without any.
pub(crate) fn highest_start(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    let start = |name: &String| {
        let (stem, _) = name.rsplit_once('.')?;
        u64::from_str_radix(stem.rsplit_once('-')?.1, 16).ok()
    };
    Ok(disk.list(dir)?.iter().filter_map(start).max().unwrap_or(0))
}

/// All segments of a log in order, with their paths.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(Segment, PathBuf)>> {
    let names = disk.list(dir)?.into_iter();
    let mut found: Vec<_> = names
        .filter_map(|name| Some((Segment::from_file_name(&name)?, dir.join(name))))
        .collect();
    found.sort_by_key(|(segment, _)| segment.number);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment {
        log_id: 0x0102_0304_0506_0708,
        number: 9,
        marker: 0xfeed_beef_cafe_f00d,
        start: 3,
        first_sequence: 77,
    };

    #[test]
    fn the_header_is_these_bytes() {
        let golden = "44444c4f4700000108070605040302010900000000000000\
                      0df0fecaefbeedfe03000000000000004d00000000000000";
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let header = SEGMENT.encode();
        assert_eq!(hex(&header[..48]), golden);
        assert_eq!(Segment::decode(&header), Some(SEGMENT));
    }

    #[test]
    fn a_damaged_header_is_none_and_the_name_still_tells() {
        for byte in 0..52 {
            let mut header = SEGMENT.encode();
            header[byte] ^= 1;
            assert_eq!(Segment::decode(&header), None, "byte {byte}");
        }
        let named = Segment::from_file_name(&SEGMENT.file_name()).unwrap();
        assert_eq!(
            named,
            Segment {
                first_sequence: 0,
                ..SEGMENT
            }
        );
        assert_eq!(Segment::from_file_name("x.seg"), None);
    }
}
