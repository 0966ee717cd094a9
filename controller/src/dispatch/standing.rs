//! Whether an agent gets work, and what becomes of its sites once it gets none.
//!
//! Four things keep an agent from work: its date has not come, an operator drains it, it drains itself because it is
//! about to end, or it is in trouble of its own (it cannot bind its address). They are weighed in one place, whichever
//! of them changes.
//!
//! # Invariants
//! - An agent that gets no work keeps no site: what is not in hand goes on through another one at once.
//! - What it has in hand it finishes and reports. Its sessions end after the transaction in hand, and what still waits
//!   for a session comes back untried.
//!
//! # Not here
//! Its stream and its leases ([`super::attach`]); what outlives the controller (the agent's record in the registry).

use dd_proto::feature::Feature;
use dd_proto::name::AgentName;
use dd_proto::site::Site;
use jiff::Timestamp;

use super::Order;
use super::agents::{Attached, Heard, Registered, TakesWork};
use super::backoff::until;
use super::event::{Effect, Now, Turn};
use super::lease::InHand;
use super::state::State;

/// On what terms an agent gets work, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Nothing before; None: at once.
    pub from: Option<Timestamp>,
    pub drain: Drain,
    pub joined: Joined,
    pub told: Told,
}

impl Terms {
    /// Whether it may know of mail what the controller does not: that an earlier start gave it some. One that has drained to
    /// its end has told all, and one that never joined was given nothing.
    pub(super) fn may_hold_mail(self) -> bool {
        self.drain != Drain::Ended && self.joined == Joined::Once && self.told == Told::NotAll
    }
}

/// Whether an agent has ever joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Joined {
    #[default]
    Once,
    Never,
}

/// What the start before this one knew of an agent when it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// It may have held mail, or nothing is known.
    #[default]
    NotAll,
    /// It held nothing, and had told everything.
    All,
}

/// What an operator wants of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drain {
    #[default]
    Works,
    /// No new work, until it is resumed.
    Drains,
    /// The same; and it has ended: the agent has nothing in hand, and has told all that it knew.
    Ended,
}

impl Drain {
    /// Whether the agent is kept from work.
    pub fn is_wanted(self) -> bool {
        self != Self::Works
    }
}

impl State {
    /// An agent is new, or its terms have changed.
    pub(super) fn agent_registered(&mut self, name: &AgentName, terms: Terms, turn: &mut Turn<'_>) {
        let agent = self.agents.entry(name.clone()).or_default();
        agent.registered = Registered::Yes;
        agent.terms = terms;
        self.weigh(name, turn);
    }

    /// Agents whose time has come take work.
    pub(super) fn agents_begin(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let due = self.agents.iter();
        let due = due.filter(|(_, agent)| agent.starts_work().is_some_and(|at| at <= now));
        let due: Vec<AgentName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.weigh(&name, turn);
        }
    }

    /// It is about to end.
    pub(super) fn agent_leaves(&mut self, name: &AgentName, turn: &mut Turn<'_>) {
        if let Some(attached) = self.attached_mut(name) {
            attached.leaves = Leaves::Yes;
        }
        self.weigh(name, turn);
    }

    /// It says what keeps it from working; nothing: it can work.
    pub(super) fn agent_health(&mut self, name: &AgentName, trouble: String, turn: &mut Turn<'_>) {
        if let Some(attached) = self.attached_mut(name) {
            attached.trouble = trouble;
        }
        self.weigh(name, turn);
    }

    /// Drains of which nothing is out, unwritten or untold any more have ended, and so have agents that left in order: the next
    /// start is told.
    pub(super) fn drains_end(&mut self, turn: &mut Turn<'_>) {
        let drains = self.agents.iter();
        let drains = drains.filter(|(name, agent)| {
            agent.terms.drain == Drain::Drains
                && agent.leases.is_empty()
                && agent.has_told_all()
                && self.owes_nothing(name)
        });
        let ended: Vec<AgentName> = drains.map(|(name, _)| name.clone()).collect();
        for name in &ended {
            if let Some(agent) = self.agents.get_mut(name) {
                agent.terms.drain = Drain::Ended;
            }
        }
        let left = self.agents.iter();
        let left = left.filter(|(name, it)| it.has_to_be_written() && self.owes_nothing(name));
        let left: Vec<AgentName> = left.map(|(name, _)| name.clone()).collect();
        for name in &left {
            if let Some(agent) = self.agents.get_mut(name) {
                agent.is_written();
            }
        }
        if !(ended.is_empty() && left.is_empty()) {
            turn.effect(Effect::DrainEnded);
        }
    }

    /// Whether everything that the agent has told is written.
    fn owes_nothing(&self, name: &AgentName) -> bool {
        let concerns = |hand: &InHand| {
            hand.owed.iter().any(|(agent, _)| agent == name)
                || hand
                    .questions
                    .iter()
                    .any(|question| question.agent == *name)
        };
        self.asking.is_empty()
            && self.early.is_empty()
            && !self.hand.values().any(|hand| concerns(hand))
    }

    /// Who may know of mail what is not written here, at a stop: whoever has not been heard in this start, holds a lease, lost
    /// one that it may not know of, or has told what is not written yet. The next start waits for these only.
    pub(crate) fn untold_agents(&self) -> Vec<AgentName> {
        // About whose mail it is nobody asks: a stop waits until there is none, as long as it can.
        let is_unwritten = self.hand.values().any(|hand| hand.unwritten > 0);
        let untold = self.agents.iter();
        let untold = untold.filter(|(name, agent)| {
            is_unwritten
                || self.barrier.waits_for(name)
                || !agent.leases.is_empty()
                || !agent.left_nothing_untold()
                || !self.owes_nothing(name)
        });
        untold.map(|(name, _)| name.clone()).collect()
    }

    /// Whose drain has ended.
    pub(crate) fn drained_agents(&self) -> Vec<AgentName> {
        let ended = self.agents.iter();
        let ended = ended.filter(|(_, agent)| agent.terms.drain == Drain::Ended);
        ended.map(|(name, _)| name.clone()).collect()
    }

    /// Who has ended in order, and is not back.
    pub(crate) fn agents_that_left(&self) -> Vec<AgentName> {
        let left = self.agents.iter().filter(|(_, agent)| agent.has_left());
        left.map(|(name, _)| name.clone()).collect()
    }

    fn attached_mut(&mut self, name: &AgentName) -> Option<&mut Attached> {
        self.agents.get_mut(name)?.attached.as_mut()
    }

    /// Decides anew whether it gets work.
    pub(super) fn weigh(&mut self, name: &AgentName, turn: &mut Turn<'_>) {
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        let Some(attached) = &mut agent.attached else {
            return;
        };
        attached.work = takes_work(agent.terms, attached, turn.now);
        if attached.work != TakesWork::Yes {
            self.sessions_end(name, turn);
            self.sites_leave(name, turn);
        }
    }

    /// Every plan it was sent is taken back; with the plan go the site's sessions, after the transaction in hand.
    fn sessions_end(&mut self, name: &AgentName, turn: &mut Turn<'_>) {
        let Some(attached) = self.attached_mut(name) else {
            return;
        };
        let id = attached.id;
        for site in std::mem::take(&mut attached.plans).into_keys() {
            turn.order(id, Order::CloseSite(site));
        }
    }
}

