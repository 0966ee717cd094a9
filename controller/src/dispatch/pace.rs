//! How fast an agent begins with sites of which nothing says that they are alive.
//!
//! After a start, or when an agent comes back, thousands of them may be ready at once. Begun in one go they keep the
//! agent's one thread, its name server and this loop busy for seconds, and what flows meanwhile waits behind them.
//!
//! # Not here
//! How many may hang at the same time: [`super::agents`].

use std::time::Duration;

/// So many begin without a pause,
const AT_ONCE: u32 = 64;
/// and then one in this time: ten thousand in 20 seconds.
const APART: Duration = Duration::from_millis(2);

/// Every probe counts; only those of the crowd wait.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When as many may begin at once again; monotonic.
    rested: Duration,
}

impl Pace {
    pub(super) fn begins(&mut self, now: Duration) {
        self.rested = self.rested.max(now) + APART;
    }

    /// When the next one of the crowd may begin; in the past: at once.
    pub(super) fn next(&self) -> Duration {
        self.rested.saturating_sub(APART * (AT_ONCE - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_begin_at_once_and_the_others_one_by_one() {
        let mut pace = Pace::default();
        let mut now = Duration::from_secs(5);
        let mut begun = 0;
        while pace.next() <= now {
            pace.begins(now);
            begun += 1;
        }
        assert_eq!(begun, AT_ONCE);
        for _ in 0..3 {
            assert_eq!(pace.next(), now + APART);
            now = pace.next();
            pace.begins(now);
        }
        now += APART * AT_ONCE * 2;
        for _ in 0..AT_ONCE {
            assert!(pace.next() <= now);
            pace.begins(now);
        }
        assert!(pace.next() > now, "rest is not saved up");
    }
}
