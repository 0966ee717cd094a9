//! One site's queue as dispatch keeps it: its state, the head of what waits, its sessions.
//!
//! ```text
//!            mail                 a probe is free            Proved
//!   Idle ───────────▶ Ready ───────────────▶ Proving ───────────────▶ Flowing
//!    ▲ ▲ mail, session  ▲                       │ not proved             │ │
//!    │ └ open: Flowing  │ timer, release        ▼                        │ │
//!    │                  └─────────────── Waiting(why, until) ◀───────────┘ │
//!    │                    down wrong-host refused busy deferred            │
//!    └───────────────────── nothing left ──────────────────────────────────┘
//!   every state: held → Held; Held: resumed or over → Ready
//! ```
//!
//! # Invariants
//! - One timer for each site, however much waits.
//! - The head is bounded, and a site that is not tried has none: memory grows with sites, not with messages.
//!
//! # Not here
//! What is in hand ([`super::lease`]), which agent it goes to ([`super::plan`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Generation, MessageId, SessionId};
use dd_proto::name::AgentName;
use dd_proto::report::PeerCertificate;
use dd_proto::site::Site;
use jiff::Timestamp;

use super::actions::Closing;
use super::backoff::until;
use super::barrier::Barrier;
use super::event::Now;
use super::expiry::Expiry;
use super::kept::{Kept, PARKED, Parked};
use super::knocks::{Knocks, LooksAnew};
use super::moods::Moods;
use super::moves::RECONNECT;
use super::parts::Parts;
pub(super) use super::phase::{Phase, Why};
use super::release::Release;
use super::stumbles::Stumbles;
use super::timer::Remembered;
use super::verdicts::Verdicts;
use super::{LastAttempt, LastRefusal, Refuses};
use crate::store::{Position, Waiting};

/// Messages of a flowing site that are in memory beside what is in hand.
pub(super) const HEAD: usize = 64;
/// A canary needs one; some of those read may be in hand.
const HEAD_OF_UNPROVED: usize = 4;
/// So many reads go on behind each other; then what came back in front of them has its turn.
pub(super) const SWEEP: u32 = 16;
/// Timers are not moved for less.
const SOON: Duration = Duration::from_secs(1);
const KEPT_ATTEMPTS: usize = 10;

/// What the store holds behind the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing that is due.
    None,
    /// More, or nobody knows.
    More,
}

/// Reads from the front of a queue on, each behind the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sweep {
    pub(super) reads: u32,
    /// One of them has brought something to be assigned.
    pub(super) brought: bool,
    /// The last one has, and there was more behind it: the next will bring more.
    pub(super) brings_more: bool,
}

/// A read of the head that is under way.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Tells its answer from that of another read.
    pub(super) read: u64,
    /// Left our hand meanwhile: the read may not know what became of them.
    pub(super) touched: BTreeSet<MessageId>,
    /// Something came in or went back that the read may not show.
    pub(super) again: Again,
    pub(super) next_due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Again {
    #[default]
    No,
    Yes,
}

/// Whether the site accepted a message since it was last Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    None,
    Some,
}

/// Whether a probe of the site is likely to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seems {
    /// It answered when it was last tried.
    Up,
    /// It has not been tried since the start, and nothing is known against it.
    Unknown,
    Silent,
}

/// Where a ready site stands for a probe: those in front go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    /// Sites that answered, and new ones as long as there is a probe for each: any probe is theirs.
    First,
    /// Sites of which nothing is known. They may turn out to be thousands of dead ones, so they leave some probes.
    Untried,
    /// The same, and they did not answer.
    Silent,
}

pub(super) const LINES: [Line; 3] = [Line::First, Line::Untried, Line::Silent];

/// Whether the site stands in a queue for an agent's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queued {
    No,
    ForProbe(Line),
    ForPlace,
    /// For one of the agents it is pinned to.
    ForAgent,
}

/// Whether a start has put the site off, only because its mail is old; new mail ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    No,
    Yes,
}

