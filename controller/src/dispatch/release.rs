//! A release: what ETRN asks for, and what came of it.
//!
//! It makes every not-before of a site due and asks for an attempt that begins after it.
//!
//! # Invariants
//! - Only an attempt that began after a release absorbs it.
//! - What a release remembers of messages is bounded; beyond that the rest keep their own time.

use std::collections::BTreeSet;
use std::time::Duration;

use dd_proto::id::{Generation, MessageId};
use dd_proto::name::AgentName;

use super::Released;

/// How many messages that were put off again since the release are remembered.
const MAX_PUT_OFF: usize = 1024;

/// Names somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(crate) u64);

/// Somebody waits for what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) token: Token,
    /// Monotonic.
    pub(crate) deadline: Duration,
}

/// A release that is not through yet.
#[derive(Debug)]
pub(super) struct Release {
    /// Attempts under later generations began after it.
    pub(super) since: Generation,
    pub(super) begun: Begun,
    waiting: u64,
    waiters: Vec<Waiter>,
    put_off: BTreeSet<MessageId>,
    /// Who did not reach the site since.
    tried: BTreeSet<AgentName>,
    relayed: u64,
    deferred: u64,
    failed: u64,
}

/// Whether an attempt has begun after the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    NotYet,
    Yes,
}

/// What became of one message since the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Relayed,
    Failed,
}

impl Release {
    pub(super) fn new(since: Generation, waiting: u64) -> Self {
        Self {
            since,
            begun: Begun::NotYet,
            waiting,
            waiters: Vec::new(),
            put_off: BTreeSet::new(),
            tried: BTreeSet::new(),
            relayed: 0,
            deferred: 0,
            failed: 0,
        }
    }

    /// A second request before the first is through: the attempt begins anew, and everybody waits for it.
    pub(super) fn again(&mut self, since: Generation, waiting: u64) {
        let waiters = std::mem::take(&mut self.waiters);
        *self = Self::new(since, waiting);
        self.waiters = waiters;
    }

    /// An agent did not reach the site; the next attempt is a fresh one again.
    pub(super) fn not_reached_by(&mut self, agent: &AgentName) {
        self.tried.insert(agent.clone());
        self.begun = Begun::NotYet;
    }

    pub(super) fn was_tried_by(&self, agent: &AgentName) -> bool {
        self.tried.contains(agent)
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    pub(super) fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Relayed => self.relayed += 1,
            Fate::Failed => self.failed += 1,
        }
    }

    /// A message was tried under a generation and has its own time, or is parked. What was tried before the release is due
    /// by it.
    pub(super) fn stepped_aside(&mut self, message: MessageId, under: Generation) {
        self.deferred += 1;
        if under > self.since && self.makes_all_due() {
            self.put_off.insert(message);
        }
    }

    /// It was tried since the release and has its own time again.
    pub(super) fn was_put_off(&self, message: MessageId) -> bool {
        self.put_off.contains(&message)
    }

    /// Not-befores of messages not tried since do not count.
    pub(super) fn makes_all_due(&self) -> bool {
        self.put_off.len() < MAX_PUT_OFF
    }

    /// Those whose patience is over.
    pub(super) fn impatient(&mut self, now: Duration) -> Vec<Token> {
        let over = self.waiters.extract_if(.., |waiter| waiter.deadline <= now);
        over.map(|waiter| waiter.token).collect()
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = Token> {
        self.waiters.iter().map(|waiter| waiter.token)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn worked(&self) -> Released {
        Released::Worked {
            waiting: self.waiting,
            relayed: self.relayed,
            deferred: self.deferred,
            failed: self.failed,
        }
    }

    pub(super) fn pending(&self) -> Released {
        Released::Pending {
            waiting: self.waiting,
            relayed: self.relayed,
            deferred: self.deferred,
            failed: self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_remembers_is_bounded() {
        let since = Generation {
            start: 1,
            counter: 0,
        };
        let mut release = Release::new(since, 5000);
        let under = Generation {
            start: 1,
            counter: 1,
        };
        for n in 0..5000 {
            release.stepped_aside(MessageId::new(n, [0; 10]), under);
        }
        assert_eq!(release.put_off.len(), MAX_PUT_OFF);
        assert!(!release.makes_all_due());
        assert_eq!(release.deferred, 5000);
    }
}
