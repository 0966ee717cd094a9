//! The seam: everything the rest of the controller may ask of storage, in the domain's words.
//!
//! `local/` implements it with two append-only logs (what must not be forgotten) and sled (derived from them).
//!
//! # Invariants
//! What `accept`, `settle` and `put` answered Ok for survives a power cut. Positions are opaque: sequences, files and
//! offsets never leave this folder.
//!
//! # Not here
//! When anything is tried: [`crate::dispatch`].

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, RecipientNumber};
use dd_proto::report::{Disposition, Reply};
use jiff::Timestamp;

/// Where a delivery stands in its site's queue: due mail first, then by the time it becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds since 1970; 0: due from the start.
    pub(in crate::store) not_before_ms: u64,
    pub(in crate::store) sequence: u64,
}

#[cfg(test)]
impl Position {
    /// For stores that tests make up.
    pub(crate) fn made_up(not_before_ms: u64, sequence: u64) -> Self {
        Self {
            not_before_ms,
            sequence,
        }
    }
}

/// An open delivery as the index knows it: small, without envelope and content.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub delivery: DeliveryId,
    pub position: Position,
    pub arrived: Timestamp,
    /// None: due.
    pub not_before: Option<Timestamp>,
    pub attempts: u32,
    pub breaks: u32,
    /// An attempt may have reached the site.
    pub in_doubt: bool,
    /// A final answer that nobody could be told of yet: shown, not tried again.
    pub failed: bool,
    pub bytes: u64,
    /// Recipients that are not settled.
    pub open: Vec<RecipientNumber>,
    /// It was accepted by an earlier start of the controller.
    pub earlier_start: bool,
}

/// The due part of a site's queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    /// In the order in which they are to be tried.
    pub due: Vec<Waiting>,
    /// There are more behind the last one that are due too.
    pub more: bool,
    /// When the first one that is not due becomes due.
    pub next_due: Option<Timestamp>,
}

/// A delivery with all that an assignment needs.
#[derive(Debug)]
pub struct Loaded {
    pub waiting: Waiting,
    /// All recipients of the message, also those of other sites and those that are settled.
    pub envelope: Envelope,
    pub content: StoredContent,
}

#[derive(Debug)]
pub enum StoredContent {
    Inline(Bytes),
    /// In a file of its own; read in order.
    File(tokio::fs::File),
}

/// What became of some recipients of a delivery. It is closed when none is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub delivery: DeliveryId,
    pub recipients: Vec<(RecipientNumber, Settled)>,
}

/// The final word about one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Relayed,
    Failed,
    Removed,
}

/// What is remembered about an open delivery, and not waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub delivery: DeliveryId,
    pub attempts: u32,
    pub breaks: u32,
    pub in_doubt: bool,
    pub failed: bool,
    pub not_before: Option<Timestamp>,
    /// The reply it was kept for, shown to operators.
    pub last: Option<(Disposition, Reply)>,
}

/// What waits for a site, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}
