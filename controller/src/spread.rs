//! How a quantity is spread: counted where it is measured, read by whoever asks, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts values by upper bounds.
#[derive(Debug)]
pub struct Buckets {
    /// Ascending.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    count: AtomicU64,
    sum: AtomicU64,
}

/// What was counted so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spread {
    /// Upper bounds, ascending, and how many were above the one before and not above it.
    pub buckets: Vec<(u64, u64)>,
    /// All, those above every bound too.
    pub count: u64,
    pub sum: u64,
}

impl Buckets {
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// In microseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn spread(&self) -> Spread {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let counts = self.counts.iter().map(read);
        Spread {
            buckets: self.bounds.iter().copied().zip(counts).collect(),
            count: read(&self.count),
            sum: read(&self.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let buckets = Buckets::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101] {
            buckets.observe(value);
        }
        let spread = buckets.spread();
        assert_eq!(spread.buckets, [(1, 2), (10, 2), (100, 2)]);
        assert_eq!((spread.count, spread.sum), (7, 225));
    }
}
