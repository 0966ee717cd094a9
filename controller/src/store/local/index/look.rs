//! Look-ups: the overlay laid over the shelf, both as of one moment, and nobody waits for the shelf.
//!
//! A look-up takes what is pending under the overlay's lock, reads the shelf without it, and takes the lock once more
//! to see that the epoch is still the same: then no batch has begun or ended in between, so what it read under keys
//! that are not pending is what the overlay lay upon. Else it looks again; after a few times it keeps the lock.
//!
//! # Not here
//! What changes the index: [`super`].

use std::collections::HashSet;

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use prost::Message as _;

use super::Index;
use super::entry::{self, Entry, millis};
use super::key::{self, NEVER};
use super::overlay::{Overlay, Slice};
use super::shelf::{Pair, Table};
use crate::store::{Head, Position, StoreError, Waiting};

/// A look-up that was overtaken so often keeps the lock.
const TRIES: usize = 3;
/// Entries read at a time by whoever reads all.
const PAGE: usize = 1000;

/// An open delivery, and what is known of it.
pub(crate) type Living = (DeliveryId, Position, Entry);

impl Index {
    /// Reads pending and stored as of one moment. `stored` may be called several times.
    fn consistently<P, S>(
        &self,
        pending: impl Fn(&Overlay) -> P,
        stored: impl Fn(&P) -> Result<S, StoreError>,
    ) -> Result<(P, S), StoreError> {
        for _ in 0..TRIES {
            let (seen, epoch) = {
                let overlay = self.overlay();
                (pending(&overlay), overlay.epoch())
            };
            let read = stored(&seen);
            if self.overlay().epoch() == epoch {
                return Ok((seen, read?));
            }
        }
        let overlay = self.overlay();
        let seen = pending(&overlay);
        let read = stored(&seen)?;
        Ok((seen, read))
    }

