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

    /// Smaller is better: who reached it, who has not tried, who did not reach it, who failed just now.
    pub(super) fn rank(&self, agent: &AgentName) -> u8 {
        if self.failed_last.as_ref() == Some(agent) {
            return 3;
        }
        let known = self.by_agent.iter().find(|it| it.agent == *agent);
        match known.map(|verdict| verdict.found) {
            Some(REACHED) => 0,
            None => 1,
            Some(_) => 2,
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
