//! What waits: every open delivery, in the order of its site's queue. Derived from the log, a pure fold over it.
//!
//! # Invariants
//! - A delivery is in `open` exactly as long as one of its recipients is not settled, and in its site's queue at its
//!   position then.
//! - Applying a record of a delivery that is not open changes nothing: a settled one stays settled.
//!
//! # Not here
//! Envelopes and contents: they are read where their record lies.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::log::Place;
use crate::store::{Count, Head, ListKey, ListPosition, Note, Position, Waiting};

/// Where a message lies, shared by its deliveries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    /// Name of its content file; empty where the content lies in the log.
    pub(crate) file: String,
}

#[derive(Debug)]
struct Message {
    stored: Stored,
    open_deliveries: usize,
}

#[derive(Debug, Default)]
struct Queue {
    order: BTreeMap<Position, MessageId>,
    count: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    open: BTreeMap<DeliveryId, Waiting>,
    messages: HashMap<MessageId, Message>,
    queues: BTreeMap<SiteName, Queue>,
    timers: BTreeMap<SiteName, Timestamp>,
    total: Count,
}

impl Index {
    pub(crate) fn accept(&mut self, stored: Stored, deliveries: &[Waiting]) {
        let Some(message) = deliveries.first().map(|it| it.delivery.message) else {
            return;
        };
        // A message that is there already is a copy of it: the later record wins.
        for waiting in deliveries {
            self.close(&waiting.delivery);
        }
        for waiting in deliveries {
            let queue = self
                .queues
                .entry(waiting.delivery.site.clone())
                .or_default();
            queue.order.insert(waiting.position, message);
            for count in [&mut queue.count, &mut self.total] {
                count.messages += 1;
                count.bytes += waiting.bytes;
            }
            self.open.insert(waiting.delivery.clone(), waiting.clone());
        }
        let open_deliveries = deliveries.len();
        let entry = Message {
            stored,
            open_deliveries,
        };
        self.messages.insert(message, entry);
    }

    /// Returns the name of the content file that nothing needs any more.
    pub(crate) fn settle(
        &mut self,
        delivery: &DeliveryId,
        recipients: impl Iterator<Item = RecipientNumber>,
    ) -> Option<String> {
        let waiting = self.open.get_mut(delivery)?;
        for number in recipients {
            waiting.open.retain(|open| *open != number);
        }
        if !waiting.open.is_empty() {
            return None;
        }
        self.close(delivery)
    }

    fn close(&mut self, delivery: &DeliveryId) -> Option<String> {
        let waiting = self.open.remove(delivery)?;
        if let Some(queue) = self.queues.get_mut(&delivery.site) {
            queue.order.remove(&waiting.position);
            for count in [&mut queue.count, &mut self.total] {
                count.messages -= 1;
                count.bytes -= waiting.bytes;
            }
            if queue.order.is_empty() {
                self.queues.remove(&delivery.site);
            }
        }
        let message = self.messages.get_mut(&delivery.message)?;
        message.open_deliveries -= 1;
        if message.open_deliveries > 0 {
            return None;
        }
        let stored = self.messages.remove(&delivery.message)?.stored;
        Some(stored.file).filter(|file| !file.is_empty())
    }

    pub(crate) fn note(&mut self, note: &Note) {
        let Some(waiting) = self.open.get_mut(&note.delivery) else {
            return;
        };
        let before = waiting.position;
        waiting.attempts = note.attempts;
        waiting.breaks = note.breaks;
        waiting.in_doubt = note.in_doubt;
        waiting.failed = note.failed;
        waiting.not_before = note.not_before;
        waiting.position.not_before_ms = note.not_before.map_or(0, millis);
        let after = waiting.position;
        if let Some(queue) = self.queues.get_mut(&note.delivery.site)
            && let Some(message) = queue.order.remove(&before)
        {
            queue.order.insert(after, message);
        }
    }

    /// A record was lost that may have settled any of them.
    pub(crate) fn doubt_all(&mut self) {
        for waiting in self.open.values_mut() {
            waiting.in_doubt = true;
        }
    }

