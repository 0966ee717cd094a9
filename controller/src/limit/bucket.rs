//! Token buckets, as values: who asks and `now` in, whether there is a token out.
//!
//! A bucket is one point in time: the one at which it is full again. So a full bucket needs no memory, one that is not
//! costs an entry, and a token can be given back, which what a member does rightly is not to be charged for needs.
//!
//! # Invariants
//! The table is bounded. When it is full of buckets that are not, those that would be full soonest are forgotten: they know
//! least, and a newcomer is never refused for what others did.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// How much one key may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Tokens in a full bucket.
    pub(crate) burst: u32,
    /// One token comes back in this time.
    pub(crate) refill: Duration,
}

/// No token is left; there is one again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Empty(pub(crate) Duration);

/// A bucket for each key.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    most: usize,
    full_at: HashMap<K, Duration>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// At most `most` buckets that are not full.
    pub(crate) fn new(rate: Rate, most: usize) -> Self {
        Self {
            rate,
            most,
            full_at: HashMap::new(),
        }
    }

    /// Whether [`Self::take`] would give a token.
    ///
    /// # Errors
    /// The bucket is empty.
    pub(crate) fn look(&self, key: &K, now: Duration) -> Result<(), Empty> {
        let Rate { burst, refill } = self.rate;
        let full_at = self.full_at.get(key).copied().unwrap_or_default();
        let (then, latest) = (full_at.max(now) + refill, now + refill * burst);
        match then > latest {
            true => Err(Empty(then - latest)),
            false => Ok(()),
        }
    }

    /// `now` is monotonic.
    ///
    /// # Errors
    /// The bucket is empty; nothing was taken.
    pub(crate) fn take(&mut self, key: K, now: Duration) -> Result<(), Empty> {
        let refill = self.rate.refill;
        self.look(&key, now)?;
        if !self.full_at.contains_key(&key) && self.full_at.len() >= self.most {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        *full_at = (*full_at).max(now) + refill;
        Ok(())
    }

    /// At least a quarter of the table, so that this is seldom needed.
    fn make_room(&mut self, now: Duration) {
        let mut times: Vec<Duration> = self.full_at.values().copied().collect();
        let quarter = times.len() / 4;
        let (_, soon, _) = times.select_nth_unstable(quarter);
        let soon = now.max(*soon);
        self.full_at.retain(|_, full_at| *full_at > soon);
    }

    /// How many buckets are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.full_at.len()
    }

    pub(crate) fn give_back(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(self.rate.refill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn buckets(burst: u32, most: usize) -> Buckets<&'static str> {
        let refill = at(1000);
        Buckets::new(Rate { burst, refill }, most)
    }

    #[test]
    fn a_burst_and_then_one_each_time_it_refills() {
        let mut it = buckets(2, 10);
        for (key, ms, taken) in [
            ("a", 0, Ok(())),
            ("a", 0, Ok(())),
            ("a", 0, Err(Empty(at(1000)))),
            ("b", 0, Ok(())),
            ("a", 999, Err(Empty(at(1)))),
            ("a", 1000, Ok(())),
            ("a", 1000, Err(Empty(at(1000)))),
            ("a", 9000, Ok(())),
            ("a", 9000, Ok(())),
            ("a", 9000, Err(Empty(at(1000)))),
        ] {
            assert_eq!(it.take(key, at(ms)), taken, "{key} at {ms}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut it = buckets(1, 10);
        assert_eq!(it.take("a", at(0)), Ok(()));
        it.give_back(&"a");
        it.give_back(&"unknown");
        assert_eq!(it.take("a", at(0)), Ok(()));
        assert!(it.take("a", at(0)).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_what_is_nearly_full_leaves_it_first() {
        let mut it = Buckets::new(
            Rate {
                burst: 3,
                refill: at(1000),
            },
            4,
        );
        for _ in 0..3 {
            assert!(it.take(0, at(0)).is_ok());
        }
        for stranger in 1..1000 {
            assert!(it.take(stranger, at(0)).is_ok(), "no newcomer is refused");
            assert!(it.len() <= 4);
        }
        assert!(
            it.take(0, at(0)).is_err(),
            "who has spent most is remembered"
        );
    }
}
