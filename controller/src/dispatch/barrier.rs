//! The barrier after a start: mail of an earlier start waits until everybody has said what they know of it.
//!
//! An agent may hold, or may have handed over, what an earlier controller gave it. So earlier mail is assigned only
//! when the store knows all of it and every registered agent has said Hello with its journal, or when the leases of
//! the earlier start have certainly expired. One that has drained to its end holds nothing and is not waited for,
//! nor is one that held nothing when the earlier start stopped in order:
//! docs/decisions/0050-when-a-drain-has-ended.md, docs/decisions/0105-who-is-waited-for-after-a-clean-stop.md
//!
//! # Invariants
//! Once open it stays open.

use std::collections::BTreeSet;
use std::time::Duration;

use dd_proto::name::AgentName;

use super::lease::{GRACE, LEASE};
use crate::store::Waiting;

/// Monotonic, from the start on: no lease of an earlier start lives longer.
pub(super) const ENDS: Duration = LEASE.saturating_add(GRACE);

#[derive(Debug)]
pub(super) struct Barrier {
    stands: Stands,
    store: Knowledge,
    missing: BTreeSet<AgentName>,
    journals: Journals,
}

/// Whether agents' journals say all of what earlier starts gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Journals {
    Whole,
    /// A machine went down, and may have taken the end of one along.
    MayLackTheEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Closed,
    Open,
}

/// Whether the store knows all mail of earlier starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    Partial,
    Complete,
}

/// What became of the barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened,
}

impl Barrier {
    pub(super) fn new(registered: impl IntoIterator<Item = AgentName>) -> Self {
        Self {
            stands: Stands::Closed,
            store: Knowledge::Partial,
            missing: registered.into_iter().collect(),
            journals: Journals::Whole,
        }
    }

    pub(super) fn knowledge(&self) -> Knowledge {
        self.store
    }

    pub(super) fn all_known(&mut self, now: Duration) -> Change {
        self.store = Knowledge::Complete;
        self.look(now)
    }

    /// The agent has said Hello, or is none any more.
    pub(super) fn heard(&mut self, agent: &AgentName, now: Duration) -> Change {
        self.missing.remove(agent);
        self.look(now)
    }

    /// Whether it may hold mail of an earlier start, and has not spoken since.
    pub(super) fn waits_for(&self, agent: &AgentName) -> bool {
        self.missing.contains(agent)
    }

    /// The machine of an agent has been rebooted since an earlier start, in which the agent may have held anything.
    pub(super) fn doubts_a_journal(&mut self) {
        self.journals = Journals::MayLackTheEnd;
    }

    pub(super) fn look(&mut self, now: Duration) -> Change {
        let over = self.missing.is_empty() || now >= ENDS;
        if self.stands == Stands::Open || self.store == Knowledge::Partial || !over {
            return Change::None;
        }
        self.stands = Stands::Open;
        Change::Opened
    }

    /// When time alone opens it.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let by_time = self.stands == Stands::Closed && self.store == Knowledge::Complete;
        by_time.then_some(ENDS)
    }

    pub(super) fn is_open(&self) -> bool {
        self.stands == Stands::Open
    }

    pub(super) fn lets_pass(&self, waiting: &Waiting) -> bool {
        !waiting.earlier_start || self.is_open()
    }

    /// An attempt now may be a second one: an agent that has not spoken yet may have made the first, or one whose journal
    /// does not say so.
    pub(super) fn casts_doubt_on(&self, waiting: &Waiting) -> bool {
        let all_told = self.missing.is_empty() && self.journals == Journals::Whole;
        waiting.earlier_start && !all_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_all_is_known_and_everybody_has_spoken() {
        let agent: AgentName = "out1".parse().unwrap();
        let mut barrier = Barrier::new([agent.clone()]);
        assert_eq!(barrier.heard(&agent, Duration::ZERO), Change::None);
        assert_eq!(barrier.all_known(Duration::ZERO), Change::Opened);
        assert_eq!(barrier.all_known(Duration::ZERO), Change::None);
    }

    #[test]
    fn time_opens_it_but_not_before_all_is_known() {
        let mut barrier = Barrier::new(["out1".parse().unwrap()]);
        assert_eq!(barrier.look(ENDS * 2), Change::None);
        assert_eq!(
            barrier.all_known(ENDS - Duration::from_nanos(1)),
            Change::None
        );
        assert_eq!(barrier.deadline(), Some(ENDS));
        assert_eq!(barrier.look(ENDS), Change::Opened);
    }
}
