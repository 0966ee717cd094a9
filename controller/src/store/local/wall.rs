//! The wall clock of the store, and when a message arrived.
//!
//! A machine may start with its clock years back, take mail, and be set right later: that mail is not years old. So a
//! message never arrived before this start, or the newest record of an earlier one, and the time that has passed since.
//!
//! # Not here
//! Whether the clock is believed: dispatch, which also remembers what was believed last.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::boottime::boottime;

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

/// The earliest that anything can arrive.
#[derive(Debug)]
pub(crate) struct Floor(Mutex<Since>);

#[derive(Debug, Clone, Copy)]
struct Since {
    wall: Timestamp,
    monotonic: Duration,
}

impl Floor {
    /// `newest`: something is known to have happened then.
    pub(crate) fn new(newest: Option<Timestamp>, clock: &dyn WallClock) -> Self {
        Self(Mutex::new(Since {
            wall: newest.unwrap_or(Timestamp::MIN).max(clock.wall()),
            monotonic: clock.monotonic(),
        }))
    }

    /// The clock is right.
    pub(crate) fn confirm(&self, clock: &dyn WallClock) {
        let now = Since {
            wall: clock.wall(),
            monotonic: clock.monotonic(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When a message arrived that the clock says to have arrived `at`.
    pub(crate) fn arrived(&self, at: Timestamp, clock: &dyn WallClock) -> Timestamp {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = clock.monotonic().saturating_sub(since.monotonic);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::ZERO);
        let earliest = since.wall.saturating_add(passed).unwrap_or(since.wall);
        at.max(earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(i64, u64);

    impl WallClock for At {
        fn wall(&self) -> Timestamp {
            Timestamp::from_second(self.0).unwrap()
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.1)
        }
    }

    #[test]
    fn nothing_arrives_before_what_is_known_to_have_happened() {
        let arrived = |floor: &Floor, clock: At| {
            let at = floor.arrived(clock.wall(), &clock);
            at.as_second()
        };
        let floor = Floor::new(Some(Timestamp::from_second(1000).unwrap()), &At(5, 70));
        assert_eq!(arrived(&floor, At(5, 70)), 1000, "a clock that is far back");
        assert_eq!(arrived(&floor, At(15, 80)), 1010);
        assert_eq!(arrived(&floor, At(2000, 80)), 2000, "set right");
        floor.confirm(&At(500, 90));
        assert_eq!(arrived(&floor, At(510, 100)), 510, "confirmed");
        let first = Floor::new(None, &At(500, 70));
        assert_eq!(arrived(&first, At(501, 71)), 501);
        assert_eq!(arrived(&first, At(6, 72)), 502, "set back");
    }
}
