//! The queue index: which deliveries are open, in the order in which they become due. Derived from the log.
//!
//! A shelf holds it on disk; what has not been written there yet lies in an overlay that every look-up sees first. A
//! delivery that is settled before the next batch never reaches the shelf. The same functions apply a record that was
//! just committed and one that a start replays.
//!
//! # Until all is known
//! The records of earlier starts come in beside new ones, from another thread and in their own order. Nothing of that
//! can go wrong, because the two never touch the same delivery:
//! - A message of this start has a sequence above all old ones, its own layer of the overlay, and no old record speaks
//!   of it. It is shown at once, and never written to the shelf before all is known.
//! - A record of *this* start about mail of an *earlier* one is in the log, and set aside here. When the old log has
//!   been read to its end these are applied, in order, behind everything old: the last word is theirs.
//! - So a shelf that disagrees, or does not fit, is thrown away with all old mail and filled again, and nothing of this
//!   start has to be read twice. (Should a start accept more than [`OWN_IN_MEMORY`] meanwhile, that is written too; if
//!   the shelf fails after that, the process ends, and the next start reads it all.)
//! - No content file is unlinked.
//!
//! # Invariants
//! - Nothing here is the truth: the whole folder may be deleted, and is, whenever it cannot be trusted.
//! - The writer never waits for a look-up's reading of the shelf ([`look`]).
//!
//! # Not here
//! Whether the index can be trusted, and how it is filled: [`super::learn`].

mod carry;
mod counts;
pub(crate) mod entry;
mod hints;
#[cfg(test)]
pub(crate) mod in_memory;
mod keep;
pub(crate) mod key;
mod look;
pub(crate) mod on_sled;
mod overlay;
pub(crate) mod shelf;
pub(crate) mod take_over;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;

use crate::store::{Count, Position, StoreError, Waiting};

use super::body;
use super::log::{Place, Written};
use counts::Counts;
pub(crate) use counts::Live;
use entry::Entry;
use hints::Hints;
use overlay::Overlay;
use shelf::{Shelf, ShelfError};

pub(crate) use look::Living;
pub(crate) use overlay::Which;

/// Keys of this start's mail that wait in memory until all is known; two for each delivery.
const OWN_IN_MEMORY: usize = 400_000;
/// Keys of earlier mail that wait for the shelf while the old log is read: what is settled among them never gets there.
const EARLIER_IN_MEMORY: usize = 100_000;

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    /// None: it is not open yet; then only mail of this start is known.
    shelf: RwLock<Option<Arc<dyn Shelf>>>,
    overlay: Mutex<Overlay>,
    counts: Mutex<Counts>,
    timers: Mutex<HashMap<SiteName, u64>>,
    hints: Mutex<Hints>,
    /// Those of the last start have been taken over.
    has_timers: AtomicBool,
    /// None: all is known.
    aside: Mutex<Option<Aside>>,
    all_known: AtomicBool,
    own: Own,
    start: u64,
}

/// Where this start's own mail begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) sequence: u64,
    pub(crate) segment: u64,
}

/// What waits until all is known.
#[derive(Debug, Default)]
struct Aside {
    records: Vec<Late>,
    files: Vec<String>,
    /// Mail of this start is on the shelf: it cannot be thrown away any more.
    own_is_stored: bool,
}

/// A record of this start about mail of an earlier one.
#[derive(Debug)]
enum Late {
    Settled(body::Settled),
    Noted(body::Noted),
}

/// A content file that no open delivery names any more.
pub(crate) type Unnamed = Option<String>;

impl Index {
    /// Without a shelf yet.
    pub(crate) fn new(own: Own, start: u64) -> Self {
        Self {
            shelf: RwLock::new(None),
            overlay: Mutex::new(Overlay::new(own.sequence)),
            counts: Mutex::new(Counts::new(own.sequence)),
            timers: Mutex::default(),
            hints: Mutex::new(Hints::new()),
            has_timers: AtomicBool::new(false),
            aside: Mutex::new(Some(Aside::default())),
            all_known: AtomicBool::new(false),
            own,
            start,
        }
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timers(&self) -> MutexGuard<'_, HashMap<SiteName, u64>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aside(&self) -> MutexGuard<'_, Option<Aside>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf(&self) -> Option<Arc<dyn Shelf>> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        shelf.clone()
    }

