//! Segments made ahead: files of zeros, written and synced, that only need a header and a name.
//!
//! A commit into space that was written before costs one flush of data and none of metadata, and it can never find the
//! disk full. [`RESERVE`] of them serve settlements, notes and cleaning only, so that a full disk always drains.
//!
//! ```text
//!   ….making ──zeros written, synced──▶ ….spare ──header written, synced──▶ ….seg
//! ```
//! A crash leaves a file under one of these names. What is still being made is removed by the next start; a spare is
//! kept: behind its header it is zeros.
//!
//! # Not here
//! What a segment is: [`super::segment`]; when one is taken: [`super::log`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{self, SharedDisk, SharedFile};

/// Spares that are not for new mail.
pub(crate) const RESERVE: usize = 2;
/// Zeros are written and synced in pieces, so that no commit waits long behind them.
const PIECE: usize = 1 << 20;
/// How often a full disk is looked at, unless a segment is removed before.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Where there seems to be room and is none (a quota), each try writes until it fails: they become as rare as this.
const RAREST: Duration = Duration::from_secs(60);

/// When spares are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Making {
    /// By a thread of their own, before they are needed.
    Ahead,
    /// By whoever takes one.
    WhenTaken,
}

/// A file of zeros; perhaps with a header that nobody got to use.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: SharedFile,
    pub(crate) len: u64,
}

/// The spares of a log.
#[derive(Debug)]
pub(crate) struct Spares {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: SharedDisk,
    dir: PathBuf,
    segment_bytes: u64,
    start: u64,
    wanted: usize,
    making: Making,
    state: Mutex<State>,
    changed: Condvar,
    /// A [`PIECE`] that is only read, so that it takes no memory beside its addresses.
    zeros: Vec<u8>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Shared");
        shown.field("dir", &self.dir).field("state", &self.state);
        shown.finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Spare>,
    /// The last one could not be made.
    short: bool,
    /// For want of room.
    full: bool,
    /// Something was removed since.
    again: bool,
    stopped: bool,
}

impl Spares {
    /// Takes over what earlier starts left. None is made before [`Self::make_ahead`].
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn open(
        disk: &SharedDisk,
        dir: &Path,
        segment_bytes: u64,
        start: u64,
        making: Making,
    ) -> io::Result<Self> {
        let mut ready = Vec::new();
        for name in disk.list(dir)? {
            let path = dir.join(&name);
            if name.ends_with(".making") {
                disk.unlink(&path)?;
            } else if name.ends_with(".spare") {
                let file = disk.open(&path)?;
                let len = file.len()?;
                ready.push(Spare { path, file, len });
            }
        }
        ready.sort_by(|a, b| a.path.cmp(&b.path));
        let state = State {
            ready,
            ..State::default()
        };
        Ok(Self {
            shared: Arc::new(Shared {
                disk: Arc::clone(disk),
                dir: dir.to_owned(),
                segment_bytes,
                start,
                wanted: RESERVE + 1,
                making,
                state: Mutex::new(state),
                changed: Condvar::new(),
                zeros: vec![0; PIECE],
            }),
            thread: None,
        })
    }

    /// From now on there is always one more than the reserve, where the disk allows it.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn make_ahead(&mut self) -> io::Result<()> {
        if self.shared.making == Making::Ahead {
            let shared = Arc::clone(&self.shared);
            let builder = std::thread::Builder::new().name("log spares".to_owned());
            self.thread = Some(builder.spawn(move || shared.make_until_stopped())?);
        }
        Ok(())
    }

    /// One of at least `bytes`, leaving `leave` behind; waits for one that is being made.
    ///
    /// # Errors
    /// `StorageFull` where there is none and none can be made.
    pub(crate) fn take(&self, bytes: u64, leave: usize) -> io::Result<Spare> {
        if !self.shared.wait_for(leave + 1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut state = self.shared.lock();
        let fits = state.ready.iter().position(|spare| spare.len >= bytes);
        let taken = fits.map(|at| state.ready.remove(at));
        drop(state);
        self.shared.changed.notify_all();
        match taken {
            Some(spare) => Ok(spare),
            // A record larger than a segment, or a configuration that has changed.
            None => self.shared.make(bytes),
        }
    }

    /// Nothing was written to them.
    pub(crate) fn give_back(&self, spares: Vec<Spare>) {
        self.shared.lock().ready.extend(spares);
        self.shared.changed.notify_all();
    }

    /// The one that becomes a start's own segment: from what is left over, or made.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub(crate) fn take_own(&self) -> io::Result<Spare> {
        let left = self.shared.lock().ready.pop();
        match left {
            Some(spare) => Ok(spare),
            None => self.shared.make(self.shared.segment_bytes),
        }
    }

    /// Whether this many are there, or can be made.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.shared.wait_for(number)
    }

    pub(crate) fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }

    /// Whether the last one could not be made.
    pub(crate) fn is_short(&self) -> bool {
        self.shared.lock().short
    }

    /// Whether that was for want of room.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.lock().full
    }

    pub(crate) fn level(&self) -> Level {
        Level(Arc::clone(&self.shared))
    }

    /// Something was removed: there may be room for one more.
    pub(crate) fn try_again(&self) {
        self.shared.lock().again = true;
        self.shared.changed.notify_all();
    }
}

/// How many spares there are, for everybody.
#[derive(Debug, Clone)]
pub(crate) struct Level(Arc<Shared>);

impl Level {
    pub(crate) fn ready(&self) -> usize {
        self.0.lock().ready.len()
    }

