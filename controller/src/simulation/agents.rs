//! The agents' side of a turn: they attach, take orders, beat, hand over and go.

use std::collections::VecDeque;
use std::time::Duration;

use dd_proto::name::SiteName;
use rand::RngExt as _;

use super::controller::Controller;
use super::world::World;
use crate::dispatch::simulation::agent::{Entry, FakeAgent, Life, Work};
use crate::dispatch::{AgentEvent, Attachment, BEAT, Hello, LEASE, Order, Terms};
use dd_proto::id::Lease;

pub(super) struct Agent {
    pub(super) fake: FakeAgent,
    pub(super) stream: Option<Stream>,
    /// On which it gets work.
    pub(super) terms: Terms,
}

pub(super) struct Stream {
    attachment: Attachment,
    /// On their way: dispatch has sent them, and the agent has not taken them.
    orders: VecDeque<Order>,
    last_beat: Duration,
    hello_sent: Duration,
}

impl World {
    /// Its journal stays.
    pub(super) fn kill_agent(&mut self, controller: &Controller) {
        let n = self.rng.random_range(0..self.agents.len());
        self.agents[n].fake.ends();
        self.detach(n, controller);
    }

    pub(super) fn detach(&mut self, n: usize, controller: &Controller) {
        if let Some(stream) = self.agents[n].stream.take() {
            controller.handle.detached(stream.attachment.id);
        }
    }

    pub(super) async fn agent_turn(&mut self, n: usize, controller: &Controller) {
        let now = self.now();
        if self.agents[n].stream.is_none() {
            if self.rng.random_bool(0.3) {
                let hello = self.agents[n].fake.hello();
                self.note_hello(&hello);
                let attachment = controller.handle.attach(hello).await;
                let (last_beat, hello_sent) = (now, now);
                self.agents[n].stream = Some(Stream {
                    attachment,
                    orders: VecDeque::new(),
                    last_beat,
                    hello_sent,
                });
            }
            return;
        }
        if self.rng.random_bool(0.8) {
            self.take_orders(n, controller).await;
        }
        self.beat(n, now, controller).await;
        for site in self.agents[n].fake.busy() {
            if self.rng.random_bool(0.7) {
                self.step(n, &site, controller).await;
            }
        }
    }

    fn note_hello(&mut self, hello: &Hello) {
        let mut entries = self.ledger.entries();
        let now = self.began.elapsed();
        let mut note = |what: &str, lease: &Lease| {
            let (of, generation) = (&lease.delivery, lease.generation);
            entries.note(format!(
                "{now:?} {} has {what} {of} {generation:?}",
                hello.agent
            ));
        };
        for lease in &hello.work_in_hand {
            note("in hand", lease);
        }
        for dot in &hello.in_doubt {
            note("a dot of", &dot.lease);
        }
        for report in &hello.reports {
            note("a report of", &report.lease);
        }
    }

    async fn beat(&mut self, n: usize, now: Duration, controller: &Controller) {
        let Some(stream) = &mut self.agents[n].stream else {
            return;
        };
        if now.saturating_sub(stream.last_beat) < BEAT {
            return;
        }
        stream.last_beat = now;
        let number = u64::try_from(now.as_millis()).unwrap();
        let id = stream.attachment.id;
        let beat = AgentEvent::Beat { number };
        controller.handle.agent_event(id, beat).await;
    }

    /// What dispatch has sent to an agent is judged by what was settled when it was sent: while an order is on its way,
    /// somebody else may tell what settles its delivery.
    pub(super) fn sent_to(&mut self, n: usize) {
        let Some(stream) = &mut self.agents[n].stream else {
            return;
        };
        while let Ok(order) = stream.attachment.orders.try_recv() {
            if let Order::Assign(assignment) = &order {
                self.ledger.entries().assigned(assignment);
            }
            stream.orders.push_back(order);
        }
    }

    async fn take_orders(&mut self, n: usize, controller: &Controller) {
        loop {
            self.sent_to(n);
            let Some(stream) = &mut self.agents[n].stream else {
                return;
            };
            let (id, sent) = (stream.attachment.id, stream.hello_sent);
            let Some(order) = stream.orders.pop_front() else {
                if stream.attachment.orders.is_closed() {
                    self.detach(n, controller);
                }
                return;
            };
            let agent = &mut self.agents[n];
            match order {
                Order::Welcome { going_on } => {
                    let now = self.began.elapsed();
                    agent.fake.welcome(&going_on, sent, now);
                }
                Order::Assign(assignment) => {
                    let numbers = assignment.envelope.recipients.iter();
                    let work = Work {
                        lease: assignment.lease,
                        open: numbers.map(|it| it.number).collect(),
                        until: agent.fake.renewed + LEASE,
                        in_doubt: assignment.in_doubt,
                    };
                    let site = work.lease.delivery.site.clone();
                    let lane = agent.fake.lanes.entry(site).or_default();
                    lane.waiting.push_back(work);
                }
                Order::BeatAnswer { number } => {
                    let now = self.began.elapsed();
                    agent.fake.beat_answered(Duration::from_millis(number), now);
                }
                // Now and then its process ends before it has noted that.
                Order::Acknowledged(_) if self.rng.random_bool(0.1) => {}
                Order::Acknowledged(lease) => {
                    let entry = agent.fake.acknowledged(&lease);
                    if let Some(Entry::Report(report)) = entry {
                        self.ledger.entries().told(&report);
                    }
                }
                Order::CloseSite(site) => {
                    for event in agent.fake.close(&site) {
                        controller.handle.agent_event(id, event).await;
                    }
                }
                Order::Recall(site) => {
                    for event in agent.fake.recall(&site) {
                        controller.handle.agent_event(id, event).await;
                    }
                }
                Order::Plan(_) => {}
            }
        }
    }

    async fn step(&mut self, n: usize, site: &SiteName, controller: &Controller) {
        let now = self.now();
        let behaviour = self
            .sites
            .iter()
            .find(|(it, _)| it.name == *site)
            .unwrap()
            .1;
        let agent = &mut self.agents[n];
        let events = {
            let mut entries = self.ledger.entries();
            let events =
                agent
                    .fake
                    .step(site, behaviour, now, &mut entries.received, &mut self.rng);
            entries.copies_are_marked();
            for event in &events {
                let said = match event {
                    AgentEvent::DotSent(dot) => ("dot", &dot.lease),
                    AgentEvent::Report(report) => ("report", &report.lease),
                    AgentEvent::GivenBack { lease, .. } => ("given back", lease),
                    _ => continue,
                };
                let (
                    name,
                    Lease {
                        delivery,
                        generation,
                    },
                ) = (&agent.fake.name, said.1);
                entries.note(format!(
                    "{now:?} {name} says {} {delivery} {generation:?}",
                    said.0
                ));
            }
            for entry in agent.fake.journal.values() {
                if let Entry::Report(report) = entry {
                    entries.answered(report);
                }
            }
            events
        };
        if let Some(stream) = &agent.stream {
            let id = stream.attachment.id;
            for event in events {
                controller.handle.agent_event(id, event).await;
            }
        }
        if self.agents[n].fake.life == Life::Ended {
            self.agents[n].fake.ends();
            self.detach(n, controller);
        }
    }
}
