//! The two clocks of the loop.
//!
//! # Invariants
//! The loop reads both together, once for each event; a test gives it clocks of its own.

use std::time::Duration;

use jiff::Timestamp;

use super::event::Now;
use crate::boottime::boottime;

/// What the loop reads the time from.
pub(crate) trait Clock: Send + 'static {
    fn now(&self) -> Now;

    /// Where the wall clock is not asked for.
    fn monotonic(&self) -> Duration {
        self.now().monotonic
    }
}

/// The machine's.
#[derive(Debug)]
pub(super) struct MachineClock {
    began: Duration,
}

impl MachineClock {
    pub(super) fn start() -> Self {
        Self { began: boottime() }
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        Now {
            monotonic: self.monotonic(),
            wall: wall(),
        }
    }

    fn monotonic(&self) -> Duration {
        boottime().saturating_sub(self.began)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the loop reads the clock, once for each event"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}
