//! The queue index: which deliveries are open, in the order in which they become due. Derived from the log.
//!
//! sled holds it on disk; what has not been written to sled yet lies in an overlay that every look-up sees first. A
//! delivery that is settled before the next batch never reaches sled. The same functions apply a record that was just
//! committed and one that a start replays.
//!
//! # Invariants
//! - Nothing here is the truth: the whole folder may be deleted, and is, whenever it cannot be trusted.
//! - Every call into sled runs inside `catch_unwind`: damaged pages may panic long after it was opened.
//!
//! # Not here
//! Whether the index can be trusted: [`super::start`].

pub(crate) mod entry;
pub(crate) mod key;
mod overlay;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use prost::Message as _;

use crate::store::{Count, Head, Position, StoreError, Waiting};

use super::body;
use super::log::Written;
use entry::{Entry, millis};
use key::NEVER;
use overlay::Overlay;

/// 48 MiB: measured enough for a million entries.
const CACHE_BYTES: u64 = 48 << 20;

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    db: sled::Db,
    queue: sled::Tree,
    ids: sled::Tree,
    timers: sled::Tree,
    overlay: Mutex<Overlay>,
    counts: Mutex<HashMap<SiteName, Count>>,
    start: u64,
}

/// A content file that no open delivery names any more.
pub(crate) type Unnamed = Option<String>;

