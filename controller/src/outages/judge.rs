//! When somebody is told that a site is away, and that its mail flows again. Pure.
//!
//! # Invariants
//! - Of one outage two things are said at most: that mail waits, and that it flows again; the second only behind the first.
//! - What comes and goes is one outage: it is over when mail has flowed for [`CALM`], and no other is told of within a day.

use std::time::Duration;

use jiff::Timestamp;

use crate::history::History;

/// Mail flows again when nothing has failed for that long behind a message that was taken.
pub const CALM: Duration = Duration::from_secs(30 * 60);
/// Between two outages that somebody is told of.
const APART: Duration = Duration::from_secs(24 * 3600);
/// An attempt may be that much later than the site's own pace.
const LATE: Duration = Duration::from_secs(3600);

/// Why mail waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Down,
    WrongHost,
    Refuses,
}

impl Why {
    fn of(outcome: &str) -> Option<Self> {
        match outcome {
            "unreachable" => Some(Self::Down),
            "wrong-host" => Some(Self::WrongHost),
            "refused" => Some(Self::Refuses),
            _ => None,
        }
    }
}

/// What was told of a site last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub why: Why,
    /// The outage.
    pub since: Timestamp,
    /// When it was told.
    pub at: Timestamp,
    /// When it was over; None: it is not.
    pub until: Option<Timestamp>,
}

/// What is known of a site now.
#[derive(Debug)]
pub struct Seen<'a> {
    pub history: &'a History,
    /// Whether mail waits, and may be tried.
    pub mail: Mail,
    /// Between two tries.
    pub pace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    Waits,
    None,
}

/// What a site has shown since the start, beside what is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched {
    /// When nothing waited last.
    empty: Option<Timestamp>,
    /// Since when it has been in order.
    calm: Option<Timestamp>,
}

/// The attempts at the end of a history that did not reach the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    why: Why,
    since: Timestamp,
    last: Timestamp,
}

fn stretch(history: &History) -> Option<Stretch> {
    let mut found: Option<Stretch> = None;
    for run in &history.runs {
        let outcome = run.last.outcome;
        match Why::of(outcome) {
            Some(why) => {
                let newer = found.unwrap_or(Stretch {
                    why,
                    since: run.first,
                    last: run.last.at,
                });
                found = Some(Stretch {
                    since: run.first.min(newer.since),
                    ..newer
                });
            }
            // Whoever is busy is there, but takes nothing; an agent's own trouble says nothing.
            None if outcome == "busy" && found.is_some() => {}
            None => break,
        }
    }
    found
}

impl Watched {
    /// Whoever has no mail waiting, and no outage that was told, is not looked at further.
    pub fn nothing_waits(&mut self, now: Timestamp) {
        self.empty = Some(now);
    }

    /// What somebody is to be told now, as it is remembered afterwards. `after`: mail has waited that long.
    pub fn look(
        &mut self,
        seen: &Seen<'_>,
        told: Option<&Told>,
        after: Duration,
        now: Timestamp,
    ) -> Option<Told> {
        if seen.mail == Mail::None {
            self.nothing_waits(now);
        }
        let away = stretch(seen.history);
        match told.filter(|told| told.until.is_none()) {
            Some(open) => self.is_over(open, away, seen, now),
            None => self.begins(told, away?, seen, after, now),
        }
    }

    fn begins(
        &mut self,
        told: Option<&Told>,
        away: Stretch,
        seen: &Seen<'_>,
        after: Duration,
        now: Timestamp,
    ) -> Option<Told> {
        self.calm = None;
        // What failed before the mail that waits now had come kept none of it waiting.
        let since = away.since.max(self.empty.unwrap_or(away.since));
        let is_tried = elapsed(away.last, now) <= seen.pace.saturating_add(LATE);
        let lasts = seen.mail == Mail::Waits && elapsed(since, now) >= after;
        let apart = told.is_none_or(|it| elapsed(it.at, now) >= APART);
        (is_tried && lasts && apart).then_some(Told {
            why: away.why,
            since,
            at: now,
            until: None,
        })
    }

    fn is_over(
        &mut self,
        open: &Told,
        away: Option<Stretch>,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Option<Told> {
        let relayed = seen.history.last_relayed.filter(|at| *at > open.since);
        if away.is_some() || relayed.is_none() {
            self.calm = None;
            return None;
        }
        let calm = *self.calm.get_or_insert(now);
        (elapsed(calm, now) >= CALM).then_some(Told {
            until: relayed,
            ..*open
        })
    }
}

/// Nothing, where the clock was set back.
fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::attempt;

