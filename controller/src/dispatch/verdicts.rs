//! What each agent found when it last tried a site: one address may reach a home that another does not.
//!
//! That one agent failed and another reached the site says that they differ only if the site was there both times. Where
//! more than one attempt failed before it was reached again it was away for everybody, and what was found meanwhile
//! counts no more; nor does what is older than [`RECENT`].
//!
//! # Invariants
//! One entry for each agent that has tried; memory grows with sites and agents.

use dd_proto::name::AgentName;
use jiff::{SignedDuration, Timestamp};

use super::site::Why;

/// What one agent found at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentVerdict {
    pub agent: AgentName,
    pub at: Timestamp,
    /// reached, or why not: down wrong-host refused busy
    pub found: &'static str,
    /// Empty where it was reached.
    pub detail: String,
}

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    by_agent: Vec<AgentVerdict>,
    /// The one that failed last, so that another has a turn.
    failed_last: Option<AgentName>,
    /// Attempts that failed since the site was reached.
    in_a_row: u32,
    /// When it was last reached after an absence.
    back: Option<Timestamp>,
}

/// For this long what an agent found is set beside what others find.
const RECENT: SignedDuration = SignedDuration::from_mins(15);

/// Whether the next try may come at once, for it goes through another agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    ToAnother,
    /// Another one has failed just before.
    HadBefore,
}

const REACHED: &str = "reached";

impl Verdicts {
    pub(super) fn reached(&mut self, agent: &AgentName, at: Timestamp) {
        self.failed_last = None;
        if std::mem::take(&mut self.in_a_row) > 1 {
            self.back = Some(at);
        }
        self.put(agent, at, REACHED, String::new());
    }

    pub(super) fn failed(&mut self, agent: &AgentName, at: Timestamp, why: Why, detail: &str) {
        if matches!(why, Why::Down | Why::Refused) {
            self.failed_last = Some(agent.clone());
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.put(agent, at, why.as_str(), detail.to_owned());
    }

    /// The agent had trouble of its own: that says nothing about the site, but another has its turn.
    pub(super) fn troubled(&mut self, agent: &AgentName) -> Turns {
        match self.failed_last.replace(agent.clone()) {
            None => Turns::ToAnother,
            Some(_) => Turns::HadBefore,
        }
    }

    fn put(&mut self, agent: &AgentName, at: Timestamp, found: &'static str, detail: String) {
        let known = self.by_agent.iter_mut().find(|it| it.agent == *agent);
        match known {
            Some(verdict) => {
                (verdict.at, verdict.found, verdict.detail) = (at, found, detail);
            }
            None => self.by_agent.push(AgentVerdict {
                agent: agent.clone(),
                at,
                found,
                detail,
            }),
        }
    }

    pub(super) fn forget(&mut self, agent: &AgentName) {
        self.by_agent.retain(|verdict| verdict.agent != *agent);
    }

    /// Smaller is better: whoever is not known not to reach it, who did not reach it, who failed just now. One that
    /// reached it is no better than one that has not tried, or sites would never spread to an agent that is added.
    pub(super) fn rank(&self, agent: &AgentName) -> u8 {
        if self.failed_last.as_ref() == Some(agent) {
            return 2;
        }
        let known = self.by_agent.iter().find(|it| it.agent == *agent);
        match known.map(|verdict| verdict.found) {
            Some(REACHED) | None => 0,
            Some(_) => 1,
        }
    }

    /// Whether one reaches it and another does not.
    pub(super) fn differ(&self, now: Timestamp) -> bool {
        // One that reached it long ago may be gone, or may not reach it any more either.
        let reaches = |it: &AgentVerdict| it.found == REACHED && is_recent(it, now);
        self.by_agent.iter().any(reaches)
            && self.by_agent.iter().any(|it| self.counts_against(it, now))
    }

    fn counts_against(&self, verdict: &AgentVerdict, now: Timestamp) -> bool {
        let since_back = self.back.is_none_or(|back| verdict.at > back);
        verdict.found != REACHED && since_back && is_recent(verdict, now)
    }

    /// What they found, if one reaches it and another does not.
    pub(super) fn difference(&self, now: Timestamp) -> Vec<AgentVerdict> {
        match self.differ(now) {
            true => self.by_agent.clone(),
            false => Vec::new(),
        }
    }
}

fn is_recent(verdict: &AgentVerdict, now: Timestamp) -> bool {
    now.duration_since(verdict.at) < RECENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_differ_only_about_a_site_that_was_there_all_the_time() {
        let at = |minute: i64| Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap();
        let (one, two): (AgentName, AgentName) = ("out1".parse().unwrap(), "out2".parse().unwrap());
        let mut verdicts = Verdicts::default();
        verdicts.reached(&two, at(0));
        assert!(!verdicts.differ(at(0)));
        verdicts.failed(&one, at(1), Why::Down, "no answer");
        assert!(verdicts.differ(at(1)));
        verdicts.reached(&two, at(4));
        assert!(verdicts.differ(at(4)));
        assert_eq!(verdicts.difference(at(4)).len(), 2);
        // Nobody has looked since.
        assert!(!verdicts.differ(at(17)));

        // It was away for both, and is back.
        verdicts.failed(&two, at(20), Why::Down, "no answer");
        verdicts.failed(&one, at(23), Why::Down, "no answer");
        assert!(!verdicts.differ(at(23)), "nobody reaches it");
        verdicts.reached(&two, at(24));
        assert!(!verdicts.differ(at(24)), "what was found meanwhile is over");
        verdicts.failed(&one, at(25), Why::Down, "no answer");
        assert!(verdicts.differ(at(25)));

        // One agent is gone, and the other finds it away.
        for minute in [60, 63, 66] {
            verdicts.failed(&one, at(minute), Why::Down, "no answer");
            assert!(!verdicts.differ(at(minute)), "{minute}");
        }
    }
}
