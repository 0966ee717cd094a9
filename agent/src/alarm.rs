//! A timer for what is waited for again and again, and hardly ever in vain.
//!
//! Each wait of its own would be entered into the runtime's timers, and taken out again a moment later. This one stays where
//! it is as long as it goes off early enough, and is set anew only once it has.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};

/// Until it is first asked for.
const FAR: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    #[expect(
        clippy::new_without_default,
        reason = "it can be made within a runtime only"
    )]
    pub fn new() -> Self {
        Self(Box::pin(sleep(FAR)))
    }

    /// Returns at `at`, or at once where that is over. Whoever stops waiting leaves it as it is.
    pub async fn at(&mut self, at: Instant) {
        let at = at.into();
        if self.0.is_elapsed() || self.0.deadline() > at {
            self.0.as_mut().reset(at);
        }
        loop {
            self.0.as_mut().await;
            if self.0.deadline() >= at {
                return;
            }
            // It stood on an earlier moment, when nobody waited any more.
            self.0.as_mut().reset(at);
        }
    }

    /// What is waited for, unless the alarm goes off first.
    pub async fn limits<T>(
        &mut self,
        at: Instant,
        waited_for: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            it = waited_for => Some(it),
            () = self.at(at) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::agent::now;

    /// Milliseconds until it goes off, of the runtime's time.
    async fn goes_off(alarm: &mut Alarm, at: Instant) -> u128 {
        let begun = tokio::time::Instant::now();
        alarm.at(at).await;
        begun.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_when_asked_to_whatever_it_was_asked_before() {
        let start = now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alarm = Alarm::new();
        // Later than it stands, sooner, and the same again.
        for (before, then) in [(1, 9), (9, 1), (5, 5)] {
            assert_eq!(alarm.limits(at(before), ready(7)).await, Some(7));
            assert_eq!(alarm.limits(at(then), ready(7)).await, Some(7));
        }
        let waited = goes_off(&mut alarm, at(6)).await;
        assert!((5_000..=6_001).contains(&waited), "{waited}");
        assert_eq!(goes_off(&mut alarm, at(2)).await, 0);
        assert_eq!(alarm.limits(at(7), pending::<()>()).await, None);
    }
}
