//! What the index is kept on: three ordered tables of bytes and one last key. sled in earnest, memory in simulations.
//!
//! # Invariants
//! A shelf is derived and may be lost or wrong at any time. After an error nothing more is asked of it: it is thrown
//! away, and another one is filled from the log.
//!
//! # Not here
//! What keys and values mean ([`super::key`], [`super::entry`]); when a shelf is trusted ([`super::super::learn`]).

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

/// One of the tables; [`super::key`] says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Queue,
    Ids,
    Timers,
}

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);
/// A key and its new value; None removes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Looks at a key and its value.
pub(crate) type Each<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Why a shelf is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShelfError {
    #[error("the disk is full")]
    Full,
    #[error("{0}")]
    Failed(String),
}

/// The tables.
pub(crate) trait Shelf: Debug + Send + Sync {
    /// # Errors
    /// The shelf is of no use any more, here and below.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ShelfError>;

    /// Up to `limit` pairs in the order of their keys, from `from` on and before `end`.
    fn range(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, ShelfError>;

    /// Calls `each` for all pairs from `from` on and before `end`, in the order of their keys and without a copy, until
    /// it says that it is enough.
    fn every(
        &self,
        table: Table,
        from: &[u8],
        end: Option<&[u8]>,
        each: &mut Each<'_>,
    ) -> Result<(), ShelfError>;

    fn apply(&self, table: Table, changes: Vec<Change>) -> Result<(), ShelfError>;

    /// The last key: only a clean stop writes it.
    fn end(&self) -> Result<Option<Vec<u8>>, ShelfError>;

    /// Makes everything durable, and then the last key.
    fn close(&self, end: &[u8]) -> Result<(), ShelfError>;
}

/// Where shelves come from.
pub(crate) trait Shelves: Debug + Send + Sync {
    /// What the last start left.
    fn open(&self) -> Result<Arc<dyn Shelf>, ShelfError>;

    /// Removes all there are.
    fn clear(&self) -> Result<(), ShelfError>;

    /// An empty one; all others are gone.
    fn create(&self) -> Result<Arc<dyn Shelf>, ShelfError>;

    /// Bytes on disk of all there are.
    fn bytes(&self) -> u64;
}
