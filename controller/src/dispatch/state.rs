//! The core: `apply(event, now, rng) -> effects`. It does no I/O, reads no clock, and makes no randomness of its own.
//!
//! Reading a head, writing a settlement, asking for a delivery are effects; their results come back as events. So the
//! core can be stepped by hand, and one seed gives one history.
//!
//! # Invariants
//! - A delivery is out under at most one lease that is valid.
//! - A site that has not proved itself has at most one delivery out to the agent that tries it.
//! - A report is acknowledged only after everything written about it is written.
//! - Memory grows with sites and with what is out, not with what waits.
//!
//! # Not here
//! What a report means ([`super::judge`]), what goes to whom ([`super::plan`]), agents' comings and goings
//! ([`super::attach`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Generation, Lease, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Delays, DotSent, RecipientResult, Report};
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::{Rng, RngExt as _};

use super::agents::Agent;
use super::backoff::{later, until};
use super::barrier::{Barrier, Change, Knowledge};
use super::lease::{Freshness, Generations, InHand};
use super::release::{Token, Waiter};
use super::site::{Again, OldPlan, Phase, Progress, Queued, Reading, Rest, SiteQueue, Why};
use super::{AgentEvent, AttachmentId, Counters, Hello, InHand as Refused, Order, Released};
use crate::store::{Head, Note, Position, Settlement, Waiting};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Since the start, on a clock that counts suspended time.
    pub(crate) monotonic: Duration,
    pub(crate) wall: Timestamp,
}

/// What happens to dispatch.
#[derive(Debug)]
pub(crate) enum Event {
    /// The store knows all mail of earlier starts: the sites that have some, and their timers.
    AllKnown(Vec<(SiteName, Option<Timestamp>)>),
    Arrived(Waiting),
    HeadRead {
        site: SiteName,
        head: Head,
    },
    HeadNotRead(SiteName),
    SiteChanged(Arc<Site>),
    SiteRemoved(SiteName),
    AgentRegistered(AgentName),
    AgentRemoved(AgentName),
    Attached {
        id: AttachmentId,
        hello: Hello,
    },
    Said {
        id: AttachmentId,
        event: AgentEvent,
    },
    Detached(AttachmentId),
    /// An assignment could not be made of what is stored.
    NotLoaded {
        lease: Lease,
        why: NotLoaded,
    },
    /// One settlement or note of the delivery is written.
    Written(DeliveryId),
    Found {
        question: Question,
        waiting: Option<Waiting>,
    },
    Release {
        site: SiteName,
        waiting: u64,
        waiter: Option<Waiter>,
    },
    Retry {
        token: Token,
        deliveries: Vec<Waiting>,
    },
    Remove {
        token: Token,
        deliveries: Vec<Waiting>,
    },
    /// Only time has passed.
    Time,
}

/// Why a delivery could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLoaded {
    /// It is settled.
    Gone,
    /// It cannot be read; shown, not tried again by itself.
    Unreadable,
}

/// What the core wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Order(AttachmentId, Order),
    Assign(Assign),
    ReadHead {
        site: SiteName,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    },
    Settle(Settle),
    Note(Note),
    Find(Question),
    /// The site's timer, remembered for the next start.
    Timer {
        site: SiteName,
        at: Timestamp,
    },
    Answer(Token, Released),
    Retried(Token, u64),
    Removing(Token, Result<u64, Refused>),
}

/// An assignment to be completed and sent.
#[derive(Debug, Clone)]
pub(crate) struct Assign {
    pub(crate) to: AttachmentId,
    pub(crate) lease: Lease,
    pub(crate) version: SiteVersion,
    pub(crate) waiting: Waiting,
    pub(crate) freshness: Freshness,
}

/// A settlement, with what its log line says and who waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) settlement: Settlement,
    pub(crate) line: Option<Line>,
    pub(crate) token: Option<Token>,
}

/// The evidence behind a settlement.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) agent: AgentName,
    pub(crate) address: String,
    pub(crate) proof: String,
    pub(crate) results: Vec<RecipientResult>,
    pub(crate) delays: Delays,
    /// Since the message arrived.
    pub(crate) waited: Duration,
}

/// What only the store can answer: is the delivery still open?
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) agent: AgentName,
    pub(crate) asks: Asks,
}

#[derive(Debug, Clone)]
pub(crate) enum Asks {
    /// A report whose lease is not the one in hand.
    Report(Box<Report>, Standing),
    /// A dot that may have been sent under a lease that is not in hand.
    Dot(DotSent),
}

