//! Agents come, speak and go, and with them their leases.
//!
//! # Invariants
//! - Welcome is the first order on a stream, and names every lease that goes on; no other does.
//! - What an agent that is gone holds stays leased until it has certainly expired.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::DotSent;

use super::agents::{Attached, Heard, Registered};
use super::ends::Closed;
use super::event::{Telling, Turn};
use super::goes_on::Doubt;
use super::judge::Came;
use super::lease::GRACE;
use super::site::{Phase, Queued};
use super::standing::takes_work;
use super::state::State;
use super::{AgentEvent, AttachmentId, Hello, Machine, Order};

impl State {
    pub(super) fn attached(&mut self, id: AttachmentId, hello: Hello, turn: &mut Turn<'_>) {
        let name = hello.agent.clone();
        let before = self
            .agents
            .get(&name)
            .and_then(|agent| agent.attached.as_ref());
        if let Some(before) = before.map(|attached| attached.id) {
            self.detached(before, turn);
        }
        let agent = self.agents.entry(name.clone()).or_default();
        let rebooted = !agent.boot_id.is_empty() && agent.boot_id != hello.boot_id;
        // What it was given since this start is known, and so is what one had that had told all at the stop before it.
        let may_hold_more = agent.boot_id.is_empty() && agent.terms.may_hold_mail();
        if may_hold_more && hello.machine == Machine::Rebooted {
            self.barrier.doubts_a_journal();
        }
        agent.introduced(&hello, turn.now.wall);
        let mut attached = Attached::new(id, &hello, turn.now.monotonic);
        attached.work = takes_work(agent.terms, &attached, turn.now);
        agent.attach(attached);
        self.attachments.insert(id, name.clone());
        let going_on = self.going_on(id, &name, &hello.work_in_hand, turn.now.monotonic);
        turn.order(
            id,
            Order::Welcome {
                going_on: going_on.clone(),
            },
        );
        self.drop_what_it_lost(&name, &hello, rebooted, turn);
        let runs: BTreeSet<Lease> = hello.work_in_hand.into_iter().collect();
        if let Some(agent) = self.agents.get_mut(&name)
            && runs.len() > going_on.len()
        {
            agent.loses_a_lease();
        }
        for DotSent { lease, .. } in hello.in_doubt {
            if going_on.contains(&lease) {
                self.dot_sent(&name, &lease, turn);
            } else {
                let telling = match runs.contains(&lease) {
                    true => Telling::NotAll,
                    false => Telling::All,
                };
                self.dot_in_journal(&name, lease, telling, turn);
            }
        }
        for report in hello.reports {
            self.report(&name, report, Came::FromTheJournal, turn);
        }
        let change = self.barrier.heard(&name, turn.now.monotonic);
        self.barrier_changed(change, turn);
    }

