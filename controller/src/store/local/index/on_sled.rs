//! The shelf on disk: the only file that calls sled.
//!
//! ```text
//! index/<number>/   one sled; a rebuild makes the next number and removes the others
//! ```
//! A number is never used twice, so whatever threads a given-up sled has left write to names nobody reads.
//!
//! # Invariants
//! - Every call runs inside `catch_unwind`: damaged pages may panic long after they were opened.
//! - `flush` is no fsync on Linux, so `close` syncs the file itself.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::shelf::{Change, Each, Pair, Shelf, ShelfError, Shelves, Table};
use crate::store::local::disk;

/// A rebuild with a million entries takes 48 s; with twice as much 42, and 20 MB more. A start after a clean stop is as fast.
const CACHE_BYTES: u64 = 8 << 20;
/// sled keeps what a batch replaces until the batch is through: filling an index with batches of 4,096 took 320 MB where
/// these take 75, and took longer.
const FEW: usize = 256;
/// How often sled syncs its file and moves what is live out of segments that are mostly not. Nobody relies on that sync; its
/// own choice is four times as often.
const SLED_TIDIES_EVERY_MS: u64 = 2_000;
const END: &str = "end";

/// Sleds below a directory.
#[derive(Debug)]
pub(crate) struct OnSled {
    dir: PathBuf,
}

#[derive(Debug)]
struct Sled {
    dir: PathBuf,
    db: sled::Db,
    queue: sled::Tree,
    ids: sled::Tree,
    timers: sled::Tree,
}

impl OnSled {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The numbers there are, and the highest.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the next number.
    fn remove_all(&self) -> io::Result<u64> {
        std::fs::create_dir_all(&self.dir)?;
        let next = self.numbers()?.last().map_or(1, |last| last + 1);
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(next)
    }
}

impl Shelves for OnSled {
    fn open(&self) -> Result<Arc<dyn Shelf>, ShelfError> {
        let numbers = self.numbers().map_err(from_io)?;
        let [number] = numbers[..] else {
            return Err(ShelfError::Failed("there is no one index".to_owned()));
        };
        let dir = self.dir.join(number.to_string());
        remove_half_snapshots(&dir).map_err(from_io)?;
        Ok(Arc::new(Sled::open(&dir)?))
    }

    fn clear(&self) -> Result<(), ShelfError> {
        self.remove_all().map(drop).map_err(from_io)
    }

    fn create(&self) -> Result<Arc<dyn Shelf>, ShelfError> {
        let number = self.remove_all().map_err(from_io)?;
        Ok(Arc::new(Sled::open(&self.dir.join(number.to_string()))?))
    }

    fn bytes(&self) -> u64 {
        bytes_below(&self.dir)
    }
}

impl Sled {
    fn open(dir: &Path) -> Result<Self, ShelfError> {
        guarded(|| {
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(SLED_TIDIES_EVERY_MS))
                .open()?;
            Ok(Self {
                queue: db.open_tree("queue")?,
                ids: db.open_tree("ids")?,
                timers: db.open_tree("timers")?,
                db,
                dir: dir.to_owned(),
            })
        })
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        match table {
            Table::Queue => &self.queue,
            Table::Ids => &self.ids,
            Table::Timers => &self.timers,
        }
    }

    fn pairs(&self, table: Table, from: &[u8], end: Option<&[u8]>) -> sled::Iter {
        match end {
            Some(end) => self.tree(table).range(from..end),
            None => self.tree(table).range(from..),
        }
    }
}

impl Shelf for Sled {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError> {
        guarded(|| Ok(self.tree(table).get(key)?.map(|value| value.to_vec())))
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, ShelfError> {
        guarded(|| {
            let pairs = self.pairs(table, from, end).take(limit);
            pairs
                .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect()
        })
    }

    fn every(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        each: &mut Each<'_>,
    ) -> Result<(), ShelfError> {
        guarded(|| {
            for pair in self.pairs(table, from, end) {
                let (key, value) = pair?;
                if each(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn apply(&self, table: Table, changes: Vec<Change>) -> Result<(), ShelfError> {
        for few in changes.chunks(FEW) {
            let mut batch = sled::Batch::default();
            for (key, value) in few {
                match value {
                    Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                    None => batch.remove(key.as_slice()),
                }
            }
            guarded(|| self.tree(table).apply_batch(batch))?;
        }
        // Not for durability: what is not written yet stays in memory.
        guarded(|| self.db.flush().map(drop))
    }

    fn end(&self) -> Result<Option<Vec<u8>>, ShelfError> {
        guarded(|| Ok(self.db.get(END)?.map(|value| value.to_vec())))
    }

    fn close(&self, end: &[u8]) -> Result<(), ShelfError> {
        let synced = || {
            let file = std::fs::File::options()
                .write(true)
                .open(self.dir.join("db"))?;
            file.sync_data()
        };
        guarded(|| self.db.flush().map(drop))?;
        synced().map_err(from_io)?;
        guarded(|| {
            self.db.insert(END, end)?;
            self.db.flush().map(drop)
        })?;
        synced().map_err(from_io)
    }
}

/// A crash can leave a snapshot that sled had not finished, and that its next open takes for a whole one.
fn remove_half_snapshots(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What cannot be read counts nothing: this is for people and for guesses.
fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn from_io(error: io::Error) -> ShelfError {
    match disk::is_full(&error) {
        true => ShelfError::Full,
        false => ShelfError::Failed(error.to_string()),
    }
}

/// sled panics on some damage; that is an error like any other here.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, ShelfError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(from_io(error)),
        Ok(Err(error)) => Err(ShelfError::Failed(error.to_string())),
        Err(_) => Err(ShelfError::Failed("sled panicked".to_owned())),
    }
}