impl Index {
    /// # Errors
    /// sled's, also where it panics.
    pub(crate) fn open(dir: &Path, start: u64) -> Result<Self, StoreError> {
        guarded(|| {
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                .open()?;
            Ok(Self {
                queue: db.open_tree("queue")?,
                ids: db.open_tree("ids")?,
                timers: db.open_tree("timers")?,
                db,
                overlay: Mutex::default(),
                counts: Mutex::default(),
                start,
            })
        })
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<SiteName, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut entry = Entry {
                id: accepted.id.clone().into(),
                arrived_ms: accepted.arrived_ms,
                bytes: accepted.bytes,
                segment: written.place.segment,
                offset: written.place.offset,
                len: written.place.len,
                file: accepted.file.clone(),
                start,
                ..Entry::default()
            };
            entry.set_open(&delivery.recipients);
            let Some(seen) = entry.waiting(site.clone(), position, self.start) else {
                continue;
            };
            self.overlay().insert(&seen.delivery, position, entry);
            self.count(&site, 1, accepted.bytes);
            waiting.push(seen);
        }
        waiting
    }

    /// Recipients of a delivery were settled. Settling what is settled changes nothing.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn settled(&self, settled: &body::Settled) -> Result<Unnamed, StoreError> {
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
        self.count(&delivery.site, -1, entry.bytes);
        if entry.file.is_empty() || !self.find(delivery.message)?.is_empty() {
            return Ok(None);
        }
        Ok(Some(entry.file))
    }

    /// Something is remembered about a delivery that is still open.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn noted(&self, noted: &body::Noted) -> Result<(), StoreError> {
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

    /// After damage in the log: a settlement may have been lost with it.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn doubt_everything(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let entries = self.scan(after.as_deref().unwrap_or(&[]), None, 1000)?;
            let Some((last, _)) = entries.last() else {
                return Ok(());
            };
            after = Some([last.as_slice(), &[0]].concat());
            for (bytes, mut entry) in entries {
                let parsed = key::parse_queue(&bytes);
                let id = MessageId::try_from(&entry.id[..]);
                if let (Some((site, position)), Ok(message)) = (parsed, id) {
                    entry.doubted = true;
                    let delivery = DeliveryId { message, site };
                    self.overlay().replace(&delivery, position, position, entry);
                }
            }
        }
    }

    pub(crate) fn get(
        &self,
        delivery: &DeliveryId,
    ) -> Result<Option<(Position, Entry)>, StoreError> {
        let id = key::id(delivery);
        // Held throughout: an entry that moves between two look-ups would seem to be settled.
        let overlay = self.overlay();
        let position = match overlay.position(&id) {
            Some(position) => position,
            None => guarded(|| self.ids.get(&id))?.and_then(|tail| key::position(&tail)),
        };
        let Some(position) = position else {
            return Ok(None);
        };
        let queue_key = key::queue(&delivery.site, position);
        let entry = match overlay.entry(&queue_key) {
            Some(entry) => entry,
            None => match guarded(|| self.queue.get(&queue_key))? {
                Some(value) => Some(decode(&value)?),
                None => None,
            },
        };
        Ok(entry.map(|entry| (position, entry)))
    }

    /// # Errors
    /// sled's.
    pub(crate) fn head(
        &self,
        site: &SiteName,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    ) -> Result<Head, StoreError> {
        let from = match after {
            Some(position) => [key::queue(site, position).as_slice(), &[0]].concat(),
            None => key::site_prefix(site),
        };
        let mut head = Head::default();
        for (bytes, entry) in self.scan(&from, Some(&key::site_end(site)), limit + 1)? {
            let Some((site, position)) = key::parse_queue(&bytes) else {
                continue;
            };
            if position.not_before_ms == NEVER {
                break;
            }
            if position.not_before_ms > millis(due) {
                head.next_due = entry::time(position.not_before_ms);
                break;
            }
            if head.due.len() == limit {
                head.more = true;
                break;
            }
            head.due.extend(entry.waiting(site, position, self.start));
        }
        Ok(head)
    }

    /// All open deliveries of a message.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreError> {
        let prefix = message.as_bytes();
        // Held for both: what a flush takes from one to the other meanwhile would be in neither.
        let overlay = self.overlay();
        let mut ids = overlay.ids_of(prefix);
        let stored: Vec<Vec<u8>> = guarded(|| {
            self.ids
                .scan_prefix(prefix)
                .keys()
                .map(|key| key.map(|key| key.to_vec()))
                .collect()
        })?;
        drop(overlay);
        ids.extend(stored);
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        for id in ids {
            let site = std::str::from_utf8(&id[16..])
                .ok()
                .and_then(|s| s.parse().ok());
            let Some(site) = site else { continue };
            let delivery = DeliveryId { message, site };
            if let Some((position, entry)) = self.get(&delivery)? {
                found.extend(entry.waiting(delivery.site, position, self.start));
            }
        }
        Ok(found)
    }

    /// Open deliveries in the order of their keys, of one site or of all, behind `after`.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn list(
        &self,
        site: Option<&SiteName>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Waiting)>, StoreError> {
        let from = match (after, site) {
            (Some(after), _) => [after, &[0]].concat(),
            (None, Some(site)) => key::site_prefix(site),
            (None, None) => Vec::new(),
        };
        let end = site.map(key::site_end);
        let entries = self.scan(&from, end.as_deref(), limit)?;
        let listed = entries.into_iter().filter_map(|(bytes, entry)| {
            let (site, position) = key::parse_queue(&bytes)?;
            Some((bytes, entry.waiting(site, position, self.start)?))
        });
        Ok(listed.collect())
    }

    /// Up to `limit` entries from `from` on, the overlay laid over sled.
    fn scan(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Entry)>, StoreError> {
        // Held until sled has been read: an entry that moves meanwhile would be seen twice, or never.
        let overlay = self.overlay();
        let pending = overlay.range(from, end);
        let removed = pending.iter().filter(|(_, slot)| slot.is_none()).count();
        let wanted = limit + removed;
        let stored: Vec<(Vec<u8>, sled::IVec)> = guarded(|| {
            let all = match end {
                Some(end) => self.queue.range(from..end),
                None => self.queue.range(from..),
            };
            all.take(wanted)
                .map(|pair| pair.map(|(key, value)| (key.to_vec(), value)))
                .collect()
        })?;
        drop(overlay);
        let mut merged: std::collections::BTreeMap<Vec<u8>, Option<Entry>> =
            pending.into_iter().collect();
        // Behind the last stored key that was read, stored entries may be missing.
        let complete_to = (stored.len() == wanted)
            .then(|| stored.last().map(|(key, _)| key.clone()))
            .flatten();
        for (key, value) in stored {
            if let std::collections::btree_map::Entry::Vacant(vacant) = merged.entry(key) {
                vacant.insert(Some(decode(&value)?));
            }
        }
        Ok(merged
            .into_iter()
            .take_while(|(key, _)| complete_to.as_ref().is_none_or(|to| key <= to))
            .filter_map(|(key, entry)| Some((key, entry?)))
            .take(limit)
            .collect())
    }

    /// The content files that open deliveries name.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn content_files(&self) -> Result<HashSet<String>, StoreError> {
        let mut files = HashSet::new();
        let mut from = Vec::new();
        loop {
            let entries = self.scan(&from, None, 1000)?;
            let Some((last, _)) = entries.last() else {
                return Ok(files);
            };
            from = [last.as_slice(), &[0]].concat();
            let named = entries.into_iter().map(|(_, entry)| entry.file);
            files.extend(named.filter(|file| !file.is_empty()));
        }
    }

    pub(crate) fn set_timer(&self, site: &SiteName, at: Option<Timestamp>) {
        self.overlay().set_timer(site.clone(), at.map(millis));
    }

    /// # Errors
    /// sled's.
    pub(crate) fn timer(&self, site: &SiteName) -> Result<Option<Timestamp>, StoreError> {
        let pending = self.overlay().timer(site);
        let ms = match pending {
            Some(ms) => ms,
            None => guarded(|| self.timers.get(site.as_str()))?
                .and_then(|value| value.as_ref().try_into().ok())
                .map(u64::from_be_bytes),
        };
        Ok(ms.and_then(entry::time))
    }

    /// Writes what is pending to sled. Returns how many keys that were.
    ///
    /// # Errors
    /// sled's: the index is not to be trusted any more.
    pub(crate) fn flush_pending(&self) -> Result<usize, StoreError> {
        let batch = self.overlay().begin_flush();
        let (mut queue, mut ids, mut timers) = <(sled::Batch, sled::Batch, sled::Batch)>::default();
        for (key, slot) in &batch.queue {
            match &slot.value {
                Some(entry) => queue.insert(key.as_slice(), entry.encode_to_vec()),
                None => queue.remove(key.as_slice()),
            }
        }
        for (key, slot) in &batch.ids {
            match &slot.value {
                Some(position) => ids.insert(key.as_slice(), &key::tail(*position)),
                None => ids.remove(key.as_slice()),
            }
        }
        for (site, ms) in &batch.timers {
            match ms {
                Some(ms) => timers.insert(site.as_str(), &ms.to_be_bytes()),
                None => timers.remove(site.as_str()),
            }
        }
        guarded(|| {
            self.queue.apply_batch(queue)?;
            self.ids.apply_batch(ids)?;
            self.timers.apply_batch(timers)
        })?;
        let keys = batch.queue.len() + batch.ids.len() + batch.timers.len();
        self.overlay().end_flush(batch);
        Ok(keys)
    }

    /// Keys that are not in sled yet.
    pub(crate) fn pending(&self) -> usize {
        self.overlay().len()
    }

    /// Reads every entry once: fills the counts, and returns how many there are.
    ///
    /// # Errors
    /// sled's; an entry that does not parse.
    pub(crate) fn count_all(&self) -> Result<u64, StoreError> {
        let mut counts: HashMap<SiteName, Count> = HashMap::new();
        let mut entries = 0;
        guarded(|| {
            for pair in &self.queue {
                let (bytes, value) = pair?;
                let parsed = key::parse_queue(&bytes).zip(Entry::decode(&*value).ok());
                let Some(((site, _), entry)) = parsed else {
                    return Err(sled::Error::ReportableBug(
                        "an entry does not parse".to_owned(),
                    ));
                };
                let count = counts.entry(site).or_default();
                count.messages += 1;
                count.bytes += entry.bytes;
                entries += 1;
            }
            Ok(())
        })?;
        *self.counts() = counts;
        Ok(entries)
    }

    /// The last key written before a clean stop, and read at a start.
    ///
    /// # Errors
    /// sled's.
    pub(crate) fn end(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(guarded(|| self.db.get("end"))?.map(|value| value.to_vec()))
    }

    /// Writes the last key and makes sled's file durable. `flush` alone is no fsync on Linux, so `db` is synced by us.
    ///
    /// # Errors
    /// sled's and the disk's.
    pub(crate) fn close(&self, dir: &Path, end: &[u8]) -> Result<(), StoreError> {
        while self.flush_pending()? > 0 {}
        guarded(|| {
            self.db.flush()?;
            self.db.insert("end", end)?;
            self.db.flush().map(drop)
        })?;
        let file = std::fs::File::options().write(true).open(dir.join("db"));
        file.and_then(|file| file.sync_data())
            .map_err(StoreError::Disk)
    }

    pub(crate) fn count_of(&self, site: &SiteName) -> Count {
        self.counts().get(site).copied().unwrap_or_default()
    }

    pub(crate) fn all_counts(&self) -> Vec<(SiteName, Count)> {
        let counts = self.counts();
        counts
            .iter()
            .map(|(site, count)| (site.clone(), *count))
            .collect()
    }

    fn count(&self, site: &SiteName, messages: i64, bytes: u64) {
        let mut counts = self.counts();
        let count = counts.entry(site.clone()).or_default();
        count.messages = count.messages.saturating_add_signed(messages);
        count.bytes = match messages {
            0.. => count.bytes + bytes,
            _ => count.bytes.saturating_sub(bytes),
        };
        if count.messages == 0 {
            counts.remove(site);
        }
    }
}

fn delivery_id(id: &[u8], site: &str) -> Option<DeliveryId> {
    Some(DeliveryId {
        message: MessageId::try_from(id).ok()?,
        site: site.parse().ok()?,
    })
}

fn decode(value: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(value).map_err(|_| StoreError::Index("an entry does not parse".to_owned()))
}

/// sled panics on some damage; that is an error like any other here.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Index(error.to_string())),
        Err(_) => Err(StoreError::Index("sled panicked".to_owned())),
    }
}
