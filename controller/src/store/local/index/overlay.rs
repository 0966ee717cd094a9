//! What the index knows and the shelf does not yet: laid over every look-up, written in batches.
//!
//! Mail of this start and mail of earlier ones have a layer each, told apart by the sequence of the original. Until all
//! is known only the earlier layer is written, so a shelf that proves wrong can be thrown away and filled again from
//! the old log, and nothing of this start is lost with it.
//!
//! # Invariants
//! - A slot is `fresh` as long as the shelf has never seen its key: removing it then leaves no trace. So mail that is
//!   settled before the next batch never reaches the shelf.
//! - While a batch is being written its slots stay here, no longer fresh.
//! - The epoch changes when a batch begins and when it ends. Between two looks with the same epoch the shelf has not
//!   changed under any key that is not here.

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

type Slots<T> = BTreeMap<Vec<u8>, Slot<T>>;
type Written<T> = Vec<(Vec<u8>, Slot<T>)>;

#[derive(Debug, Default)]
struct Layer {
    queue: Slots<Entry>,
    /// Sorted, so that all deliveries of a message are found.
    ids: Slots<Position>,
}

#[derive(Debug)]
pub(super) struct Overlay {
    /// The first sequence of this start.
    own_from: u64,
    own: Layer,
    earlier: Layer,
    timers: HashMap<SiteName, Option<u64>>,
    epoch: u64,
}

/// What is being written to the shelf.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) queue: Written<Entry>,
    pub(super) ids: Written<Position>,
    pub(super) timers: Vec<(SiteName, Option<u64>)>,
}

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Earlier,
    All,
    /// What the shelf has seen before: what is new may be gone before it has to be written.
    Changed,
}

/// The pending part of a range of the queue.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// None: removed.
    pub(super) slots: BTreeMap<Vec<u8>, Option<Entry>>,
    pub(super) removed: usize,
    /// From it on more may be pending; None: that is all.
    pub(super) open_from: Option<Vec<u8>>,
}

/// Keys of one batch; more wait for the next one, so a batch stays within a few MiB.
const BATCH: usize = 4096;

impl Overlay {
    pub(super) fn new(own_from: u64) -> Self {
        Self {
            own_from,
            own: Layer::default(),
            earlier: Layer::default(),
            timers: HashMap::new(),
            epoch: 0,
        }
    }

    fn layer(&mut self, position: Position) -> &mut Layer {
        match position.sequence >= self.own_from {
            true => &mut self.own,
            false => &mut self.earlier,
        }
    }

    /// Forgets all mail of earlier starts.
    pub(super) fn forget_earlier(&mut self) {
        self.earlier = Layer::default();
        self.epoch += 1;
    }

    /// A delivery that no one has seen before.
    pub(super) fn insert(&mut self, delivery: &DeliveryId, position: Position, entry: Entry) {
        let layer = self.layer(position);
        let queue_key = key::queue(&delivery.site, position);
        set(&mut layer.queue, queue_key, entry, true);
        set(&mut layer.ids, key::id(delivery), position, true);
    }

    /// A delivery changed, and perhaps its position; its sequence does not.
    pub(super) fn replace(
        &mut self,
        delivery: &DeliveryId,
        from: Position,
        to: Position,
        entry: Entry,
    ) {
        let layer = self.layer(to);
        let moved = from != to;
        // A key that moved is new to the shelf; one that stayed is known to it unless it is still fresh here.
        set(
            &mut layer.queue,
            key::queue(&delivery.site, to),
            entry,
            moved,
        );
        if moved {
            remove(&mut layer.queue, key::queue(&delivery.site, from));
            set(&mut layer.ids, key::id(delivery), to, false);
        }
    }

    pub(super) fn remove(&mut self, delivery: &DeliveryId, position: Position) {
        let layer = self.layer(position);
        remove(&mut layer.queue, key::queue(&delivery.site, position));
        remove(&mut layer.ids, key::id(delivery));
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// None: ask the shelf.
    pub(super) fn position(&self, id: &[u8]) -> Option<Option<Position>> {
        let slot = self.own.ids.get(id).or_else(|| self.earlier.ids.get(id));
        slot.map(|slot| slot.value)
    }

    /// None: ask the shelf.
    pub(super) fn entry(&self, queue_key: &[u8]) -> Option<Option<Entry>> {
        let earlier = || self.earlier.queue.get(queue_key);
        let slot = self.own.queue.get(queue_key).or_else(earlier);
        slot.map(|slot| slot.value.clone())
    }

    pub(super) fn ids_of(&self, message: &[u8; 16]) -> Vec<Vec<u8>> {
        let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(message), Bound::Unbounded);
        let of = |layer: &Layer| {
            let ids = layer.ids.range::<[u8], _>(from).map(|(id, _)| id.clone());
            ids.take_while(|id| id.starts_with(message))
                .collect::<Vec<_>>()
        };
        [of(&self.own), of(&self.earlier)].concat()
    }

