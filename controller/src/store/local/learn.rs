//! The thread of the index: it learns what earlier starts have left, and then writes behind the log.
//!
//! ```text
//!   clean stop, and marker, last key, log and one full scan agree ──────────────┐
//!          │ anything else                                                      ▼
//!          └─▶ shelf deleted ─▶ old log read from its beginning ─▶ late records ─▶ all is known ─▶ a batch now and then
//!                  ▲                    │ the disk is full
//!                  └── there is room ◀──┘ (ballast first; then 452, and wait)
//! ```
//! Intake is open all the while, and new mail is in the index at once ([`super::index`] says why the two do not meet).
//! A stop before all is known writes no marker: the next start reads the log again.
//!
//! # Invariants
//! - Nothing on the shelf is shown as all there is before it has been read once from end to end.
//! - A thread that ends otherwise than by a stop ends the process.
//!
//! # Not here
//! The end of the old log, which is cut before this start's own segment exists: [`super::start`].

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::watch;

use super::ballast::Ballast;
use super::body;
use super::content::Contents;
use super::index::shelf::Shelves;
use super::index::take_over::{Counted, Tables};
use super::index::{Index, Which};
use super::log::Written;
use super::record::Kind;
use super::replay::{self, Found, Replayed, Wanted};
use super::segment::Segment;
use super::start::Places;
use crate::store::{Progress, Stage, StoreError};

/// How often pending changes of what the shelf knows go there.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often new mail does: what is delivered sooner never gets there.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// More pending keys than this go at once; a few MiB.
const MANY: usize = 32 * 1024;
/// How often it is said how far the reading has come.
const SAY_EVERY: Duration = Duration::from_secs(3);
/// How often it is looked whether there is room again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);
/// More than a try has taken has to be free before the next one.
const MORE_ROOM: u64 = 64 << 20;

/// How far it is, for everybody.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) all: watch::Sender<bool>,
    progress: Mutex<Progress>,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self {
            all: watch::Sender::new(false),
            progress: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.lock()
    }
}

/// What the thread owns.
#[derive(Debug)]
pub(crate) struct Learner {
    pub(crate) index: Arc<Index>,
    pub(crate) shelves: Arc<dyn Shelves>,
    pub(crate) places: Places,
    pub(crate) contents: Contents,
    /// The segments of earlier starts.
    pub(crate) old: Vec<(Segment, PathBuf)>,
    /// What the marker of a clean stop says, where the ends of both logs say the same.
    pub(crate) clean_stop: Option<CleanStop>,
    pub(crate) start: u64,
    pub(crate) known: Arc<Known>,
    pub(crate) ballast: Ballast,
    pub(crate) failed: watch::Sender<bool>,
    /// Its other end is dropped when the thread shall end.
    pub(crate) ended: Receiver<()>,
}

/// A marker that agrees with the logs.
#[derive(Debug, Clone)]
pub(crate) struct CleanStop {
    pub(crate) marker: Vec<u8>,
    pub(crate) entries: u64,
}

/// Why a step came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    ToTheEnd,
    /// The process stops.
    ToAStop,
}

impl Learner {
    pub(crate) fn run(self) {
        self.told(|| self.learn_and_write());
    }

    /// Learns all at once, or else writes what is pending.
    #[cfg(test)]
    pub(crate) fn step(&self) {
        let all_is_known = *self.known.all.borrow();
        self.told(|| match all_is_known {
            true => self.index.flush_pending().map(|_| ()),
            false => self.learn().map(|_| ()),
        });
    }

    /// Does some work; where it fails, the process ends.
    fn told(&self, work: impl FnOnce() -> Result<(), StoreError>) {
        let ran = catch_unwind(AssertUnwindSafe(work));
        let error = match ran {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => StoreError::Index("its thread panicked".to_owned()),
        };
        if matches!(error, StoreError::IndexFull) {
            // Room for the next start's rebuild.
            self.ballast.give_up();
        }
        tracing::error!(%error, "the index failed; the next start rebuilds it");
        self.failed.send_replace(true);
    }

