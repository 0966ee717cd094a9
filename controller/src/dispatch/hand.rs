//! What is in hand: deliveries leased, asked about, or with something about them still being written.
//!
//! # Invariants
//! A delivery leaves the hand only when nothing about it is unwritten; then, and not before, agents are told that
//! their journals may forget it.

use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease};
use dd_proto::name::AgentName;

use super::Order;
use super::event::{Effect, Question, Turn};
use super::lease::{InHand, Leased};
use super::site::{Again, Phase, Why};
use super::state::State;
use super::whom::Whom;
use crate::store::{Note, Waiting};

/// A delivery that the store is asked about.
#[derive(Debug, Default)]
pub(super) struct AskedFor {
    times: u32,
    /// It left the hand after this number was given: answers to what was asked before may not know it.
    left_hand: u64,
}

impl State {
    /// The delivery's place in hand; a new one if there is none.
    pub(super) fn take_in_hand(&mut self, delivery: &DeliveryId) -> &mut InHand {
        if !self.hand.contains_key(delivery)
            && let Some(queue) = self.sites.get_mut(&delivery.site)
        {
            queue.in_hand += 1;
        }
        self.hand.entry(delivery.clone()).or_default()
    }

    /// The lease in hand, if it is this one.
    pub(super) fn current(&mut self, lease: &Lease, agent: &AgentName) -> Option<&mut Leased> {
        let leased = self.hand.get_mut(&lease.delivery)?.leased.as_mut()?;
        leased.is(lease, agent).then_some(leased)
    }

    /// From whom and to whom what goes out under a lease is.
    pub(crate) fn is_for(&mut self, lease: &Lease, whom: Whom) {
        let hand = self.hand.get_mut(&lease.delivery);
        if let Some(leased) = hand.and_then(|hand| hand.leased.as_mut())
            && leased.generation == lease.generation
        {
            leased.whom = Some(whom);
        }
    }

    /// Whether it is out under this lease, which lasts.
    #[cfg(test)]
    pub(crate) fn is_leased(&self, lease: &Lease, now: Duration) -> bool {
        self.leased_now(lease, now).is_some()
    }

    /// What is out under this lease, as it stands now; None where the lease does not last.
    pub(crate) fn leased_now(&self, lease: &Lease, now: Duration) -> Option<&Waiting> {
        let leased = self.hand.get(&lease.delivery)?.leased.as_ref()?;
        let lasts = leased.generation == lease.generation && leased.until > now;
        leased.waiting.as_ref().filter(|_| lasts)
    }

