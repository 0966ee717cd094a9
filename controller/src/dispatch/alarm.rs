//! Whether the wall clock can be believed.
//!
//! Mail expires by the wall clock, and a clock that jumps a year ahead would bounce every queue at once. So it is
//! compared with what is known otherwise: at the start with the newest record of an earlier start, later with the
//! monotonic clock. What looks wrong is an alarm, and nothing expires until somebody has confirmed the clock.
//!
//! # Not here
//! Who expires when: [`super::expiry`].

use std::time::Duration;

use jiff::Timestamp;

use super::backoff::{later, until};
use super::event::Now;

/// Corrections by a time server step back by less, and shorten no mail's life.
const TOLERANCE: Duration = Duration::from_secs(60);
const FORWARDS: Duration = Duration::from_secs(2 * 86400);

/// The wall clock looks wrong: nothing expires until it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAlarm {
    pub jump: ClockJump,
    pub by: Duration,
    /// What the wall clock said when it was seen.
    pub seen: Timestamp,
}

/// What the wall clock did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockJump {
    Backwards,
    Forwards,
    /// Between the newest record of an earlier start and this start.
    SinceEarlierStart,
}

impl std::fmt::Display for ClockAlarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (by, seen) = (self.by.as_secs(), self.seen);
        match self.jump {
            ClockJump::Backwards => write!(f, "the wall clock went back by {by} s, to {seen}"),
            ClockJump::Forwards => write!(f, "the wall clock went ahead by {by} s, to {seen}"),
            ClockJump::SinceEarlierStart => write!(
                f,
                "the wall clock says {seen}, {by} s after the newest record of an earlier start"
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct WallClock {
    /// Of this start, or when the clock was confirmed.
    base: Now,
    last: Now,
    /// Since the newest record of an earlier start.
    away: Duration,
    alarm: Option<ClockAlarm>,
}

impl WallClock {
    pub(super) fn new(now: Now, newest: Option<Timestamp>) -> Self {
        let mut clock = Self {
            base: now,
            last: now,
            away: newest.map_or(Duration::ZERO, |newest| until(newest, now.wall)),
            alarm: None,
        };
        let back = newest.map_or(Duration::ZERO, |newest| until(now.wall, newest));
        if back > TOLERANCE {
            clock.raise(ClockJump::Backwards, back, now);
        }
        clock
    }

    /// Compares the clocks. The first alarm stands until the clock is confirmed.
    pub(super) fn look(&mut self, now: Now) {
        let expected = |then: Now| later(then.wall, now.monotonic.saturating_sub(then.monotonic));
        let back = until(now.wall, expected(self.last));
        let ahead = until(expected(self.base), now.wall);
        self.last = now;
        if self.alarm.is_some() {
            return;
        }
        if back > TOLERANCE {
            self.raise(ClockJump::Backwards, back, now);
        } else if ahead > FORWARDS {
            self.raise(ClockJump::Forwards, ahead, now);
        }
    }

    fn raise(&mut self, jump: ClockJump, by: Duration, now: Now) {
        let seen = now.wall;
        self.alarm = Some(ClockAlarm { jump, by, seen });
    }

    pub(super) fn confirm(&mut self, now: Now) {
        *self = Self::new(now, None);
    }

    /// The alarm, for mail that lives so long.
    pub(super) fn alarm(&self, lifetime: Duration) -> Option<ClockAlarm> {
        let away = ClockAlarm {
            jump: ClockJump::SinceEarlierStart,
            by: self.away,
            seen: self.base.wall,
        };
        self.alarm.or((self.away > lifetime).then_some(away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86400);

    fn at(monotonic: Duration, wall_days: i64) -> Now {
        let wall = Timestamp::from_second(86400 * wall_days).unwrap();
        Now { monotonic, wall }
    }

    fn newest(days: i64) -> Option<Timestamp> {
        Some(at(Duration::ZERO, days).wall)
    }

    #[test]
    fn a_start_far_from_the_newest_record_is_an_alarm() {
        let now = at(Duration::ZERO, 100);
        let jump = |newest| {
            WallClock::new(now, newest)
                .alarm(14 * DAY)
                .map(|it| it.jump)
        };
        assert_eq!(jump(None), None);
        assert_eq!(jump(newest(99)), None);
        assert_eq!(jump(newest(86)), None);
        assert_eq!(jump(newest(85)), Some(ClockJump::SinceEarlierStart));
        assert_eq!(jump(newest(101)), Some(ClockJump::Backwards));
    }

    #[test]
    fn a_jump_is_an_alarm_until_it_is_confirmed_and_a_correction_is_none() {
        for (wall_days, expected) in [
            (110, None),
            (112, None),
            (113, Some(ClockJump::Forwards)),
            (109, Some(ClockJump::Backwards)),
            (475, Some(ClockJump::Forwards)),
        ] {
            let mut clock = WallClock::new(at(Duration::ZERO, 100), None);
            clock.look(at(10 * DAY, wall_days));
            let jump = clock.alarm(14 * DAY).map(|it| it.jump);
            assert_eq!(jump, expected, "{wall_days}");
            if expected.is_some() {
                clock.look(at(10 * DAY, 110));
                assert!(clock.alarm(14 * DAY).is_some(), "until it is confirmed");
            }
            clock.confirm(at(10 * DAY, 110));
            assert_eq!(clock.alarm(14 * DAY), None);
        }
        let mut clock = WallClock::new(at(Duration::ZERO, 100), newest(1));
        clock.confirm(at(Duration::ZERO, 100));
        assert_eq!(clock.alarm(DAY), None);
    }
}
