//! What goes to the shelf in batches.
//!
//! # Not here
//! When: the thread of the index ([`super::super::learn`]). What a start reads from it ([`super::take_over`]).

use std::sync::atomic::Ordering;

use dd_proto::name::SiteName;
use jiff::Timestamp;
use prost::Message as _;

use super::entry::{self, Entry, millis};
use super::overlay::Which;
use super::shelf::{Change, Table};
use super::{EARLIER_IN_MEMORY, Index, OWN_IN_MEMORY, key};
use crate::store::{NextTry, StoreError, WithMail};

impl Index {
    pub(crate) fn set_timer(&self, site: &SiteName, at: Option<Timestamp>) {
        match at.map(millis) {
            Some(ms) => self.timers().insert(site.clone(), ms),
            None => self.timers().remove(site),
        };
        self.overlay().set_timer(site.clone(), at.map(millis));
    }

    /// Sites for which mail waits, and when they were to be tried next; from memory.
    pub(crate) fn sites(&self) -> Vec<WithMail> {
        let sites = self.counts().sites();
        let lost = match self.has_timers.load(Ordering::Acquire) {
            true => NextTry::AtOnce,
            false => NextTry::Unknown,
        };
        let timers = self.timers();
        let next = |site: &SiteName| {
            let at = timers.get(site).copied().and_then(entry::time);
            at.map_or(lost, NextTry::At)
        };
        sites
            .into_iter()
            .map(|(site, newest_ms)| WithMail {
                next: next(&site),
                newest: entry::time(newest_ms).unwrap_or(Timestamp::MAX),
                site,
            })
            .collect()
    }

    /// Writes a batch of what is pending to the shelf; until all is known, of earlier starts only. Returns how many
    /// keys that were.
    ///
    /// # Errors
    /// The shelf's: the index is not to be trusted any more.
    pub(crate) fn flush_pending(&self) -> Result<usize, StoreError> {
        self.flush(match self.knows_all() {
            true => Which::All,
            false => Which::Earlier,
        })
    }

    /// Writes a batch of what the shelf has seen before, so that look-ups need not step over what is gone.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn flush_changed(&self) -> Result<usize, StoreError> {
        self.flush(Which::Changed)
    }

    /// While the old log is read: writes what is too much for memory, of this start only where that grows too large.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn keep_small(&self) -> Result<(), StoreError> {
        while self.pending(Which::Earlier) > EARLIER_IN_MEMORY {
            self.flush(Which::Earlier)?;
        }
        while self.pending(Which::All) - self.pending(Which::Earlier) > OWN_IN_MEMORY {
            if let Some(aside) = self.aside().as_mut() {
                aside.own_is_stored = true;
            }
            self.flush(Which::All)?;
        }
        Ok(())
    }

    fn flush(&self, which: Which) -> Result<usize, StoreError> {
        let Some(shelf) = self.shelf() else {
            return Ok(0);
        };
        let batch = self.overlay().begin_flush(which);
        let queue: Vec<Change> = batch
            .queue
            .iter()
            .map(|(key, slot)| (key.clone(), slot.value.as_ref().map(Entry::encode_to_vec)))
            .collect();
        let ids: Vec<Change> = batch
            .ids
            .iter()
            .map(|(key, slot)| (key.clone(), slot.value.map(|it| key::tail(it).to_vec())))
            .collect();
        let timers: Vec<Change> = batch
            .timers
            .iter()
            .map(|(site, ms)| {
                let value = ms.map(|ms| ms.to_be_bytes().to_vec());
                (site.as_str().as_bytes().to_vec(), value)
            })
            .collect();
        let keys = queue.len() + ids.len() + timers.len();
        for (table, changes) in [
            (Table::Queue, queue),
            (Table::Ids, ids),
            (Table::Timers, timers),
        ] {
            if !changes.is_empty() {
                shelf.apply(table, changes)?;
            }
        }
        self.overlay().end_flush(batch);
        Ok(keys)
    }

    /// Keys that are not on the shelf yet.
    pub(crate) fn pending(&self, which: Which) -> usize {
        self.overlay().len(which)
    }

    /// The last key written before a clean stop, and read at a start.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn end(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.shelf() {
            Some(shelf) => Ok(shelf.end()?),
            None => Ok(None),
        }
    }

    /// Writes everything that is pending, makes the shelf durable, and writes its last key.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn close(&self, end: &[u8]) -> Result<(), StoreError> {
        while self.flush_pending()? > 0 {}
        match self.shelf() {
            Some(shelf) => Ok(shelf.close(end)?),
            None => Err(StoreError::Closed),
        }
    }
}
