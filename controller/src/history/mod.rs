//! The last days of each site: when it last took mail, how its attempts ended on each day, and the last of them; so that
//! "when did I last get mail" has an answer behind a restart too.
//!
//! # Invariants
//! A history is bounded: in days, in entries, and in the length of what an agent said.
//!
//! # Not here
//! Where it is kept between two starts: [`keep`].

pub mod book;
pub mod keep;
mod record;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::dispatch::{LastAttempt, OUTCOMES};

/// Days that are told of.
const DAYS: usize = 14;
/// Attempts that ended alike are one entry.
const RUNS: usize = 12;
/// Bytes of what an agent said.
const TEXT: usize = 200;

/// What is remembered of a site.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// When it last took a message.
    pub last_relayed: Option<Timestamp>,
    /// The newest first; none for a day without an attempt.
    pub days: Vec<Day>,
    /// The newest first.
    pub runs: Vec<Run>,
}

/// How attempts ended on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// In UTC.
    pub date: Date,
    counts: [u32; OUTCOMES.len()],
}

/// Attempts one behind the other that ended alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub first: Timestamp,
    pub times: u32,
    /// The newest of them, without its certificate.
    pub last: LastAttempt,
}

/// Whether an attempt brought something that is worth writing down soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Yes,
    /// The same as before, once more.
    No,
}

impl Day {
    /// Each outcome that there was, with how often.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = OUTCOMES.iter().copied().zip(self.counts);
        all.filter(|(_, count)| *count > 0)
    }
}

impl History {
    /// An attempt has ended.
    pub fn attempted(&mut self, attempt: &LastAttempt) -> News {
        self.count(attempt);
        if attempt.outcome == "relayed" {
            self.last_relayed = self.last_relayed.max(Some(attempt.at));
        }
        let mut last = LastAttempt {
            peer: None,
            ..attempt.clone()
        };
        for text in [&mut last.detail, &mut last.reason, &mut last.address] {
            text.truncate(text.floor_char_boundary(TEXT));
        }
        let relayed = attempt.outcome == "relayed";
        match self
            .runs
            .first_mut()
            .filter(|run| run.last.ended_like(&last))
        {
            Some(run) => {
                run.times = run.times.saturating_add(1);
                run.last = last;
                if relayed { News::Yes } else { News::No }
            }
            None => {
                let first = last.at;
                self.runs.insert(
                    0,
                    Run {
                        first,
                        times: 1,
                        last,
                    },
                );
                self.runs.truncate(RUNS);
                News::Yes
            }
        }
    }

    fn count(&mut self, attempt: &LastAttempt) {
        let Some(place) = OUTCOMES.iter().position(|it| *it == attempt.outcome) else {
            return;
        };
        let date = attempt.at.to_zoned_datetime(TimeZone::UTC).date();
        let known = self.days.iter().position(|day| day.date <= date);
        let at = known.unwrap_or(self.days.len());
        if self.days.get(at).is_none_or(|day| day.date != date) {
            let counts = Default::default();
            self.days.insert(at, Day { date, counts });
        }
        let count = &mut self.days[at].counts[place];
        *count = count.saturating_add(1);
        self.days.truncate(DAYS);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn attempt(at: &str, outcome: &'static str, detail: &str) -> LastAttempt {
        LastAttempt {
            at: at.parse().unwrap(),
            agent: "out1".parse().unwrap(),
            address: "192.0.2.7:25".to_owned(),
            outcome,
            detail: detail.to_owned(),
            reason: String::new(),
            peer: None,
        }
    }

    #[test]
    fn days_are_counted_newest_first_whatever_the_clock_does() {
        let mut history = History::default();
        for (at, outcome) in [
            ("2026-11-30T23:59:59Z", "relayed"),
            ("2026-12-01T00:00:00Z", "unreachable"),
            ("2026-12-01T00:03:00Z", "unreachable"),
            // It was set back.
            ("2026-11-30T12:00:00Z", "relayed"),
            ("2026-11-28T12:00:00Z", "refused"),
        ] {
            history.attempted(&attempt(at, outcome, ""));
        }
        let told: Vec<String> = history
            .days
            .iter()
            .map(|day| format!("{} {:?}", day.date, day.counts().collect::<Vec<_>>()))
            .collect();
        let expected = [
            "2026-12-01 [(\"unreachable\", 2)]",
            "2026-11-30 [(\"relayed\", 2)]",
            "2026-11-28 [(\"refused\", 1)]",
        ];
        assert_eq!(told, expected);
        assert_eq!(
            history.last_relayed,
            Some("2026-11-30T23:59:59Z".parse().unwrap())
        );
    }

    #[test]
    fn attempts_that_end_alike_are_one_entry() {
        let mut history = History::default();
        let mut ended =
            |at, outcome, detail: &str| history.attempted(&attempt(at, outcome, detail));
        assert_eq!(ended("2026-11-30T12:00:00Z", "unreachable", "x"), News::Yes);
        assert_eq!(ended("2026-11-30T12:03:00Z", "unreachable", "x"), News::No);
        assert_eq!(ended("2026-11-30T12:06:00Z", "unreachable", "y"), News::Yes);
        // What a server says to each message it takes differs.
        assert_eq!(
            ended("2026-11-30T12:09:00Z", "relayed", "250 one"),
            News::Yes
        );
        assert_eq!(
            ended("2026-11-30T12:12:00Z", "relayed", "250 two"),
            News::Yes
        );
        let told: Vec<_> = history
            .runs
            .iter()
            .map(|it| (it.times, it.last.detail.as_str()))
            .collect();
        assert_eq!(told, [(2, "250 two"), (1, "y"), (2, "x")]);
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for n in 0..1000u32 {
            let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let at = at + jiff::SignedDuration::from_hours(i64::from(n) * 5);
            let ended = attempt(
                &at.to_string(),
                "deferred",
                &format!("{n}{}", "x".repeat(5000)),
            );
            history.attempted(&ended);
        }
        assert_eq!((history.days.len(), history.runs.len()), (DAYS, RUNS));
        assert!(record::encode(&history).len() < 8192);
    }
}
