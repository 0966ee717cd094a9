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

use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, RecipientNumber};

use super::backing::{Backing, NotRead};
use super::clock::Clock;
use super::event::{Assign, Event, NotLoaded};
use super::lease::Freshness;
use super::mail::{INLINE, Mail};
use super::run::{Dispatch, Done};
use super::settled;
use super::whom::Whom;
use super::{Assignment, Order};
use crate::store::Loaded;

/// Deliveries, or heads, read in one visit: the first shall not wait for many others where the disk is slow.
pub(super) const VISIT: usize = 16;

/// What became of reading a delivery; None: it is settled.
pub(super) type MailOf = (DeliveryId, Result<Option<Mail>, NotRead>);

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
        let needs_content = assign.waiting.bytes <= INLINE as u64;
        match self.cache.look_up(&assign.lease.delivery) {
            Some(cached) if cached.content.is_some() || !needs_content => {
                let assignment = assignment(&assign, cached);
                let whom = Whom::of(&cached.envelope, &assign.waiting.open);
                self.state.is_for(&assign.lease, whom);
                self.send(assign.to, Order::Assign(Box::new(assignment)));
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
            self.done.spawn(async move {
                let mut read = Vec::with_capacity(VISIT);
                for (delivery, loaded) in store.load_all(few).await {
                    read.push((delivery, in_memory(loaded).await));
                }
                Done::Read(read)
            });
        }
    }

    pub(super) fn read(&mut self, read: Vec<MailOf>) {
        for (delivery, read) in read {
            match self.reads.under_way.remove(&delivery).flatten() {
                Some(assign) => self.loaded(*assign, read),
                None => self.keep_ahead(delivery, read),
            }
        }
    }

    fn loaded(&mut self, mut assign: Assign, read: Result<Option<Mail>, NotRead>) {
        let lease = assign.lease.clone();
        let why = match read {
            Ok(Some(mail)) => {
                let now = self.clock.monotonic();
                let Some(waiting) = self.state.leased_now(&lease, now) else {
                    // Its lease ended while it was read: it is out elsewhere, or waits again.
                    return self.cache.put(lease.delivery, mail);
                };
                // Who had an earlier lease may have told of it meanwhile: what that settled does not go out again.
                let is_open = |number: &RecipientNumber| waiting.open.contains(number);
                assign.waiting.open.retain(is_open);
                assign.waiting.in_doubt |= waiting.in_doubt;
                match assign.waiting.open.is_empty() {
                    true => NotLoaded::Told,
                    false => return self.send_with(&assign, mail),
                }
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

    fn send_with(&mut self, assign: &Assign, mail: Mail) {
        let whom = Whom::of(&mail.envelope, &assign.waiting.open);
        self.state.is_for(&assign.lease, whom);
        let order = assignment(assign, &mail);
        self.cache.put(assign.lease.delivery.clone(), mail);
        self.send(assign.to, Order::Assign(Box::new(order)));
    }

    /// It may have been settled, or given up, while it was being read. What cannot be read shows when it is assigned.
    fn keep_ahead(&mut self, delivery: DeliveryId, read: Result<Option<Mail>, NotRead>) {
        if let Ok(Some(mail)) = read
            && self.state.will_assign(&delivery)
        {
            self.cache.put(delivery, mail);
        }
    }
}

async fn in_memory(loaded: Result<Option<Loaded>, NotRead>) -> Result<Option<Mail>, NotRead> {
    match loaded? {
        Some(loaded) => Ok(Some(Mail::read(loaded).await)),
        None => Ok(None),
    }
}

fn assignment(assign: &Assign, mail: &Mail) -> Assignment {
    let mut envelope = Envelope::clone(&mail.envelope);
    let open = &assign.waiting.open;
    envelope
        .recipients
        .retain(|recipient| open.contains(&recipient.number));
    Assignment {
        lease: assign.lease.clone(),
        version: assign.version,
        envelope,
        bytes: assign.waiting.bytes,
        content: mail.content.clone(),
        in_doubt: assign.waiting.in_doubt,
        fresh: assign.freshness == Freshness::Fresh,
    }
}
