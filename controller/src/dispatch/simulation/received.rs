//! What the made-up sites have.

use std::collections::BTreeSet;

use dd_proto::id::{DeliveryId, RecipientNumber};

use super::agent::Work;

type To = (DeliveryId, RecipientNumber);

#[derive(Debug, Default)]
pub(crate) struct Received {
    once: BTreeSet<To>,
    /// Second copies.
    pub(crate) again: u32,
    /// One that went out again and was not marked as in doubt.
    pub(crate) unmarked: Option<DeliveryId>,
}

impl Received {
    pub(crate) fn has(&self, to: &To) -> bool {
        self.once.contains(to)
    }

    /// A site takes a message for a recipient.
    pub(crate) fn comes(&mut self, to: To, work: &Work) {
        if self.once.insert(to) {
            return;
        }
        self.again += 1;
        if !work.in_doubt {
            self.unmarked = Some(work.lease.delivery.clone());
        }
    }
}