/// A proved session.
#[derive(Debug)]
pub(super) struct Session {
    /// The certificate that its agent was shown.
    pub(super) peer: Option<Arc<PeerCertificate>>,
    /// What was given last when it had proved itself: it is no younger.
    pub(super) since: Generation,
    /// Messages it has answered.
    pub(super) answered: u32,
}

/// Before all generations.
const NEVER: Generation = Generation {
    start: 0,
    counter: 0,
};

/// Whether messages that ended sessions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Not while something else is to be had.
    Sound,
    All,
}

/// Messages over which sessions ended that are remembered beside those that broke one.
const ENDED: usize = 256;

#[derive(Debug)]
pub(super) struct SiteQueue {
    pub(super) site: Arc<Site>,
    pub(super) phase: Phase,
    /// What people were last told of it.
    pub(super) told: (&'static str, Option<&'static str>),
    /// As it stands in the state's timers.
    pub(super) timer: Option<Duration>,
    pub(super) head: VecDeque<Waiting>,
    pub(super) rest: Rest,
    /// Where the next read goes on: what was settled before it, and not yet removed, is not stepped over again.
    pub(super) cursor: Option<Position>,
    pub(super) sweep: Sweep,
    pub(super) next_due: Option<Timestamp>,
    pub(super) reading: Option<Reading>,
    /// The newest message that the store has shown; the news of its arrival may come later.
    seen: Option<Position>,
    /// Mail of this start waits to be read, so reading is of use before the barrier opens.
    pub(super) since_start: Progress,
    /// Mail of this start has come.
    pub(super) of_this_start: Progress,
    /// The agent the site belongs to; None once nobody works for it.
    pub(super) carrier: Option<AgentName>,
    /// Proved sessions of the carrier.
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that were asked back: what they still say moves the site no more.
    pub(super) recalled: VecDeque<SessionId>,
    /// The newest generation that was given for it, and the one up to which attempts speak for it no more.
    pub(super) newest: Generation,
    pub(super) outdated: Generation,
    /// The delivery that a probe is out with.
    pub(super) canary: Option<DeliveryId>,
    /// Deliveries leased, and all that are in hand.
    pub(super) out: u32,
    pub(super) in_hand: u32,
    /// Deliveries the store is asked about.
    pub(super) asked: u32,
    pub(super) progress: Progress,
    /// As it has shown since this start.
    pub(super) refuses: Refuses,
    pub(super) stumbles: Stumbles,
    pub(super) moods: Moods,
    pub(super) parts: Parts,
    /// Messages over which a session ended or the site was turned away from; no canaries while others are due.
    pub(super) ended: BTreeSet<MessageId>,
    /// When it last became Ready after a session ended.
    pub(super) reconnected: Option<Duration>,
    pub(super) seems: Seems,
    pub(super) remembered: Remembered,
    pub(super) knocks: Knocks,
    /// The next attempt asks DNS anew, though nothing is released.
    pub(super) looks_anew: LooksAnew,
    pub(super) queued: Queued,
    pub(super) release: Option<Release>,
    /// Proofs in a row that were given up for a release.
    pub(super) recalled_proofs: u32,
    pub(super) attempts: VecDeque<LastAttempt>,
    pub(super) expiry: Expiry,
    /// All that waits is being settled, for the site is removed.
    pub(super) closing: Option<Closing>,
    pub(super) kept: Kept,
    pub(super) spread: Spread,
    pub(super) pass: Pass,
    /// What a read has left out for the next pass.
    pub(super) skipped: Progress,
    /// Nothing goes out before; monotonic.
    pub(super) pause: Duration,
    /// The same, unless one of its sessions answers before that: a further one did not come about.
    pub(super) turned_away: Duration,
    /// A session that ended over a message that has broken others before.
    pub(super) spared: Option<SessionId>,
    pub(super) verdicts: Verdicts,
    pub(super) refusal: Option<Box<LastRefusal>>,
}

fn ends_sessions(waiting: &Waiting, ended: &BTreeSet<MessageId>) -> bool {
    waiting.breaks > 0 || ended.contains(&waiting.delivery.message)
}

