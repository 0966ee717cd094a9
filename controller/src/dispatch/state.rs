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

use super::actions::Asked;
use super::agents::Agent;
use super::alarm::{WallClock, Went};
use super::backoff::{later, until};
use super::barrier::{Barrier, Change, Knowledge};
use super::duplicates::SettledLately;
use super::event::{Effect, Event, Now, Question, Turn};
use super::expiry::Walks;
use super::hand::AskedFor;
use super::kept::Parked;
use super::knocks::LooksAnew;
use super::lease::{Generations, InHand, Occupies};
use super::measured::Measured;
use super::moves::RECONNECT;
use super::record::held;
use super::release::Release;
use super::remembered::shortest_lifetime;
use super::site::{LINES, Line, Phase, Progress, Rest, Seems, SiteQueue, Spread, Why};
use super::standing::Terms;
use super::strays::Strays;
use super::timer::Remembered;
use super::{AttachmentId, ClockMemory, ClockNews, Counters, Released};
use crate::dsn::smarthost;
use crate::store::{NextTry, WithMail};

/// All that dispatch knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) generations: Generations,
    pub(super) sites: BTreeMap<SiteName, SiteQueue>,
    pub(super) agents: BTreeMap<AgentName, Agent>,
    pub(super) attachments: BTreeMap<AttachmentId, AgentName>,
    pub(super) hand: BTreeMap<DeliveryId, Box<InHand>>,
    /// Deliveries the store is asked about, and how often.
    pub(super) asking: BTreeMap<DeliveryId, AskedFor>,
    /// Actions that wait until something is written about a delivery of theirs.
    pub(super) acting: Vec<Asked>,
    /// Sites released before all was known; once more then.
    pub(super) early_releases: BTreeSet<SiteName>,
    /// About mail of earlier starts; asked when all is known.
    pub(super) early: Vec<Question>,
    pub(super) barrier: Barrier,
    pub(super) timers: BTreeSet<(Duration, SiteName)>,
    /// When somebody has waited long enough for what comes of a release; it may be through already.
    pub(super) released: BTreeSet<(Duration, SiteName)>,
    /// Ready sites that wait for a probe.
    pub(super) lines: BTreeMap<Line, VecDeque<SiteName>>,
    /// When the next of them may begin, where it only waits for its turn; monotonic.
    pub(super) crowd_goes_on: Option<Duration>,
    /// Ready sites that are pinned to agents which cannot take them now, under each of these.
    pub(super) pinned: BTreeMap<AgentName, BTreeSet<SiteName>>,
    pub(super) counters: Counters,
    pub(super) measured: Arc<Measured>,
    pub(super) walks: Walks,
    pub(super) settled_lately: SettledLately,
    pub(super) strays: Strays,
    pub(super) clock: WallClock,
    /// The newest number of a read or a question.
    last_read: u64,
    /// Sites of which people are told that they stand otherwise; taken out by the loop.
    pub(super) moved: Vec<(SiteName, Phase)>,
    runs: Runs,
    /// Nobody's silence counts before: it was this process that stood still; monotonic.
    pub(super) stood_still_until: Duration,
}

/// Whether mail is still assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    On,
    /// The process is about to end.
    Out,
}