    const HOUR: i64 = 60;
    const AFTER: Duration = Duration::from_secs(6 * 3600);

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    /// A week, minute by minute: the site is tried every three minutes while mail waits, and every ten minutes mail comes.
    /// `outcome` says how a try in that minute ends. What was told: at which minute, and what.
    fn week(outcome: impl Fn(i64) -> &'static str) -> Vec<(i64, Option<Why>)> {
        let (mut history, mut watched) = (History::default(), Watched::default());
        let (mut told, mut said, mut waiting) = (None, Vec::new(), 0);
        for at in 0..7 * 24 * HOUR {
            waiting += u32::from(at % 10 == 0);
            if waiting > 0 && at % 3 == 0 {
                let outcome = outcome(at);
                history.attempted(&attempt(&minute(at).to_string(), outcome, "why"));
                if outcome == "relayed" {
                    waiting = 0;
                }
            }
            let seen = Seen {
                history: &history,
                mail: if waiting > 0 { Mail::Waits } else { Mail::None },
                pace: Duration::from_secs(180),
            };
            if let Some(news) = watched.look(&seen, told.as_ref(), AFTER, minute(at)) {
                said.push((at, news.until.is_none().then_some(news.why)));
                told = Some(news);
            }
            // A restart, every day: what was only seen is forgotten.
            if at % (24 * HOUR) == 0 {
                watched = Watched::default();
            }
        }
        said
    }

    #[test]
    fn a_week_of_outages_is_told_in_few_words() {
        let down = |from: i64, to: i64, outcome: &'static str| {
            move |at: i64| match (from * HOUR..to * HOUR).contains(&at) {
                true => outcome,
                false => "relayed",
            }
        };
        // In order all week, or away for less than six hours each night.
        assert_eq!(week(|_| "relayed"), []);
        assert_eq!(week(|at| down(1, 6, "unreachable")(at % (24 * HOUR))), []);
        // Away once: told once, and once when it flows.
        let once = week(down(30, 60, "unreachable"));
        assert_eq!(once.len(), 2, "{once:?}");
        assert_eq!(once[0].1, Some(Why::Down));
        assert!(
            (36 * HOUR - 10..=36 * HOUR + 10).contains(&once[0].0),
            "{once:?}"
        );
        assert_eq!(once[1].1, None);
        assert!(
            (60 * HOUR + 29..=60 * HOUR + 50).contains(&once[1].0),
            "{once:?}"
        );
        // What was the matter last is said, and that it changes is no news.
        let changing = week(|at| match at / HOUR {
            30..33 => "unreachable",
            33..60 => "wrong-host",
            60..70 => "refused",
            _ => "relayed",
        });
        assert_eq!(changing.len(), 2, "{changing:?}");
        assert_eq!(changing[0].1, Some(Why::WrongHost));
        // It never comes back.
        assert_eq!(week(down(30, 1000, "refused")).len(), 1);
        // Its line comes for ten minutes in each hour: mail flows then, and nobody is told.
        let comes = week(|at| {
            if at % HOUR < 10 {
                "relayed"
            } else {
                "unreachable"
            }
        });
        assert_eq!(comes, []);
        // Away for seven hours, there for one, all week: once a day at most.
        let flaps = week(|at| {
            if at % (8 * HOUR) < 7 * HOUR {
                "unreachable"
            } else {
                "relayed"
            }
        });
        let away = flaps.iter().filter(|(_, why)| why.is_some()).count();
        assert!(
            (1..=7).contains(&away) && flaps.len() <= 2 * away,
            "{flaps:?}"
        );
        // 4yz is an answer: the mail is late, the site is not away. So is a home that is busy all the time.
        assert_eq!(week(|_| "deferred"), []);
        assert_eq!(week(|_| "busy"), []);
    }

    #[test]
    fn what_failed_before_the_mail_came_kept_none_of_it_waiting() {
        let mut history = History::default();
        for at in [0, 3] {
            history.attempted(&attempt(&minute(at).to_string(), "unreachable", "why"));
        }
        let mut watched = Watched::default();
        let mut look = |history: &History, mail, at| {
            let pace = Duration::from_secs(180);
            let seen = Seen {
                history,
                mail,
                pace,
            };
            watched.look(&seen, None, AFTER, minute(at))
        };
        assert_eq!(look(&history, Mail::None, 10 * HOUR), None);
        history.attempted(&attempt(
            &minute(10 * HOUR + 1).to_string(),
            "unreachable",
            "why",
        ));
        assert_eq!(look(&history, Mail::Waits, 10 * HOUR + 2), None);
        // Nobody tries it, for there is no agent: that is not the site's doing.
        assert_eq!(look(&history, Mail::Waits, 17 * HOUR), None);
        history.attempted(&attempt(
            &minute(17 * HOUR).to_string(),
            "unreachable",
            "why",
        ));
        let told = look(&history, Mail::Waits, 17 * HOUR).unwrap();
        assert_eq!(told.since, minute(10 * HOUR));
    }
}
