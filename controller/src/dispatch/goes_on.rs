//! What goes on at an agent that comes back, and what it has lost.
//!
//! # Invariants
//! - A lease of an earlier start goes on while the barrier keeps its delivery from everybody else; of two leases of one
//!   delivery, the one with the greater generation.
//! - Whatever may have been handed over, and is not known to go on, is in doubt before it goes out again.

use std::collections::BTreeSet;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease};
use dd_proto::name::AgentName;

use super::event::{Asks, Question, Telling, Turn};
use super::lease::{Dot, Freshness, LEASE, Leased, Occupies, lease_of};
use super::state::State;
use super::{AttachmentId, Hello};

impl State {
    /// Takes over what still runs there: our own leases that have not expired, and those of an earlier start while
    /// nothing of it can have gone elsewhere.
    pub(super) fn going_on(
        &mut self,
        id: AttachmentId,
        name: &AgentName,
        in_hand: &[Lease],
        now: Duration,
    ) -> Vec<Lease> {
        let mut going_on = Vec::new();
        for lease in in_hand {
            let ours = self
                .current(lease, name)
                .is_some_and(|leased| leased.until > now);
            if ours || self.adopt(id, name, lease, now) {
                going_on.push(lease.clone());
            }
        }
        for lease in &going_on {
            if let Some(leased) = self.current(lease, name) {
                leased.attachment = id;
                leased.until = now + LEASE;
                leased.occupies = Occupies::Place;
                if let Some(agent) = self.agents.get_mut(name) {
                    agent.holds(lease.delivery.clone(), now + LEASE);
                    if let Some(attached) = &mut agent.attached {
                        attached.take(Occupies::Place);
                    }
                }
            }
        }
        going_on
    }

    /// A lease of an earlier start goes on while the barrier keeps its delivery from everybody else, whatever older
    /// leases of it have been told of meanwhile: of two, the greater is the valid one.
    fn adopt(&mut self, id: AttachmentId, name: &AgentName, lease: &Lease, now: Duration) -> bool {
        let delivery = &lease.delivery;
        let earlier = lease.generation.start < self.generations.start();
        if !earlier || self.barrier.is_open() || !self.sites.contains_key(&delivery.site) {
            return false;
        }
        let known = self
            .hand
            .get(delivery)
            .and_then(|hand| hand.leased.as_ref());
        if known.is_some_and(|known| known.generation >= lease.generation) {
            return false;
        }
        // Whoever gave the newer one has seen this one end.
        if let Some(before) = self.end_lease(delivery)
            && let Some(holder) = self.agents.get_mut(&before.agent)
        {
            holder.loses_a_lease();
        }
        let Some(queue) = self.sites.get_mut(&delivery.site) else {
            return false;
        };
        queue.out += 1;
        queue.drop_from_head(delivery.message);
        let in_hand = self.take_in_hand(delivery);
        in_hand.leased = Some(Leased {
            generation: lease.generation,
            agent: name.clone(),
            attachment: id,
            waiting: in_hand.back.take(),
            carried: None,
            whom: None,
            since: now,
            until: now + LEASE,
            occupies: Occupies::Place,
            dot: Dot::NotSeen,
            freshness: Freshness::Any,
        });
        true
    }

    /// What it held and does not name any more was not finished; its journal says where a dot went, unless the machine
    /// went down and may have taken the journal's end along.
    pub(super) fn drop_what_it_lost(
        &mut self,
        name: &AgentName,
        hello: &Hello,
        rebooted: bool,
        turn: &mut Turn<'_>,
    ) {
        let journal = hello.in_doubt.iter().map(|dot| &dot.lease);
        let journal = journal.chain(hello.reports.iter().map(|report| &report.lease));
        // An older lease of the same delivery says nothing about the one it holds.
        let named: BTreeSet<&Lease> = journal.chain(&hello.work_in_hand).collect();
        let held = self.agents.get(name).map(|agent| agent.leases.clone());
        for delivery in held.unwrap_or_default() {
            let hand = self.hand.get(&delivery);
            let leased = hand.and_then(|hand| hand.leased.as_ref());
            if leased.is_none_or(|leased| named.contains(&lease_of(&delivery, leased))) {
                continue;
            }
            let doubt = if rebooted {
                Doubt::Always
            } else {
                Doubt::IfDotSeen
            };
            self.lease_lost(&delivery, doubt, turn);
        }
    }

    /// The delivery is nobody's any more and may go elsewhere.
    pub(super) fn lease_lost(&mut self, delivery: &DeliveryId, doubt: Doubt, turn: &mut Turn<'_>) {
        let Some(leased) = self
            .hand
            .get(delivery)
            .and_then(|hand| hand.leased.as_ref())
        else {
            return;
        };
        let lease = lease_of(delivery, leased);
        let was_canary = self.is_canary(&lease);
        let Some(leased) = self.end_lease(delivery) else {
            return;
        };
        let agent = leased.agent.clone();
        let doubtful = doubt == Doubt::Always || leased.dot == Dot::Sent;
        match leased.waiting {
            Some(waiting) if doubtful => self.mark_in_doubt(&agent, waiting, turn),
            None if doubtful => {
                let asks = Asks::Dot(lease.clone(), Telling::NotAll);
                self.ask(Question::new(agent, asks), turn);
            }
            _ => self.returns(leased, &lease),
        }
        if was_canary {
            self.probe_is_off(&delivery.site, turn.now.monotonic, turn);
        }
        self.let_go(delivery, turn);
    }

    pub(super) fn dot_in_journal(
        &mut self,
        agent: &AgentName,
        lease: Lease,
        telling: Telling,
        turn: &mut Turn<'_>,
    ) {
        let delivery = lease.delivery.clone();
        let is_current = self.current(&lease, agent).is_some();
        let waiting = if is_current {
            self.end_lease(&delivery).and_then(|leased| leased.waiting)
        } else {
            None
        };
        match waiting {
            Some(waiting) => self.doubt(agent, &lease, telling, waiting, turn),
            None => self.ask(
                Question::new(agent.clone(), Asks::Dot(lease, telling)),
                turn,
            ),
        }
        self.let_go(&delivery, turn);
    }
}

/// When a lost lease leaves its delivery in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    IfDotSeen,
    Always,
}
