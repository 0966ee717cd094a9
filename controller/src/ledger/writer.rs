//! The thread that writes the history, and takes away what is old, too much, or in the way of mail.
//!
//! A stop on the way leaves a torn last line, which the next start ends and whoever reads it skips.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{PENDING, Part, directory, files};

/// What was written reaches the file after this at the latest.
const SOON: Duration = Duration::from_secs(1);
/// Of all files together, with the one that is written.
const MOST_BYTES: u64 = 2 << 30;
/// Of one file: what is in the way goes as a whole file, and so little is lost with each.
const PART_BYTES: u64 = 64 << 20;
/// Between two looks at what is old; also where nothing is written.
const TIDY_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Between two looks at whether space is short: what a file has freed has to be seen before the next one goes.
const ROOM_EVERY: SignedDuration = SignedDuration::from_secs(1);

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
        let mut writing = Writing::new(directory, settings);
        // The thread ends where nothing is open.
        PENDING.open();
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writing.run())
            .inspect_err(|_| PENDING.close())?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        PENDING.close();
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Returns when all that was said so far is in the files.
pub(super) async fn flush() {
    if let Some(flushed) = PENDING.flushed() {
        let _ = flushed.await;
    }
}

pub(super) struct Writing {
    directory: PathBuf,
    keep: SignedDuration,
    has_room: Box<dyn Fn() -> bool + Send>,
    most_bytes: u64,
    part_bytes: u64,
    open: Option<Open>,
    tidied: Timestamp,
    made_room: Timestamp,
    /// The last write failed, which has been said.
    failed: bool,
    /// So did the last removal.
    untidy: bool,
}

/// The file that is written, and how long it is.
struct Open {
    part: Part,
    file: File,
    bytes: u64,
}

impl Writing {
    pub(super) fn new(directory: PathBuf, settings: Settings) -> Self {
        Self {
            directory,
            keep: SignedDuration::try_from(settings.keep).unwrap_or(SignedDuration::MAX),
            has_room: settings.has_room,
            most_bytes: MOST_BYTES,
            part_bytes: PART_BYTES,
            open: None,
            tidied: Timestamp::MIN,
            made_room: Timestamp::MIN,
            failed: false,
            untidy: false,
        }
    }

    #[cfg(test)]
    pub(super) fn bounded(self, most_bytes: u64, part_bytes: u64) -> Self {
        Self {
            most_bytes,
            part_bytes,
            ..self
        }
    }

    fn run(&mut self) {
        loop {
            let taken = PENDING.take(SOON);
            let now = super::now();
            self.look_after(now);
            if !taken.lines.is_empty() {
                let kept = self.keep(&taken.lines, now);
                self.say(&kept);
            }
            for waiting in taken.waiting {
                let _ = waiting.send(());
            }
            if taken.lost > 0 {
                let lost = taken.lost;
                tracing::warn!(
                    lost,
                    "entries of the history are lost: the disk is too slow"
                );
            }
            if !taken.is_open {
                return;
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

    /// They go to the day on which they are written: a second after midnight, later than they were said.
    pub(super) fn keep(&mut self, lines: &str, now: Timestamp) -> io::Result<()> {
        if !(self.has_room)() {
            return Ok(());
        }
        let date = day_of(now);
        let goes_on = |open: &Open| open.part.date == date && open.bytes < self.part_bytes;
        let mut open = match self.open.take().filter(goes_on) {
            Some(open) => open,
            None => {
                self.tidy(now);
                self.begin(date)?
            }
        };
        // After an error the file is opened anew, which ends a line that is torn.
        open.file.write_all(lines.as_bytes())?;
        open.bytes += lines.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// The last part of the day, or one behind it where that is full.
    fn begin(&self, date: Date) -> io::Result<Open> {
        let of_day = files(&self.directory)?.into_iter().map(|(part, _)| part);
        let last = of_day.filter(|part| part.date == date).max();
        let mut part = last.unwrap_or(Part { date, number: 0 });
        let (mut file, mut bytes) = open(&self.directory.join(part.file_name()))?;
        if bytes >= self.part_bytes {
            part.number = part.number.saturating_add(1);
            (file, bytes) = open(&self.directory.join(part.file_name()))?;
        }
        Ok(Open { part, file, bytes })
    }

    /// What is done from time to time, whether or not anything is written.
    pub(super) fn look_after(&mut self, now: Timestamp) {
        if is_due(self.made_room, now, ROOM_EVERY) {
            self.made_room = now;
            if !(self.has_room)() {
                let made = self.make_room(now);
                self.say_untidy(&made);
            }
        }
        if is_due(self.tidied, now, TIDY_EVERY) {
            // The file of a day that is over is closed, so that it can go like any other.
            let is_over = |open: &Open| open.part.date != day_of(now);
            if self.open.as_ref().is_some_and(is_over) {
                self.open = None;
            }
            self.tidy(now);
        }
    }

    /// One file goes, the oldest: the room is for mail. The one that is written stays.
    fn make_room(&self, now: Timestamp) -> io::Result<()> {
        let open = self.open.as_ref().map(|open| open.part);
        let mut closed = oldest_first(&self.directory, now)?.into_iter();
        let Some((_, path)) = closed.find(|(part, _)| Some(*part) != open) else {
            return Ok(());
        };
        std::fs::remove_file(&path)?;
        tracing::warn!(file = %path.display(), "space is short: the oldest file of the history of messages has been removed");
        Ok(())
    }

    /// Days that are too old go, and the oldest files where all together are too large.
    fn tidy(&mut self, now: Timestamp) {
        self.tidied = now;
        let open = self.open.as_ref().map(|open| open.part);
        // Room for the one that is written, or will be.
        let most_bytes = self.most_bytes.saturating_sub(self.part_bytes);
        let tidied = tidy(&self.directory, now, self.keep, most_bytes, open);
        self.say_untidy(&tidied);
    }

    /// Once for each time that it begins to fail.
    fn say_untidy(&mut self, done: &io::Result<()>) {
        if let (Err(error), false) = (done, self.untidy) {
            tracing::warn!(%error, "old files of the history of messages cannot be removed");
        }
        self.untidy = done.is_err();
    }
}

/// Also where the clock has been put back.
fn is_due(last: Timestamp, now: Timestamp, every: SignedDuration) -> bool {
    now < last || now.duration_since(last) >= every
}

fn day_of(at: Timestamp) -> Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}

/// At its end, and how long it is; a torn last line is ended.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

/// In the order in which they go. A file of a day that is still to come was written while the clock was wrong: it is not
/// newer than what is written now, and goes first.
fn oldest_first(directory: &Path, now: Timestamp) -> io::Result<Vec<(Part, PathBuf)>> {
    let today = day_of(now);
    let mut files = files(directory)?;
    files.sort_by_key(|(part, _)| (part.date <= today, *part));
    Ok(files)
}

/// Of the closed files, those that are too old, and those that are too much.
pub(super) fn tidy(
    directory: &Path,
    now: Timestamp,
    keep: SignedDuration,
    most_bytes: u64,
    open: Option<Part>,
) -> io::Result<()> {
    let oldest = day_of(now.saturating_sub(keep).unwrap_or(Timestamp::MIN));
    let mut bytes = 0;
    let closed = oldest_first(directory, now)?.into_iter().rev();
    for (part, path) in closed.filter(|(part, _)| Some(*part) != open) {
        bytes += std::fs::metadata(&path)?.len();
        if part.date < oldest || bytes > most_bytes {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
