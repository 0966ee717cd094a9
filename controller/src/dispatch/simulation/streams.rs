//! The streams between core and agents, and what is checked of what goes over them.

use std::time::Duration;

use dd_proto::name::SiteName;
use dd_proto::report::{Disposition, Outcome, RecipientResult};
use rand::RngExt as _;

use super::agent::{Entry, Life, Work};
use super::world::{Happening, World};
use crate::dispatch::event::{By, Event, Settle};
use crate::dispatch::{AgentEvent, AttachmentId, Order};
use crate::store::Waiting;

impl World {
    pub(super) fn check_expiry(&self, settle: &Settle) {
        let site = &settle.settlement.delivery.site;
        if let By::Lifetime = settle.evidence.by {
            assert!(self.failing.contains(site), "expired without an attempt");
            let record = self.sites.iter().find(|(it, _)| it.name == *site);
            let hold = record.unwrap().0.hold.as_ref();
            let held = hold.is_some_and(|hold| hold.until.is_none_or(|at| at > self.wall()));
            assert!(!held || self.jumped, "expired while held");
        }
    }

    pub(super) fn check_assignment(&mut self, to: usize, waiting: &Waiting) {
        let delivery = &waiting.delivery;
        for agent in &self.agents {
            assert!(
                !agent.holds(delivery, self.now),
                "{delivery} is out under two valid leases"
            );
        }
        let record = self
            .sites
            .iter()
            .find(|(site, _)| site.name == delivery.site);
        let hold = record.unwrap().0.hold.as_ref();
        let held = hold.is_some_and(|hold| hold.until.is_none_or(|until| until > self.wall()));
        // A clock that jumped has ended a hold early, or not begun one.
        let held = held && !self.jumped;
        assert!(!held, "{delivery} goes out though its site is held");
        let name = self.agents[to].name.clone();
        let mut proved = self.proved.iter();
        if !proved.any(|(agent, site, _)| *agent == name && *site == delivery.site) {
            let before = self
                .canaries
                .insert((name, delivery.site.clone()), delivery.clone());
            assert_eq!(before, None, "two canaries");
        }
    }

    pub(super) fn send(&mut self, to: AttachmentId, order: Order, work: Option<Work>) {
        let at = self.in_order(to, true);
        self.at(at, Happening::Down(to, order, work, self.now));
    }

    pub(super) fn in_order(&mut self, id: AttachmentId, down: bool) -> Duration {
        let delay = Duration::from_millis(self.rng.random_range(0..40));
        let last = self.last_on.entry((id, down)).or_default();
        *last = (*last).max(self.now + delay);
        *last
    }

    pub(super) fn order_comes(
        &mut self,
        id: AttachmentId,
        order: Order,
        work: Option<Work>,
        sent: Duration,
    ) {
        let n = self.streams[&id];
        if self.agents[n].attachment != Some(id) {
            return;
        }
        if let Some(mut work) = work {
            let agent = &mut self.agents[n];
            work.until = agent.renewed + crate::dispatch::LEASE;
            let site = work.lease.delivery.site.clone();
            agent
                .lanes
                .entry(site.clone())
                .or_default()
                .waiting
                .push_back(work);
            return self.soon(200, Happening::Step(n, site));
        }
        match order {
            Order::Welcome { going_on } => {
                let hello_sent = sent - Duration::from_millis(40).min(sent);
                self.agents[n].welcome(&going_on, hello_sent, self.now);
                self.soon(10_000, Happening::Beat(n, id));
            }
            Order::BeatAnswer { number } => {
                let beat_sent = Duration::from_millis(number);
                self.agents[n].beat_answered(beat_sent, self.now);
            }
            // Now and then its process ends before it has noted that.
            Order::Acknowledged(_) if self.is_troubled(0.1) => {}
            Order::Acknowledged(lease) => {
                let entry = self.agents[n].acknowledged(&lease);
                if let Some(Entry::Report(report)) = entry {
                    let relayed = report.recipients.iter();
                    let relayed = relayed.filter(|r| r.disposition == Disposition::Relayed);
                    for result in relayed {
                        let open = self.stored.mail.get(&lease.delivery).map(|w| &w.open);
                        let open = open.is_some_and(|open| open.contains(&result.number));
                        assert!(!open, "acknowledged before it was settled");
                    }
                }
            }
            Order::CloseSite(site) => {
                let events = self.agents[n].close(&site);
                self.tell(n, events);
            }
            Order::Recall(site) => {
                let events = self.agents[n].recall(&site);
                self.tell(n, events);
            }
            Order::Plan(_) | Order::Assign(_) => {}
        }
    }

    pub(super) fn tell(&mut self, agent: usize, events: Vec<AgentEvent>) {
        for event in &events {
            if let AgentEvent::Report(report) = event {
                let refused = |r: &RecipientResult| r.disposition == Disposition::Failed;
                let times = u32::from(report.recipients.iter().any(refused));
                let delivery = report.lease.delivery.clone();
                *self.refusals.entry(delivery).or_default() += times;
            }
        }
        let Some(id) = self.agents[agent].attachment else {
            return;
        };
        for event in events {
            let at = self.in_order(id, false);
            self.at(at, Happening::Up(id, event));
        }
    }

