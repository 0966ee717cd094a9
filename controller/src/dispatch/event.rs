//! What the core is told and what it wants done: its whole interface, as data.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Delays, RecipientResult, Report};
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::Rng;

use super::actions::{Asked, Left};
use super::lease::Freshness;
use super::release::{Token, Waiter};
use super::standing::Terms;
use super::{AgentEvent, AttachmentId, ClockNews, Hello, InHand as Refused, Order, Released};
use crate::store::{Head, HeadOf, Note, Position, Settlement, Waiting, WithMail};

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
    /// The store knows all mail of earlier starts: the sites that have some.
    AllKnown(Vec<WithMail>),
    Arrived(Waiting),
    /// `read` is the number that was asked for.
    HeadRead {
        site: SiteName,
        read: u64,
        head: Head,
    },
    HeadNotRead {
        site: SiteName,
        read: u64,
    },
    /// A page of a walk; None: it could not be read.
    Walked {
        site: SiteName,
        read: u64,
        page: Option<Head>,
    },
    /// With how much the store keeps under its name.
    SiteChanged {
        site: Arc<Site>,
        waiting: u64,
    },
    /// The authority they rely on has changed: each with the version of its plan.
    PlansChanged(Vec<Arc<Site>>),
    SiteRemoved(SiteName),
    /// It is new, or its terms have changed.
    AgentRegistered(AgentName, Terms),
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
    /// Somebody who has not proved to be the site asks for what waits.
    Knock(SiteName),
    /// An operator wants something done to deliveries.
    Act(Asked),
    /// What of them is open.
    Looked {
        asked: Asked,
        found: Vec<Waiting>,
    },
    /// Settle all that waits for a site that is closing.
    CloseSite {
        site: SiteName,
        token: Token,
        left: Left,
    },
    /// Some of what is left of a site's mail; nothing: that was all. None: it could not be read.
    LeftRead {
        site: SiteName,
        read: u64,
        found: Option<Vec<Waiting>>,
    },
    /// The process is about to end.
    Stop,
    /// Somebody has looked: the wall clock is right.
    ClockConfirmed,
    /// Only time has passed.
    Time,
}

/// Why a delivery could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLoaded {
    /// It is settled.
    Gone,
    /// All that it was to carry was settled while it was read: an earlier lease was told of.
    Told,
    /// It is damaged: shown, not tried again by itself.
    Damaged,
    /// Something else was in the way; it is tried again a little later.
    NotNow,
}

/// What the core wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Order(AttachmentId, Order),
    Assign(Assign),
    ReadHead {
        read: u64,
        of: HeadOf,
    },
    /// These will be assigned soon: their contents are of use in memory.
    ReadAhead(Vec<DeliveryId>),
    /// Reads a page of a queue, whatever is due in it.
    Walk {
        site: SiteName,
        read: u64,
        after: Option<Position>,
    },
    /// Reads some of what is left of a site's mail, in any state.
    ReadLeft {
        site: SiteName,
        read: u64,
    },
    Settle(Settle),
    Note(Note),
    /// A note that owes its sender a notice of delay.
    Warn(Warn),
    /// Whoever looks after the site is told what its mail server answers.
    TellContact {
        site: Arc<Site>,
        reply: String,
    },
    Find(Question),
    /// The site's timer, remembered for the next start; None: there is nothing to wait for.
    Timer {
        site: SiteName,
        at: Option<Timestamp>,
    },
    /// Remembered for the next start, until the clock is confirmed: then None.
    Clock(ClockNews),
    Answer(Token, Released),
    /// The drain of some agent has ended, to be remembered for the next start.
    DrainEnded,
    /// Somebody waits for what is to be written.
    WriteNow,
    /// Asks what of these is open.
    Look(Asked),
    /// What was done to deliveries; the settlements it takes are on their way.
    Acted(Token, Result<u64, Refused>),
    /// So many of its deliveries were settled, and none is left.
    SiteClosed(Token, u64),
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

/// A settlement, with its evidence and who waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) settlement: Settlement,
    pub(crate) evidence: Evidence,
    pub(crate) token: Option<Token>,
}

/// What stands behind a settlement: for its log line, and for what the sender is told.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) by: By,
    /// One for each recipient that is settled. Where the site did not answer at the end: the last that was heard of
    /// it, with code 0 if that was no reply.
    pub(crate) results: Vec<RecipientResult>,
    /// Since the message arrived.
    pub(crate) waited: Duration,
}

/// Who or what brought a settlement about.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// The site answered.
    Site {
        agent: AgentName,
        address: String,
        proof: String,
        delays: Delays,
        /// When its answer was reported; monotonic.
        told: Duration,
    },
    /// Its time was over.
    Lifetime,
    Operator,
}

/// A delivery is late.
#[derive(Debug, Clone)]
pub(crate) struct Warn {
    pub(crate) note: Note,
    /// One for each open recipient: the last that was heard, with code 0 if that was no reply.
    pub(crate) results: Vec<RecipientResult>,
    /// Since the message arrived.
    pub(crate) waited: Duration,
    /// Until then it is tried again.
    pub(crate) until: Timestamp,
}

/// What only the store can answer: is the delivery still open?
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) agent: AgentName,
    pub(crate) asks: Asks,
    /// Which time it is asked; what left the hand later, the answer may not know.
    pub(super) number: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Asks {
    /// A report whose lease is not the one in hand.
    Report(Box<Report>, Standing),
    /// A dot that may have been sent under a lease that is not in hand.
    Dot(Lease, Telling),
}

/// Whether the agent has said its last word about the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Its journal holds nothing else: it waits for the acknowledgement.
    All,
    /// The attempt runs on, or nobody knows: its report is what is acknowledged.
    NotAll,
}

/// What a report may do beside settling what was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its lease was the last one given: it may defer and fail.
    Current,
    Stale,
}

impl Question {
    pub(super) fn new(agent: AgentName, asks: Asks) -> Self {
        let number = 0;
        Self {
            agent,
            asks,
            number,
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        match &self.asks {
            Asks::Report(report, _) => &report.lease,
            Asks::Dot(lease, _) => lease,
        }
    }

    /// Whether the agent waits for the acknowledgement of what is asked about.
    pub(super) fn is_owed(&self) -> bool {
        !matches!(self.asks, Asks::Dot(_, Telling::NotAll))
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
