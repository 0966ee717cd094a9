//! When a message or a site is tried again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, RngExt as _};

/// The interval of a site whose record is gone.
pub(super) const UNKNOWN_SITE: Duration = Duration::from_secs(180);
const LONGEST_DEFERRAL: Duration = Duration::from_secs(3600);
const FIRST_AFTER_BREAKS: Duration = Duration::from_secs(300);
const LONGEST_AFTER_BREAKS: Duration = Duration::from_secs(6 * 3600);

/// How long a message that was deferred for the `attempts`th time steps aside: the retry interval, doubling, but no longer
/// than it has waited already (`age`). So attempts that a release asked for cost a greylisted message nothing.
pub(super) fn after_deferral(retry_interval: Duration, attempts: u32, age: Duration) -> Duration {
    let longest = LONGEST_DEFERRAL.min(age).max(retry_interval);
    doubled(retry_interval, attempts.saturating_sub(1)).min(longest)
}

/// How long a message steps aside on which `breaks` sessions broke. One break may be the line's; two are its own.
pub(super) fn after_break(breaks: u32) -> Option<Duration> {
    let again = breaks.checked_sub(2)?;
    Some(doubled(FIRST_AFTER_BREAKS, again).min(LONGEST_AFTER_BREAKS))
}

fn doubled(duration: Duration, times: u32) -> Duration {
    duration.saturating_mul(1u32.checked_shl(times.min(31)).unwrap_or(u32::MAX))
}

/// The site's interval, up to a tenth longer: what failed together shall not come back together.
pub(super) fn after_failure(retry_interval: Duration, rng: &mut dyn Rng) -> Duration {
    retry_interval + retry_interval.mul_f64(rng.random_range(0.0..0.1))
}

/// `at`, or up to an 1800th of the interval later, a tenth of a second of three minutes: sites that are down are tried a
/// few at a time, for whatever wakes up for one of them does so for all. Not many, because mail that flows waits
/// behind them.
pub(super) fn with_others(at: Duration, retry_interval: Duration) -> Duration {
    let tick = (retry_interval / 1800).as_nanos().max(1);
    let at = at.as_nanos().div_ceil(tick).saturating_mul(tick);
    Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX))
}

/// A wall-clock time `after` from `wall`.
pub(super) fn later(wall: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    wall.checked_add(after).unwrap_or(Timestamp::MAX)
}

/// How long it is from `wall` until `at`; zero if it has passed.
pub(super) fn until(wall: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(wall)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_message_backs_off_from_the_interval_to_an_hour() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (attempts, age, expected) in [
            (1, 0, 3),
            (1, 1000, 3),
            (2, 1000, 6),
            (3, 1000, 12),
            (5, 1000, 48),
            (6, 1000, 60),
            (4_000_000_000, 1000, 60),
            // Releases asked for most of these.
            (6, 1, 3),
            (6, 5, 5),
        ] {
            assert_eq!(
                after_deferral(minutes(3), attempts, minutes(age)),
                minutes(expected),
                "{attempts} {age}"
            );
        }
        // An interval that is longer than the limit is the operator's word.
        assert_eq!(after_deferral(minutes(90), 4, minutes(1000)), minutes(90));
    }

    #[test]
    fn what_is_due_within_a_moment_is_tried_together_and_never_before_its_time() {
        let minutes = Duration::from_secs(180);
        let millis = Duration::from_millis;
        for (at, expected) in [(0, 0), (1, 100), (99, 100), (100, 100), (101, 200)] {
            assert_eq!(with_others(millis(at), minutes), millis(expected), "{at}");
        }
        // Where the interval is short, so is the wait.
        let soon = with_others(millis(1000), Duration::from_secs(1));
        assert!(soon >= millis(1000) && soon < millis(1001), "{soon:?}");
        assert_eq!(with_others(millis(7), Duration::ZERO), millis(7));
    }

    #[test]
    fn one_break_is_the_lines_two_are_the_messages() {
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        for (breaks, expected) in [
            (0, None),
            (1, None),
            (2, minutes(5)),
            (3, minutes(10)),
            (99, minutes(360)),
        ] {
            assert_eq!(after_break(breaks), expected, "{breaks}");
        }
    }
}
