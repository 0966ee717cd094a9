//! The times that the store writes: when a message arrived, and when a record was written.
//!
//! Both are held against what has passed by a clock that nobody sets.
//!
//! A machine may start with its wall clock years back, take mail, and be set right later: that mail is not years old. So a
//! message never arrived before this start, or the newest record of an earlier one, and the time that has passed since.
//!
//! And a wall clock may jump ahead, and the process be killed before an alarm is durable. The next start compares the clock
//! with the newest record, so no record vouches for such a jump: one that was written after it says what had passed.
//!
//! # Not here
//! Whether the clock is believed: dispatch, which also remembers what was believed last.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::boottime::boottime;
use crate::store::UNBELIEVED;

pub(crate) trait WallClock: Debug + Send + Sync {
    fn wall(&self) -> Timestamp;

    /// Since any fixed point; nobody sets it.
    fn monotonic(&self) -> Duration;
}

/// The machine's.
#[derive(Debug)]
pub(crate) struct MachineWall;

impl WallClock for MachineWall {
    #[expect(
        clippy::disallowed_methods,
        reason = "read once for each commit; what is written says when"
    )]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        boottime()
    }
}

/// The wall clock, and what is known without it.
#[derive(Debug)]
pub(crate) struct Times {
    clock: Arc<dyn WallClock>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Nothing arrives earlier.
    earliest: Reckoning,
    /// What the wall clock is believed by.
    believed: Reckoning,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
struct Reckoning {
    wall: Timestamp,
    monotonic: Duration,
}

impl Reckoning {
    /// What the wall clock would say if nobody had set it since.
    fn at(&self, monotonic: Duration) -> Timestamp {
        let passed = monotonic.saturating_sub(self.monotonic);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::ZERO);
        self.wall.saturating_add(passed).unwrap_or(self.wall)
    }
}

impl Times {
    /// `newest`: something is known to have happened then. The wall clock is not believed yet.
    pub(crate) fn new(newest: Option<Timestamp>, clock: Arc<dyn WallClock>) -> Self {
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        let reckoning = |wall| Reckoning { wall, monotonic };
        let known = Known {
            earliest: reckoning(newest.unwrap_or(wall).max(wall)),
            believed: reckoning(newest.unwrap_or(wall)),
        };
        Self {
            clock,
            known: Mutex::new(known),
        }
    }

    /// What looks wrong about the clock of this start is durable, if anything does.
    pub(crate) fn believe(&self) {
        let now = self.now();
        self.lock().believed = now;
    }

    /// The clock is right.
    pub(crate) fn confirm(&self) {
        let now = self.now();
        *self.lock() = Known {
            earliest: now,
            believed: now,
        };
    }

    /// When a message arrived that the clock says to have arrived `at`.
    pub(crate) fn arrived(&self, at: Timestamp) -> Timestamp {
        at.max(self.lock().earliest.at(self.clock.monotonic()))
    }

    /// When a record is written now, in milliseconds.
    pub(crate) fn written_ms(&self) -> u64 {
        let wall = self.clock.wall();
        let passed = self.lock().believed.at(self.clock.monotonic());
        let ahead = Duration::try_from(wall.duration_since(passed)).unwrap_or_default();
        super::index::entry::millis(match ahead > UNBELIEVED {
            true => passed,
            false => wall,
        })
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn now(&self) -> Reckoning {
        Reckoning {
            wall: self.clock.wall(),
            monotonic: self.clock.monotonic(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    /// Seconds by both clocks.
    #[derive(Debug)]
    struct Set(Mutex<(i64, u64)>);

    impl Set {
        fn to(&self, wall: i64, monotonic: u64) {
            *self.0.lock().unwrap() = (wall, monotonic);
        }
    }

    impl WallClock for Set {
        fn wall(&self) -> Timestamp {
            second(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }
    }

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    fn times(newest: Option<i64>, wall: i64, monotonic: u64) -> (Times, Arc<Set>) {
        let clock = Arc::new(Set(Mutex::new((wall, monotonic))));
        (Times::new(newest.map(second), clock.clone()), clock)
    }

    #[test]
    fn nothing_arrives_before_what_is_known_to_have_happened() {
        let arrived = |(times, clock): &(Times, Arc<Set>), wall, monotonic| {
            clock.to(wall, monotonic);
            times.arrived(clock.wall()).as_second()
        };
        let behind = times(Some(1000), 5, 70);
        assert_eq!(arrived(&behind, 5, 70), 1000, "a clock that is far back");
        assert_eq!(arrived(&behind, 15, 80), 1010);
        assert_eq!(arrived(&behind, 2000, 80), 2000, "set right");
        behind.1.to(500, 90);
        behind.0.confirm();
        assert_eq!(arrived(&behind, 510, 100), 510, "confirmed");
        let first = times(None, 500, 70);
        assert_eq!(arrived(&first, 501, 71), 501);
        assert_eq!(arrived(&first, 6, 72), 502, "set back");
    }

    #[test]
    fn no_record_vouches_for_a_jump_that_nobody_has_seen() {
        const YEAR: i64 = 365 * 86_400;
        let written = |(times, clock): &(Times, Arc<Set>), wall, monotonic| {
            clock.to(wall, monotonic);
            times.written_ms() / 1000
        };
        let tolerated = 2 * DAY.cast_signed();
        for (newest, wall, monotonic, expected, what) in [
            (None, 1010, 10, 1010, "right"),
            (None, 950, 10, 950, "set back"),
            (None, 1010 + tolerated, 10, 1010 + 2 * DAY, "a correction"),
            (None, 1011 + tolerated, 10, 1010, "a jump"),
            (None, YEAR, 10, 1010, "a year"),
            (Some(900), 1010, 10, 1010, "a stop of a moment"),
            (Some(900), 911 + tolerated, 10, 910, "not believed yet"),
            (Some(5000), 1010, 10, 1010, "behind the newest record"),
        ] {
            assert_eq!(
                written(&times(newest, 1000, 0), wall, monotonic),
                expected,
                "{what}"
            );
        }
        let long = times(Some(900), YEAR, 0);
        assert_eq!(written(&long, YEAR, 5), 905, "a long stop, or a jump");
        long.0.believe();
        assert_eq!(written(&long, YEAR + 1, 6), YEAR.cast_unsigned() + 1);
        assert_eq!(written(&long, 2 * YEAR, 7), YEAR.cast_unsigned() + 2);
        long.0.confirm();
        assert_eq!(written(&long, 2 * YEAR, 8), 2 * YEAR.cast_unsigned());
    }
}
