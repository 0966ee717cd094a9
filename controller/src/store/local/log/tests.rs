//! What a group that meets a full disk leaves.

use super::*;
use crate::store::local::disk::memory::MemoryDisk;

const SEGMENT: u64 = 4 << 10;

fn begun(disk: &MemoryDisk) -> Log {
    let tail = Segment {
        log_id: 1,
        number: 1,
        marker: 1,
        start: 1,
        first_sequence: 1,
    };
    let segments = Segments {
        bytes: SEGMENT,
        making: Making::WhenTaken,
    };
    let disk: SharedDisk = Arc::new(disk.clone());
    Log::begin(&disk, Path::new("/log"), segments, tail, Files::default()).unwrap()
}

/// So many that one segment holds just one of them.
fn records(number: usize) -> Vec<NewRecord> {
    let record = |_| NewRecord {
        kind: Kind::Accepted,
        envelope: Vec::new(),
        content: Bytes::from(vec![b'x'; 3 << 10]),
    };
    (0..number).map(record).collect()
}

#[test]
fn a_group_that_meets_a_full_disk_at_any_of_its_segments_leaves_nothing_and_ends_nothing() {
    // There are the reserve and one more; with the tail these take three records.
    for (leave, takes) in [(RESERVE, 2), (1, 3), (0, 4)] {
        let disk = MemoryDisk::default();
        let mut log = begun(&disk);
        assert!(log.takes_mail(SEGMENT));
        disk.set_capacity(disk.used());
        let (end, used) = (log.end(), disk.used());
        for number in takes + 1..takes + 3 {
            let full = log.append(&records(number), leave, 0);
            assert!(matches!(full, Err(AppendError::Full)), "{leave}: {full:?}");
            assert_eq!((log.end(), disk.used()), (end, used), "{leave}");
            assert_eq!(log.spares().ready(), RESERVE + 1, "{leave}");
        }
        let written = log.append(&records(takes), leave, 0).unwrap();
        let segments: Vec<u64> = written.iter().map(|it| it.place.segment).collect();
        assert_eq!(segments, (1..).take(takes).collect::<Vec<_>>(), "{leave}");
        for written in written {
            let (_, _, content) = log.files.read(written.place).unwrap();
            assert_eq!(content.len(), 3 << 10);
        }
    }
}
