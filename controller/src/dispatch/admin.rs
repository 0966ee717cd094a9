//! What operators and members ask for: a release, and how things stand.
//!
//! # Not here
//! What is done to deliveries: [`super::actions`].

use std::collections::HashMap;
use std::time::Duration;

use dd_proto::id::DeliveryId;
use dd_proto::name::{AgentName, SiteName};

use super::agents::Registered;
use super::event::{Effect, Now, Turn};
use super::kept::{Parked, Trust};
use super::knocks::LooksAnew;
use super::lease::{Freshness, LEASE};
use super::release::{Release, Waiter};
use super::site::{Again, Phase, SiteQueue, Why};
use super::state::{State, wall_of};
use super::{
    AgentView, AttachmentId, ClockAlarm, Counters, LeaseHeld, Released, SiteState, SiteView,
};

/// So long a proof that an earlier release has begun goes on when there is another one; twice as long for each that was
/// given up. A home that asks more often than it can prove itself is served all the same, and one that asks again from a
/// new address does not wait for the old one.
const PROOF: Duration = Duration::from_secs(2);

/// From then on a site whose mail is all out and of which nothing comes back is named. A large message over a slow line
/// may take that long.
const STILL: Duration = Duration::from_secs(3600);

impl State {
    pub(super) fn release(
        &mut self,
        name: &SiteName,
        waiting: u64,
        waiter: Option<Waiter>,
        turn: &mut Turn<'_>,
    ) {
        let (knows_all, since) = (self.knows_all(), self.generations.last());
        let answer = |answer: Released, turn: &mut Turn<'_>| {
            if let Some(waiter) = waiter {
                turn.effect(Effect::Answer(waiter.token, answer));
            }
        };
        let Some(queue) = self.sites.get_mut(name) else {
            return answer(Released::NothingWaiting, turn);
        };
        if let Phase::Held(_) = queue.phase {
            let by = queue.site.hold.as_ref().map(|hold| hold.by.clone());
            let by = by.unwrap_or_default();
            return answer(Released::Held { waiting, by }, turn);
        }
        if waiting == 0 && knows_all && queue.in_hand == 0 {
            // Whoever asks may have moved: the next mail goes where the host is now.
            queue.looks_anew = LooksAnew::Yes;
            self.recall(name, turn);
            return answer(Released::NothingWaiting, turn);
        }
        if !knows_all {
            self.early_releases.insert(name.clone());
        }
        match &mut queue.release {
            Some(release) => release.again(since, waiting),
            None => queue.release = Some(Release::new(since, waiting)),
        }
        if let (Some(release), Some(waiter)) = (&mut queue.release, waiter) {
            release.wait(waiter);
            self.released.insert((waiter.deadline, name.clone()));
        }
        queue.kept.is_released();
        queue.begins_anew();
        if let Some(reading) = &mut queue.reading {
            reading.again = Again::Yes;
        }
        let waits = match queue.phase {
            // Before all is known nobody knows whether something waits; it is looked at then.
            Phase::Idle => !knows_all,
            Phase::Held(_) => true,
            Phase::Proving => self.proof_goes_on(name, turn.now.monotonic),
            Phase::Waiting(..) | Phase::Ready(_) | Phase::Flowing => false,
        };
        if !waits {
            self.recall(name, turn);
            self.ready(name, turn.now.monotonic, turn);
        }
    }

    /// A proof that was begun by an earlier release, and not long ago, serves this one too: it ends behind it. If it
    /// fails, or takes too long, there is another one.
    fn proof_goes_on(&mut self, name: &SiteName, now: Duration) -> bool {
        let Some(queue) = self.sites.get_mut(name) else {
            return false;
        };
        let canary = queue.canary.as_ref();
        let canary = canary.and_then(|canary| self.hand.get(canary)?.leased.as_ref());
        let since = canary
            .filter(|leased| leased.freshness == Freshness::Fresh)
            .map(|leased| leased.since);
        let patience = PROOF * (1 << queue.recalled_proofs.min(8));
        let until = since.map(|since| since + patience);
        match until.filter(|until| *until > now) {
            Some(until) => {
                if queue.timer.is_none() {
                    queue.timer = Some(until);
                    self.timers.insert((until, name.clone()));
                }
                true
            }
            None => {
                queue.recalled_proofs += u32::from(since.is_some());
                false
            }
        }
    }

    /// The proof has taken too long, and a release waits for it.
    pub(super) fn proof_is_given_up(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.recalled_proofs += 1;
        }
        self.recall(name, turn);
        self.ready(name, turn.now.monotonic, turn);
    }

    /// What was released before all was known may have been through before its older mail was known.
    pub(super) fn release_again(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let queue = self.sites.get(name);
        let release = queue.and_then(|queue| queue.release.as_ref());
        let waiting = release.map_or(1, Release::waiting);
        self.release(name, waiting, None, turn);
    }

    /// Those who do not wait any longer are told how far it is.
    pub(super) fn waiters_gone(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        while self.released.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.released.pop_first() else {
                break;
            };
            let queue = self.sites.get_mut(&name);
            let Some(release) = queue.and_then(|queue| queue.release.as_mut()) else {
                continue;
            };
            for token in release.impatient(now) {
                turn.effects.push(Effect::Answer(token, release.pending()));
            }
        }
    }

    pub(super) fn is_in_hand(&self, delivery: &DeliveryId) -> bool {
        self.hand.contains_key(delivery) || self.asking.contains_key(delivery)
    }

    pub(super) fn is_out(&self, delivery: &DeliveryId) -> bool {
        self.hand
            .get(delivery)
            .is_some_and(|hand| hand.leased.is_some())
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn knows_site(&self, name: &SiteName) -> bool {
        self.sites.contains_key(name)
    }

    pub(super) fn attachment_of(&self, agent: &AgentName) -> Option<AttachmentId> {
        let agent = self.agents.get(agent)?;
        agent.attached.as_ref().map(|attached| attached.id)
    }

    pub(super) fn lease_held(&self, delivery: &DeliveryId) -> Option<LeaseHeld> {
        let leased = self.hand.get(delivery)?.leased.as_ref()?;
        Some(LeaseHeld {
            agent: leased.agent.clone(),
            generation: leased.generation,
        })
    }

    /// The wall clock as far as the site whose mail lives shortest is concerned.
    pub(super) fn clock_alarm(&self) -> Option<ClockAlarm> {
        let lifetimes = self.sites.values();
        let shortest = lifetimes.map(|queue| queue.site.schedule.lifetime).min();
        self.clock.alarm(shortest.unwrap_or(Duration::MAX))
    }

    /// What people are told where it is not quite the phase.
    fn shown(&self, queue: &SiteQueue, now: Duration) -> Phase {
        match queue.phase {
            // Nobody knows yet that nothing waits.
            Phase::Idle if !self.knows_all() => Phase::Ready(now),
            phase => self.with_reason(queue, phase),
        }
    }

    /// Where its timer came over from before the start, the reason for which it waits did not.
    pub(super) fn with_reason(&self, queue: &SiteQueue, phase: Phase) -> Phase {
        match phase {
            Phase::Waiting(Why::Down, at) if queue.attempts.is_empty() => {
                Phase::Waiting(self.why_before(&queue.site.name), at)
            }
            phase => phase,
        }
    }

    pub(super) fn site_states(&self, now: Now) -> Vec<SiteState> {
        let still = self.standing_still(now.monotonic);
        let sites = self.sites.iter().map(|(name, queue)| {
            let (state, why) = self.shown(queue, Duration::ZERO).words();
            SiteState {
                site: name.clone(),
                state,
                why,
                agents_differ: queue.verdicts.differ(now.wall),
                keeps_refused: queue.kept.parked == Parked::Maybe && queue.kept.has_seen,
                still_for: still.get(name).copied(),
                refuses_all: queue.kept.trust == Trust::Misconfigured,
                unknown_to_agents: self.unknown_to_agents(&queue.site),
            }
        });
        sites.collect()
    }

    /// Sites whose mail is out at agents while more waits for room, and for how long nothing has come back that would
    /// have made some; only where that is long.
    fn standing_still(&self, now: Duration) -> HashMap<SiteName, Duration> {
        let mut newest: HashMap<&SiteName, Duration> = HashMap::new();
        for (delivery, in_hand) in &self.hand {
            if let Some(leased) = &in_hand.leased {
                let newest = newest.entry(&delivery.site).or_default();
                *newest = leased.since.max(*newest);
            }
        }
        let has_more = |site: &SiteName| {
            let queue = self.sites.get(site);
            queue.is_some_and(|queue| !queue.head.is_empty())
        };
        let sites = newest.into_iter().filter(|(site, _)| has_more(site));
        let sites = sites.map(|(site, since)| (site.clone(), now.saturating_sub(since)));
        sites.filter(|(_, still)| *still >= STILL).collect()
    }

    pub(super) fn site_view(&self, name: &SiteName, now: Now) -> Option<SiteView> {
        let queue = self.sites.get(name)?;
        let phase = self.shown(queue, now.monotonic);
        let (state, why) = phase.words();
        let at = match phase {
            Phase::Waiting(_, at) | Phase::Ready(at) => Some(at),
            _ => None,
        };
        Some(SiteView {
            state,
            why,
            next_attempt: at.map(|at| wall_of(now, at)),
            out: queue.out,
            sessions: u32::try_from(queue.sessions.len()).unwrap_or(u32::MAX),
            last_attempts: queue.attempts.iter().rev().cloned().collect(),
            agents_differ: queue.verdicts.difference(now.wall),
            refuses_all: queue.kept.trust == Trust::Misconfigured,
            no_agent: match phase {
                Phase::Ready(_) | Phase::Waiting(..) => self.no_agent_for(&queue.site),
                _ => String::new(),
            },
            refusal: queue.refusal.clone(),
            answered_for: self.strays.of(name, queue.attempts.iter(), now.wall),
        })
    }

    /// Why a site waits whose timer came over from before the start, and which has not been tried since: how its last attempt
    /// ended.
    fn why_before(&self, name: &SiteName) -> Why {
        let before = self.measured.history.of(name);
        match before.runs.first().map(|run| run.last.outcome) {
            Some("wrong-host") => Why::WrongHost,
            Some("refused" | "kept") => Why::Refused,
            Some("busy") => Why::Busy,
            Some("relayed" | "deferred" | "failed") => Why::Deferred,
            _ => Why::Down,
        }
    }

    pub(super) fn agent_views(&self, now: Now) -> Vec<AgentView> {
        let registered = self.agents.iter();
        let registered = registered.filter(|(_, agent)| agent.registered == Registered::Yes);
        let views = registered.map(|(name, agent)| {
            let mut view = agent.view(name);
            let attached = agent.attached.as_ref();
            if attached.is_some_and(|attached| attached.answered + LEASE <= now.monotonic) {
                view.state = "unhealthy";
                view.trouble = "it is attached and has not been heard for 30 seconds".to_owned();
            }
            view
        });
        views.collect()
    }
}