    fn learn_and_write(&self) -> Result<(), StoreError> {
        if self.learn()? == Came::ToAStop {
            tracing::warn!("stopped before the queue of earlier starts was known");
            return Ok(());
        }
        self.ballast.make();
        let mut flushed = elapsed();
        while self.ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            if flushed.elapsed() >= FLUSH_EVERY || self.index.pending(Which::All) > MANY {
                self.write_what_is_pending()?;
                flushed = elapsed();
            } else {
                self.index.flush_changed()?;
            }
        }
        Ok(())
    }

    /// Once through: what comes meanwhile has time.
    fn write_what_is_pending(&self) -> Result<(), StoreError> {
        let mut left = self.index.pending(Which::All);
        while left > 0 {
            left = left.saturating_sub(self.index.flush_pending()?.max(1));
        }
        Ok(())
    }

    fn learn(&self) -> Result<Came, StoreError> {
        let came = match self.trusts_the_shelf() {
            Some(came) => came,
            None => self.rebuild_where_it_fits()?,
        };
        if came == Came::ToAStop {
            return Ok(came);
        }
        for file in self.index.knows_now()? {
            self.contents.unlink(&file);
        }
        self.known.lock().stage = Stage::Done;
        self.known.all.send_replace(true);
        let total = self.index.total();
        tracing::info!(
            messages = total.messages,
            bytes = total.bytes,
            "all is known"
        );
        Ok(Came::ToTheEnd)
    }

    /// Opens the shelf after a clean stop and reads all of it once. None: it does not agree, or cannot be read.
    fn trusts_the_shelf(&self) -> Option<Came> {
        let clean_stop = self.clean_stop.as_ref()?;
        match self.scan(clean_stop) {
            Ok(came) => came,
            Err(error) => {
                tracing::warn!(%error, "the index cannot be read: it is rebuilt");
                None
            }
        }
    }

    fn scan(&self, clean_stop: &CleanStop) -> Result<Option<Came>, StoreError> {
        self.index.stand_on(Some(self.shelves.open()?));
        if self.index.end()?.as_ref() != Some(&clean_stop.marker) {
            tracing::warn!("the index lacks its last key: it is rebuilt");
            return Ok(None);
        }
        *self.known.lock() = Progress {
            stage: Stage::Checking,
            of: clean_stop.entries,
            ..Progress::default()
        };
        let timers = self.index.stored_timers()?;
        let Counted { entries, tables } = self.index.count_all(&timers, |entries| {
            self.known.lock().records = entries;
            !self.is_to_stop()
        })?;
        if self.is_to_stop() {
            return Ok(Some(Came::ToAStop));
        }
        let expected = clean_stop.entries;
        if entries != expected || tables == Tables::Differ {
            tracing::warn!(
                entries,
                expected,
                ?tables,
                "the index is not what it was: it is rebuilt"
            );
            return Ok(None);
        }
        self.known.lock().records = entries;
        self.index.take_timers(timers);
        Ok(Some(Came::ToTheEnd))
    }

    fn rebuild_where_it_fits(&self) -> Result<Came, StoreError> {
        loop {
            match self.rebuild() {
                Err(StoreError::IndexFull) if !self.index.own_is_stored() => {}
                come => return come,
            }
            let wanted = self.shelves.bytes() + MORE_ROOM;
            self.index.stand_on(None);
            // What cannot be removed is removed by the next try.
            let _ = self.shelves.clear();
            if !self.ballast.give_up() && self.wait_for(wanted) == Came::ToAStop {
                return Ok(Came::ToAStop);
            }
        }
    }

    /// Until as much is free.
    fn wait_for(&self, wanted: u64) -> Came {
        tracing::error!(
            wanted,
            "the disk is too full for the index: no mail is accepted until there is room"
        );
        self.known.lock().stage = Stage::NoRoom { wanted };
        while self.ended.recv_timeout(LOOK_FOR_ROOM) == Err(RecvTimeoutError::Timeout) {
            if self.places.free() >= wanted {
                return Came::ToTheEnd;
            }
        }
        Came::ToAStop
    }

    /// An empty shelf, filled from the old log.
    fn rebuild(&self) -> Result<Came, StoreError> {
        self.index.stand_on(None);
        self.index.stand_on(Some(self.shelves.create()?));
        let len = |path: &Path| self.places.disk.open(path).and_then(|file| file.len());
        let of = self
            .old
            .iter()
            .map(|(_, path)| len(path).unwrap_or(0))
            .sum();
        *self.known.lock() = Progress {
            stage: Stage::Rebuilding,
            of,
            ..Progress::default()
        };
        let mut said = elapsed();
        let mut failed = None;
        let read = replay::read(
            &*self.places.disk,
            &self.old,
            &self.places.quarantine,
            self.index.own_sequence(),
            |kind, envelope| match kind == Kind::Carried && self.is_a_copy(envelope) {
                true => Wanted::Contents,
                false => Wanted::Envelopes,
            },
            |found, bytes| {
                failed = self.apply(&found).err();
                self.count(bytes, &mut said);
                failed.is_none() && !self.is_to_stop()
            },
        );
        if let Some(error) = failed {
            return Err(error);
        }
        let was = read.map_err(StoreError::Disk)?;
        if self.is_to_stop() {
            return Ok(Came::ToAStop);
        }
        if let Some(place) = was.last_damage {
            self.index.doubt_before(place)?;
        }
        while self.index.pending(Which::Earlier) > 0 {
            self.index.flush_pending()?;
        }
        self.set_orphans_aside(&was)?;
        Ok(Came::ToTheEnd)
    }

    /// How far it is, and a line about it now and then.
    fn count(&self, bytes: u64, said: &mut Instant) {
        let mut progress = self.known.lock();
        progress.records += 1;
        progress.bytes = bytes;
        if progress.records.is_multiple_of(1024) && said.elapsed() >= SAY_EVERY {
            *said = elapsed();
            tracing::info!(
                records = progress.records,
                bytes = progress.bytes,
                percent = progress.percent(),
                "the queue of earlier starts is being read"
            );
        }
    }

    fn is_to_stop(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Whether the log has the message that was written anew elsewhere too. Where a hole hides whether the commit of the copy
    /// was torn, the copy alone may be.
    fn is_a_copy(&self, envelope: &[u8]) -> bool {
        let carried = body::Carried::decode(envelope).ok();
        let accepted = carried.as_ref().and_then(|it| it.accepted.as_ref());
        accepted.is_some_and(|it| self.index.knows_of(it))
    }

    fn apply(&self, found: &Found<'_>) -> Result<(), StoreError> {
        let unreadable = |_| StoreError::Index("a record does not parse".to_owned());
        let written = Written {
            sequence: found.header.sequence,
            place: found.place,
        };
        match found.header.kind {
            Kind::Accepted => {
                let accepted = body::Accepted::decode(found.envelope).map_err(unreadable)?;
                self.index.accepted(&accepted, written, found.start);
            }
            Kind::Settled => {
                let settled = body::Settled::decode(found.envelope).map_err(unreadable)?;
                if let Some(dsn) = &settled.dsn {
                    self.index.accepted(dsn, written, found.start);
                }
                self.index.apply_settled(&settled)?;
            }
            Kind::Noted => {
                let noted = body::Noted::decode(found.envelope).map_err(unreadable)?;
                if let Some(dsn) = &noted.dsn {
                    self.index.accepted(dsn, written, found.start);
                }
                self.index.apply_noted(&noted)?;
            }
            Kind::Carried => {
                let carried = body::Carried::decode(found.envelope).map_err(unreadable)?;
                // What it was copied from is whole until its segment goes, and that waits for the copy.
                if found.wanted == Wanted::Envelopes || found.content.is_some() {
                    self.index.carried(&carried, written)?;
                }
            }
            Kind::Put => {
                tracing::warn!(place = ?found.place, "a record of a kind that is not for this log");
            }
        }
        self.index.keep_small()
    }

    /// Content files of earlier starts that no open delivery names: removed, or, after damage, kept for people to look
    /// at, for their records may be among what cannot be read.
    fn set_orphans_aside(&self, was: &Replayed) -> Result<(), StoreError> {
        self.known.lock().damaged = was.damaged;
        let files = self.contents.orphans(self.start, |_| false);
        let files: HashSet<String> = files.map_err(StoreError::Disk)?.into_iter().collect();
        let orphans = self.index.without_named(files)?;
        if was.damaged == 0 {
            for name in &orphans {
                self.contents.unlink(name);
            }
            return Ok(());
        }
        tracing::error!(
            damaged = was.damaged,
            "the log is damaged; what could not be read is in quarantine/"
        );
        for name in &orphans {
            let moved = self.contents.move_to(name, self.places.quarantine.dir());
            moved.map_err(StoreError::Disk)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread is a loop; it says now and then how far it is"
)]
fn elapsed() -> Instant {
    Instant::now()
}
