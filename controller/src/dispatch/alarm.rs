//! Whether the wall clock can be believed.
//!
//! Mail expires by the wall clock, and a clock that jumps a year ahead would bounce every queue at once. So it is
//! compared with what is known otherwise: at the start with the newest record of an earlier start, later with the
//! monotonic clock. What looks wrong is an alarm, and nothing expires until somebody has confirmed the clock. Nobody knows
//! by which clock the mail that waits then arrived: its lifetime begins anew.
//!
//! # Not here
//! Who expires when: [`super::expiry`].

use std::time::Duration;

use jiff::Timestamp;

use super::backoff::until;
use super::event::Now;
use crate::store::UNBELIEVED;

/// Corrections by a time server step back by less, and shorten no mail's life.
const TOLERANCE: Duration = Duration::from_secs(60);

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

/// What the wall clock did since it was last read. Where it went back, times that were set meanwhile lie in a future that
/// may be far away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    On,
    Back,
}

#[derive(Debug)]
pub(super) struct WallClock {
    /// Of this start, or when the clock was confirmed.
    base: Now,
    last: Now,
    /// Since the newest record of an earlier start.
    away: Duration,
    alarm: Option<ClockAlarm>,
    saved: Saved,
    /// Since the newest record of an earlier start; or perhaps, for records say nothing of a jump that nobody has
    /// confirmed.
    began: Went,
    /// By somebody, last.
    confirmed: Option<Timestamp>,
}

/// Whether what is to be remembered over a restart is on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Yes,
    No,
}

/// What a start knows of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockMemory {
    /// The time of the newest record of an earlier start.
    pub newest: Option<Timestamp>,
    /// The alarm of an earlier start that nobody has confirmed: what was written since has the wrong time, too.
    pub alarm: Option<ClockAlarm>,
    /// When somebody confirmed the clock last.
    pub confirmed: Option<Timestamp>,
}

impl ClockMemory {
    /// What is not in it and looks wrong to a start whose clock says `wall`.
    pub(super) fn news(self, wall: Timestamp, shortest: Duration) -> Option<ClockAlarm> {
        let monotonic = Duration::ZERO;
        WallClock::new(Now { monotonic, wall }, self, shortest).unsaved()
    }
}

/// What the next start has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockNews {
    Alarm(ClockAlarm),
    /// There is no alarm any more.
    Confirmed(Timestamp),
}