    /// The reserve is not whole, and cannot be made so: no new mail.
    pub(crate) fn is_low(&self) -> bool {
        let state = self.0.lock();
        state.short && state.ready.len() < RESERVE
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, number: usize) -> bool {
        if self.making == Making::WhenTaken {
            return self.make_up_to(number.max(self.wanted)) >= number;
        }
        let waits = |state: &mut State| state.ready.len() < number && !state.short;
        let state = self.changed.wait_while(self.lock(), waits);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.ready.len() >= number
    }

    /// Returns how many there are then.
    fn make_up_to(&self, number: usize) -> usize {
        while self.lock().ready.len() < number {
            let made = self.make(self.segment_bytes);
            let mut state = self.lock();
            state.short = made.is_err();
            state.full = made.as_ref().is_err_and(disk::is_full);
            match made {
                Ok(spare) => state.ready.push(spare),
                Err(_) => break,
            }
        }
        self.lock().ready.len()
    }

    /// Whether another one fits, as far as the file system says. Without it none is tried: it would fill what is left
    /// with zeros, sync by sync, only to give it back.
    fn has_room(&self) -> bool {
        let room = self.disk.room(&self.dir);
        room.map_or(true, |room| room.free >= self.segment_bytes)
    }

    fn make_until_stopped(&self) {
        let mut pause = TRY_AGAIN;
        loop {
            let waits = |state: &mut State| !state.stopped && state.ready.len() >= self.wanted;
            let state = self.changed.wait_while(self.lock(), waits);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            if state.stopped {
                return;
            }
            drop(state);
            let has_room = self.has_room();
            let made = match has_room {
                true => self.make(self.segment_bytes),
                false => Err(io::ErrorKind::StorageFull.into()),
            };
            let mut state = self.lock();
            match made {
                Ok(spare) => {
                    pause = TRY_AGAIN;
                    state.ready.push(spare);
                    (state.short, state.full) = (false, false);
                    self.changed.notify_all();
                }
                Err(_) if state.stopped => return,
                Err(error) => {
                    if !state.short {
                        tracing::warn!(%error, "no segment can be made ahead: no new mail until there is room");
                    }
                    state.short = true;
                    state.full = disk::is_full(&error);
                    state.again = false;
                    self.changed.notify_all();
                    let waits = |state: &mut State| !state.stopped && !state.again;
                    let waited = self.changed.wait_timeout_while(state, pause, waits);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    pause = next_pause(pause, has_room);
                }
            }
        }
    }

    fn make(&self, bytes: u64) -> io::Result<Spare> {
        let name = format!("{:016x}-{:016x}", rand::random::<u64>(), self.start);
        let half = self.dir.join(format!("{name}.making"));
        let made = self.fill(&half, bytes).and_then(|file| {
            let path = self.dir.join(format!("{name}.spare"));
            self.disk.rename(&half, &path)?;
            self.disk.sync_dir(&self.dir)?;
            let len = bytes;
            Ok(Spare { path, file, len })
        });
        if made.is_err() {
            // It takes the room that is short; what cannot be removed is removed by the next start.
            let _ = self.disk.unlink(&half);
        }
        made
    }

    fn fill(&self, path: &Path, bytes: u64) -> io::Result<SharedFile> {
        let file = self.disk.create(path)?;
        let mut at = 0;
        while at < bytes {
            let piece = usize::try_from(bytes - at).map_or(PIECE, |left| left.min(PIECE));
            if self.lock().stopped {
                return Err(io::ErrorKind::Interrupted.into());
            }
            file.write_all_at(&self.zeros[..piece], at)?;
            file.sync_data()?;
            at += piece as u64;
        }
        file.sync_all()?;
        Ok(file)
    }
}

/// How long to wait for the next try, behind one that came to nothing. One that wrote in vain makes them rarer; a look at
/// the free room costs nothing.
fn next_pause(pause: Duration, wrote: bool) -> Duration {
    match wrote {
        true => RAREST.min(2 * pause),
        false => TRY_AGAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk as _;
    use super::super::disk::memory::MemoryDisk;
    use super::*;

    #[test]
    fn tries_that_write_in_vain_become_as_rare_as_one_a_minute() {
        let mut pause = TRY_AGAIN;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(pause.as_millis());
            pause = next_pause(pause, true);
        }
        let expected = [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000];
        assert_eq!(pauses, expected);
        assert_eq!(next_pause(pause, false), TRY_AGAIN);
    }

    #[test]
    fn a_full_disk_is_looked_at_and_not_written_to() {
        let disk = MemoryDisk::default();
        let file = disk.create(Path::new("/state/mail")).unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        disk.set_capacity(disk.used() + (64 << 10) - 1);
        let before = disk.operations();
        let shared: SharedDisk = Arc::new(disk.clone());
        let dir = Path::new("/state/queue");
        let mut spares = Spares::open(&shared, dir, 64 << 10, 1, Making::Ahead).unwrap();
        spares.make_ahead().unwrap();
        for _ in 0..5 {
            // Waits until the thread has said that there is none.
            assert!(!spares.has(1));
            assert!(spares.is_short());
            spares.try_again();
            while spares.shared.lock().again {
                std::thread::yield_now();
            }
        }
        assert_eq!(disk.operations(), before);
        disk.set_capacity(1 << 30);
        spares.try_again();
        while spares.ready() < RESERVE + 1 {
            std::thread::yield_now();
        }
    }
}