    /// Ends the lease of a delivery; it stays in hand until [`State::let_go`].
    pub(super) fn end_lease(&mut self, delivery: &DeliveryId) -> Option<Leased> {
        let leased = self.hand.get_mut(delivery)?.leased.take()?;
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.out = queue.out.saturating_sub(1);
            if queue.canary.as_ref() == Some(delivery) {
                queue.canary = None;
            }
        }
        if let Some(agent) = self.agents.get_mut(&leased.agent) {
            agent.leases.remove(delivery);
            if let Some(attached) = &mut agent.attached
                && attached.id == leased.attachment
            {
                attached.free(leased.occupies);
            }
        }
        self.forget_removed(&leased.agent);
        Some(leased)
    }

    /// Hands a settlement or note out; the delivery is in hand until it is written.
    pub(super) fn write(&mut self, delivery: &DeliveryId, effect: Effect, turn: &mut Turn<'_>) {
        self.take_in_hand(delivery).unwritten += 1;
        turn.effect(effect);
    }

    pub(super) fn owe(&mut self, agent: &AgentName, lease: &Lease) {
        let owed = (agent.clone(), lease.clone());
        self.take_in_hand(&lease.delivery).owed.push(owed);
    }

    pub(super) fn written(&mut self, delivery: &DeliveryId, turn: &mut Turn<'_>) {
        if let Some(in_hand) = self.hand.get_mut(delivery) {
            in_hand.unwritten = in_hand.unwritten.saturating_sub(1);
            self.let_go(delivery, turn);
            self.acting_goes_on(turn);
        }
    }

    /// Acknowledges, and lets the delivery go if nothing keeps it. Its place may be free before that: the site's next
    /// one does not wait until this one is written.
    pub(super) fn let_go(&mut self, delivery: &DeliveryId, turn: &mut Turn<'_>) {
        let Some(in_hand) = self.hand.get_mut(delivery) else {
            return;
        };
        if in_hand.unwritten > 0 {
            return self.look(&delivery.site, turn);
        }
        for (agent, lease) in std::mem::take(&mut in_hand.owed) {
            self.acknowledge(&agent, lease, turn);
        }
        if self.hand.get(delivery).is_some_and(|h| h.leased.is_some()) {
            return;
        }
        let Some(in_hand) = self.hand.remove(delivery) else {
            return;
        };
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.in_hand = queue.in_hand.saturating_sub(1);
            if let Some(reading) = &mut queue.reading {
                reading.touched.insert(delivery.message);
            }
            queue.expiry.touched(delivery.message);
            if let Some(release) = &queue.release
                && release.makes_all_due()
                && !release.was_put_off(delivery.message)
            {
                // It was put off before the release, which came before that was written.
                queue.rest = super::site::Rest::More;
                queue.cursor = None;
            }
        }
        let last = self.last_number();
        if let Some(asked) = self.asking.get_mut(delivery) {
            asked.left_hand = last;
        }
        if in_hand.questions.is_empty() {
            if let Some(waiting) = in_hand.back {
                self.put_back(waiting, turn);
            }
        } else if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.rest = super::site::Rest::More;
        }
        for question in in_hand.questions {
            self.ask(question, turn);
        }
        self.closing_goes_on(&delivery.site, turn);
        self.look(&delivery.site, turn);
    }

    /// What the store is asked about comes back with the last answer.
    fn put_back(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        let name = waiting.delivery.site.clone();
        let Some(queue) = self.sites.get_mut(&name) else {
            return;
        };
        if self.asking.contains_key(&waiting.delivery) {
            queue.rest = super::site::Rest::More;
            return;
        }
        queue.put_back(waiting);
        if matches!(queue.phase, Phase::Idle | Phase::Waiting(Why::Deferred, _)) {
            self.wake(&name, turn);
        }
    }

    pub(super) fn acknowledge(&self, agent: &AgentName, lease: Lease, turn: &mut Turn<'_>) {
        let agent = self.agents.get(agent);
        // One that is not attached is told when it comes again, for then it reports again.
        if let Some(attached) = agent.and_then(|agent| agent.attached.as_ref()) {
            turn.order(attached.id, Order::Acknowledged(lease));
        }
    }

    /// Asks what only the store knows. Until it has answered, the delivery is not assigned.
    pub(super) fn ask(&mut self, mut question: Question, turn: &mut Turn<'_>) {
        let delivery = question.lease().delivery.clone();
        if self.is_early(question.lease().generation) {
            self.early.push(question);
            return;
        }
        if let Some(in_hand) = self.hand.get_mut(&delivery) {
            match in_hand
                .leased
                .as_ref()
                .and_then(|leased| leased.waiting.clone())
            {
                Some(waiting) => self.told_while_out(&question, waiting, turn),
                None => in_hand.questions.push(question),
            }
            return;
        }
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.drop_from_head(delivery.message);
            queue.rest = super::site::Rest::More;
            if let Some(reading) = &mut queue.reading {
                reading.again = Again::Yes;
            }
        }
        self.asking_for(&delivery);
        question.number = self.number();
        turn.effect(Effect::Find(question));
    }

    pub(super) fn asking_for(&mut self, delivery: &DeliveryId) {
        if !self.asking.contains_key(delivery)
            && let Some(queue) = self.sites.get_mut(&delivery.site)
        {
            queue.asked += 1;
        }
        self.asking.entry(delivery.clone()).or_default().times += 1;
    }

    /// The store has answered; true if the answer may not know what became of the delivery since.
    pub(super) fn answered(&mut self, delivery: &DeliveryId, number: u64) -> bool {
        let Some(asked) = self.asking.get_mut(delivery) else {
            return false;
        };
        asked.times -= 1;
        let stale = number <= asked.left_hand;
        if asked.times == 0 {
            self.asking.remove(delivery);
            if let Some(queue) = self.sites.get_mut(&delivery.site) {
                queue.asked = queue.asked.saturating_sub(1);
                // A read may have passed it by.
                queue.rest = super::site::Rest::More;
                if let Some(reading) = &mut queue.reading {
                    reading.again = Again::Yes;
                }
            }
        }
        stale
    }
}

/// What is remembered of a delivery as it stands now.
pub(super) fn note(waiting: &Waiting) -> Note {
    Note {
        delivery: waiting.delivery.clone(),
        attempts: waiting.attempts,
        breaks: waiting.breaks,
        in_doubt: waiting.in_doubt,
        failed: waiting.failed,
        kept: waiting.kept,
        warned: waiting.warned,
        not_before: waiting.not_before,
        last: waiting.last.clone(),
    }
}
