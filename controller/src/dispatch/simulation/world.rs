//! The clock, the made-up store, and what is checked at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Disposition, Outcome};
use dd_proto::site::{Hold, Site};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::agent::{Behaviour, Entry, FakeAgent, Life, Received, Work};
use super::record::site;
use crate::dispatch::actions::Asked;
use crate::dispatch::event::{Effect, Event, Now, Question, Settle};
use crate::dispatch::release::{Token, Waiter};
use crate::dispatch::state::State;
use crate::dispatch::{AgentEvent, AttachmentId, Order};
use crate::store::{Note, Position, Waiting};

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once or twice and gone; a box would cost more"
)]
pub(super) enum Happening {
    Core(Box<Event>),
    Settle(Settle),
    Note(Note),
    Find(Question),
    Read {
        site: SiteName,
        read: u64,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    },
    Walk {
        site: SiteName,
        read: u64,
        after: Option<Position>,
    },
    ReadLeft(SiteName, u64),
    Look(Asked),
    Up(AttachmentId, AgentEvent),
    Down(AttachmentId, Order, Option<Work>, Duration),
    Step(usize, SiteName),
    Beat(usize, AttachmentId),
    Attach(usize),
    Disconnect(usize),
    Arrive,
    Change(usize),
    Release(usize),
    Hold(usize),
    Restart,
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Trouble,
    Recovered,
}

