//! The one place where tests wait.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that happens at all, on a machine that is busy building.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks at `condition` until it yields something, and returns that.
///
/// # Panics
/// It yields nothing within `deadline`; `what` says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            begun.elapsed() < deadline,
            "waited {deadline:?} for {what}, in vain"
        );
        thread::sleep(INTERVAL);
    }
}

/// Lets a trial run on for a while that chance has chosen. Tests of one claim have a condition to wait for instead.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// A point in time that something is held back for.
#[derive(Debug, Clone, Copy)]
pub struct Due(Instant);

impl Due {
    pub fn after(delay: Duration) -> Self {
        Self(now() + delay)
    }

    /// Returns then; at once if it is past.
    pub fn wait(self) {
        thread::sleep(self.0.saturating_duration_since(now()));
    }
}

/// A clock for what is measured.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// From the start of `earlier` to that of this one.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests of whole processes run in real time, and read it here only"
)]
fn now() -> Instant {
    Instant::now()
}