/// What a report may do beside settling what was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its lease was the last one given: it may defer and fail.
    Current,
    Stale,
}

impl Question {
    pub(super) fn lease(&self) -> &Lease {
        match &self.asks {
            Asks::Report(report, _) => &report.lease,
            Asks::Dot(dot) => &dot.lease,
        }
    }
}

/// One application of an event: the clock, the dice, and what is to be done.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) rng: &'a mut dyn Rng,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn order(&mut self, to: AttachmentId, order: Order) {
        self.effects.push(Effect::Order(to, order));
    }
}

/// All that dispatch knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) generations: Generations,
    pub(super) sites: BTreeMap<SiteName, SiteQueue>,
    pub(super) agents: BTreeMap<AgentName, Agent>,
    pub(super) attachments: BTreeMap<AttachmentId, AgentName>,
    pub(super) hand: BTreeMap<DeliveryId, InHand>,
    /// Deliveries the store is asked about, and how often.
    pub(super) asking: BTreeMap<DeliveryId, u32>,
    /// About mail of earlier starts; asked when all is known.
    pub(super) early: Vec<Question>,
    pub(super) barrier: Barrier,
    pub(super) timers: BTreeSet<(Duration, SiteName)>,
    /// Sites with a release that somebody waits for.
    pub(super) released: BTreeSet<SiteName>,
    /// Ready sites: those that answered when last tried, and the others.
    pub(super) answering: VecDeque<SiteName>,
    pub(super) silent: VecDeque<SiteName>,
    pub(super) counters: Counters,
}

impl State {
    pub(crate) fn new(start: u64, sites: Vec<Arc<Site>>, agents: Vec<AgentName>, now: Now) -> Self {
        let registered = agents.iter().map(|name| (name.clone(), Agent::default()));
        let mut state = Self {
            generations: Generations::new(start),
            sites: BTreeMap::new(),
            agents: registered.collect(),
            attachments: BTreeMap::new(),
            hand: BTreeMap::new(),
            asking: BTreeMap::new(),
            early: Vec::new(),
            barrier: Barrier::new(agents),
            timers: BTreeSet::new(),
            released: BTreeSet::new(),
            answering: VecDeque::new(),
            silent: VecDeque::new(),
            counters: Counters::default(),
        };
        for site in sites {
            let name = site.name.clone();
            let held = held(&site, now);
            state
                .sites
                .insert(name.clone(), SiteQueue::new(site, Rest::None));
            if let Some(held) = held {
                state.set_phase(&name, held);
            }
        }
        state
    }

    /// Takes one event.
    pub(crate) fn apply(
        &mut self,
        event: Event,
        now: Now,
        rng: &mut impl Rng,
        effects: &mut Vec<Effect>,
    ) {
        let turn = &mut Turn { now, rng, effects };
        match event {
            Event::AllKnown(sites) => self.all_known(sites, turn),
            Event::Arrived(waiting) => self.arrived(waiting, turn),
            Event::HeadRead { site, head } => self.head_read(&site, head, turn),
            Event::HeadNotRead(site) => self.head_not_read(&site, turn),
            Event::SiteChanged(site) => self.site_changed(site, turn),
            Event::SiteRemoved(site) => self.site_removed(&site, turn),
            Event::AgentRegistered(name) => {
                self.agents.entry(name).or_default();
            }
            Event::AgentRemoved(name) => self.agent_removed(&name, turn),
            Event::Attached { id, hello } => self.attached(id, hello, turn),
            Event::Said { id, event } => self.said(id, event, turn),
            Event::Detached(id) => self.detached(id, turn),
            Event::NotLoaded { lease, why } => self.not_loaded(&lease, why, turn),
            Event::Written(delivery) => self.written(&delivery, turn),
            Event::Found { question, waiting } => self.found(question, waiting, turn),
            Event::Release {
                site,
                waiting,
                waiter,
            } => self.release(&site, waiting, waiter, turn),
            Event::Retry { token, deliveries } => self.retry(token, deliveries, turn),
            Event::Remove { token, deliveries } => self.remove(token, deliveries, turn),
            Event::Time => {}
        }
        self.time_passed(turn);
        self.assign(turn);
    }