    /// What the core is about to learn.
    pub(super) fn seen(&mut self, id: AttachmentId, event: &AgentEvent) {
        let name = self.agents[self.streams[&id]].name.clone();
        match event {
            AgentEvent::Proved { site, session, .. } => {
                self.proved.insert((name.clone(), site.clone(), session.0));
                self.canaries.remove(&(name, site.clone()));
            }
            AgentEvent::SessionClosed { site, session, .. } => {
                self.proved.remove(&(name, site.clone(), session.0));
            }
            AgentEvent::Report(report) => {
                let relayed = |r: &RecipientResult| r.disposition == Disposition::Relayed;
                let whole = report.outcome == Outcome::Transacted;
                if !(whole && report.recipients.iter().all(relayed)) {
                    self.failing.insert(report.lease.delivery.site.clone());
                }
                let site = report.lease.delivery.site.clone();
                if report.outcome == Outcome::Transacted {
                    // A session that went on while the stream was lost proves itself by what it does.
                    self.proved
                        .insert((name.clone(), site.clone(), report.session.0));
                }
                self.canaries.remove(&(name, site));
            }
            AgentEvent::GivenBack { lease, .. } => {
                self.canaries.remove(&(name, lease.delivery.site.clone()));
            }
            _ => {}
        }
    }

    pub(super) fn step(&mut self, n: usize, site: &SiteName) {
        let behaviour = self.sites.iter().find(|(s, _)| s.name == *site).unwrap().1;
        let (now, received, rng) = (self.now, &mut self.received, &mut self.rng);
        let events = self.agents[n].step(site, behaviour, now, received, rng);
        if let Some(twice) = &self.received.unmarked {
            panic!("there twice, and not in doubt:\n{}", self.life_of(twice));
        }
        self.tell(n, events);
        if self.agents[n].life == Life::Ended {
            return self.kill(n);
        }
        if self.agents[n].busy().contains(site) {
            let idle = self.agents[n].lanes[site].is_idle();
            self.soon(
                if idle { 20_000 } else { 2_000 },
                Happening::Step(n, site.clone()),
            );
        }
    }

    pub(super) fn beat(&mut self, n: usize, id: AttachmentId) {
        if self.agents[n].attachment == Some(id) {
            let number = u64::try_from(self.now.as_millis()).unwrap();
            self.tell(n, vec![AgentEvent::Beat { number }]);
            self.at(self.now + crate::dispatch::BEAT, Happening::Beat(n, id));
        }
    }

    pub(super) fn attach(&mut self, n: usize) {
        if self.agents[n].attachment.is_some() {
            return;
        }
        if self.now < self.agents[n].away_until {
            return self.at(self.agents[n].away_until, Happening::Attach(n));
        }
        self.number += 1;
        let id = AttachmentId(self.number);
        self.streams.insert(id, n);
        self.agents[n].attachment = Some(id);
        // A session that goes on is known to the controller only by what it reports.
        let name = self.agents[n].name.clone();
        self.canaries.retain(|(agent, _), _| *agent != name);
        let hello = self.agents[n].hello();
        let had_left = self.left.remove(&hello.agent);
        assert!(!had_left || hello.work_in_hand.is_empty());
        self.apply(Event::Attached { id, hello });
    }

    /// It says that it is about to end, and ends once nothing is in hand, mostly.
    pub(super) fn leave(&mut self, n: usize) {
        let Some(id) = self.agents[n].attachment else {
            return;
        };
        self.tell(n, vec![AgentEvent::Draining]);
        let within = [100, 5_000][self.rng.random_range(0..2)];
        self.soon(within, Happening::Gone(n, id));
    }

    pub(super) fn gone(&mut self, n: usize, id: AttachmentId) {
        if self.agents[n].attachment != Some(id) {
            return;
        }
        let works = self.agents[n].lanes.values().any(|lane| !lane.is_idle());
        if works && self.rng.random_bool(0.3) {
            return self.soon(1_000, Happening::Gone(n, id));
        }
        // What it has said comes first.
        let last = self.last_on.get(&(id, false)).copied();
        if let Some(last) = last.filter(|last| *last > self.now) {
            return self.at(last, Happening::Gone(n, id));
        }
        let away = Duration::from_secs(self.rng.random_range(0..300));
        self.agents[n].away_until = self.now + away;
        self.kill(n);
    }

    /// Its sessions and its work go with it; its journal stays.
    pub(super) fn kill(&mut self, n: usize) {
        self.agents[n].ends();
        self.disconnect(n);
    }

    pub(super) fn disconnect(&mut self, n: usize) {
        if let Some(id) = self.agents[n].attachment.take() {
            let name = self.agents[n].name.clone();
            self.proved.retain(|(agent, _, _)| *agent != name);
            self.canaries.retain(|(agent, _), _| *agent != name);
            self.apply(Event::Detached(id));
        }
        self.attaches_soon(n);
    }
}