    /// At least the first `limit` pending entries of a range, and what is removed among them.
    pub(super) fn slice(&self, from: &[u8], end: Option<&[u8]>, limit: usize) -> Slice {
        let mut slice = Slice::default();
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if end.is_some_and(|end| end <= from) {
            return slice;
        }
        for layer in [&self.own, &self.earlier] {
            let range = layer.queue.range::<[u8], _>((Bound::Included(from), upper));
            let mut live = 0;
            for (key, slot) in range {
                if live == limit {
                    let here = key.clone();
                    slice.open_from = Some(match slice.open_from.take() {
                        Some(other) => other.min(here),
                        None => here,
                    });
                    break;
                }
                live += usize::from(slot.value.is_some());
                slice.removed += usize::from(slot.value.is_none());
                slice.slots.insert(key.clone(), slot.value.clone());
            }
        }
        slice
    }

    /// Up to `limit` entries of this start, in order.
    pub(super) fn own(&self, from: &[u8], end: &[u8], limit: usize) -> Vec<(Vec<u8>, Entry)> {
        if end <= from {
            return Vec::new();
        }
        let range = (Bound::Included(from), Bound::Excluded(end));
        let range = self.own.queue.range::<[u8], _>(range);
        range
            .filter_map(|(key, slot)| Some((key.clone(), slot.value.clone()?)))
            .take(limit)
            .collect()
    }

    pub(super) fn set_timer(&mut self, site: SiteName, ms: Option<u64>) {
        self.timers.insert(site, ms);
    }

    pub(super) fn len(&self, which: Which) -> usize {
        let of = |layer: &Layer| layer.queue.len() + layer.ids.len();
        match which {
            Which::Earlier => of(&self.earlier),
            Which::All | Which::Changed => of(&self.earlier) + of(&self.own) + self.timers.len(),
        }
    }

    pub(super) fn begin_flush(&mut self, which: Which) -> Flush {
        self.epoch += 1;
        let mut queue = begin(&mut self.earlier.queue, BATCH, which);
        let mut ids = begin(&mut self.earlier.ids, BATCH, which);
        let mut timers = Vec::new();
        if which != Which::Earlier {
            queue.extend(begin(&mut self.own.queue, BATCH - queue.len(), which));
            ids.extend(begin(&mut self.own.ids, BATCH - ids.len(), which));
            timers.extend(self.timers.iter().map(|(s, ms)| (s.clone(), *ms)));
        }
        Flush { queue, ids, timers }
    }

    /// Forgets what was written, unless it has changed meanwhile.
    pub(super) fn end_flush(&mut self, flush: Flush) {
        self.epoch += 1;
        for layer in [&mut self.own, &mut self.earlier] {
            end(&mut layer.queue, &flush.queue);
            end(&mut layer.ids, &flush.ids);
        }
        for (site, ms) in flush.timers {
            if self.timers.get(&site) == Some(&ms) {
                self.timers.remove(&site);
            }
        }
    }
}

fn set<T>(map: &mut Slots<T>, key: Vec<u8>, value: T, new: bool) {
    let fresh = map.get(&key).map_or(new, |slot| slot.fresh);
    let value = Some(value);
    map.insert(key, Slot { value, fresh });
}

fn remove<T>(map: &mut Slots<T>, key: Vec<u8>) {
    if map.get(&key).is_some_and(|slot| slot.fresh) {
        map.remove(&key);
    } else {
        let (value, fresh) = (None, false);
        map.insert(key, Slot { value, fresh });
    }
}

fn begin<T: Clone>(map: &mut Slots<T>, limit: usize, which: Which) -> Written<T> {
    map.iter_mut()
        .filter(|(_, slot)| which != Which::Changed || !slot.fresh)
        .take(limit)
        .map(|(key, slot)| {
            slot.fresh = false;
            (key.clone(), slot.clone())
        })
        .collect()
}

fn end<T: PartialEq>(map: &mut Slots<T>, written: &Written<T>) {
    for (key, slot) in written {
        if map.get(key) == Some(slot) {
            map.remove(key);
        }
    }
}
