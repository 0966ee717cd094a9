//! What each agent found when it last tried a site: one address may reach a home that another does not.
//!
//! # Invariants
//! One entry for each agent that has tried; memory grows with sites and agents.

use dd_proto::name::AgentName;
use jiff::Timestamp;

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
}

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
        self.put(agent, at, REACHED, String::new());
    }

    pub(super) fn failed(&mut self, agent: &AgentName, at: Timestamp, why: Why, detail: &str) {
        if matches!(why, Why::Down | Why::Refused) {
            self.failed_last = Some(agent.clone());
        }
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

    /// Whether one reached it and another did not.
    pub(super) fn differ(&self) -> bool {
        let reached = self.by_agent.iter().filter(|it| it.found == REACHED);
        (1..self.by_agent.len()).contains(&reached.count())
    }

    /// What they found, if one reached it and another did not.
    pub(super) fn difference(&self) -> Vec<AgentVerdict> {
        match self.differ() {
            true => self.by_agent.clone(),
            false => Vec::new(),
        }
    }
}