    /// Whether mail of earlier starts is known to its last record.
    pub(crate) fn knows_all(&self) -> bool {
        self.all_known.load(Ordering::Acquire)
    }

    /// Where this start's own records begin.
    pub(crate) fn own_sequence(&self) -> u64 {
        self.own.sequence
    }

    /// Puts another shelf in the place of what there was, and forgets all mail of earlier starts.
    pub(crate) fn stand_on(&self, shelf: Option<Arc<dyn Shelf>>) {
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = shelf;
        self.overlay().forget_earlier();
        self.counts().forget_earlier(self.own.segment);
    }

    /// Whether the shelf holds mail of this start, and so cannot be replaced.
    pub(crate) fn own_is_stored(&self) -> bool {
        self.aside().as_ref().is_none_or(|it| it.own_is_stored)
    }

    /// A message was accepted by the record `written`. Returns its deliveries.
    pub(crate) fn accepted(
        &self,
        accepted: &body::Accepted,
        written: Written,
        start: u64,
    ) -> Vec<Waiting> {
        let position = Position {
            not_before_ms: accepted.not_before_ms,
            sequence: written.sequence,
        };
        let mut waiting = Vec::with_capacity(accepted.deliveries.len());
        for delivery in &accepted.deliveries {
            let Ok(site) = delivery.site.parse::<SiteName>() else {
                continue;
            };
            let mut entry = entry_of(accepted, written.place, start);
            entry.set_open(&delivery.recipients);
            let Some(seen) = entry.waiting(site.clone(), position, self.start) else {
                continue;
            };
            self.counts().opened(&site, position, &entry);
            self.overlay().insert(&seen.delivery, position, entry);
            waiting.push(seen);
        }
        waiting
    }