    /// Where an open delivery stands, and what is known of it.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn get(
        &self,
        delivery: &DeliveryId,
    ) -> Result<Option<(Position, Entry)>, StoreError> {
        let id = key::id(delivery);
        let queue_key = |position| key::queue(&delivery.site, position);
        let mut tries = 0;
        loop {
            let overlay = self.overlay();
            let (pending, epoch) = (overlay.position(&id), overlay.epoch());
            match pending {
                Some(None) => return Ok(None),
                Some(Some(position)) => {
                    if let Some(entry) = overlay.entry(&queue_key(position)) {
                        return Ok(entry.map(|entry| (position, entry)));
                    }
                }
                None => {}
            }
            let kept = (tries >= TRIES).then_some(overlay);
            let read = self.stored_entry(delivery, &id, pending.flatten());
            let overlay = kept.unwrap_or_else(|| self.overlay());
            if overlay.epoch() == epoch && overlay.position(&id) == pending {
                let Some((position, stored)) = read? else {
                    return Ok(None);
                };
                let entry = overlay.entry(&queue_key(position)).unwrap_or(stored);
                return Ok(entry.map(|entry| (position, entry)));
            }
            tries += 1;
        }
    }

    /// What the shelf says of a delivery, whose position may be pending.
    fn stored_entry(
        &self,
        delivery: &DeliveryId,
        id: &[u8],
        pending: Option<Position>,
    ) -> Result<Option<(Position, Option<Entry>)>, StoreError> {
        let stored_at = |position| {
            let value = self.stored(Table::Queue, &key::queue(&delivery.site, position))?;
            value.map(|value| decode(&value)).transpose()
        };
        if let Some(position) = pending {
            return Ok(Some((position, stored_at(position)?)));
        }
        let hint = self.hints().of(delivery);
        if let Some(position) = hint
            && let Some(entry) = stored_at(position)?
            && entry.id == delivery.message.as_bytes()[..]
        {
            return Ok(Some((position, Some(entry))));
        }
        let tail = self.stored(Table::Ids, id)?;
        let Some(position) = tail.and_then(|tail| key::position(&tail)) else {
            return Ok(None);
        };
        let stored = stored_at(position)?;
        self.hints().seen(delivery, position);
        Ok(Some((position, stored)))
    }

    /// # Errors
    /// The shelf's.
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
        let end = key::site_end(site);
        // Mail of earlier starts is nobody's before all is known: the record that settles it may be the last one.
        let entries = match self.knows_all() {
            true => self.scan(&from, Some(&end), limit + 1)?,
            false => self.overlay().own(&from, &end, limit + 1),
        };
        let mut head = Head::default();
        for (bytes, entry) in entries {
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
        let mut hints = self.hints();
        for waiting in &head.due {
            hints.seen(&waiting.delivery, waiting.position);
        }
        Ok(head)
    }

    /// All open deliveries of a message.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreError> {
        let prefix = message.as_bytes();
        let (mut ids, stored) = self.consistently(
            |overlay| overlay.ids_of(prefix),
            |_| self.stored_ids_of(prefix),
        )?;
        ids.extend(stored);
        ids.sort_unstable();
        ids.dedup();
        let mut found = Vec::new();
        for id in ids {
            let Some(site) = key::site(&id[16..]) else {
                continue;
            };
            let delivery = DeliveryId { message, site };
            if let Some((position, entry)) = self.get(&delivery)? {
                found.extend(entry.waiting(delivery.site, position, self.start));
            }
        }
        Ok(found)
    }

    fn stored_ids_of(&self, message: &[u8; 16]) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut ids, mut from) = (Vec::new(), message.to_vec());
        let end = key::ids_end(message);
        loop {
            let page =
                self.stored_range(Table::Ids, &from, end.as_ref().map(|it| &it[..]), PAGE)?;
            let whole = page.len() == PAGE;
            ids.extend(page.into_iter().map(|(id, _)| id));
            match ids.last() {
                Some(last) if whole => from = [last.as_slice(), &[0]].concat(),
                _ => return Ok(ids),
            }
        }
    }

    /// Open deliveries in the order of their keys, of one site or of all, behind `after`.
    ///
    /// # Errors
    /// The shelf's.
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

    /// Up to `limit` entries from `from` on, the overlay laid over the shelf.
    pub(super) fn scan(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Entry)>, StoreError> {
        let (slice, stored) = self.consistently(
            |overlay| overlay.slice(from, end, limit),
            |slice| self.stored_range(Table::Queue, from, end, limit + slice.removed),
        )?;
        merged(slice, stored, limit)
    }

    /// Calls `each` for every entry, in order.
    ///
    /// # Errors
    /// The shelf's, and what `each` says.
    pub(super) fn every(
        &self,
        mut each: impl FnMut(Vec<u8>, Entry) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let entries = self.scan(&from, None, PAGE)?;
            let Some((last, _)) = entries.last() else {
                return Ok(());
            };
            from = [last.as_slice(), &[0]].concat();
            for (key, entry) in entries {
                each(key, entry)?;
            }
        }
    }

    /// Open deliveries whose newest record lies in a segment, among so many from a key on; and where to go on, if not all
    /// have been looked at.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn living_in(
        &self,
        segment: u64,
        from: &[u8],
        limit: usize,
    ) -> Result<(Vec<Living>, Option<Vec<u8>>), StoreError> {
        let entries = self.scan(from, None, limit)?;
        let last = entries.last().filter(|_| entries.len() == limit);
        let next = last.map(|(key, _)| [key.as_slice(), &[0]].concat());
        let mut living = Vec::new();
        for (key, entry) in entries {
            let message = MessageId::try_from(&entry.id[..]).ok();
            if let Some(((site, position), message)) = key::parse_queue(&key).zip(message)
                && entry.segment == segment
            {
                living.push((DeliveryId { message, site }, position, entry));
            }
        }
        Ok((living, next))
    }

    /// Takes out of `files` those that open deliveries name.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn without_named(
        &self,
        mut files: HashSet<String>,
    ) -> Result<HashSet<String>, StoreError> {
        if !files.is_empty() {
            self.every(|_, entry| {
                files.remove(&entry.file);
                Ok(())
            })?;
        }
        Ok(files)
    }

    pub(super) fn stored(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.shelf() {
            Some(shelf) => Ok(shelf.get(table, key)?),
            None => Ok(None),
        }
    }

    pub(super) fn stored_range(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        match self.shelf() {
            Some(shelf) => Ok(shelf.range(table, from, end, limit)?),
            None => Ok(Vec::new()),
        }
    }
}

/// Lays what is pending over as much of the shelf as was read beside it; at least `limit` entries, if there are.
fn merged(
    slice: Slice,
    stored: Vec<Pair>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Entry)>, StoreError> {
    // Behind the last stored key that was read, stored entries may be missing.
    let complete_to = (stored.len() == limit + slice.removed)
        .then(|| stored.last().map(|(key, _)| key.clone()))
        .flatten();
    let mut all = slice.slots;
    for (key, value) in stored {
        if let std::collections::btree_map::Entry::Vacant(vacant) = all.entry(key) {
            vacant.insert(Some(decode(&value)?));
        }
    }
    Ok(all
        .into_iter()
        .take_while(|(key, _)| complete_to.as_ref().is_none_or(|to| key <= to))
        .take_while(|(key, _)| slice.open_from.as_ref().is_none_or(|from| key < from))
        .filter_map(|(key, entry)| Some((key, entry?)))
        .take(limit)
        .collect())
}

pub(super) fn decode(value: &[u8]) -> Result<Entry, StoreError> {
    Entry::decode(value).map_err(|_| StoreError::Index("an entry does not parse".to_owned()))
}
