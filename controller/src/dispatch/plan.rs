//! What goes to whom: which agent tries a site, and whose turn it is.
//!
//! # Invariants
//! - One site belongs to one agent at a time, and to none that its record does not name where it names some.
//! - A site that is not proved gets one canary, which occupies a probe; a proved one gets its window, in turn with
//!   the agent's other sites, so a site with a million messages takes its window and not the agent.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use dd_proto::id::Lease;
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;

use super::agents::{AT_LEAST, Agent, Heard, TakesWork, WINDOW};
use super::backoff::until as until_now;
use super::event::{Assign, Effect, Turn};
use super::kept::Trust;
use super::knocks::LooksAnew;
use super::lease::{Dot, Freshness, Leased, Occupies};
use super::release::Begun;
use super::site::{Line, Phase, Progress, Queued, SiteQueue};
use super::state::State;
use super::{Order, Refuses};
use crate::store::Waiting;

/// Messages of a site that are out where each refusal takes a session for many seconds: among so many the agent finds
/// those that do not have to wait behind refusals.
const WINDOW_OF_HELD_BACK: u32 = 64;

impl SiteQueue {
    fn window(&self) -> u32 {
        if self.kept.trust == Trust::Misconfigured {
            // Each says first whether the home has been set up.
            return 1;
        }
        let usual = self.connections() * WINDOW;
        match self.refuses {
            Refuses::AtOnce => usual,
            Refuses::HeldBack => usual.max(WINDOW_OF_HELD_BACK),
        }
    }
}

impl State {
    pub(super) fn assign(&mut self, turn: &mut Turn<'_>) {
        self.assign_canaries(turn);
        let names: Vec<AgentName> = self.attachments.values().cloned().collect();
        for name in names {
            self.assign_window(&name, turn);
        }
    }

    fn assign_canaries(&mut self, turn: &mut Turn<'_>) {
        self.pinned_may_try(turn);
        self.begin_probes(turn);
        self.crowd_goes_on = self.crowd_goes_on(turn.now.monotonic);
    }

    /// When the pace of an agent, and nothing else, lets it begin with another one of those that wait.
    fn crowd_goes_on(&self, now: Duration) -> Option<Duration> {
        let waiting = self.lines.values().any(|line| !line.is_empty());
        let agents = self.agents.iter();
        let agents = agents.filter(|(name, _)| waiting || self.pinned.contains_key(*name));
        let attached = agents.filter_map(|(_, agent)| agent.attached.as_ref());
        let from = attached.filter_map(|attached| attached.probe_from(Line::Silent, now));
        from.filter(|from| *from > now).min()
    }

    /// One line after the other, as long as there are probes for it.
    fn begin_probes(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let waiting: usize = self.lines.values().map(VecDeque::len).sum();
        for _ in 0..waiting {
            let first = self.lines.iter().find(|(_, line)| !line.is_empty());
            let Some(line) = first.map(|(line, _)| *line) else {
                return;
            };
            if self.with_probe_for(line, now).next().is_none() {
                return;
            }
            let Some(name) = self.lines.entry(line).or_default().pop_front() else {
                return;
            };
            let Some(queue) = self.sites.get_mut(&name) else {
                continue;
            };
            if queue.queued == Queued::ForProbe(line) {
                queue.queued = Queued::No;
            }
            if !matches!(queue.phase, Phase::Ready(from) if from <= now) {
                continue;
            }
            match self.agent_for(&name, line, now) {
                Pick::ProvedAlready => {
                    self.set_phase(&name, Phase::Flowing);
                    self.look(&name, turn);
                }
                Pick::Agent(agent) => self.begin_probe(&name, &agent, turn),
                Pick::Later => self.queues_again(&name, turn),
            }
        }
    }

    fn with_probe_for(
        &self,
        line: Line,
        now: Duration,
    ) -> impl Iterator<Item = (&AgentName, &Agent)> {
        self.agents.iter().filter(move |(_, agent)| {
            let attached = agent.attached.as_ref();
            attached.is_some_and(|attached| attached.has_probe_for(line, now))
        })
    }

