//! Dispatch: what is tried when, and by which agent.
//!
//! `state` is the pure core, `apply(event, now, rng) -> effects`; `site` draws a site's states, `plan` says what goes
//! to whom, `judge` what a report means for a message, `moves` for its site, `lease`, `barrier` and `backoff` when.
//! `run` is the loop around it: wait for events, apply them, hand the effects out. Results of effects come back as
//! events, and the loop never waits for the disk.
//!
//! # Not here
//! SMTP to sites (an agent does it), the meaning of a reply (the agent's outcome table), storage.

mod actions;
mod admin;
mod agents;
mod ahead;
mod alarm;
mod aside;
mod attach;
mod backing;
mod backoff;
mod barrier;
mod batch;
mod cache;
mod clock;
mod duplicates;
mod ends;
mod event;
mod expiry;
mod goes_on;
mod hand;
mod handle;
mod head;
#[cfg(test)]
pub(crate) mod in_memory;
mod judge;
mod kept;
mod knocks;
mod lease;
mod mail;
mod measured;
mod moods;
mod moves;
mod notify;
mod pace;
mod parts;
mod perform;
mod phase;
mod plan;
mod record;
mod refusals;
mod release;
mod remembered;
mod run;
#[cfg(test)]
mod run_tests;
mod saving;
mod settled;
#[cfg(test)]
pub(crate) mod simulation;
mod site;
mod standing;
mod state;
mod strays;
mod stumbles;
mod timer;
#[cfg(test)]
mod transitions;
mod verdicts;
pub(crate) mod whom;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::feature::Feature;
use dd_proto::id::{DeliveryId, Generation, Lease, SessionId, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{DotSent, GivenBack, Observed, PeerCertificate, Report};
use dd_proto::site::Site;
use tokio::sync::mpsc;

use crate::store::Waiting;

pub use actions::Left;
pub use alarm::{ClockAlarm, ClockJump, ClockMemory, ClockNews};
pub use backing::{Backing, NotRead, ReadOf, StoreFailed};
#[cfg(test)]
pub(crate) use clock::Clock;
#[cfg(test)]
pub(crate) use event::Now;
pub use handle::Handle;
pub(crate) use kept::is_parked;
pub use lease::{BEAT, LEASE};
pub use mail::Mail;
pub(crate) use measured::MICROS;
pub use measured::{Measured, OUTCOMES};
pub use remembered::clock_at_start;
#[cfg(test)]
pub(crate) use run::{Chance, start_with};
pub use run::{Settings, start};
pub use standing::{Drain, Joined, Terms, Told};
pub use strays::Stray;
pub use verdicts::AgentVerdict;

/// One stream of an agent; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(u64);

/// An agent's stream as dispatch sees it.
#[derive(Debug)]
pub struct Attachment {
    pub id: AttachmentId,
    /// They end when the agent was too slow to take them, or came again.
    pub orders: mpsc::Receiver<Order>,
}

impl Attachment {
    /// A stream that gets nothing.
    fn ended() -> Self {
        let (_, orders) = mpsc::channel(1);
        let id = AttachmentId(0);
        Self { id, orders }
    }
}

/// What is counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Attempts of which nobody knows whether the site has the message.
    pub in_doubt: u64,
    /// Acceptances of what was settled already.
    pub duplicates: u64,
}

/// Why nothing was done to deliveries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{delivery} is in hand; try again when its attempt has ended")]
pub struct InHand {
    pub delivery: DeliveryId,
}

/// Whether the machine of an agent that comes back may have lost the end of its journal since the agent was here last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Or it had left in order, or nobody knows.
    AsBefore,
    Rebooted,
}

/// How an agent introduces itself, its journal included.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    pub agent: AgentName,
    pub version: String,
    pub slots: u32,
    pub probes: u32,
    pub boot_id: String,
    /// As its record has it.
    pub machine: Machine,
    /// What keeps it from working; empty: nothing.
    pub trouble: String,
    /// What it understands of route plans beyond what every agent does.
    pub features: BTreeSet<Feature>,
    pub work_in_hand: Vec<Lease>,
    /// Entries of its journal that were never acknowledged.
    pub in_doubt: Vec<DotSent>,
    pub reports: Vec<Report>,
}

/// What an attached agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentEvent {
    Beat {
        number: u64,
    },
    Proved {
        site: SiteName,
        session: SessionId,
        observed: Box<Observed>,
    },
    DotSent(DotSent),
    Report(Box<Report>),
    GivenBack {
        lease: Lease,
        why: GivenBack,
    },
    SessionClosed {
        site: SiteName,
        session: SessionId,
        proved: Proved,
        /// Messages it accepted.
        accepted: u32,
        /// Messages about which it had an answer of any kind.
        answered: u32,
        ended: Ended,
        refuses: Refuses,
        detail: String,
    },
    Draining,
    /// What keeps it from working; empty: nothing.
    Health {
        trouble: String,
    },
}

/// How a site refuses somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refuses {
    /// Or it refused nobody.
    AtOnce,
    /// After many seconds, on purpose.
    HeldBack,
}

/// Whether a session had proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proved {
    Yes,
    No,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Idle, at its limit, or closed by us.
    InOrder,
    Lost,
}

/// What an attached agent is told.
#[derive(Debug, Clone)]
pub enum Order {
    Welcome {
        going_on: Vec<Lease>,
    },
    /// The site's route, before the first assignment of that version.
    Plan(Arc<Site>),
    Assign(Box<Assignment>),
    BeatAnswer {
        number: u64,
    },
    Acknowledged(Lease),
    CloseSite(SiteName),
    /// What is out on a silent session comes back; a new one begins.
    Recall(SiteName),
}

