//! The shelf in memory, for simulations and tests: quick, the same every time, and bad on demand.
//!
//! The tables outlive what has opened them, as files would. What of them a crash leaves is the test's choice:
//! [`InMemory::lose`] and [`InMemory::forget_last`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shelf::{Change, Each, Pair, Shelf, ShelfError, Shelves, Table};

type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Shelves in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct InMemory(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    tables: Option<Tables>,
    end: Option<Vec<u8>>,
    /// One above every number given out: a shelf that was replaced fails.
    number: u64,
    /// Answers from now on; None: as it should be.
    fault: Option<ShelfError>,
    /// A table that cannot be read, until another one is in its place.
    unreadable: Option<Table>,
    /// Bytes that fit; None: any.
    room: Option<u64>,
    bytes: u64,
    applied: u64,
    pairs_read: u64,
    meanwhile: Option<Meanwhile>,
}

/// What a test does while a key is looked up.
#[derive(Clone)]
struct Meanwhile(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meanwhile").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Opened {
    kept: InMemory,
    number: u64,
}

impl InMemory {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files are gone.
    pub(crate) fn lose(&self) {
        let mut kept = self.lock();
        (kept.tables, kept.end) = (None, None);
    }

    /// An entry is missing, and nothing says so.
    pub(crate) fn forget_last(&self) {
        let mut kept = self.lock();
        let queue = kept
            .tables
            .as_mut()
            .and_then(|it| it.get_mut(&Table::Queue));
        queue.and_then(BTreeMap::pop_last);
    }

    /// The place of a delivery is missing, and nothing says so.
    pub(crate) fn forget_last_place(&self) {
        let mut kept = self.lock();
        let ids = kept.tables.as_mut().and_then(|it| it.get_mut(&Table::Ids));
        ids.and_then(BTreeMap::pop_last);
    }

    /// Every call fails from now on, or none does.
    pub(crate) fn fail(&self, fault: Option<ShelfError>) {
        self.lock().fault = fault;
    }

    /// A table lies where the disk cannot read.
    pub(crate) fn unreadable(&self, table: Table) {
        self.lock().unreadable = Some(table);
    }

    /// Only so much fits from now on.
    pub(crate) fn bound(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// Does this whenever something is read.
    pub(crate) fn meanwhile(&self, deed: impl Fn() + Send + Sync + 'static) {
        self.lock().meanwhile = Some(Meanwhile(Arc::new(deed)));
    }

    /// Keys ever written to the queue.
    pub(crate) fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// Pairs ever read from ranges.
    pub(crate) fn pairs_read(&self) -> u64 {
        self.lock().pairs_read
    }

    fn take(&self) -> Result<Arc<dyn Shelf>, ShelfError> {
        let mut kept = self.lock();
        kept.number += 1;
        let number = kept.number;
        match &kept.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(Arc::new(Opened {
                kept: self.clone(),
                number,
            })),
        }
    }
}

impl Shelves for InMemory {
    fn open(&self) -> Result<Arc<dyn Shelf>, ShelfError> {
        if self.lock().tables.is_none() {
            return Err(ShelfError::Failed("there is no index".to_owned()));
        }
        self.take()
    }

    fn clear(&self) -> Result<(), ShelfError> {
        self.lose();
        Ok(())
    }

    fn create(&self) -> Result<Arc<dyn Shelf>, ShelfError> {
        {
            let mut kept = self.lock();
            (kept.tables, kept.end, kept.bytes) = (Some(Tables::default()), None, 0);
            kept.unreadable = None;
        }
        self.take()
    }

    fn bytes(&self) -> u64 {
        self.lock().bytes
    }
}

impl Opened {
    fn kept(&self) -> Result<MutexGuard<'_, Kept>, ShelfError> {
        let kept = self.kept.lock();
        match &kept.fault {
            Some(fault) => Err(fault.clone()),
            None if kept.number != self.number || kept.tables.is_none() => {
                Err(ShelfError::Failed("the index was taken away".to_owned()))
            }
            None => Ok(kept),
        }
    }
}

impl Opened {
    fn readable(&self, table: Table) -> Result<MutexGuard<'_, Kept>, ShelfError> {
        let deed = self.kept()?.meanwhile.clone();
        if let Some(Meanwhile(deed)) = deed {
            deed();
        }
        let kept = self.kept()?;
        match kept.unreadable == Some(table) {
            true => Err(ShelfError::Failed("input/output error".to_owned())),
            false => Ok(kept),
        }
    }
}

impl Shelf for Opened {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        let mut kept = self.readable(table)?;
        let tables = kept.tables.get_or_insert_default();
        Ok(tables.get(&table).and_then(|it| it.get(key)).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, ShelfError> {
        let mut kept = self.readable(table)?;
        if end.is_some_and(|end| end <= from) {
            return Ok(Vec::new());
        }
        let tables = kept.tables.get_or_insert_default();
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let all = tables.entry(table).or_default();
        let pairs: Vec<Pair> = all
            .range::<[u8], _>((Bound::Included(from), upper))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        kept.pairs_read += pairs.len() as u64;
        Ok(pairs)
    }

    fn every(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        each: &mut Each<'_>,
    ) -> Result<(), ShelfError> {
        for (key, value) in self.range(table, from, end, usize::MAX)? {
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, table: Table, changes: Vec<Change>) -> Result<(), ShelfError> {
        let mut kept = self.kept()?;
        if table == Table::Queue {
            kept.applied += changes.len() as u64;
        }
        let written: usize = changes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        kept.bytes += written as u64;
        if kept.room.is_some_and(|room| kept.bytes > room) {
            return Err(ShelfError::Full);
        }
        let all = kept
            .tables
            .get_or_insert_default()
            .entry(table)
            .or_default();
        for (key, value) in changes {
            match value {
                Some(value) => all.insert(key, value),
                None => all.remove(&key),
            };
        }
        Ok(())
    }

    fn end(&self) -> Result<Option<Vec<u8>>, ShelfError> {
        Ok(self.kept()?.end.clone())
    }

    fn close(&self, end: &[u8]) -> Result<(), ShelfError> {
        self.kept()?.end = Some(end.to_owned());
        Ok(())
    }
}
