//! When a site was held before: time that does not count towards the lifetime of what waited then.
//!
//! # Invariants
//! The periods are in order, none touches another, and they are few: of too many the two oldest become one, with what lay
//! between them, so mail may live longer for it and never shorter.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::site::Hold;

/// So many are remembered.
pub const MOST: usize = 32;

/// Periods that are over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HoldPeriods(Vec<HoldPeriod>);

/// One of them, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldPeriod {
    from: Timestamp,
    to: Timestamp,
}

/// Why a text names no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected two times such as 2026-01-31T08:00:00Z/2026-02-01T08:00:00Z, the earlier one first"
)]
pub struct PeriodError;

impl HoldPeriod {
    /// In whole milliseconds, as it is stored. None where it would be empty.
    pub fn new(from: Timestamp, to: Timestamp) -> Option<Self> {
        let whole = |at: Timestamp| Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        let (from, to) = (whole(from), whole(to));
        (from < to).then_some(Self { from, to })
    }

    pub fn from(self) -> Timestamp {
        self.from
    }

    pub fn to(self) -> Timestamp {
        self.to
    }
}

impl HoldPeriods {
    /// A hold has ended at `at`, or by itself before.
    pub fn ended(&mut self, hold: &Hold, at: Timestamp) {
        let to = hold.until.map_or(at, |until| until.min(at));
        self.add(HoldPeriod::new(hold.since, to));
    }

    pub fn iter(&self) -> impl Iterator<Item = HoldPeriod> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, periods: impl IntoIterator<Item = HoldPeriod>) {
        self.0.extend(periods);
        self.0.sort_unstable_by_key(|period| period.from);
        self.0.dedup_by(|later, earlier| {
            let touches = later.from <= earlier.to;
            if touches {
                earlier.to = earlier.to.max(later.to);
            }
            touches
        });
        while self.0.len() > MOST {
            self.0[1].from = self.0[0].from;
            self.0.remove(0);
        }
    }
}

impl FromIterator<HoldPeriod> for HoldPeriods {
    fn from_iter<I: IntoIterator<Item = HoldPeriod>>(periods: I) -> Self {
        let mut all = Self::default();
        all.add(periods);
        all
    }
}

/// When `life` is over that began at `from`, not counting the time on hold: neither that of earlier holds nor that of the
/// present one, as far as it is known to go.
pub fn life_ends(
    before: &HoldPeriods,
    present: Option<&Hold>,
    from: Timestamp,
    life: Duration,
) -> Timestamp {
    let present =
        present.and_then(|hold| HoldPeriod::new(hold.since, hold.until.unwrap_or(Timestamp::MAX)));
    let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
    let mut end = later(from, life);
    let mut counted = from;
    for period in before.iter().chain(present) {
        let began = period.from.max(counted);
        if began < period.to && began < end {
            end = later(end, period.to.duration_since(began));
            counted = period.to;
        }
    }
    end
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl std::fmt::Display for HoldPeriod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.from, self.to)
    }
}

impl FromStr for HoldPeriod {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let (from, to) = text.split_once('/').ok_or(PeriodError)?;
        let at = |text: &str| text.parse().map_err(|_| PeriodError);
        Self::new(at(from)?, at(to)?).ok_or(PeriodError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn periods(all: &[(i64, i64)]) -> HoldPeriods {
        let all = all
            .iter()
            .filter_map(|(from, to)| HoldPeriod::new(at(*from), at(*to)));
        all.collect()
    }

    fn hold(since: i64, until: Option<i64>) -> Hold {
        Hold {
            by: "anna".to_owned(),
            since: at(since),
            until: until.map(at),
        }
    }

    #[test]
    fn time_on_hold_does_not_count_towards_a_life() {
        for (before, present, from, ends) in [
            (vec![], None, 0, at(100)),
            (vec![(10, 30)], None, 0, at(120)),
            // It had ended before the mail came, begins after its life, or began before it.
            (vec![(10, 30)], None, 30, at(130)),
            (vec![(100, 300)], None, 0, at(100)),
            (vec![(10, 30)], None, 20, at(130)),
            // The second lies in what the first has added.
            (vec![(10, 30), (110, 150)], None, 0, at(160)),
            (vec![], Some(hold(50, None)), 0, Timestamp::MAX),
            (vec![], Some(hold(50, Some(60))), 0, at(110)),
            (vec![(10, 30)], Some(hold(20, Some(40))), 0, at(130)),
        ] {
            let life = Duration::from_secs(100);
            let found = life_ends(&periods(&before), present.as_ref(), at(from), life);
            assert_eq!(found, ends, "{before:?} {present:?} {from}");
        }
    }

    #[test]
    fn a_hold_that_ended_by_itself_ended_then() {
        for (until, expected) in [(None, 9), (Some(7), 7), (Some(90), 9)] {
            let mut before = HoldPeriods::default();
            before.ended(&hold(5, until), at(9));
            assert_eq!(before, periods(&[(5, expected)]));
        }
        let mut before = HoldPeriods::default();
        before.ended(&hold(5, None), at(4));
        assert!(before.is_empty(), "the clock went back");
        let nothing = hold(5, None);
        before.ended(&nothing, at(5) + SignedDuration::from_micros(900));
        assert!(before.is_empty(), "it would not read back");
    }

    #[test]
    fn periods_that_touch_are_one_and_of_too_many_the_two_oldest_are() {
        assert_eq!(
            periods(&[(5, 9), (1, 3), (3, 4), (8, 12)]),
            periods(&[(1, 4), (5, 12)])
        );
        let many: Vec<(i64, i64)> = (0..40).map(|n| (10 * n, 10 * n + 5)).collect();
        let kept = periods(&many);
        assert_eq!(kept.iter().count(), MOST);
        assert_eq!(kept.iter().next(), HoldPeriod::new(at(0), at(85)));
        assert_eq!(kept.iter().last(), HoldPeriod::new(at(390), at(395)));
    }

    #[test]
    fn a_period_reads_back_and_an_empty_one_is_none() {
        let period = HoldPeriod::new(at(1), at(2)).unwrap();
        assert_eq!(period.to_string().parse(), Ok(period));
        for wrong in [
            "",
            "/",
            "2026-01-31T08:00:00Z",
            "2026-01-31T08:00:00Z/2026-01-31T08:00:00Z",
        ] {
            assert_eq!(wrong.parse::<HoldPeriod>(), Err(PeriodError), "{wrong}");
        }
    }
}
