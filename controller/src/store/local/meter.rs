//! What the writer has done since the start, in numbers that anybody may read while it goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::clean::{Cleaned, Cleaner};
use crate::spread::{Buckets, Spread};

/// Upper bounds of the latency of a commit, microseconds.
const MICROS: [u64; 12] = [
    100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 409_600, 1_638_400,
];
/// Upper bounds of its size, records.
const RECORDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

#[derive(Debug)]
pub(crate) struct Meter {
    micros: Buckets,
    records: Buckets,
    bytes: AtomicU64,
    rolled: AtomicU64,
    cleaned_segments: AtomicU64,
    carried_records: AtomicU64,
    carried_bytes: AtomicU64,
    cleaning: AtomicBool,
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            micros: Buckets::new(&MICROS),
            records: Buckets::new(&RECORDS),
            bytes: AtomicU64::new(0),
            rolled: AtomicU64::new(0),
            cleaned_segments: AtomicU64::new(0),
            carried_records: AtomicU64::new(0),
            carried_bytes: AtomicU64::new(0),
            cleaning: AtomicBool::new(false),
        }
    }
}

impl Meter {
    pub(crate) fn committed(&self, records: u64, bytes: u64, took: Duration) {
        self.micros.observe_time(took);
        self.records.observe(records);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn rolled(&self, rolled: u64) {
        self.rolled.store(rolled, Ordering::Relaxed);
    }

    pub(crate) fn cleaned(&self, cleaner: &Cleaner) {
        self.cleaning.store(cleaner.is_going(), Ordering::Relaxed);
        let Cleaned {
            segments,
            records,
            bytes,
        } = cleaner.cleaned;
        self.cleaned_segments.store(segments, Ordering::Relaxed);
        self.carried_records.store(records, Ordering::Relaxed);
        self.carried_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_cleaning(&self) -> bool {
        self.cleaning.load(Ordering::Relaxed)
    }

    pub(crate) fn commit_micros(&self) -> Spread {
        self.micros.spread()
    }

    pub(crate) fn commit_records(&self) -> Spread {
        self.records.spread()
    }

    pub(crate) fn committed_bytes(&self) -> u64 {
        read(&self.bytes)
    }

    pub(crate) fn rolled_segments(&self) -> u64 {
        read(&self.rolled)
    }

    pub(crate) fn cleaned_so_far(&self) -> Cleaned {
        Cleaned {
            segments: read(&self.cleaned_segments),
            records: read(&self.carried_records),
            bytes: read(&self.carried_bytes),
        }
    }
}
