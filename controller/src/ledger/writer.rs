//! The thread that writes the history, and takes old days away.
//!
//! A stop on the way leaves a torn last line, which the next start ends and whoever reads it skips.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use super::{Entry, LOCK, WRITER, directory, file_of, files};

/// Entries that wait for the disk.
const BEHIND: usize = 8192;
/// What was written reaches the file after this at the latest.
const SOON: Duration = Duration::from_secs(1);
/// Of all files together.
const MOST_BYTES: u64 = 2 << 30;

/// Entries that were not kept because the disk was too slow.
pub(super) static LOST: AtomicU64 = AtomicU64::new(0);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Keep(Box<Entry>),
    /// Everything so far is to be in the files; then it is answered.
    Flush(oneshot::Sender<()>),
}

/// Where and how long.
pub struct Settings {
    pub state_dir: PathBuf,
    pub keep: Duration,
    /// Whether there is room on the disk.
    pub has_room: Box<dyn Fn() -> bool + Send>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("state_dir", &self.state_dir)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// The history while it is written. Dropped, it is written to its end.
#[derive(Debug)]
pub struct Ledger(Option<JoinHandle<()>>);

impl Ledger {
    /// # Errors
    /// The directory cannot be made, or there is no thread.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let directory = directory(&settings.state_dir);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let (sender, orders) = sync_channel(BEHIND);
        let mut writing = Writing {
            directory,
            keep: SignedDuration::try_from(settings.keep).unwrap_or(SignedDuration::MAX),
            has_room: settings.has_room,
            day: None,
            failed: false,
        };
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writing.run(&orders))?;
        *WRITER.write().expect(LOCK) = Some(sender);
        Ok(Self(Some(thread)))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // The thread ends with the last sender.
        *WRITER.write().expect(LOCK) = None;
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Returns when all that was said so far is in the files.
pub(super) async fn flush() {
    let writer: Option<SyncSender<Order>> = WRITER.read().expect(LOCK).clone();
    let Some(writer) = writer else {
        return;
    };
    let (done, flushed) = oneshot::channel();
    // Where it is full, the disk is behind, and what is there is read.
    if writer.try_send(Order::Flush(done)).is_ok() {
        let _ = flushed.await;
    }
}

struct Writing {
    directory: PathBuf,
    keep: SignedDuration,
    has_room: Box<dyn Fn() -> bool + Send>,
    day: Option<(Date, BufWriter<File>)>,
    /// The last write failed, which has been said.
    failed: bool,
}

impl Writing {
    fn run(&mut self, orders: &Receiver<Order>) {
        self.tidy(super::now());
        loop {
            match orders.recv_timeout(SOON) {
                Ok(Order::Keep(entry)) => {
                    let kept = self.keep(&entry);
                    self.say(&kept);
                }
                Ok(Order::Flush(done)) => {
                    let flushed = self.flush();
                    self.say(&flushed);
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let flushed = self.flush();
                    self.say(&flushed);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let flushed = self.flush();
                    return self.say(&flushed);
                }
            }
            let lost = LOST.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "entries of the history are lost: the disk is too slow"
                );
            }
        }
    }

    /// Once for each time that it begins to fail.
    fn say(&mut self, done: &io::Result<()>) {
        if let (Err(error), false) = (done, self.failed) {
            tracing::warn!(%error, "the history of messages cannot be written; mail itself is unharmed");
        }
        self.failed = done.is_err();
    }

    fn keep(&mut self, entry: &Entry) -> io::Result<()> {
        if !(self.has_room)() {
            return Ok(());
        }
        let date = entry.at.to_zoned_datetime(TimeZone::UTC).date();
        if self.day.as_ref().is_none_or(|(day, _)| *day != date) {
            self.flush()?;
            self.tidy(entry.at);
            self.day = Some((date, open(&self.directory.join(file_of(date)))?));
        }
        let Some((_, file)) = &mut self.day else {
            return Ok(());
        };
        serde_json::to_writer(&mut *file, entry)?;
        file.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.day {
            Some((_, file)) => file.flush(),
            None => Ok(()),
        }
    }

    /// Days that are too old go, and the oldest ones where all together are too large.
    fn tidy(&mut self, now: Timestamp) {
        if let Err(error) = tidy(&self.directory, now, self.keep, MOST_BYTES) {
            tracing::warn!(%error, "old days of the history cannot be removed");
        }
    }
}

/// At its end; a torn last line is ended.
fn open(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(BufWriter::new(file))
}

/// The newest day stays whatever its size: what is written now goes there.
pub(super) fn tidy(
    directory: &Path,
    now: Timestamp,
    keep: SignedDuration,
    most_bytes: u64,
) -> io::Result<()> {
    let oldest = now.saturating_sub(keep).unwrap_or(Timestamp::MIN);
    let oldest = oldest.to_zoned_datetime(TimeZone::UTC).date();
    let mut bytes = 0;
    for (at, (date, path)) in files(directory)?.into_iter().rev().enumerate() {
        bytes += std::fs::metadata(&path)?.len();
        if date < oldest || (at > 0 && bytes > most_bytes) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
