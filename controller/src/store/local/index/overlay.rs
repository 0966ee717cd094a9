//! What the index knows and sled does not yet: laid over every look-up, written in batches.
//!
//! # Invariants
//! A slot is `fresh` as long as sled has never seen its key: removing it then leaves no trace. While a batch is being
//! written its slots stay here, no longer fresh.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use dd_proto::id::DeliveryId;
use dd_proto::name::SiteName;

use super::entry::Entry;
use super::key;
use crate::store::Position;

/// A pending value; None: removed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot<T> {
    pub(super) value: Option<T>,
    fresh: bool,
}

#[derive(Debug, Default)]
pub(super) struct Overlay {
    queue: BTreeMap<Vec<u8>, Slot<Entry>>,
    /// Sorted, so that all deliveries of a message are found.
    ids: BTreeMap<Vec<u8>, Slot<Position>>,
    timers: HashMap<SiteName, Option<u64>>,
}

/// What is being written to sled.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) queue: Vec<(Vec<u8>, Slot<Entry>)>,
    pub(super) ids: Vec<(Vec<u8>, Slot<Position>)>,
    pub(super) timers: Vec<(SiteName, Option<u64>)>,
}

/// Keys of one batch; more wait for the next one, so a batch stays within a few MiB.
const BATCH: usize = 4096;

impl Overlay {
    /// A delivery that no one has seen before.
    pub(super) fn insert(&mut self, delivery: &DeliveryId, position: Position, entry: Entry) {
        set(
            &mut self.queue,
            key::queue(&delivery.site, position),
            entry,
            true,
        );
        set(&mut self.ids, key::id(delivery), position, true);
    }

    /// A delivery changed, and perhaps its position.
    pub(super) fn replace(
        &mut self,
        delivery: &DeliveryId,
        from: Position,
        to: Position,
        entry: Entry,
    ) {
        if from != to {
            remove(&mut self.queue, key::queue(&delivery.site, from));
        }
        // A key that moved is new to sled; one that stayed is known to it unless it is still fresh here.
        set(
            &mut self.queue,
            key::queue(&delivery.site, to),
            entry,
            from != to,
        );
        set(&mut self.ids, key::id(delivery), to, false);
    }

    pub(super) fn remove(&mut self, delivery: &DeliveryId, position: Position) {
        remove(&mut self.queue, key::queue(&delivery.site, position));
        remove(&mut self.ids, key::id(delivery));
    }

    /// None: ask sled.
    pub(super) fn position(&self, id: &[u8]) -> Option<Option<Position>> {
        self.ids.get(id).map(|slot| slot.value)
    }

    /// None: ask sled.
    pub(super) fn entry(&self, queue_key: &[u8]) -> Option<Option<Entry>> {
        self.queue.get(queue_key).map(|slot| slot.value.clone())
    }

    pub(super) fn ids_of(&self, message: &[u8; 16]) -> Vec<Vec<u8>> {
        let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(message), Bound::Unbounded);
        self.ids
            .range::<[u8], _>(from)
            .take_while(|(id, _)| id.starts_with(message))
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(super) fn range(&self, from: &[u8], end: Option<&[u8]>) -> Vec<(Vec<u8>, Option<Entry>)> {
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if end.is_some_and(|end| end <= from) {
            return Vec::new();
        }
        self.queue
            .range::<[u8], _>((Bound::Included(from), upper))
            .map(|(key, slot)| (key.clone(), slot.value.clone()))
            .collect()
    }

    pub(super) fn set_timer(&mut self, site: SiteName, ms: Option<u64>) {
        self.timers.insert(site, ms);
    }

    /// None: ask sled.
    pub(super) fn timer(&self, site: &SiteName) -> Option<Option<u64>> {
        self.timers.get(site).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.ids.len() + self.timers.len()
    }

    pub(super) fn begin_flush(&mut self) -> Flush {
        Flush {
            queue: begin(&mut self.queue),
            ids: begin(&mut self.ids),
            timers: self.timers.iter().map(|(s, ms)| (s.clone(), *ms)).collect(),
        }
    }

    /// Forgets what was written, unless it has changed meanwhile.
    pub(super) fn end_flush(&mut self, flush: Flush) {
        end(&mut self.queue, flush.queue);
        end(&mut self.ids, flush.ids);
        for (site, ms) in flush.timers {
            if self.timers.get(&site) == Some(&ms) {
                self.timers.remove(&site);
            }
        }
    }
}

fn set<T>(map: &mut BTreeMap<Vec<u8>, Slot<T>>, key: Vec<u8>, value: T, new: bool) {
    let fresh = map.get(&key).map_or(new, |slot| slot.fresh);
    let value = Some(value);
    map.insert(key, Slot { value, fresh });
}

fn remove<T>(map: &mut BTreeMap<Vec<u8>, Slot<T>>, key: Vec<u8>) {
    if map.get(&key).is_some_and(|slot| slot.fresh) {
        map.remove(&key);
    } else {
        let (value, fresh) = (None, false);
        map.insert(key, Slot { value, fresh });
    }
}

fn begin<T: Clone>(map: &mut BTreeMap<Vec<u8>, Slot<T>>) -> Vec<(Vec<u8>, Slot<T>)> {
    map.iter_mut()
        .take(BATCH)
        .map(|(key, slot)| {
            slot.fresh = false;
            (key.clone(), slot.clone())
        })
        .collect()
}

fn end<T: PartialEq>(map: &mut BTreeMap<Vec<u8>, Slot<T>>, written: Vec<(Vec<u8>, Slot<T>)>) {
    for (key, slot) in written {
        if map.get(&key) == Some(&slot) {
            map.remove(&key);
        }
    }
}
