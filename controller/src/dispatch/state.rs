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
//! What a report means ([`super::judge`], [`super::moves`]), what goes to whom ([`super::plan`]), agents' comings and goings
//! ([`super::attach`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Generation};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::{Rng, RngExt as _};

use super::agents::Agent;
use super::alarm::WallClock;
use super::backoff::{later, until};
use super::barrier::{Barrier, Change, Knowledge};
use super::event::{Effect, Event, Now, Question, Turn};
use super::expiry::Walks;
use super::hand::AskedFor;
use super::kept::Parked;
use super::lease::{Generations, InHand};
use super::moves::RECONNECT;
use super::record::held;
use super::site::{OldPlan, Phase, Progress, Rest, SiteQueue, Why};
use super::{AttachmentId, Counters, Released};

/// All that dispatch knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) generations: Generations,
    pub(super) sites: BTreeMap<SiteName, SiteQueue>,
    pub(super) agents: BTreeMap<AgentName, Agent>,
    pub(super) attachments: BTreeMap<AttachmentId, AgentName>,
    pub(super) hand: BTreeMap<DeliveryId, InHand>,
    /// Deliveries the store is asked about, and how often.
    pub(super) asking: BTreeMap<DeliveryId, AskedFor>,
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
    pub(super) walks: Walks,
    pub(super) clock: WallClock,
    /// The newest number of a read.
    last_read: u64,
}

impl State {
    /// `newest` is the time of the newest record of an earlier start.
    pub(crate) fn new(
        start: u64,
        newest: Option<Timestamp>,
        sites: Vec<Arc<Site>>,
        agents: Vec<AgentName>,
        now: Now,
    ) -> Self {
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
            walks: Walks::default(),
            clock: WallClock::new(now, newest),
            last_read: 0,
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
            Event::HeadRead { site, read, head } => self.head_read(&site, read, head, turn),
            Event::HeadNotRead { site, read } => self.head_not_read(&site, read, turn),
            Event::Walked { site, read, page } => self.walked(&site, read, page, turn),
            Event::SiteChanged { site, waiting } => self.site_changed(site, waiting, turn),
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
            Event::Named {
                delivery,
                recipients,
                reply,
            } => self.named(&delivery, recipients, &reply, turn),
            Event::Found { question, waiting } => self.found(question, waiting, turn),
            Event::Release {
                site,
                waiting,
                waiter,
            } => self.release(&site, waiting, waiter, turn),
            Event::Act(asked) => self.act(asked, turn),
            Event::Looked { asked, found } => self.looked(asked, found, turn),
            Event::CloseSite { site, token, left } => {
                self.close_site_for_good(&site, token, left, turn);
            }
            Event::LeftRead { site, read, found } => self.left_read(&site, read, found, turn),
            Event::ClockConfirmed => self.clock_confirmed(turn),
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
        let walks = self.walks.deadline();
        [timer, leases, waiters.min(), walks, self.barrier.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn time_passed(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        self.clock.look(turn.now);
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, name)) = self.timers.pop_first() {
                self.timer_rang(&name, turn);
            }
        }
        self.leases_expired(turn);
        self.walks_due(turn);
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
            match self.sites.get(&name).map(|queue| queue.phase) {
                // It waits for the mail it knew of.
                Some(Phase::Waiting(Why::Deferred, _)) => self.wake(&name, turn),
                _ => self.look(&name, turn),
            }
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
            Phase::Flowing => self.look(name, turn),
            Phase::Idle | Phase::Proving => {}
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
            queue.begins_anew();
        }
        let was_held = self
            .sites
            .get(name)
            .is_some_and(|queue| matches!(queue.phase, Phase::Held(_)));
        self.set_phase(name, Phase::Ready(from));
        if was_held {
            self.walk_at(name, turn.now.monotonic + RECONNECT);
        }
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
        if let Some(queue) = self.sites.get_mut(name) {
            queue.whose_turn();
        }
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
            let part = turn.rng.random_range(0.0..60.0);
            self.walk_at(&name, now.monotonic + Duration::from_secs_f64(part));
            let Some(queue) = self.sites.get_mut(&name) else {
                continue;
            };
            queue.kept.parked = Parked::Maybe;
            if queue.phase != Phase::Idle {
                self.look(&name, turn);
                continue;
            }
            let phase = match timer {
                Some(at) if at > now.wall && queue.release.is_none() => {
                    // For what reason it waited nobody knows any more.
                    queue.kept.doubt();
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

    fn clock_confirmed(&mut self, turn: &mut Turn<'_>) {
        self.clock.confirm(turn.now);
        let names: Vec<SiteName> = self.sites.keys().cloned().collect();
        for name in names {
            self.walk_at(&name, turn.now.monotonic);
        }
    }

    /// Numbers a read.
    pub(super) fn number(&mut self) -> u64 {
        self.last_read += 1;
        self.last_read
    }

    pub(super) fn knows_all(&self) -> bool {
        self.barrier.knowledge() == Knowledge::Complete
    }

    /// Whether what happened under this generation concerns mail that the store may not know yet.
    pub(super) fn is_early(&self, generation: Generation) -> bool {
        !self.knows_all() && generation.start < self.generations.start()
    }
}

/// The wall-clock time of a monotonic one.
pub(super) fn wall_of(now: Now, at: Duration) -> Timestamp {
    later(now.wall, at.saturating_sub(now.monotonic))
}