/// Sessions that were asked back and may still speak.
const RECALLED: usize = 64;

impl SiteQueue {
    pub(super) fn new(site: Arc<Site>, rest: Rest) -> Self {
        Self {
            site,
            phase: Phase::Idle,
            told: Phase::Idle.words(),
            timer: None,
            head: VecDeque::new(),
            rest,
            cursor: None,
            sweep: Sweep::default(),
            next_due: None,
            reading: None,
            seen: None,
            since_start: Progress::None,
            of_this_start: Progress::None,
            carrier: None,
            sessions: BTreeMap::new(),
            recalled: VecDeque::new(),
            newest: NEVER,
            outdated: NEVER,
            canary: None,
            out: 0,
            in_hand: 0,
            asked: 0,
            progress: Progress::None,
            refuses: Refuses::AtOnce,
            stumbles: Stumbles::default(),
            moods: Moods::default(),
            parts: Parts::default(),
            ended: BTreeSet::new(),
            reconnected: None,
            seems: Seems::Unknown,
            remembered: Remembered::No,
            knocks: Knocks::default(),
            looks_anew: LooksAnew::No,
            queued: Queued::No,
            release: None,
            recalled_proofs: 0,
            attempts: VecDeque::new(),
            expiry: Expiry::default(),
            closing: None,
            kept: Kept::default(),
            spread: Spread::No,
            pass: Pass::Sound,
            skipped: Progress::None,
            pause: Duration::ZERO,
            turned_away: Duration::ZERO,
            spared: None,
            verdicts: Verdicts::default(),
            refusal: None,
        }
    }

    pub(super) fn connections(&self) -> u32 {
        u32::from(self.site.limits.connections.max(1))
    }

    /// What waits is looked at from its front.
    pub(super) fn begins_anew(&mut self) {
        self.rest = Rest::More;
        self.cursor = None;
        // What is being read was asked for under other rules.
        self.reading = None;
        (self.pass, self.skipped) = (Pass::Sound, Progress::None);
        let ended = &self.ended;
        self.head.retain(|it| !ends_sessions(it, ended));
        self.whose_turn();
    }

    /// A session has ended over it before: it is tried behind what has not been tried.
    pub(super) fn ends_sessions(&self, waiting: &Waiting) -> bool {
        ends_sessions(waiting, &self.ended)
    }

    pub(super) fn ended_over(&mut self, message: MessageId) {
        if self.ended.len() >= ENDED {
            self.ended.pop_first();
        }
        self.ended.insert(message);
    }

    /// When it may be connected to again after a session that made progress.
    pub(super) fn reconnects(&mut self, now: Duration) -> Duration {
        let last = self.reconnected;
        let from = last.map_or(now, |last| now.max(last + RECONNECT));
        self.reconnected = Some(from);
        from
    }

    /// Until then nothing goes out, though it flows; monotonic.
    pub(super) fn paused_until(&self) -> Duration {
        self.pause.max(self.turned_away)
    }

    /// All that is out belongs to sessions that end now: a new one begins, and speaks for the site alone.
    pub(super) fn begins_session_anew(&mut self) {
        let open = std::mem::take(&mut self.sessions);
        self.recalled.extend(open.into_keys());
        while self.recalled.len() > RECALLED {
            self.recalled.pop_front();
        }
        self.outdated = self.newest;
        self.canary = None;
        self.spared = None;
    }

    /// A site whose release was asked for has come back.
    pub(super) fn seems(&self) -> Seems {
        match self.release {
            Some(_) => Seems::Up,
            None => self.seems,
        }
    }

    /// Takes the next message that may go out from the head.
    pub(super) fn take_next(&mut self, barrier: &Barrier) -> Option<Waiting> {
        let next = self.head.iter().position(|w| barrier.lets_pass(w))?;
        let next = self.head.remove(next)?;
        self.kept.offers(&next);
        Some(next)
    }

    pub(super) fn has_next(&self, barrier: &Barrier) -> bool {
        self.head.iter().any(|waiting| barrier.lets_pass(waiting))
    }

