//! The clock, the made-up store, and what is checked at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::DeliveryId;
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Ran;
use super::agent::{Behaviour, FakeAgent, Work};
use super::once::Once;
use super::received::Received;
use super::record::site;
use crate::dispatch::actions::{Action, Asked};
use crate::dispatch::event::{Effect, Event, Now, Question, Settle, Warn};
use crate::dispatch::in_memory::{Queue, number_of};
use crate::dispatch::release::{Token, Waiter};
use crate::dispatch::state::State;
use crate::dispatch::whom::Whom;
use crate::dispatch::{AgentEvent, AttachmentId, ClockMemory, ClockNews, Order};
use crate::store::{HeadOf, Note, Position, Waiting};

#[derive(Debug)]
pub(super) enum Happening {
    Core(Box<Event>),
    Settle(Settle),
    Note(Note),
    Find(Question),
    Read {
        read: u64,
        of: HeadOf,
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
    Kill(usize),
    /// Its process is told to end, and ends in order.
    Leave(usize),
    Gone(usize, AttachmentId),
    /// Who has left in order becomes durable.
    Remember,
    Arrive,
    Change(usize),
    Release(usize),
    Hold(usize),
    Restart,
    /// The wall clock jumps a year ahead, or back to where it should be.
    Jump(i64),
    Act(Action),
    Warn(Warn),
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Trouble,
    Recovered,
}

pub(super) struct World {
    pub(super) state: State,
    pub(super) start: u64,
    pub(super) started: Duration,
    pub(super) now: Duration,
    pub(super) rng: StdRng,
    core_rng: StdRng,
    pub(super) queue: BTreeMap<(Duration, u64), Happening>,
    pub(super) number: u64,
    pub(super) stored: Queue,
    pub(super) sites: Vec<(Arc<Site>, Behaviour)>,
    pub(super) agents: Vec<FakeAgent>,
    /// Agents that have left in order, as their records say.
    pub(super) left: BTreeSet<AgentName>,
    pub(super) received: Received,
    pub(super) streams: BTreeMap<AttachmentId, usize>,
    /// Orders and events of a stream keep their order.
    pub(super) last_on: BTreeMap<(AttachmentId, bool), Duration>,
    pub(super) proved: BTreeSet<(AgentName, SiteName, u64)>,
    pub(super) canaries: BTreeMap<(AgentName, SiteName), DeliveryId>,
    pub(super) accepted: u64,
    pub(super) relayed: u64,
    answers: u64,
    /// What the wall clock is wrong by, in seconds, and the newest time that was written.
    pub(super) wall_off: i64,
    pub(super) newest: Timestamp,
    pub(super) jumped: bool,
    /// As it is remembered.
    pub(super) clock_memory: ClockMemory,
    /// When it was accepted by a clock that is right.
    pub(super) accepted_at: BTreeMap<DeliveryId, Duration>,
    /// 5yz that a site gave to a delivery.
    pub(super) refusals: BTreeMap<DeliveryId, u32>,
    /// Sites at which an attempt has failed since the start.
    pub(super) failing: BTreeSet<SiteName>,
    pub(super) expired: u64,
    pub(super) warned: u64,
    pub(super) once: Once,
    pub(super) mood: Mood,
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let sites: Vec<_> = (0..5)
            .map(|n| (Arc::new(short_lived(n)), Behaviour::Up))
            .collect();
        let agents = vec![FakeAgent::new("out1"), FakeAgent::new("out2")];
        let names = agents
            .iter()
            .map(|agent| (agent.name.clone(), crate::dispatch::Terms::default()))
            .collect();
        let now = Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        };
        let records = sites.iter().map(|(site, _)| Arc::clone(site)).collect();
        let mut world = Self {
            state: State::new(1, ClockMemory::default(), records, names, now),
            start: 1,
            started: Duration::ZERO,
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            core_rng: StdRng::seed_from_u64(!seed),
            queue: BTreeMap::new(),
            number: 0,
            stored: Queue::default(),
            sites,
            agents,
            left: BTreeSet::new(),
            received: Received::default(),
            streams: BTreeMap::new(),
            last_on: BTreeMap::new(),
            proved: BTreeSet::new(),
            canaries: BTreeMap::new(),
            accepted: 0,
            relayed: 0,
            answers: 0,
            wall_off: 0,
            newest: wall(Duration::ZERO),
            jumped: false,
            clock_memory: ClockMemory::default(),
            accepted_at: BTreeMap::new(),
            refusals: BTreeMap::new(),
            failing: BTreeSet::new(),
            expired: 0,
            warned: 0,
            once: Once::default(),
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

    pub(super) fn at(&mut self, time: Duration, happening: Happening) {
        self.number += 1;
        self.queue.insert((time, self.number), happening);
    }

    pub(super) fn soon(&mut self, max_ms: u64, happening: Happening) {
        let delay = Duration::from_millis(self.rng.random_range(0..=max_ms));
        self.at(self.now + delay, happening);
    }

    /// With so much probability, while there is trouble.
    pub(super) fn is_troubled(&mut self, probability: f64) -> bool {
        self.mood == Mood::Trouble && self.rng.random_bool(probability)
    }

    /// Mostly within its seconds, now and then too late for the barrier.
    pub(super) fn attaches_soon(&mut self, n: usize) {
        let within = [5_000, 5_000, 60_000][self.rng.random_range(0..3)];
        self.soon(within, Happening::Attach(n));
    }

    /// What the trace says of a delivery.
    pub(super) fn life_of(&self, delivery: &DeliveryId) -> String {
        let of_it = delivery.message.to_string();
        let lines = self.trace.iter().filter(|line| line.contains(&of_it));
        lines.cloned().collect::<Vec<_>>().join("\n")
    }

    fn answer(&mut self, event: Event) {
        self.soon(30, Happening::Core(Box::new(event)));
    }

    pub(super) fn finish(self) -> Ran {
        assert!(self.accepted >= 250 && self.relayed > 0 && self.answers > 0);
        let mut left = self.stored.mail.values().filter(|waiting| !waiting.failed);
        if let Some(waiting) = left.next() {
            let site = &waiting.delivery.site;
            panic!(
                "not relayed:\n{}\n{:#?}",
                self.life_of(&waiting.delivery),
                self.state.site_view(site, self.clock())
            );
        }
        for agent in &self.agents {
            assert!(
                agent.journal.is_empty(),
                "never acknowledged: {:?}",
                agent.journal
            );
        }
        Ran {
            trace: self.trace,
            warned: self.warned,
            expired: self.expired,
        }
    }

    pub(super) fn run_until(&mut self, end: Duration) {
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

    /// What the wall clock says.
    pub(super) fn wall(&self) -> Timestamp {
        wall(self.now) + SignedDuration::from_secs(self.wall_off)
    }

    pub(super) fn clock(&self) -> Now {
        Now {
            monotonic: self.now - self.started,
            wall: self.wall(),
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Core(event) => self.apply(*event),
            Happening::Tick => self.apply(Event::Time),
            Happening::Settle(settle) => self.settle(&settle),
            Happening::Note(note) => self.note(note),
            Happening::Find(question) => {
                let waiting = self.stored.mail.get(&question.lease().delivery).cloned();
                self.answer(Event::Found { question, waiting });
            }
            Happening::Read { read, of } => {
                let head = self.stored.head(&of);
                let site = of.site;
                self.answer(Event::HeadRead { site, read, head });
            }
            Happening::Walk { site, read, after } => {
                let page = Some(self.stored.head(&HeadOf {
                    site: site.clone(),
                    after,
                    due: Timestamp::MAX,
                    limit: 5,
                }));
                self.answer(Event::Walked { site, read, page });
            }
            Happening::ReadLeft(site, read) => {
                let found = self
                    .stored
                    .mail
                    .values()
                    .filter(|w| w.delivery.site == site);
                let found = Some(found.take(5).cloned().collect());
                self.answer(Event::LeftRead { site, read, found });
            }
            Happening::Look(asked) => {
                let found = asked.deliveries.iter();
                let found = found
                    .filter_map(|id| self.stored.mail.get(id))
                    .cloned()
                    .collect();
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
            Happening::Kill(agent) => self.kill(agent),
            Happening::Leave(agent) => self.leave(agent),
            Happening::Gone(agent, id) => self.gone(agent, id),
            Happening::Remember => self.left.extend(self.state.agents_that_left()),
            Happening::Arrive => self.arrive(),
            Happening::Change(site) => self.change(site),
            Happening::Release(n) => {
                let site = self.sites[n].0.name.clone();
                let waiting = self
                    .stored
                    .mail
                    .keys()
                    .filter(|delivery| delivery.site == site)
                    .count();
                let waiting = u64::try_from(waiting).unwrap();
                self.number += 1;
                self.once.released(&site, self.now);
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
            Happening::Jump(off) => (self.wall_off, self.jumped) = (off, true),
            Happening::Warn(warn) => self.warn(warn),
            Happening::Act(action) => self.act(action),
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.trace.push(format!("{:?} {event:?}", self.now));
        if let Event::AllKnown(_) = event {
            self.once.all_known(self.now);
        }
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
            Effect::Order(to, order) => {
                if let Order::Recall(site) = &order {
                    // What is out speaks for the site no more.
                    let name = self.agents[self.streams[&to]].name.clone();
                    self.canaries.remove(&(name.clone(), site.clone()));
                    self.proved
                        .retain(|(agent, proved, _)| *agent != name || proved != site);
                }
                self.send(to, order, None);
            }
            Effect::Assign(assign) => {
                let agent = self.streams[&assign.to];
                self.check_assignment(agent, &assign.waiting);
                if !self.jumped {
                    let (now, wall) = (self.now, self.wall());
                    let delivery = &assign.lease.delivery;
                    let in_time = self.once.assigned(delivery, now, wall);
                    assert!(in_time, "before its time:\n{}", self.life_of(delivery));
                }
                self.state.is_for(&assign.lease, whom(&assign.waiting));
                let work = Work {
                    lease: assign.lease,
                    open: assign.waiting.open,
                    until: Duration::ZERO,
                    in_doubt: assign.waiting.in_doubt,
                };
                self.send(assign.to, Order::BeatAnswer { number: 0 }, Some(work));
            }
            Effect::Walk { site, read, after } => {
                self.soon(30, Happening::Walk { site, read, after });
            }
            Effect::ReadLeft { site, read } => self.soon(30, Happening::ReadLeft(site, read)),
            Effect::Look(asked) => self.soon(30, Happening::Look(asked)),
            Effect::ReadHead { read, of } => self.soon(30, Happening::Read { read, of }),
            Effect::Settle(settle) => {
                self.check_expiry(&settle);
                self.soon(50, Happening::Settle(settle));
            }
            Effect::Note(note) => {
                self.once.noted(&note);
                self.soon(50, Happening::Note(note));
            }
            Effect::Find(question) => self.soon(30, Happening::Find(question)),
            Effect::Clock(ClockNews::Alarm(alarm)) => self.clock_memory.alarm = Some(alarm),
            Effect::Clock(ClockNews::Confirmed(at)) => {
                self.clock_memory.alarm = None;
                self.clock_memory.confirmed = Some(at);
            }
            Effect::Answer(..) => self.answers += 1,
            Effect::DrainEnded => self.soon(30, Happening::Remember),
            Effect::Warn(warn) => self.soon(50, Happening::Warn(warn)),
            Effect::Timer { .. }
            | Effect::ReadAhead(_)
            | Effect::WriteNow
            | Effect::Acted(..)
            | Effect::SiteClosed(..)
            | Effect::TellContact { .. } => {}
        }
    }
}

/// Some share a sender or a recipient.
fn whom(waiting: &Waiting) -> Whom {
    let n = number_of(waiting.delivery.message);
    Whom::made_up(n % 7, n % 5)
}

/// The number it was made with.
/// Some sites' mail does not survive the trouble.
fn short_lived(n: u64) -> Site {
    let mut site = site(n);
    if n.is_multiple_of(2) {
        site.schedule.lifetime = Duration::from_secs(700);
        site.schedule.delay_warning = Duration::from_secs(200);
    }
    site
}

pub(super) fn wall(at: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24) + SignedDuration::try_from(at).unwrap()
}