/// How much further the wall clock is at `one` than at `other`, as far as the time between them does not explain it.
fn ahead_of(one: Now, other: Now) -> Duration {
    let beyond = |at: Now| {
        let monotonic = i128::try_from(at.monotonic.as_nanos()).unwrap_or(i128::MAX);
        at.wall.as_nanosecond().saturating_sub(monotonic)
    };
    let nanos = beyond(one).saturating_sub(beyond(other));
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

impl WallClock {
    /// `shortest` is the lifetime of the mail that lives shortest.
    pub(super) fn new(now: Now, memory: ClockMemory, shortest: Duration) -> Self {
        let mut clock = Self::compared(now, memory.newest);
        clock.confirmed = memory.confirmed;
        if clock.away > shortest {
            clock.saved = Saved::No;
        }
        if memory.alarm.is_some() {
            clock.began = Went::Back;
        }
        match memory.alarm {
            Some(alarm) if alarm.jump == ClockJump::SinceEarlierStart => {
                // Nothing that was not known, but for a moment since it was written.
                if clock.alarm.is_none() && clock.away <= alarm.by + TOLERANCE {
                    clock.saved = Saved::Yes;
                }
                clock.away = clock.away.max(alarm.by);
            }
            Some(alarm) => {
                clock.alarm = Some(alarm);
                clock.saved = Saved::Yes;
            }
            None => {}
        }
        clock
    }

    fn compared(now: Now, newest: Option<Timestamp>) -> Self {
        let mut clock = Self {
            base: now,
            last: now,
            away: newest.map_or(Duration::ZERO, |newest| until(newest, now.wall)),
            alarm: None,
            saved: Saved::Yes,
            began: Went::On,
            confirmed: None,
        };
        let back = newest.map_or(Duration::ZERO, |newest| until(now.wall, newest));
        if back > TOLERANCE {
            clock.began = Went::Back;
            clock.raise(ClockJump::Backwards, back, now);
        }
        clock
    }

    /// Compares the clocks. The first alarm stands until the clock is confirmed.
    pub(super) fn look(&mut self, now: Now) -> Went {
        let (back, ahead) = (ahead_of(self.last, now), ahead_of(now, self.base));
        self.last = now;
        let went = if back > TOLERANCE {
            Went::Back
        } else {
            Went::On
        };
        if self.alarm.is_some() {
            return went;
        }
        if back > TOLERANCE {
            self.raise(ClockJump::Backwards, back, now);
        } else if ahead > UNBELIEVED {
            self.raise(ClockJump::Forwards, ahead, now);
        }
        went
    }

    /// Times that an earlier start has set may lie in a future that is far away.
    pub(super) fn began_behind(&self) -> bool {
        self.began == Went::Back
    }

    fn raise(&mut self, jump: ClockJump, by: Duration, now: Now) {
        let seen = now.wall;
        self.alarm = Some(ClockAlarm { jump, by, seen });
        self.saved = Saved::No;
    }

    /// An alarm that a restart must not forget; told once.
    pub(super) fn unsaved(&mut self) -> Option<ClockAlarm> {
        if self.saved == Saved::Yes {
            return None;
        }
        self.saved = Saved::Yes;
        self.alarm(Duration::ZERO)
    }

    pub(super) fn confirm(&mut self, now: Now) {
        *self = Self::compared(now, None);
        self.confirmed = Some(now.wall);
    }

    /// From when on the lifetime of mail counts that arrived then.
    pub(super) fn counts_from(&self, arrived: Timestamp) -> Timestamp {
        self.confirmed.map_or(arrived, |at| at.max(arrived))
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

impl ClockAlarm {
    /// As it is remembered: three words.
    pub(crate) fn to_words(self) -> String {
        let jump = match self.jump {
            ClockJump::Backwards => "backwards",
            ClockJump::Forwards => "forwards",
            ClockJump::SinceEarlierStart => "since-earlier-start",
        };
        format!("{jump} {} {}", self.by.as_secs(), self.seen.as_second())
    }

    /// What [`Self::to_words`] made. Anything else is an alarm too: that there was one is known.
    pub(crate) fn from_words(words: &str) -> Self {
        let mut parts = words.split(' ');
        let jump = match parts.next() {
            Some("backwards") => ClockJump::Backwards,
            Some("since-earlier-start") => ClockJump::SinceEarlierStart,
            _ => ClockJump::Forwards,
        };
        let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
        let by = Duration::from_secs(number().unwrap_or(0).unsigned_abs());
        let seen = number().and_then(|at| Timestamp::from_second(at).ok());
        let seen = seen.unwrap_or(Timestamp::UNIX_EPOCH);
        Self { jump, by, seen }
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
            WallClock::compared(now, newest)
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
            let mut clock = WallClock::compared(at(Duration::ZERO, 100), None);
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
        let mut clock = WallClock::compared(at(Duration::ZERO, 100), newest(1));
        clock.confirm(at(Duration::ZERO, 100));
        assert_eq!(clock.alarm(DAY), None);
    }

    #[test]
    fn an_alarm_that_nobody_confirmed_outlives_restarts() {
        let now = at(Duration::ZERO, 400);
        let year = ClockMemory {
            newest: newest(35),
            ..ClockMemory::default()
        };
        let mut clock = WallClock::new(now, year, 14 * DAY);
        let alarm = clock.unsaved().expect("it is remembered");
        assert_eq!(clock.unsaved(), None);
        let alarm = ClockAlarm::from_words(&alarm.to_words());
        // Mail that came since has the time of the jump.
        let memory = ClockMemory {
            newest: newest(400),
            alarm: Some(alarm),
            confirmed: None,
        };
        let mut clock = WallClock::new(now, memory, 14 * DAY);
        assert!(clock.alarm(14 * DAY).is_some());
        assert_eq!(clock.alarm(366 * DAY), None);
        assert_eq!(clock.unsaved(), None, "it is remembered already");
        assert!(clock.began_behind(), "what was put off then is due");
        for jump in [ClockJump::Backwards, ClockJump::Forwards] {
            let alarm = ClockAlarm { jump, ..alarm };
            assert_eq!(ClockAlarm::from_words(&alarm.to_words()), alarm);
        }
    }
}