    /// Recipients of a delivery were settled, by a record of this start. Settling what is settled changes nothing.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn settled(&self, settled: &body::Settled) -> Result<Unnamed, StoreError> {
        let Some(delivery) = delivery_id(&settled.id, &settled.site) else {
            return Ok(None);
        };
        if self.comes_late(&delivery, || Late::Settled(settled.clone()))? {
            return Ok(None);
        }
        let unnamed = self.apply_settled(settled)?;
        match self.aside().as_mut() {
            Some(aside) => {
                aside.files.extend(unnamed);
                Ok(None)
            }
            None => Ok(unnamed),
        }
    }

    /// Something is remembered about a delivery that is still open, by a record of this start.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn noted(&self, noted: &body::Noted) -> Result<(), StoreError> {
        let Some(delivery) = delivery_id(&noted.id, &noted.site) else {
            return Ok(());
        };
        if self.comes_late(&delivery, || Late::Noted(noted.clone()))? {
            return Ok(());
        }
        self.apply_noted(noted)
    }

    /// Whether a note tells nothing that is not known already but how often and when next a delivery is tried.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn knows_but_for_attempts(&self, noted: &body::Noted) -> Result<bool, StoreError> {
        let delivery = delivery_id(&noted.id, &noted.site);
        let Some(delivery) = delivery.filter(|_| noted.dsn.is_none()) else {
            return Ok(false);
        };
        let known = self.get(&delivery)?;
        Ok(known.is_some_and(|(_, known)| {
            (known.in_doubt, known.failed, known.kept, known.warned)
                == (noted.in_doubt, noted.failed, noted.kept, noted.warned)
        }))
    }

    /// Sets a record aside where it is about mail of an earlier start and not all of that is known.
    fn comes_late(
        &self,
        delivery: &DeliveryId,
        late: impl FnOnce() -> Late,
    ) -> Result<bool, StoreError> {
        if self.knows_all() {
            return Ok(false);
        }
        let found = self.get(delivery)?;
        if found.is_some_and(|(position, _)| position.sequence >= self.own.sequence) {
            return Ok(false);
        }
        match self.aside().as_mut() {
            Some(aside) => {
                aside.records.push(late());
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// All records of earlier starts are applied: now those that came late, and from here on everything at once.
    /// Returns the content files that nobody names any more.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn knows_now(&self) -> Result<Vec<String>, StoreError> {
        // Held throughout: what the writer applies next comes behind these.
        let mut aside = self.aside();
        let Aside {
            records, mut files, ..
        } = aside.take().unwrap_or_default();
        for late in &records {
            match late {
                Late::Settled(settled) => files.extend(self.apply_settled(settled)?),
                Late::Noted(noted) => self.apply_noted(noted)?,
            }
        }
        self.all_known.store(true, Ordering::Release);
        Ok(files)
    }

    /// # Errors
    /// The shelf's.
    pub(crate) fn apply_settled(&self, settled: &body::Settled) -> Result<Unnamed, StoreError> {
        let Some(delivery) = delivery_id(&settled.id, &settled.site) else {
            return Ok(None);
        };
        let Some((position, mut entry)) = self.get(&delivery)? else {
            return Ok(None);
        };
        for recipient in &settled.recipients {
            entry.settle(recipient.number);
        }
        if !entry.is_closed() {
            self.overlay().replace(&delivery, position, position, entry);
            return Ok(None);
        }
        self.overlay().remove(&delivery, position);
        self.counts().closed(&delivery.site, position, &entry);
        if entry.file.is_empty() || !self.find(delivery.message)?.is_empty() {
            return Ok(None);
        }
        Ok(Some(entry.file))
    }

    /// # Errors
    /// The shelf's.
    pub(crate) fn apply_noted(&self, noted: &body::Noted) -> Result<(), StoreError> {
        let Some(delivery) = delivery_id(&noted.id, &noted.site) else {
            return Ok(());
        };
        if let Some((position, mut entry)) = self.get(&delivery)? {
            let to = Position {
                not_before_ms: entry.note(noted),
                ..position
            };
            self.overlay().replace(&delivery, position, to, entry);
        }
        Ok(())
    }

    /// After damage in the log: a settlement of what an earlier start recorded before it may have been lost with it.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn doubt_before(&self, damage: Place) -> Result<(), StoreError> {
        self.every(|bytes, mut entry| {
            let parsed = key::parse_queue(&bytes);
            let id = MessageId::try_from(&entry.id[..]);
            let (Some((site, position)), Ok(message)) = (parsed, id) else {
                return Ok(());
            };
            let earlier = position.sequence < self.own.sequence;
            let before = (entry.segment, entry.offset) < (damage.segment, damage.offset);
            if earlier && before && !entry.doubted {
                entry.doubted = true;
                let delivery = DeliveryId { message, site };
                self.overlay().replace(&delivery, position, position, entry);
                self.keep_small()?;
            }
            Ok(())
        })
    }

    pub(crate) fn count_of(&self, site: &SiteName) -> Count {
        self.counts().site(site)
    }

    pub(crate) fn total(&self) -> Count {
        self.counts().total()
    }

    /// When the oldest that is open has come: milliseconds since 1970, to four seconds.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.counts().oldest_ms()
    }

    /// What lives in a segment of the log.
    pub(crate) fn live_in(&self, segment: u64) -> Live {
        self.counts().live(segment)
    }

    /// What lives in the whole log.
    pub(crate) fn live(&self) -> Live {
        self.counts().live_in_all()
    }

    /// What lives in all segments: as it is kept, and counted anew.
    #[cfg(test)]
    pub(crate) fn live_both_ways(&self) -> (Live, Live) {
        let counts = self.counts();
        (counts.live_in_all(), counts.live_counted())
    }
}

/// What every delivery has whose message a record holds.
fn entry_of(accepted: &body::Accepted, place: Place, start: u64) -> Entry {
    Entry {
        id: accepted.id.clone().into(),
        arrived_ms: accepted.arrived_ms,
        bytes: accepted.bytes,
        segment: place.segment,
        offset: place.offset,
        len: place.len,
        file: accepted.file.clone(),
        sharing: u32::try_from(accepted.deliveries.len()).unwrap_or(u32::MAX),
        start,
        ..Entry::default()
    }
}

impl From<ShelfError> for StoreError {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::Full => Self::IndexFull,
            ShelfError::Failed(error) => Self::Index(error),
        }
    }
}

fn delivery_id(id: &[u8], site: &str) -> Option<DeliveryId> {
    Some(DeliveryId {
        message: MessageId::try_from(id).ok()?,
        site: site.parse().ok()?,
    })
}
