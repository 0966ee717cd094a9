//! What happens, for whoever watches: told while somebody does, and never waited for.
//!
//! # Invariants
//! A watcher that is slow loses events, and is told how many; it holds up nothing.

use dd_proto::id::{DeliveryId, RecipientNumber};
use dd_proto::name::{AgentName, SiteName};
use jiff::Timestamp;

use super::LastAttempt;
use crate::store::Settled;

/// Events that a watcher may be behind.
pub(super) const BEHIND: usize = 1024;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    pub at: Timestamp,
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Accepted {
        delivery: DeliveryId,
        bytes: u64,
    },
    /// A site is in another state.
    SiteMoved {
        site: SiteName,
        /// idle ready proving flowing waiting held
        state: &'static str,
        /// down wrong-host refused busy deferred
        why: Option<&'static str>,
    },
    Attempted {
        delivery: DeliveryId,
        attempt: LastAttempt,
    },
    /// Durably.
    Settled {
        delivery: DeliveryId,
        recipients: Vec<(RecipientNumber, Settled)>,
        reply: String,
    },
    Released(SiteName),
    AgentAttached(AgentName),
    AgentDetached(AgentName),
}

/// Whether anybody watches; what nobody sees is not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Watched {
    #[default]
    No,
    Yes,
}