    /// When the core wants to be called although nothing happened; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let leases = self.agents.values().filter_map(|agent| agent.check).min();
        let waiters = self.released.iter().filter_map(|name| {
            let release = self.sites.get(name)?.release.as_ref()?;
            release.deadline()
        });
        [timer, leases, waiters.min(), self.barrier.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn time_passed(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, name)) = self.timers.pop_first() {
                self.timer_rang(&name, turn);
            }
        }
        self.leases_expired(turn);
        self.waiters_gone(turn);
        let change = self.barrier.look(now);
        self.barrier_changed(change, turn);
    }

    pub(super) fn barrier_changed(&mut self, change: Change, turn: &mut Turn<'_>) {
        if change == Change::None {
            return;
        }
        let waiting: Vec<SiteName> = self
            .sites
            .iter()
            .filter(|(_, queue)| queue.rest == Rest::More || !queue.head.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            if let Some(queue) = self.sites.get_mut(&name) {
                // What was skipped is of use now.
                queue.cursor = None;
            }
            self.look(&name, turn);
        }
    }

    fn timer_rang(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.timer = None;
        match queue.phase {
            Phase::Ready(_) => self.look(name, turn),
            Phase::Waiting(Why::Deferred, _) => {
                queue.rest = Rest::More;
                self.wake(name, turn);
            }
            Phase::Waiting(..) | Phase::Held(_) => self.ready(name, turn.now.monotonic, turn),
            Phase::Idle | Phase::Proving | Phase::Flowing => {}
        }
    }

    /// Moves a site and its one timer.
    pub(super) fn set_phase(&mut self, name: &SiteName, phase: Phase) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if let Some(timer) = queue.timer.take() {
            self.timers.remove(&(timer, name.clone()));
        }
        queue.phase = phase;
        queue.timer = phase.timer();
        if let Some(timer) = queue.timer {
            self.timers.insert((timer, name.clone()));
        }
    }

    pub(super) fn ready(&mut self, name: &SiteName, from: Duration, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.progress = Progress::None;
            queue.rest = Rest::More;
            queue.cursor = None;
        }
        self.set_phase(name, Phase::Ready(from));
        if from <= turn.now.monotonic {
            self.look(name, turn);
        }
    }

    /// Mail is there for a site that had none: a session that is still open takes it.
    pub(super) fn wake(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let phase = match self.sites.get(name) {
            Some(queue) if self.session_is_open(queue) => Phase::Flowing,
            _ => Phase::Ready(turn.now.monotonic),
        };
        self.set_phase(name, phase);
        self.look(name, turn);
    }

    pub(super) fn session_is_open(&self, queue: &SiteQueue) -> bool {
        let carrier = queue
            .carrier
            .as_ref()
            .and_then(|name| self.agents.get(name));
        let attached = carrier.and_then(|agent| agent.attached.as_ref());
        let takes_work =
            attached.is_some_and(|attached| attached.work == super::agents::TakesWork::Yes);
        takes_work && !queue.sessions.is_empty() && queue.old_plan == OldPlan::Over
    }

    /// Moves a site on after something about it changed: queues it, reads its head, or finds that nothing is left.
    pub(super) fn look(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.old_plan == OldPlan::StillOut && queue.out == 0 {
            queue.old_plan = OldPlan::Over;
        }
        let tried = match queue.phase {
            Phase::Ready(from) => from <= now && queue.old_plan == OldPlan::Over,
            Phase::Flowing => true,
            Phase::Idle | Phase::Proving | Phase::Waiting(..) | Phase::Held(_) => false,
        };
        if !tried {
            return;
        }
        if queue.has_next(&self.barrier) {
            return self.enqueue(name);
        }
        if queue.reading.is_some() {
            return;
        }
        if queue.rest == Rest::More {
            if self.barrier.is_open() || queue.since_start == Progress::Some {
                Self::read_head(queue, turn);
            }
            return;
        }
        if queue.in_hand == 0 && queue.head.is_empty() {
            self.nothing_due(name, turn);
        }
    }

    fn read_head(queue: &mut SiteQueue, turn: &mut Turn<'_>) {
        queue.reading = Some(Reading::default());
        let all_due = queue
            .release
            .as_ref()
            .is_some_and(super::release::Release::makes_all_due);
        let due = if all_due {
            Timestamp::MAX
        } else {
            turn.now.wall
        };
        turn.effects.push(Effect::ReadHead {
            site: queue.site.name.clone(),
            after: queue.cursor,
            due,
            limit: queue.read_limit(),
        });
    }

    fn head_read(&mut self, name: &SiteName, head: Head, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let Some(reading) = queue.reading.take() else {
            return;
        };
        let wall = turn.now.wall;
        let last = head.due.last().map(|waiting| waiting.position);
        queue.next_due = [head.next_due, reading.next_due]
            .into_iter()
            .flatten()
            .min();
        let mut useful = 0;
        for waiting in head.due {
            let message = waiting.delivery.message;
            let busy = self.hand.contains_key(&waiting.delivery)
                || self.asking.contains_key(&waiting.delivery)
                || reading.touched.contains(&message)
                || queue
                    .head
                    .iter()
                    .any(|known| known.delivery == waiting.delivery);
            if busy || waiting.failed {
                continue;
            }
            let put_off = |release: &super::release::Release| release.was_put_off(message);
            match waiting.not_before {
                Some(at) if at > wall && queue.release.as_ref().is_none_or(put_off) => {
                    queue.becomes_due(at);
                }
                _ if self.barrier.lets_pass(&waiting) => {
                    useful += 1;
                    queue.head.push_back(waiting);
                }
                // It is read again when the barrier opens.
                _ => {}
            }
        }
        let dirty = reading.again == Again::Yes || !reading.touched.is_empty();
        queue.cursor = last.filter(|_| useful == 0 && head.more);
        queue.rest = if head.more || dirty {
            Rest::More
        } else {
            Rest::None
        };
        if !head.more && !dirty && !self.barrier.is_open() {
            // All that is new has been seen; what is old is read when the barrier opens.
            queue.rest = Rest::More;
            queue.since_start = Progress::None;
        }
        if !matches!(
            queue.phase,
            Phase::Ready(_) | Phase::Flowing | Phase::Proving
        ) {
            queue.drop_head();
        }
        self.look(name, turn);
    }

    fn head_not_read(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.reading = None;
            queue.rest = Rest::More;
            let from = turn.now.monotonic + Duration::from_secs(5);
            if !matches!(queue.phase, Phase::Held(_)) {
                self.set_phase(name, Phase::Ready(from));
            }
        }
    }

    /// All that is due was tried.
    fn nothing_due(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let next_due = queue.next_due;
        if let Some(release) = queue.release.take() {
            self.released.remove(name);
            for token in release.waiters() {
                turn.effect(Effect::Answer(token, release.worked()));
            }
        }
        match next_due {
            None => self.set_phase(name, Phase::Idle),
            Some(at) => {
                let wait = until(turn.now.wall, at).max(Duration::from_millis(1));
                let phase = Phase::Waiting(Why::Deferred, turn.now.monotonic + wait);
                self.set_phase(name, phase);
                turn.effect(Effect::Timer {
                    site: name.clone(),
                    at,
                });
            }
        }
    }

    fn arrived(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        let name = waiting.delivery.site.clone();
        let Some(queue) = self.sites.get_mut(&name) else {
            return;
        };
        queue.arrived(waiting, &self.barrier);
        match queue.phase {
            Phase::Idle | Phase::Waiting(Why::Deferred, _) => self.wake(&name, turn),
            _ => self.look(&name, turn),
        }
    }

    fn all_known(&mut self, sites: Vec<(SiteName, Option<Timestamp>)>, turn: &mut Turn<'_>) {
        let now = turn.now;
        let change = self.barrier.all_known(now.monotonic);
        for question in std::mem::take(&mut self.early) {
            self.ask(question, turn);
        }
        let at_once = self
            .agents
            .values()
            .filter_map(|agent| agent.attached.as_ref());
        let mut at_once = at_once
            .map(super::agents::Attached::probes)
            .sum::<u32>()
            .max(4096);
        for (name, timer) in sites {
            let Some(queue) = self.sites.get_mut(&name) else {
                continue;
            };
            queue.rest = Rest::More;
            if queue.phase != Phase::Idle {
                self.look(&name, turn);
                continue;
            }
            let phase = match timer {
                Some(at) if at > now.wall && queue.release.is_none() => {
                    Phase::Waiting(Why::Down, now.monotonic + until(now.wall, at))
                }
                _ if at_once > 0 => {
                    at_once -= 1;
                    Phase::Ready(now.monotonic)
                }
                _ => {
                    let interval = queue.site.schedule.retry_interval;
                    let part = interval.mul_f64(turn.rng.random_range(0.0..1.0));
                    Phase::Ready(now.monotonic + part)
                }
            };
            self.set_phase(&name, phase);
            self.look(&name, turn);
        }
        self.nothing_waited_after_all(turn);
        self.barrier_changed(change, turn);
    }

    /// Releases that came before all was known, of sites that turn out to have no mail.
    fn nothing_waited_after_all(&mut self, turn: &mut Turn<'_>) {
        let sites = self.sites.iter_mut();
        let idle = sites.filter(|(_, q)| q.phase == Phase::Idle && q.release.is_some());
        for (name, queue) in idle {
            self.released.remove(name);
            for token in queue
                .release
                .take()
                .iter()
                .flat_map(|release| release.waiters())
            {
                turn.effects
                    .push(Effect::Answer(token, Released::NothingWaiting));
            }
        }
    }

    fn site_changed(&mut self, site: Arc<Site>, turn: &mut Turn<'_>) {
        let name = site.name.clone();
        let held = held(&site, turn.now);
        match self.sites.get_mut(&name) {
            Some(queue) => queue.site = site,
            None => {
                // A name may come back with mail that was kept for it.
                self.sites
                    .insert(name.clone(), SiteQueue::new(site, Rest::More));
            }
        }
        self.close_site(&name, turn);
        match held {
            Some(held) => self.hold(&name, held, turn),
            None => self.ready(&name, turn.now.monotonic, turn),
        }
    }

    fn hold(&mut self, name: &SiteName, held: Phase, turn: &mut Turn<'_>) {
        self.set_phase(name, held);
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.drop_head();
        queue.rest = Rest::More;
        let by = queue
            .site
            .hold
            .as_ref()
            .map(|hold| hold.by.clone())
            .unwrap_or_default();
        if let Some(release) = queue.release.take() {
            self.released.remove(name);
            let waiting = release.waiting();
            for token in release.waiters() {
                let by = by.clone();
                turn.effect(Effect::Answer(token, Released::Held { waiting, by }));
            }
        }
    }

    /// Ends the sessions of a site after the transaction in hand.
    fn close_site(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        for agent in self.agents.values_mut() {
            let Some(attached) = &mut agent.attached else {
                continue;
            };
            if attached.plans.remove(name).is_some() {
                turn.order(attached.id, Order::CloseSite(name.clone()));
            }
        }
        if let Some(queue) = self.sites.get_mut(name) {
            queue.sessions.clear();
            queue.old_plan = if queue.out > 0 {
                OldPlan::StillOut
            } else {
                OldPlan::Over
            };
        }
    }

    fn site_removed(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        self.close_site(name, turn);
        self.released.remove(name);
        let Some(queue) = self.sites.remove(name) else {
            return;
        };
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, name.clone()));
        }
        for token in queue.release.iter().flat_map(|release| release.waiters()) {
            turn.effect(Effect::Answer(token, Released::NothingWaiting));
        }
    }

    pub(super) fn knows_all(&self) -> bool {
        self.barrier.knowledge() == Knowledge::Complete
    }

    /// Whether what happened under this generation concerns mail that the store may not know yet.
    pub(super) fn is_early(&self, generation: Generation) -> bool {
        !self.knows_all() && generation.start < self.generations.start()
    }

    /// Puts a site into the queue for the room it needs.
    fn enqueue(&mut self, name: &SiteName) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        match queue.phase {
            Phase::Ready(_) if queue.queued != Queued::ForProbe => {
                queue.queued = Queued::ForProbe;
                match queue.answered {
                    Progress::Some => self.answering.push_back(name.clone()),
                    Progress::None => self.silent.push_back(name.clone()),
                }
            }
            Phase::Flowing if queue.queued != Queued::ForPlace => {
                let carrier = queue.carrier.as_ref().and_then(|c| self.agents.get_mut(c));
                if let Some(attached) = carrier.and_then(|agent| agent.attached.as_mut()) {
                    queue.queued = Queued::ForPlace;
                    attached.turns.push_back(name.clone());
                }
            }
            _ => {}
        }
    }
}

/// The state of a site that its record holds now.
pub(super) fn held(site: &Site, now: Now) -> Option<Phase> {
    let hold = site.hold.as_ref()?;
    match hold.until {
        None => Some(Phase::Held(None)),
        Some(at) if at > now.wall => Some(Phase::Held(Some(now.monotonic + until(now.wall, at)))),
        Some(_) => None,
    }
}

/// The wall-clock time of a monotonic one.
pub(super) fn wall_of(now: Now, at: Duration) -> Timestamp {
    later(now.wall, at.saturating_sub(now.monotonic))
}