impl State {
    pub(crate) fn new(
        start: u64,
        memory: ClockMemory,
        sites: Vec<Arc<Site>>,
        agents: Vec<(AgentName, Terms)>,
        now: Now,
    ) -> Self {
        let may_hold = agents.iter().filter(|(_, it)| it.may_hold_mail());
        let may_hold: Vec<AgentName> = may_hold.map(|(name, _)| name.clone()).collect();
        let registered = agents.into_iter();
        let registered = registered.map(|(name, terms)| (name, Agent::on(terms)));
        let mut state = Self {
            generations: Generations::new(start),
            sites: BTreeMap::new(),
            agents: registered.collect(),
            attachments: BTreeMap::new(),
            hand: BTreeMap::new(),
            asking: BTreeMap::new(),
            acting: Vec::new(),
            early_releases: BTreeSet::new(),
            early: Vec::new(),
            barrier: Barrier::new(may_hold),
            timers: BTreeSet::new(),
            released: BTreeSet::new(),
            lines: LINES.map(|line| (line, VecDeque::new())).into(),
            crowd_goes_on: None,
            pinned: BTreeMap::new(),
            counters: Counters::default(),
            measured: Arc::default(),
            walks: Walks::default(),
            settled_lately: SettledLately::default(),
            strays: Strays::default(),
            clock: WallClock::new(now, memory, shortest_lifetime(&sites)),
            last_read: 0,
            moved: Vec::new(),
            runs: Runs::On,
            stood_still_until: Duration::ZERO,
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
        self.look_at_clock(turn);
        match event {
            Event::AllKnown(sites) => self.all_known(sites, turn),
            Event::Arrived(waiting) => self.arrived(waiting, turn),
            Event::HeadRead { site, read, head } => self.head_read(&site, read, head, turn),
            Event::HeadNotRead { site, read } => self.head_not_read(&site, read, turn),
            Event::Walked { site, read, page } => self.walked(&site, read, page, turn),
            Event::SiteChanged { site, waiting } => self.site_changed(site, waiting, turn),
            Event::PlansChanged(sites) => self.plans_changed(sites, turn),
            Event::SiteRemoved(site) => self.site_removed(&site, turn),
            Event::AgentRegistered(name, terms) => self.agent_registered(&name, terms, turn),
            Event::Stop => self.stop(turn),
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
            Event::Knock(site) => self.knocked(&site, turn),
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
        if self.runs == Runs::On {
            self.assign(turn);
        }
        self.drains_end(turn);
    }

    /// Nothing goes out any more; what waits at the agents comes back, what is being handed over is finished.
    fn stop(&mut self, turn: &mut Turn<'_>) {
        self.runs = Runs::Out;
        self.crowd_goes_on = None;
        let names: Vec<SiteName> = self.sites.keys().cloned().collect();
        for name in names {
            self.close_site(&name, turn);
        }
    }

    /// Nothing is being handed over, and all that was is written. A probe that hangs is nothing to wait for.
    pub(crate) fn is_drained(&self) -> bool {
        self.hand.values().all(|hand| {
            let probe = |leased: &super::lease::Leased| leased.occupies == Occupies::Probe;
            hand.unwritten == 0 && hand.leased.as_ref().is_none_or(probe)
        })
    }

    /// When the core wants to be called although nothing happened; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let silent = self.next_silence();
        let starts = self.agents.values().filter_map(Agent::starts_work).min();
        let waiters = self.released.first().map(|(at, _)| *at);
        let (walks, barrier) = (self.walks.deadline(), self.barrier.deadline());
        let crowd = self.crowd_goes_on;
        let all = [timer, silent, starts, waiters, walks, barrier, crowd];
        all.into_iter().flatten().min()
    }

    fn time_passed(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        self.silent_agents(turn);
        self.agents_begin(turn);
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

    /// Before anything is done by it.
    fn look_at_clock(&mut self, turn: &mut Turn<'_>) {
        if self.clock.look(turn.now) == Went::Back {
            self.all_due(turn);
        }
        if let Some(alarm) = self.clock.unsaved() {
            turn.effect(Effect::Clock(ClockNews::Alarm(alarm)));
        }
    }

    /// Not-befores that were set by a clock that has gone back since may lie a year ahead: none counts, once.
    fn all_due(&mut self, turn: &mut Turn<'_>) {
        let waiting = self.sites.iter();
        // Before all is known, one that seems idle may have mail.
        let known = self.knows_all();
        let waiting = waiting.filter(|(_, queue)| queue.phase != Phase::Idle || !known);
        let names: Vec<SiteName> = waiting.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.release(&name, 1, None, turn);
        }
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
            Phase::Waiting(..) | Phase::Held(_) => {
                queue.kept.is_probed();
                self.ready(name, turn.now.monotonic, turn);
            }
            Phase::Flowing => self.look(name, turn),
            Phase::Proving => self.proof_is_given_up(name, turn),
            Phase::Idle => {}
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
        // Everybody waits to hear of the site that all reports leave through.
        let waits_for_smarthost = is_smarthost(name) && matches!(phase, Phase::Waiting(..));
        if (phase.is_news() || waits_for_smarthost) && queue.told != phase.words() {
            queue.told = phase.words();
            self.moved.push((name.clone(), phase));
        }
        queue.phase = phase;
        queue.spread = Spread::No;
        queue.timer = phase.timer();
        if let Some(timer) = queue.timer {
            self.timers.insert((timer, name.clone()));
        }
    }

    pub(super) fn ready(&mut self, name: &SiteName, from: Duration, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.progress = Progress::None;
        queue.begins_anew();
        // What has come back of this start's mail is to be read again, whether or not the barrier is open.
        queue.since_start = queue.of_this_start;
        let was_held = matches!(queue.phase, Phase::Held(_));
        if was_held {
            queue.looks_anew = LooksAnew::Yes;
        }
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
        takes_work && !queue.sessions.is_empty()
    }

    fn all_known(&mut self, sites: Vec<WithMail>, turn: &mut Turn<'_>) {
        let now = turn.now;
        let change = self.barrier.all_known(now.monotonic);
        let mut released = std::mem::take(&mut self.early_releases);
        released.retain(|name| sites.iter().any(|with_mail| with_mail.site == *name));
        for question in std::mem::take(&mut self.early) {
            self.ask(question, turn);
        }
        for with_mail in sites {
            let name = with_mail.site.clone();
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
            if self.clock.began_behind() && queue.release.is_none() {
                queue.release = Some(Release::new(self.generations.last(), 1));
            }
            if queue.phase != Phase::Idle {
                self.look(&name, turn);
                continue;
            }
            let phase = after_start(queue, &with_mail, turn);
            self.set_phase(&name, phase);
            if let (Phase::Ready(at), Some(queue)) = (phase, self.sites.get_mut(&name))
                && at > now.monotonic
            {
                queue.spread = Spread::Yes;
            }
            self.look(&name, turn);
        }
        self.nothing_waited_after_all(turn);
        self.barrier_changed(change, turn);
        for name in released {
            self.release_again(&name, turn);
        }
    }

    /// Releases that came before all was known, of sites that turn out to have no mail.
    fn nothing_waited_after_all(&mut self, turn: &mut Turn<'_>) {
        let sites = self.sites.iter_mut();
        let idle = sites.filter(|(_, q)| q.phase == Phase::Idle && q.release.is_some());
        for (_, queue) in idle {
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
        turn.effect(Effect::Clock(ClockNews::Confirmed(turn.now.wall)));
        let names: Vec<SiteName> = self.sites.keys().cloned().collect();
        for name in names {
            self.walk_at(&name, turn.now.monotonic);
        }
    }

    pub(super) fn last_number(&self) -> u64 {
        self.last_read
    }

    /// Numbers a read, or a question.
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

fn is_smarthost(name: &SiteName) -> bool {
    name.as_str() == smarthost::NAME
}

/// The wall-clock time of a monotonic one.
pub(super) fn wall_of(now: Now, at: Duration) -> Timestamp {
    later(now.wall, at.saturating_sub(now.monotonic))
}

/// How a site with mail begins a start: by its timer; where the timers are lost, at once if something has come lately,
/// else at some time in one interval, for ten thousand dead sites must not be tried all at once.
fn after_start(queue: &mut SiteQueue, found: &WithMail, turn: &mut Turn<'_>) -> Phase {
    let (now, interval) = (turn.now, queue.site.schedule.retry_interval);
    if queue.release.is_some() {
        return Phase::Ready(now.monotonic);
    }
    if found.next != NextTry::AtOnce {
        queue.seems = Seems::Silent;
        queue.remembered = Remembered::Yes;
    }
    match found.next {
        // For what reason it waited only the history of its attempts knows: [`State::with_reason`].
        NextTry::At(at) if at > now.wall => {
            Phase::Waiting(Why::Down, now.monotonic + until(now.wall, at))
        }
        NextTry::Unknown if later(found.newest, interval) <= now.wall => {
            let part = interval.mul_f64(turn.rng.random_range(0.0..1.0));
            Phase::Ready(now.monotonic + part)
        }
        NextTry::At(_) | NextTry::AtOnce | NextTry::Unknown => Phase::Ready(now.monotonic),
    }
}