impl State {
    /// Why no agent may try a site now, for people; empty where one may.
    pub(super) fn no_agent_for(&self, site: &Site) -> String {
        let registered = self.agents.iter();
        let registered = registered.filter(|(_, agent)| agent.registered == Registered::Yes);
        let eligible = registered.filter(|(name, _)| site.may_go_through(name));
        let mut why = Vec::new();
        for (name, agent) in eligible {
            let attached = agent.attached.as_ref();
            if let Some(lacks) = attached.and_then(|it| it.lacks(site)) {
                why.push(format!("{name} is too old for {}", lacks.asked_by()));
                continue;
            }
            match attached.map(|it| (it.work, it.heard)) {
                Some((TakesWork::Yes, Heard::Lately)) => return String::new(),
                Some((TakesWork::Yes, Heard::Silent)) => why.push(format!("{name} is silent")),
                Some((TakesWork::Draining, _)) => why.push(format!("{name} is draining")),
                Some((TakesWork::Unhealthy, _)) => why.push(format!("{name} is unhealthy")),
                Some((TakesWork::From(_), _)) => why.push(format!("{name} works from later on")),
                None => why.push(format!("{name} is not connected")),
            }
        }
        match (why.is_empty(), site.agents.is_empty()) {
            (true, true) => "no agent is registered".to_owned(),
            (true, false) => "the agents it is pinned to are not registered".to_owned(),
            (false, true) => format!("no agent works: {}", why.join(", ")),
            (false, false) => format!("it is pinned, and {}", why.join(", ")),
        }
    }
}

impl State {
    /// What a site asks for, where agents that may carry its mail take work and every one of them is too old for it.
    pub(super) fn unknown_to_agents(&self, site: &Site) -> Option<Feature> {
        if site.way.needs().is_empty() {
            return None;
        }
        let agents = self.agents.iter();
        let may = agents.filter(|(name, agent)| {
            agent.registered == Registered::Yes && site.may_go_through(name)
        });
        let at_work = may
            .filter_map(|(_, agent)| agent.attached.as_ref())
            .filter(|it| it.work == TakesWork::Yes && it.heard == Heard::Lately);
        let lacking: Option<Vec<Feature>> = at_work.map(|it| it.lacks(site)).collect();
        lacking?.first().copied()
    }
}

/// Whether an agent has said that it is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    No,
    Yes,
}

pub(super) fn takes_work(terms: Terms, attached: &Attached, now: Now) -> TakesWork {
    if attached.leaves == Leaves::Yes || terms.drain.is_wanted() {
        return TakesWork::Draining;
    }
    if !attached.trouble.is_empty() {
        return TakesWork::Unhealthy;
    }
    match terms.from {
        Some(from) if from > now.wall => {
            TakesWork::From(now.monotonic.saturating_add(until(now.wall, from)))
        }
        _ => TakesWork::Yes,
    }
}