    pub(super) fn said(&mut self, id: AttachmentId, event: AgentEvent, turn: &mut Turn<'_>) {
        // A stream that was replaced speaks no more; what matters of it stands in the journal.
        let Some(name) = self.attachments.get(&id).cloned() else {
            return;
        };
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.seen(turn.now.wall);
        }
        match event {
            AgentEvent::Beat { number } => self.beat(&name, number, turn),
            AgentEvent::Proved {
                site,
                session,
                observed,
            } => {
                let peer = observed.certificate.map(Arc::new);
                self.proved(&name, &site, (session, peer), turn);
            }
            AgentEvent::DotSent(dot) => self.dot_sent(&name, &dot.lease, turn),
            AgentEvent::Report(report) => self.report(&name, *report, Came::Live, turn),
            AgentEvent::GivenBack { lease, why } => self.given_back(&name, &lease, why, turn),
            AgentEvent::SessionClosed {
                site,
                session,
                proved,
                accepted,
                answered,
                ended,
                refuses,
                detail,
            } => {
                let closed = Closed {
                    session,
                    proved,
                    accepted,
                    answered,
                    ended,
                    refuses,
                    detail,
                };
                self.session_closed(&name, &site, &closed, turn);
            }
            AgentEvent::Draining => self.agent_leaves(&name, turn),
            AgentEvent::Health { trouble } => self.agent_health(&name, trouble, turn),
        }
    }

    fn beat(&mut self, name: &AgentName, number: u64, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        if let Some(attached) = &mut agent.attached {
            attached.answered = now;
            attached.heard = Heard::Lately;
            turn.order(attached.id, Order::BeatAnswer { number });
        }
        let mut first = None;
        for delivery in &agent.leases {
            let leased = self
                .hand
                .get_mut(delivery)
                .and_then(|hand| hand.leased.as_mut());
            if let Some(leased) = leased {
                leased.renew(now);
                let ends = leased.until + GRACE;
                first = Some(first.map_or(ends, |first: Duration| first.min(ends)));
            }
        }
        agent.check = first;
    }

    /// The process was stopped, or the machine asleep: what agents have said meanwhile is still on its way, and an agent
    /// that comes back with its journal says itself where a dot went.
    pub(crate) fn stood_still(&mut self, now: Duration) {
        self.stood_still_until = now + GRACE;
    }

    /// When the silence of an agent is looked at next.
    pub(super) fn next_silence(&self) -> Option<Duration> {
        let agents = self.agents.values();
        let silence = agents.flat_map(|agent| [agent.check, agent.falls_silent()]);
        let next = silence.flatten().min();
        next.map(|at| at.max(self.stood_still_until))
    }

    /// Sites of an agent that does not speak go to another one, though its stream stands.
    pub(super) fn silent_agents(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        if now < self.stood_still_until {
            return;
        }
        let silent = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.falls_silent().is_some_and(|at| at <= now));
        let silent: Vec<AgentName> = silent.map(|(name, _)| name.clone()).collect();
        for name in silent {
            let agent = self.agents.get_mut(&name);
            if let Some(attached) = agent.and_then(|agent| agent.attached.as_mut()) {
                attached.heard = Heard::Silent;
            }
            self.sites_leave(&name, turn);
        }
    }

    /// Leases that have expired for long enough go elsewhere.
    pub(super) fn leases_expired(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        if now < self.stood_still_until {
            return;
        }
        let due = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.check.is_some_and(|at| at <= now));
        let due: Vec<AgentName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let (mut over, mut next) = (Vec::new(), None);
            let Some(agent) = self.agents.get_mut(&name) else {
                continue;
            };
            for delivery in &agent.leases {
                let leased = self
                    .hand
                    .get(delivery)
                    .and_then(|hand| hand.leased.as_ref());
                match leased.map(|leased| leased.until + GRACE) {
                    Some(ends) if ends > now => {
                        next = Some(next.map_or(ends, |next: Duration| next.min(ends)));
                    }
                    _ => over.push(delivery.clone()),
                }
            }
            agent.check = next;
            if !over.is_empty() {
                agent.loses_a_lease();
            }
            // What an agent that is heard sent it has told; of one that is gone or silent nobody knows.
            let heard = agent.attached.as_ref().is_some_and(|it| it.is_heard(now));
            let doubt = if heard {
                Doubt::IfDotSeen
            } else {
                self.sites_leave(&name, turn);
                Doubt::Always
            };
            for delivery in over {
                let hand = self.hand.get(&delivery);
                let leased = hand.and_then(|hand| hand.leased.as_ref());
                if heard && leased.is_some_and(|leased| leased.is_overdue(now)) {
                    self.is_stuck(&name, &delivery, turn);
                } else {
                    self.lease_lost(&delivery, doubt, turn);
                }
            }
        }
    }

    /// The agent beats, and says nothing of this attempt for longer than one may take. It may believe in it still, so what
    /// goes out again is in doubt; another one has its turn.
    fn is_stuck(&mut self, name: &AgentName, delivery: &DeliveryId, turn: &mut Turn<'_>) {
        tracing::warn!(agent = %name, %delivery, "it has said nothing of an attempt for too long");
        self.recall(&delivery.site, turn);
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.verdicts.troubled(name);
            queue.canary = Some(delivery.clone()).filter(|_| queue.phase == Phase::Proving);
        }
        self.lease_lost(delivery, Doubt::Always, turn);
    }

    pub(super) fn detached(&mut self, id: AttachmentId, turn: &mut Turn<'_>) {
        let Some(name) = self.attachments.remove(&id) else {
            return;
        };
        if let Some(agent) = self.agents.get_mut(&name)
            && agent
                .attached
                .as_ref()
                .is_some_and(|attached| attached.id == id)
        {
            agent.leaves();
            agent.detach();
            self.sites_leave(&name, turn);
            self.forget_removed(&name);
        }
    }

    /// What the agent holds stays leased; the rest of its sites' mail goes through another at once.
    pub(super) fn sites_leave(&mut self, name: &AgentName, turn: &mut Turn<'_>) {
        let mine = self
            .sites
            .iter()
            .filter(|(_, queue)| queue.carrier.as_ref() == Some(name));
        let mine: Vec<SiteName> = mine.map(|(site, _)| site.clone()).collect();
        for site in mine {
            let Some(queue) = self.sites.get_mut(&site) else {
                continue;
            };
            queue.carrier = None;
            queue.sessions.clear();
            queue.recalled.clear();
            queue.canary = None;
            queue.queued = Queued::No;
            if matches!(queue.phase, Phase::Proving | Phase::Flowing) {
                self.ready(&site, turn.now.monotonic, turn);
            }
        }
    }

    pub(super) fn agent_removed(&mut self, name: &AgentName, turn: &mut Turn<'_>) {
        let attached = self
            .agents
            .get(name)
            .and_then(|agent| agent.attached.as_ref());
        if let Some(id) = attached.map(|attached| attached.id) {
            self.detached(id, turn);
        }
        if let Some(agent) = self.agents.get_mut(name) {
            agent.registered = Registered::Removed;
        }
        self.forget_removed(name);
        for queue in self.sites.values_mut() {
            queue.verdicts.forget(name);
        }
        let change = self.barrier.heard(name, turn.now.monotonic);
        self.barrier_changed(change, turn);
    }
}

impl State {
    /// An agent that was removed is forgotten when nothing of it is out any more.
    pub(super) fn forget_removed(&mut self, name: &AgentName) {
        let over = self.agents.get(name).is_some_and(|agent| {
            agent.registered == Registered::Removed
                && agent.leases.is_empty()
                && agent.attached.is_none()
        });
        if over {
            self.agents.remove(name);
        }
    }
}