    /// Whether the site lets its mail go through an agent that is attached, and that one understands the site's plan.
    fn may_serve(&self, name: &AgentName, site: &Site) -> bool {
        let agent = self.agents.get(name);
        let attached = agent.and_then(|agent| agent.attached.as_ref());
        site.may_go_through(name) && attached.is_some_and(|it| it.lacks(site).is_none())
    }

    /// Not the one that failed last, nor one that did not reach the site where another may; of these the least loaded.
    fn best_for(&self, queue: &SiteQueue, line: Line, now: Duration) -> Option<AgentName> {
        let release = queue.release.as_ref();
        let rank = |name: &AgentName| match release {
            Some(release) if release.was_tried_by(name) => u8::MAX,
            _ => queue.verdicts.rank(name),
        };
        let eligible = self.with_probe_for(line, now);
        let eligible = eligible.filter(|(name, _)| self.may_serve(name, &queue.site));
        let best = eligible.min_by_key(|(name, agent)| (rank(name), agent.load()));
        best.map(|(name, _)| name.clone())
    }

    /// Somebody who takes work and has not tried the site since its release.
    pub(super) fn another_may_try(&self, queue: &SiteQueue) -> bool {
        let Some(release) = &queue.release else {
            return false;
        };
        let agents = self.agents.iter().filter(|(_, agent)| {
            let attached = agent.attached.as_ref();
            attached.is_some_and(|it| it.work == TakesWork::Yes && it.heard == Heard::Lately)
        });
        let mut agents = agents.filter(|(name, _)| self.may_serve(name, &queue.site));
        agents.any(|(name, _)| !release.was_tried_by(name))
    }

    /// The agent a site belongs to, as long as it works for it; else the one with the least to do.
    fn agent_for(&self, name: &SiteName, line: Line, now: Duration) -> Pick {
        let Some(queue) = self.sites.get(name) else {
            return Pick::Later;
        };
        if self.session_is_open(queue) {
            return Pick::ProvedAlready;
        }
        let carrier = queue.carrier.as_ref();
        let carrier = carrier.filter(|it| queue.out > 0 && self.may_serve(it, &queue.site));
        let attached = carrier.and_then(|c| self.agents.get(c)?.attached.as_ref());
        match (carrier, attached) {
            (Some(carrier), Some(attached)) if attached.has_probe_for(line, now) => {
                Pick::Agent(carrier.clone())
            }
            (Some(_), Some(_)) => Pick::Later,
            _ => self
                .best_for(queue, line, now)
                .map_or(Pick::Later, Pick::Agent),
        }
    }

    fn begin_probe(&mut self, name: &SiteName, agent: &AgentName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let Some(canary) = queue.take_next(&self.barrier) else {
            return self.look(name, turn);
        };
        let attached = self
            .agents
            .get_mut(agent)
            .and_then(|it| it.attached.as_mut());
        if let Some(attached) = attached {
            attached.pace.begins(turn.now.monotonic);
        }
        if queue.carrier.replace(agent.clone()).as_ref() != Some(agent) {
            // Another one's sessions may have the same numbers.
            queue.recalled.clear();
        }
        queue.sessions.clear();
        queue.queued = Queued::No;
        queue.progress = Progress::None;
        queue.knocks.are_served();
        queue.canary = Some(canary.delivery.clone());
        self.set_phase(name, Phase::Proving);
        self.give(agent, canary, Occupies::Probe, turn);
    }

    /// One message for each site in turn, as long as the agent has room.
    fn assign_window(&mut self, agent: &AgentName, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        loop {
            let attached = self.agents.get_mut(agent).and_then(|a| a.attached.as_mut());
            let Some(attached) = attached.filter(|a| a.may_lease(now)) else {
                return;
            };
            let is_full = attached.is_full();
            let Some(name) = attached.turns.pop_front() else {
                return;
            };
            let Some(queue) = self.sites.get_mut(&name) else {
                continue;
            };
            if queue.queued == Queued::ForPlace {
                queue.queued = Queued::No;
            }
            let flows = queue.phase == Phase::Flowing && queue.carrier.as_ref() == Some(agent);
            if flows && queue.paused_until() > now {
                self.look(&name, turn);
                continue;
            }
            if !flows || queue.out >= queue.window() {
                continue;
            }
            if is_full && queue.out >= queue.connections() * AT_LEAST {
                // Its turn comes when one of its own has come back.
                continue;
            }
            if let Some(waiting) = queue.take_next(&self.barrier) {
                self.give(agent, waiting, Occupies::Place, turn);
            }
            self.look(&name, turn);
        }
    }