/// One delivery, complete.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub lease: Lease,
    pub version: SiteVersion,
    /// Only the recipients that are open.
    pub envelope: Envelope,
    pub bytes: u64,
    /// None above 64 KiB: the agent fetches it.
    pub content: Option<Bytes>,
    pub in_doubt: bool,
    /// The first attempt after a release: DNS is asked anew, no older session is used.
    pub fresh: bool,
}

/// A delivery that has just become durable, with what is already in memory.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub waiting: Waiting,
    pub mail: Mail,
}

/// What a release came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Nobody asked to wait for it.
    Done {
        waiting: u64,
    },
    NothingWaiting,
    /// Everything that waited was tried.
    Worked {
        waiting: u64,
        relayed: u64,
        deferred: u64,
        failed: u64,
    },
    NotReached {
        waiting: u64,
        detail: String,
    },
    NotProved {
        waiting: u64,
        detail: String,
    },
    Refused {
        waiting: u64,
        detail: String,
    },
    Held {
        waiting: u64,
        by: String,
    },
    Pending {
        waiting: u64,
        relayed: u64,
        deferred: u64,
        failed: u64,
    },
}

/// How a site stands, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteState {
    pub site: SiteName,
    /// As [`SiteView::state`] and [`SiteView::why`].
    pub state: &'static str,
    pub why: Option<&'static str>,
    /// One agent reached it, another did not.
    pub agents_differ: bool,
    /// Mail that it refused, and that may be its own fault, is kept.
    pub keeps_refused: bool,
    pub refuses_all: bool,
    /// Mail is out at agents, and nothing of it has come back for this long, which is long.
    pub still_for: Option<std::time::Duration>,
    /// What the site asks of agents, and none of those that could carry its mail knows.
    pub unknown_to_agents: Option<Feature>,
}

/// A site as operators see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SiteView {
    /// idle ready proving flowing waiting held
    pub state: &'static str,
    /// down wrong-host refused busy deferred
    pub why: Option<&'static str>,
    pub next_attempt: Option<jiff::Timestamp>,
    pub out: u32,
    pub sessions: u32,
    pub last_attempts: Vec<LastAttempt>,
    /// What its agents found, where one reached it and another did not.
    pub agents_differ: Vec<AgentVerdict>,
    /// The home refuses everything: the mail that was kept for it waits behind a probe.
    pub refuses_all: bool,
    /// Why no agent may try it, though mail waits; empty: one may.
    pub no_agent: String,
    pub refusal: Option<Box<LastRefusal>>,
    /// For whom else its machine answered lately, newest first.
    pub answered_for: Vec<Stray>,
}

/// Who was refused last for want of a proof, with what was wanted and what was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct LastRefusal {
    pub at: jiff::Timestamp,
    pub agent: AgentName,
    pub observed: Observed,
}

impl SiteView {
    /// The last attempt that says something about the site, if it went wrong. What was not sent does not.
    pub fn failed_last(&self) -> Option<&LastAttempt> {
        let mut attempts = self.last_attempts.iter();
        let last = attempts.find(|it| it.outcome != "not-sent")?;
        (last.outcome != "relayed").then_some(last)
    }

    /// Why it waits, if that is the site's doing: reports are put off by our own limits as well.
    pub fn waits_for(&self) -> Option<&'static str> {
        let why = self.why.filter(|_| self.state == "waiting")?;
        (why != "deferred" || self.failed_last().is_some()).then_some(why)
    }

    /// A site that dispatch has not been told of yet.
    pub fn unseen(site: &Site) -> Self {
        Self {
            state: match site.hold {
                Some(_) => "held",
                None => "idle",
            },
            ..SiteView::default()
        }
    }
}

/// One ended attempt, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct LastAttempt {
    pub at: jiff::Timestamp,
    pub agent: AgentName,
    pub address: String,
    /// relayed deferred failed in-doubt unreachable wrong-host refused busy kept
    pub outcome: &'static str,
    pub detail: String,
    /// The greppable word for why the proof was withheld; empty where it was not.
    pub reason: String,
    pub peer: Option<Arc<PeerCertificate>>,
}

impl LastAttempt {
    /// Whether both are the same to whoever reads of them: which agent it was, and what a server says of each message that
    /// it takes, makes no difference.
    pub fn ended_like(&self, other: &Self) -> bool {
        let alike = self.outcome == other.outcome
            && self.address == other.address
            && self.reason == other.reason;
        alike && (self.outcome == "relayed" || self.detail == other.detail)
    }
}

/// An agent as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    pub name: AgentName,
    /// connected disconnected draining unhealthy
    pub state: &'static str,
    pub slots: u32,
    pub in_flight: u32,
    pub last_seen: Option<jiff::Timestamp>,
    pub version: String,
    /// What keeps it from working, as it says itself; empty: nothing.
    pub trouble: String,
}

#[cfg(test)]
impl AgentView {
    /// One of which nothing else is known.
    pub(crate) fn in_state(name: &str, state: &'static str) -> Self {
        Self {
            name: name.parse().unwrap(),
            state,
            slots: 4,
            in_flight: 0,
            last_seen: None,
            version: String::new(),
            trouble: String::new(),
        }
    }
}

/// Whether a lease is held, and by whom: what FetchContent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHeld {
    pub agent: AgentName,
    pub generation: Generation,
}