    pub(crate) fn set_timer(&mut self, site: SiteName, at: Option<Timestamp>) {
        match at {
            Some(at) => self.timers.insert(site, at),
            None => self.timers.remove(&site),
        };
    }

    pub(crate) fn get(&self, delivery: &DeliveryId) -> Option<(&Waiting, &Stored)> {
        let waiting = self.open.get(delivery)?;
        let message = self.messages.get(&delivery.message)?;
        Some((waiting, &message.stored))
    }

    pub(crate) fn head(
        &self,
        site: &SiteName,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    ) -> Head {
        let mut head = Head::default();
        for (position, waiting) in self.behind(site, after) {
            // What has failed for good waits for somebody to be told, not for a time.
            if waiting.failed {
                continue;
            }
            if position.not_before_ms > millis(due) {
                head.next_due = waiting.not_before;
                break;
            }
            if head.due.len() == limit {
                head.more = true;
                break;
            }
            head.due.push(waiting.clone());
        }
        if head.more {
            head.next_due = self.first_behind(site, due);
        }
        head
    }

    fn first_behind(&self, site: &SiteName, due: Timestamp) -> Option<Timestamp> {
        let last_due = Position {
            not_before_ms: millis(due),
            sequence: u64::MAX,
        };
        self.behind(site, Some(last_due))
            .find(|(_, waiting)| !waiting.failed)
            .and_then(|(_, waiting)| waiting.not_before)
    }

    fn behind(
        &self,
        site: &SiteName,
        after: Option<Position>,
    ) -> impl Iterator<Item = (Position, &Waiting)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let queue = self.queues.get(site).into_iter();
        let site = site.clone();
        queue
            .flat_map(move |queue| queue.order.range((from, Bound::Unbounded)))
            .filter_map(move |(position, message)| {
                let delivery = DeliveryId {
                    message: *message,
                    site: site.clone(),
                };
                Some((*position, self.open.get(&delivery)?))
            })
    }

    pub(crate) fn find(&self, id: MessageId) -> Vec<Waiting> {
        let first = DeliveryId {
            message: id,
            // No name sorts before it.
            site: "0".parse().expect("`0` is a name"),
        };
        self.open
            .range(first..)
            .take_while(|(delivery, _)| delivery.message == id)
            .map(|(_, waiting)| waiting.clone())
            .collect()
    }

    pub(crate) fn list(
        &self,
        site: Option<&SiteName>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> (Vec<Waiting>, Option<ListPosition>) {
        let found: Vec<Waiting> = match site {
            Some(site) => {
                let after = match after {
                    Some(ListPosition(ListKey::Site(position))) => Some(*position),
                    _ => None,
                };
                let behind = self.behind(site, after).take(limit);
                behind.map(|(_, waiting)| waiting.clone()).collect()
            }
            None => {
                let from = match after {
                    Some(ListPosition(ListKey::All(delivery))) => Bound::Excluded(delivery),
                    _ => Bound::Unbounded,
                };
                let behind = self.open.range((from, Bound::Unbounded)).take(limit);
                behind.map(|(_, waiting)| waiting.clone()).collect()
            }
        };
        let next = found
            .last()
            .filter(|_| found.len() == limit)
            .map(|last| match site {
                Some(_) => ListKey::Site(last.position),
                None => ListKey::All(last.delivery.clone()),
            });
        (found, next.map(ListPosition))
    }

    pub(crate) fn count(&self, site: &SiteName) -> Count {
        self.queues
            .get(site)
            .map_or_else(Count::default, |it| it.count)
    }

    pub(crate) fn total(&self) -> Count {
        self.total
    }

    pub(crate) fn sites_with_mail(&self) -> Vec<(SiteName, Option<Timestamp>)> {
        let with_timer = |site: &SiteName| (site.clone(), self.timers.get(site).copied());
        self.queues.keys().map(with_timer).collect()
    }

    /// The content files of open messages.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let files = self.messages.values().map(|it| it.stored.file.as_str());
        files.filter(|file| !file.is_empty())
    }

    /// The oldest segment that still holds an open message.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.messages
            .values()
            .map(|it| it.stored.place.segment)
            .min()
    }
}

/// Milliseconds since 1970; nothing was there before.
pub(crate) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
