//! What assignments need from the store: read together, and where it can be foreseen before its turn comes.
//!
//! A visit to the store costs a change of thread; a queue that drains would pay it for each message, and its agent would
//! wait for it. So what a turn needs is read in few visits, and the contents of a flowing site's head are read when
//! the head is: they are in memory before there is a place for them.
//!
//! # Invariants
//! - A delivery is read once at a time, whether it is assigned meanwhile or not.
//! - What was read ahead is kept only as long as it waits; the cache bounds how much that is.
//!
//! # Not here
//! Which deliveries come next ([`super::head`]); what became of those that cannot be read ([`super::judge`]).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::DeliveryId;

use super::backing::{Backing, NotRead, ReadOf};
use super::cache::Cached;
use super::clock::Clock;
use super::event::{Assign, Event, NotLoaded};
use super::lease::Freshness;
use super::run::{Dispatch, Done};
use super::settled;
use super::{Assignment, Order};
use crate::store::{Loaded, StoredContent};

/// Contents up to this ride in the assignment.
pub(super) const INLINE: u64 = 64 * 1024;
/// Deliveries read in one visit: the first shall not wait for many others where the disk is slow.
const VISIT: usize = 16;

/// Deliveries that are being read, each with the assignment that waits for it.
#[derive(Debug, Default)]
pub(super) struct Reads {
    under_way: HashMap<DeliveryId, Option<Box<Assign>>>,
    /// Not asked for yet.
    wanted: Vec<DeliveryId>,
}

impl Reads {
    fn want(&mut self, delivery: DeliveryId, assign: Option<Box<Assign>>) {
        let waits = self.under_way.entry(delivery.clone()).or_insert_with(|| {
            self.wanted.push(delivery);
            None
        });
        // A later lease is the one that counts.
        if assign.is_some() {
            *waits = assign;
        }
    }
}

impl<S: Backing, C: Clock> Dispatch<S, C> {
    /// Sends an assignment if everything it needs is in memory; else reads first.
    pub(super) fn complete(&mut self, assign: Assign) {
        if assign.waiting.in_doubt {
            settled::log_again(&assign.lease.delivery);
        }
        let needs_content = assign.waiting.bytes <= INLINE;
        match self.cache.look_up(&assign.lease.delivery) {
            Some(cached) if cached.content.is_some() || !needs_content => {
                let assignment = assignment(&assign, &cached.envelope, cached.content.clone());
                self.send(assign.to, Order::Assign(assignment));
            }
            _ => {
                let delivery = assign.lease.delivery.clone();
                self.reads.want(delivery, Some(Box::new(assign)));
            }
        }
    }

    pub(super) fn read_ahead(&mut self, deliveries: Vec<DeliveryId>) {
        for delivery in deliveries {
            let cached = self.cache.look_up(&delivery);
            if cached.is_none_or(|cached| cached.content.is_none()) {
                self.reads.want(delivery, None);
            }
        }
    }

    /// Asks the store for all that this turn has found to be missing.
    pub(super) fn begin_reads(&mut self) {
        let mut wanted = std::mem::take(&mut self.reads.wanted)
            .into_iter()
            .peekable();
        while wanted.peek().is_some() {
            let (store, few) = (self.store.clone(), wanted.by_ref().take(VISIT).collect());
            self.done
                .spawn(async move { Done::Read(store.load_all(few).await) });
        }
    }

    pub(super) fn read(&mut self, read: Vec<ReadOf>) {
        for (delivery, loaded) in read {
            match self.reads.under_way.remove(&delivery).flatten() {
                Some(assign) => self.loaded(&assign, loaded),
                None => self.keep_ahead(delivery, loaded),
            }
        }
    }

    fn loaded(&mut self, assign: &Assign, loaded: Result<Option<Loaded>, NotRead>) {
        let lease = assign.lease.clone();
        let why = match loaded {
            Ok(Some(loaded)) => {
                let cached = in_memory(loaded);
                let order = assignment(assign, &cached.envelope, cached.content.clone());
                self.cache.put(lease.delivery, cached);
                return self.send(assign.to, Order::Assign(order));
            }
            Ok(None) => NotLoaded::Gone,
            Err(error) => {
                tracing::error!(%error, delivery = %lease.delivery, "not tried");
                match error {
                    NotRead::Damaged(_) => NotLoaded::Damaged,
                    NotRead::NotNow(_) => NotLoaded::NotNow,
                }
            }
        };
        self.apply(Event::NotLoaded { lease, why });
    }

    /// It may have been settled, or given up, while it was being read. What cannot be read shows when it is assigned.
    fn keep_ahead(&mut self, delivery: DeliveryId, loaded: Result<Option<Loaded>, NotRead>) {
        if let Ok(Some(loaded)) = loaded
            && self.state.will_assign(&delivery)
        {
            self.cache.put(delivery, in_memory(loaded));
        }
    }
}

fn in_memory(loaded: Loaded) -> Cached {
    Cached {
        envelope: Arc::new(loaded.envelope),
        content: match loaded.content {
            StoredContent::Inline(content) if content.len() as u64 <= INLINE => Some(content),
            StoredContent::Inline(_) | StoredContent::File(_) => None,
        },
    }
}

fn assignment(assign: &Assign, envelope: &Envelope, content: Option<Bytes>) -> Assignment {
    let mut envelope = envelope.clone();
    let open = &assign.waiting.open;
    envelope
        .recipients
        .retain(|recipient| open.contains(&recipient.number));
    Assignment {
        lease: assign.lease.clone(),
        version: assign.version,
        envelope,
        bytes: assign.waiting.bytes,
        content,
        in_doubt: assign.waiting.in_doubt,
        fresh: assign.freshness == Freshness::Fresh,
    }
}