    /// A message has come; it is read later where there is no place for it now.
    pub(super) fn arrived(&mut self, waiting: Waiting, barrier: &Barrier) {
        (self.since_start, self.of_this_start) = (Progress::Some, Progress::Some);
        if let Some(reading) = &mut self.reading {
            reading.again = Again::Yes;
        } else if self.seen >= Some(waiting.position) {
            // The store shows mail before its arrival is told: this may be in the head, in hand, or settled already.
            self.rest = Rest::More;
        } else if self.keeps_head() && self.head.len() < self.room() && self.may_append(barrier) {
            self.head.push_back(waiting);
        } else {
            self.rest = Rest::More;
        }
    }

    /// How many messages are of use in memory: of ten thousand sites that wait for an agent or a probe, a few each.
    fn room(&self) -> usize {
        match self.phase {
            Phase::Flowing | Phase::Proving => HEAD,
            _ => HEAD_OF_UNPROVED,
        }
    }

    /// The store has shown it. What has its own time is no arrival, and its position says nothing about arrivals.
    pub(super) fn shown(&mut self, waiting: &Waiting) {
        if waiting.not_before.is_none() {
            self.seen = self.seen.max(Some(waiting.position));
        }
    }

    /// In the head a message stands behind all that is older, unless older mail may not go out yet.
    fn may_append(&self, barrier: &Barrier) -> bool {
        self.rest == Rest::None || !barrier.is_open()
    }

    /// A message comes back untried, or may be tried again at once.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        let last = self.ends_sessions(&waiting);
        if last && self.phase == Phase::Flowing {
            self.head.push_back(waiting);
        } else if self.keeps_head() && !last {
            self.head.push_front(waiting);
        } else {
            self.rest = Rest::More;
            self.cursor = None;
        }
    }

    fn keeps_head(&self) -> bool {
        match self.phase {
            Phase::Waiting(why, _) => why == Why::Deferred,
            Phase::Held(_) => false,
            Phase::Idle | Phase::Ready(_) | Phase::Proving | Phase::Flowing => true,
        }
    }

    /// Forgets the head; it is read again when it is of use.
    pub(super) fn drop_head(&mut self) {
        if !self.head.is_empty() {
            self.head = VecDeque::new();
            self.rest = Rest::More;
        }
        self.cursor = None;
        if let Some(reading) = &mut self.reading {
            reading.again = Again::Yes;
        }
    }

    pub(super) fn drop_from_head(&mut self, message: MessageId) {
        self.head
            .retain(|waiting| waiting.delivery.message != message);
    }

    pub(super) fn becomes_due(&mut self, at: Timestamp) {
        let earlier = |next: Option<Timestamp>| Some(next.map_or(at, |next| next.min(at)));
        self.next_due = earlier(self.next_due);
        if at >= PARKED {
            self.kept.parked = Parked::Maybe;
            self.kept.has_seen = true;
        }
        if let Some(reading) = &mut self.reading {
            reading.next_due = earlier(reading.next_due);
        }
    }

    /// Something was put off while the site waited for nothing, or for something later.
    pub(super) fn is_due_before_its_timer(&self, now: Now) -> bool {
        let due = self.next_due.map(|at| until(now.wall, at));
        let at = due.map(|wait| now.monotonic.saturating_add(wait));
        match self.phase {
            Phase::Idle => at.is_some(),
            Phase::Waiting(Why::Deferred, timer) => {
                at.is_some_and(|at| at.saturating_add(SOON) < timer)
            }
            _ => false,
        }
    }

    /// How much a read asks for. What is in hand or in the head still stands at the front of the store's queue.
    pub(super) fn read_limit(&self) -> usize {
        let wanted = match self.phase {
            Phase::Proving => HEAD_OF_UNPROVED,
            _ => self.room(),
        };
        wanted + self.head.len() + usize::try_from(self.in_hand).unwrap_or(HEAD)
    }

    pub(super) fn remember(&mut self, attempt: LastAttempt) {
        if self.attempts.len() == KEPT_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }
}