    /// Leases a delivery to an agent and sends it, behind the plan it needs.
    fn give(
        &mut self,
        name: &AgentName,
        mut waiting: Waiting,
        occupies: Occupies,
        turn: &mut Turn<'_>,
    ) {
        let delivery = waiting.delivery.clone();
        let agent = self.agents.get_mut(name);
        let (Some(agent), Some(queue)) = (agent, self.sites.get_mut(&delivery.site)) else {
            return;
        };
        let Some(attached) = &mut agent.attached else {
            return;
        };
        let (id, until) = (attached.id, attached.lease_until());
        attached.take(occupies);
        let version = queue.site.version;
        if attached.plans.insert(delivery.site.clone(), version) != Some(version) {
            turn.order(id, Order::Plan(queue.site.clone()));
        }
        agent.holds(delivery.clone(), until);
        waiting.in_doubt |= self.barrier.casts_doubt_on(&waiting);
        let freshness = begin(queue);
        queue.out += 1;
        if waiting.attempts == 0 {
            let waited = until_now(waiting.arrived, turn.now.wall);
            self.measured.assigned.observe_time(waited);
        }
        let generation = self.generations.next();
        queue.newest = generation;
        let carried = queue.parts.carried(delivery.message, &waiting.open);
        let leased = Leased {
            generation,
            agent: name.clone(),
            attachment: id,
            waiting: Some(waiting.clone()),
            carried: Some(carried.clone()),
            whom: None,
            since: turn.now.monotonic,
            until,
            occupies,
            dot: Dot::NotSeen,
            freshness,
        };
        let lease = Lease {
            delivery: delivery.clone(),
            generation,
        };
        let in_hand = self.take_in_hand(&delivery);
        assert!(in_hand.leased.is_none(), "{delivery} is out already");
        in_hand.leased = Some(leased);
        waiting.open = carried;
        turn.effect(Effect::Assign(Assign {
            to: id,
            lease,
            version,
            waiting,
            freshness,
        }));
    }
}

impl State {
    /// Nobody has room for it. One that is pinned waits for its own agents: in the common queue it would be looked at
    /// again whenever any other one has room.
    fn queues_again(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.site.agents.is_empty() {
            return self.look(name, turn);
        }
        queue.queued = Queued::ForAgent;
        for agent in &queue.site.agents {
            let waiting = self.pinned.entry(agent.clone()).or_default();
            waiting.insert(name.clone());
        }
    }

    /// Pinned sites whose agent has room again are queued with the others.
    fn pinned_may_try(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let has_room = |name: &&AgentName| {
            let attached = self.agents.get(*name).and_then(|it| it.attached.as_ref());
            attached.is_some_and(|attached| attached.has_probe_for(Line::First, now))
        };
        let with_room: Vec<AgentName> = self.pinned.keys().filter(has_room).cloned().collect();
        for agent in with_room {
            for _ in 0..PINNED_AT_ONCE {
                let waiting = self.pinned.get_mut(&agent);
                let Some(name) = waiting.and_then(BTreeSet::pop_first) else {
                    self.pinned.remove(&agent);
                    break;
                };
                let queue = self.sites.get_mut(&name);
                if let Some(queue) = queue.filter(|queue| queue.queued == Queued::ForAgent) {
                    queue.queued = Queued::No;
                    self.look(&name, turn);
                }
            }
        }
    }
}

/// Pinned sites that are queued in one go.
const PINNED_AT_ONCE: usize = 64;

enum Pick {
    /// A proved session is open.
    ProvedAlready,
    Agent(AgentName),
    Later,
}

/// The first attempt after a release absorbs it, and is a fresh one.
fn begin(queue: &mut SiteQueue) -> Freshness {
    match &mut queue.release {
        Some(release) if release.begun == Begun::NotYet => {
            release.begun = Begun::Yes;
            Freshness::Fresh
        }
        _ => match std::mem::take(&mut queue.looks_anew) {
            LooksAnew::Yes => Freshness::Fresh,
            LooksAnew::No => Freshness::Any,
        },
    }
}
