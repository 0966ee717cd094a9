//! Leases: who holds a delivery, under which generation, and until when.
//!
//! A lease is a promise with a clock: an agent sends no final dot on an expired one, so what it held may go elsewhere
//! once it has expired here and a little later.
//!
//! # Invariants
//! - A generation is never given twice, not even over restarts: its high half is the start number.
//! - An expired lease is never renewed.
//! - A delivery stays in hand until everything that is written about it is written; until then no head names it.

use std::time::Duration;

use dd_proto::id::{DeliveryId, Generation, Lease, RecipientNumber};
use dd_proto::name::AgentName;

use super::AttachmentId;
use super::event::Question;
use super::whom::Whom;
use crate::store::Waiting;

/// How long a lease lasts from the last answered beat on.
pub const LEASE: Duration = Duration::from_secs(30);
/// Between two beats of an agent.
pub const BEAT: Duration = Duration::from_secs(10);
/// The agent counts from earlier than we do; this covers what its clock and its last write may be late.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Twice what an agent may take until a home has proved itself: it connects, greets, says EHLO and TLS, at a few hosts.
const LONGEST_PROBE: Duration = Duration::from_secs(30 * 60);
/// A large message over a slow line takes hours.
const LONGEST_PLACE: Duration = Duration::from_secs(12 * 3600);

/// Makes generations.
#[derive(Debug)]
pub(super) struct Generations {
    last: Generation,
}

impl Generations {
    pub(super) fn new(start: u64) -> Self {
        let last = Generation { start, counter: 0 };
        Self { last }
    }

    pub(super) fn start(&self) -> u64 {
        self.last.start
    }

    /// The one given last.
    pub(super) fn last(&self) -> Generation {
        self.last
    }

    pub(super) fn next(&mut self) -> Generation {
        self.last.counter += 1;
        self.last
    }
}

/// What an attempt occupies at its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupies {
    /// The connect of a canary.
    Probe,
    /// A place in the window of a proved site.
    Place,
}

/// Whether the final dot is known to have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dot {
    NotSeen,
    Sent,
}

/// A delivery that an agent holds.
#[derive(Debug, Clone)]
pub(super) struct Leased {
    pub(super) generation: Generation,
    pub(super) agent: AgentName,
    /// The stream that the assignment went down, or that took it over.
    pub(super) attachment: AttachmentId,
    /// None for a lease of an earlier start that goes on: the store knows it.
    pub(super) waiting: Option<Waiting>,
    /// The recipients it was sent with; None: all that are open.
    pub(super) carried: Option<Vec<RecipientNumber>>,
    /// Known once it is sent.
    pub(super) whom: Option<Whom>,
    /// When it was given or taken over, and until when it lasts; monotonic.
    pub(super) since: Duration,
    pub(super) until: Duration,
    pub(super) occupies: Occupies,
    pub(super) dot: Dot,
    pub(super) freshness: Freshness,
}

/// Whether an attempt must ask DNS anew and open a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The first attempt after a release.
    Fresh,
    Any,
}

impl Leased {
    pub(super) fn is(&self, lease: &Lease, agent: &AgentName) -> bool {
        self.generation == lease.generation && self.agent == *agent
    }

    /// Whether nobody hears of it any more, though its agent speaks.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        let longest = match self.occupies {
            Occupies::Probe => LONGEST_PROBE,
            Occupies::Place => LONGEST_PLACE,
        };
        now >= self.since + longest
    }

    /// Renews it, unless it has expired, or is overdue.
    pub(super) fn renew(&mut self, now: Duration) {
        if self.until > now && !self.is_overdue(now) {
            self.until = now + LEASE;
        }
    }
}

/// A delivery that is not to be tried: leased, or with something about it on its way to the store.
#[derive(Debug, Default)]
pub(super) struct InHand {
    pub(super) leased: Option<Leased>,
    /// Settlements and notes that are not written yet.
    pub(super) unwritten: u32,
    /// Whose journals may forget it once all is written.
    pub(super) owed: Vec<(AgentName, Lease)>,
    /// Goes back to the head once all is written.
    pub(super) back: Option<Waiting>,
    /// Asked of the store once all is written.
    pub(super) questions: Vec<Question>,
}

/// The lease of a delivery in hand.
pub(super) fn lease_of(delivery: &DeliveryId, leased: &Leased) -> Lease {
    Lease {
        delivery: delivery.clone(),
        generation: leased.generation,
    }
}