pub(super) struct World {
    state: State,
    start: u64,
    started: Duration,
    pub(super) now: Duration,
    pub(super) rng: StdRng,
    core_rng: StdRng,
    queue: BTreeMap<(Duration, u64), Happening>,
    pub(super) number: u64,
    pub(super) mail: BTreeMap<DeliveryId, Waiting>,
    pub(super) sites: Vec<(Arc<Site>, Behaviour)>,
    agents: Vec<FakeAgent>,
    pub(super) received: Received,
    streams: BTreeMap<AttachmentId, usize>,
    /// Orders and events of a stream keep their order.
    last_on: BTreeMap<(AttachmentId, bool), Duration>,
    proved: BTreeSet<(AgentName, SiteName, u64)>,
    canaries: BTreeMap<(AgentName, SiteName), DeliveryId>,
    pub(super) accepted: u64,
    pub(super) relayed: u64,
    answers: u64,
    mood: Mood,
    trace: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let sites: Vec<_> = (0..5).map(|n| (Arc::new(site(n)), Behaviour::Up)).collect();
        let agents = vec![FakeAgent::new("out1"), FakeAgent::new("out2")];
        let names = agents.iter().map(|agent| agent.name.clone()).collect();
        let now = Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        };
        let records = sites.iter().map(|(site, _)| Arc::clone(site)).collect();
        let mut world = Self {
            state: State::new(1, None, records, names, now),
            start: 1,
            started: Duration::ZERO,
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            core_rng: StdRng::seed_from_u64(!seed),
            queue: BTreeMap::new(),
            number: 0,
            mail: BTreeMap::new(),
            sites,
            agents,
            received: BTreeMap::new(),
            streams: BTreeMap::new(),
            last_on: BTreeMap::new(),
            proved: BTreeSet::new(),
            canaries: BTreeMap::new(),
            accepted: 0,
            relayed: 0,
            answers: 0,
            mood: Mood::Trouble,
            trace: Vec::new(),
        };
        world.at(
            Duration::ZERO,
            Happening::Core(Box::new(Event::AllKnown(Vec::new()))),
        );
        for agent in 0..2 {
            world.at(Duration::from_millis(10), Happening::Attach(agent));
        }
        world
    }

    fn at(&mut self, time: Duration, happening: Happening) {
        self.number += 1;
        self.queue.insert((time, self.number), happening);
    }

    pub(super) fn soon(&mut self, max_ms: u64, happening: Happening) {
        let delay = Duration::from_millis(self.rng.random_range(0..=max_ms));
        self.at(self.now + delay, happening);
    }

    fn answer(&mut self, event: Event) {
        self.soon(30, Happening::Core(Box::new(event)));
    }

    /// Twenty minutes of everything that goes wrong.
    pub(super) fn trouble(&mut self) {
        let end = 1_200_000;
        for _ in 0..300 {
            self.soon(end, Happening::Arrive);
        }
        for _ in 0..60 {
            let site = self.rng.random_range(0..5);
            self.soon(end, Happening::Change(site));
        }
        for _ in 0..20 {
            let site = self.rng.random_range(0..5);
            self.soon(end, Happening::Release(site));
            self.soon(end, Happening::Hold(site));
        }
        for _ in 0..12 {
            let agent = self.rng.random_range(0..2);
            self.soon(end, Happening::Disconnect(agent));
        }
        for _ in 0..3 {
            self.soon(end, Happening::Restart);
        }
        self.run_until(Duration::from_millis(end));
    }

    /// Everybody answers from now on.
    pub(super) fn recover(&mut self) {
        self.mood = Mood::Recovered;
        for n in 0..5 {
            self.sites[n].1 = Behaviour::Up;
            self.set_hold(n, None);
        }
        self.run_until(self.now + Duration::from_secs(3 * 3600));
    }

    pub(super) fn finish(self) -> Vec<String> {
        assert!(self.accepted >= 250 && self.relayed > 0 && self.answers > 0);
        let left: Vec<_> = self
            .mail
            .values()
            .filter(|waiting| !waiting.failed)
            .collect();
        assert!(left.is_empty(), "not relayed: {left:#?}\n{:#?}", self.state);
        for agent in &self.agents {
            assert!(
                agent.journal.is_empty(),
                "never acknowledged: {:?}",
                agent.journal
            );
        }
        self.trace
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.state.next_deadline().map(|at| at + self.started);
            let at = [next, deadline].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            assert!(self.trace.len() < 400_000, "it runs in circles");
            match self.queue.pop_first() {
                Some(((due, _), happening)) if due <= self.now => self.happens(happening),
                Some((key, happening)) => {
                    self.queue.insert(key, happening);
                    self.happens(Happening::Tick);
                }
                None => self.happens(Happening::Tick),
            }
        }
    }

    fn clock(&self) -> Now {
        Now {
            monotonic: self.now - self.started,
            wall: wall(self.now),
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Core(event) => self.apply(*event),
            Happening::Tick => self.apply(Event::Time),
            Happening::Settle(settle) => self.settle(&settle),
            Happening::Note(note) => self.note(note),
            Happening::Find(question) => {
                let waiting = self.mail.get(&question.lease().delivery).cloned();
                self.answer(Event::Found { question, waiting });
            }
            Happening::Read {
                site,
                read,
                after,
                due,
                limit,
            } => {
                let head = self.head(&site, after, due, limit);
                self.answer(Event::HeadRead { site, read, head });
            }
            Happening::Walk { site, read, after } => {
                let page = Some(self.head(&site, after, Timestamp::MAX, 5));
                self.answer(Event::Walked { site, read, page });
            }
            Happening::ReadLeft(site, read) => {
                let found = self.mail.values().filter(|w| w.delivery.site == site);
                let found = Some(found.take(5).cloned().collect());
                self.answer(Event::LeftRead { site, read, found });
            }
            Happening::Look(asked) => {
                let found = asked.deliveries.iter();
                let found = found.filter_map(|id| self.mail.get(id)).cloned().collect();
                self.answer(Event::Looked { asked, found });
            }
            Happening::Up(id, event) => {
                self.seen(id, &event);
                self.apply(Event::Said { id, event });
            }
            Happening::Down(id, order, work, sent) => self.order_comes(id, order, work, sent),
            Happening::Step(agent, site) => self.step(agent, &site),
            Happening::Beat(agent, id) => self.beat(agent, id),
            Happening::Attach(agent) => self.attach(agent),
            Happening::Disconnect(agent) => self.disconnect(agent),
            Happening::Arrive => self.arrive(),
            Happening::Change(site) => self.change(site),
            Happening::Release(n) => {
                let site = self.sites[n].0.name.clone();
                let waiting = self
                    .mail
                    .keys()
                    .filter(|delivery| delivery.site == site)
                    .count();
                let waiting = u64::try_from(waiting).unwrap();
                self.number += 1;
                let deadline = self.clock().monotonic + Duration::from_secs(20);
                let waiter = Some(Waiter {
                    token: Token(self.number),
                    deadline,
                });
                self.apply(Event::Release {
                    site,
                    waiting,
                    waiter,
                });
            }
            Happening::Hold(n) => {
                let until = self.now + Duration::from_secs(self.rng.random_range(10..200));
                self.set_hold(n, Some(wall(until)));
            }
            Happening::Restart => self.restart(),
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.trace.push(format!("{:?} {event:?}", self.now));
        let (mut effects, now) = (Vec::new(), self.clock());
        self.state
            .apply(event, now, &mut self.core_rng, &mut effects);
        for effect in effects {
            self.trace.push(format!("  {effect:?}"));
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Order(to, order) => self.send(to, order, None),
            Effect::Assign(assign) => {
                let agent = self.streams[&assign.to];
                self.check_assignment(agent, &assign.waiting);
                let work = Work {
                    lease: assign.lease,
                    open: assign.waiting.open,
                    until: Duration::ZERO,
                };
                self.send(assign.to, Order::BeatAnswer { number: 0 }, Some(work));
            }
            Effect::Walk { site, read, after } => {
                self.soon(30, Happening::Walk { site, read, after });
            }
            Effect::ReadLeft { site, read } => self.soon(30, Happening::ReadLeft(site, read)),
            Effect::Name(delivery, open, reply) => {
                // Each message has a recipient of its own.
                let recipients = open.iter().map(|n| format!("{n:?}@{delivery}")).collect();
                self.answer(Event::Named {
                    delivery,
                    recipients,
                    reply,
                });
            }
            Effect::Look(asked) => self.soon(30, Happening::Look(asked)),
            Effect::ReadHead {
                site,
                read,
                after,
                due,
                limit,
            } => {
                self.soon(
                    30,
                    Happening::Read {
                        site,
                        read,
                        after,
                        due,
                        limit,
                    },
                );
            }
            Effect::Settle(settle) => self.soon(50, Happening::Settle(settle)),
            Effect::Note(note) => self.soon(50, Happening::Note(note)),
            Effect::Find(question) => self.soon(30, Happening::Find(question)),
            Effect::Answer(..) => self.answers += 1,
            Effect::Warn(warn) => self.soon(50, Happening::Note(warn.note)),
            Effect::Timer { .. }
            | Effect::Acted(..)
            | Effect::SiteClosed(..)
            | Effect::TellContact { .. } => {}
        }
    }

    fn check_assignment(&mut self, to: usize, waiting: &Waiting) {
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
        let held = hold.is_some_and(|hold| hold.until.is_none_or(|until| until > wall(self.now)));
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

    fn send(&mut self, to: AttachmentId, order: Order, work: Option<Work>) {
        let at = self.in_order(to, true);
        self.at(at, Happening::Down(to, order, work, self.now));
    }

    fn in_order(&mut self, id: AttachmentId, down: bool) -> Duration {
        let delay = Duration::from_millis(self.rng.random_range(0..40));
        let last = self.last_on.entry((id, down)).or_default();
        *last = (*last).max(self.now + delay);
        *last
    }

    fn order_comes(&mut self, id: AttachmentId, order: Order, work: Option<Work>, sent: Duration) {
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
                self.agents[n].welcome(&going_on, sent - Duration::from_millis(40).min(sent));
                self.soon(10_000, Happening::Beat(n, id));
            }
            Order::BeatAnswer { number } => {
                let beat_sent = Duration::from_millis(number);
                self.agents[n].beat_answered(beat_sent, self.now);
            }
            Order::Acknowledged(lease) => {
                let entry = self.agents[n].acknowledged(&lease);
                if let Some(Entry::Report(report)) = entry {
                    let relayed = report.recipients.iter();
                    let relayed = relayed.filter(|r| r.disposition == Disposition::Relayed);
                    for result in relayed {
                        let open = self.mail.get(&lease.delivery).map(|w| &w.open);
                        let open = open.is_some_and(|open| open.contains(&result.number));
                        assert!(!open, "acknowledged before it was settled");
                    }
                }
            }
            Order::CloseSite(site) => {
                let events = self.agents[n].close(&site);
                self.tell(n, events);
            }
            Order::Plan(_) | Order::Assign(_) => {}
        }
    }

    fn tell(&mut self, agent: usize, events: Vec<AgentEvent>) {
        let Some(id) = self.agents[agent].attachment else {
            return;
        };
        for event in events {
            let at = self.in_order(id, false);
            self.at(at, Happening::Up(id, event));
        }
    }

    /// What the core is about to learn.
    fn seen(&mut self, id: AttachmentId, event: &AgentEvent) {
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

    fn step(&mut self, n: usize, site: &SiteName) {
        let behaviour = self.sites.iter().find(|(s, _)| s.name == *site).unwrap().1;
        let (now, received, rng) = (self.now, &mut self.received, &mut self.rng);
        let events = self.agents[n].step(site, behaviour, now, received, rng);
        self.tell(n, events);
        if self.agents[n].life == Life::Ended {
            // Its sessions and its work go with it; its journal stays.
            self.agents[n].life = Life::Runs;
            self.agents[n].lanes.clear();
            return self.disconnect(n);
        }
        if self.agents[n].busy().contains(site) {
            let idle = self.agents[n].lanes[site].waiting.is_empty();
            self.soon(
                if idle { 20_000 } else { 2_000 },
                Happening::Step(n, site.clone()),
            );
        }
    }

    fn beat(&mut self, n: usize, id: AttachmentId) {
        if self.agents[n].attachment == Some(id) {
            let number = u64::try_from(self.now.as_millis()).unwrap();
            self.tell(n, vec![AgentEvent::Beat { number }]);
            self.at(self.now + crate::dispatch::BEAT, Happening::Beat(n, id));
        }
    }

    fn attach(&mut self, n: usize) {
        if self.agents[n].attachment.is_some() {
            return;
        }
        self.number += 1;
        let id = AttachmentId(self.number);
        self.streams.insert(id, n);
        self.agents[n].attachment = Some(id);
        // A session that goes on is known to the controller only by what it reports.
        let name = self.agents[n].name.clone();
        self.canaries.retain(|(agent, _), _| *agent != name);
        let hello = self.agents[n].hello();
        self.apply(Event::Attached { id, hello });
    }

    fn disconnect(&mut self, n: usize) {
        if let Some(id) = self.agents[n].attachment.take() {
            let name = self.agents[n].name.clone();
            self.proved.retain(|(agent, _, _)| *agent != name);
            self.canaries.retain(|(agent, _), _| *agent != name);
            self.apply(Event::Detached(id));
        }
        self.soon(60_000, Happening::Attach(n));
    }

    fn restart(&mut self) {
        // What was not written is lost with the process; what was, the store knows.
        self.queue.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Core(_)
                    | Happening::Settle(_)
                    | Happening::Note(_)
                    | Happening::Find(_)
                    | Happening::Read { .. }
                    | Happening::Walk { .. }
                    | Happening::ReadLeft(..)
                    | Happening::Look(_)
                    | Happening::Up(..)
                    | Happening::Down(..)
            )
        });
        self.start += 1;
        self.started = self.now;
        self.proved.clear();
        self.canaries.clear();
        for waiting in self.mail.values_mut() {
            waiting.earlier_start = true;
        }
        let names = self.agents.iter().map(|agent| agent.name.clone()).collect();
        let records = self
            .sites
            .iter()
            .map(|(site, _)| Arc::clone(site))
            .collect();
        self.state = State::new(self.start, None, records, names, self.clock());
        for n in 0..2 {
            self.agents[n].attachment = None;
            self.soon(if n == 0 { 5_000 } else { 60_000 }, Happening::Attach(n));
        }
        let sites: BTreeSet<_> = self
            .mail
            .keys()
            .map(|delivery| delivery.site.clone())
            .collect();
        let sites = sites.into_iter().map(|site| (site, None)).collect();
        self.soon(10_000, Happening::Core(Box::new(Event::AllKnown(sites))));
    }

    fn change(&mut self, n: usize) {
        if self.mood == Mood::Trouble {
            self.sites[n].1 = match self.rng.random_range(0..10) {
                0..3 => Behaviour::Up,
                3..6 => Behaviour::Shaky,
                6 => Behaviour::Impostor,
                7 => Behaviour::Busy,
                8 => Behaviour::Refuses,
                _ => Behaviour::Down,
            };
        }
    }

    fn set_hold(&mut self, n: usize, until: Option<Timestamp>) {
        self.number += 1;
        let mut site = Site::clone(&self.sites[n].0);
        site.version = SiteVersion(self.number);
        site.hold = until.map(|until| Hold {
            by: "x".into(),
            until: Some(until),
            since: wall(self.now),
        });
        let site = Arc::new(site);
        self.sites[n].0 = Arc::clone(&site);
        let name = &site.name;
        self.proved.retain(|(_, proved, _)| proved != name);
        self.apply(Event::SiteChanged { site, waiting: 0 });
    }
}

pub(super) fn wall(at: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24) + SignedDuration::try_from(at).unwrap()
}
