//! Who changed what: a log line and a line in `audit.log`, for every change of the registry and the queue, and for every
//! look into a mail.
//!
//! # Invariants
//! - The file and its predecessor together stay under twice [`MAX_BYTES`].
//! - An administrator is answered when the lines of what was done are on the disk ([`Audit::synced`]). A line that
//!   cannot be written or synced is an error in the log and no reason to refuse the change, which is durable already.
//! - No password, secret or hash is in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use jiff::Timestamp;
use tokio::sync::watch;

const MAX_BYTES: u64 = 16 << 20;
/// Characters of one sentence.
const MOST: usize = 4000;

/// The open `audit.log`.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    open: Mutex<Open>,
    /// Lines on the disk.
    synced: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Open {
    /// Shared with the thread that syncs it, so that a line takes no descriptor.
    file: Arc<File>,
    /// Lines since the start.
    written: u64,
    sync: mpsc::Sender<(Arc<File>, u64)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub who: String,
    pub what: String,
}

impl Audit {
    /// # Errors
    /// The file can be neither opened nor made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("audit.log");
        let file = open(&path)?;
        File::open(state_dir)?.sync_all()?;
        let (sync, to_sync) = mpsc::channel();
        let (done, synced) = watch::channel(0);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || sync_all(&to_sync, &done))?;
        Ok(Self {
            path,
            open: Mutex::new(Open {
                file,
                written: 0,
                sync,
            }),
            synced,
        })
    }

    pub fn record(&self, at: Timestamp, who: &str, what: &str) {
        let what: String = what.chars().take(MOST).collect();
        tracing::info!(target: "audit", who, what);
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if let Err(error) = self.append(&mut open, line(at, who, &what).as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "the audit cannot be written");
        }
    }

    fn append(&self, open: &mut Open, line: &[u8]) -> io::Result<()> {
        if open.file.metadata()?.len() >= MAX_BYTES
            && let Err(error) = self.put_aside(open)
        {
            tracing::warn!(path = %self.path.display(), %error, "the audit grows: another file cannot take its place");
        }
        (&*open.file).write_all(line)?;
        open.written += 1;
        // The thread lives as long as the sender does.
        let _ = open.sync.send((open.file.clone(), open.written));
        Ok(())
    }

    /// Wherever it stops, the file that is open takes the next line, and the line after that tries again.
    fn put_aside(&self, open: &mut Open) -> io::Result<()> {
        let next = self.path.with_extension("log.new");
        let file = self::open(&next)?;
        match std::fs::rename(&self.path, self.path.with_extension("log.1")) {
            // The last time it stopped behind this.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        std::fs::rename(&next, &self.path)?;
        open.file = file;
        Ok(())
    }

    /// Returns when what was recorded before is on the disk, or could not be brought there.
    pub async fn synced(&self) {
        let written = self
            .open
            .lock()
            .expect("no holder of this lock panics")
            .written;
        let mut synced = self.synced.clone();
        let _ = synced.wait_for(|synced| *synced >= written).await;
    }

    /// The newest `last` lines, oldest first. Blocks on the disk.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn last(&self, last: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for path in [self.path.with_extension("log.1"), self.path.clone()] {
            match std::fs::read_to_string(path) {
                Ok(text) => entries.extend(text.lines().filter_map(parse)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries.split_off(entries.len().saturating_sub(last)))
    }
}

/// Many lines, few syncs: what was written while one ran is covered by the next.
fn sync_all(to_sync: &mpsc::Receiver<(Arc<File>, u64)>, done: &watch::Sender<u64>) {
    while let Ok((mut file, mut written)) = to_sync.recv() {
        while let Ok((later, number)) = to_sync.try_recv() {
            if !is_same(&file, &later) {
                sync(&file);
            }
            (file, written) = (later, number);
        }
        sync(&file);
        done.send_replace(written);
    }
}

/// A full file was put aside between two lines.
fn is_same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |file: &File| file.metadata().map(|it| it.ino()).ok();
    inode(one) == inode(other)
}

fn sync(file: &File) {
    if let Err(error) = file.sync_all() {
        tracing::error!(%error, "the audit cannot be synced");
    }
}

/// A line is one line, whatever a name or a sentence holds; the name has no space.
fn line(at: Timestamp, who: &str, what: &str) -> String {
    let who = who.escape_debug().to_string().replace(' ', "\\u{20}");
    format!("{at} {who} {}\n", visible(what))
}

/// Quotes stay as they are: it is read by people.
fn visible(what: &str) -> String {
    let mut shown = String::with_capacity(what.len());
    for c in what.chars() {
        match c {
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

fn parse(line: &str) -> Option<Entry> {
    let (at, rest) = line.split_once(' ')?;
    let (who, what) = rest.split_once(' ')?;
    Some(Entry {
        at: at.parse().ok()?,
        who: who.to_owned(),
        what: what.to_owned(),
    })
}

fn open(path: &Path) -> io::Result<Arc<File>> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_one_line_that_says_who_and_what() {
        let directory = tempfile::tempdir().unwrap();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        for (who, what) in [
            ("anna", "site \"home\" added"),
            ("a b", "site a\nb refused"),
        ] {
            let audit = Audit::open(directory.path()).unwrap();
            audit.record(at, who, what);
            audit.synced().await;
        }
        let text = std::fs::read_to_string(directory.path().join("audit.log")).unwrap();
        assert_eq!(
            text,
            "2023-11-14T22:13:20Z anna site \"home\" added\n\
             2023-11-14T22:13:20Z a\\u{20}b site a\\nb refused\n"
        );
        let audit = Audit::open(directory.path()).unwrap();
        let last = audit.last(1).unwrap();
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].what, "site a\\nb refused");
        assert_eq!(audit.last(9).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_written_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::open(directory.path()).unwrap();
        audit.record(Timestamp::UNIX_EPOCH, "anna", "one");
        let unwritable = File::open(directory.path().join("audit.log")).unwrap();
        audit.open.lock().unwrap().file = Arc::new(unwritable);
        audit.record(Timestamp::UNIX_EPOCH, "anna", "two");
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(60), audit.synced());
        waiting
            .await
            .expect("it was not written, so it is not waited for");
        assert_eq!(audit.last(9).unwrap().len(), 1);
    }

    #[test]
    fn a_full_file_that_cannot_be_put_aside_goes_on_and_is_put_aside_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let audit = Audit::open(directory.path()).unwrap();
        let told = |name: &str| {
            let text = std::fs::read_to_string(path(name)).unwrap();
            let lines = text.lines().map(|line| line.trim_start_matches('\0'));
            let entries = lines.filter_map(parse);
            entries.map(|entry| entry.what).collect::<Vec<_>>()
        };
        let fill = || {
            let file = Arc::clone(&audit.open.lock().unwrap().file);
            file.set_len(MAX_BYTES).unwrap();
        };
        let record = |what| audit.record(Timestamp::UNIX_EPOCH, "anna", what);
        fill();
        // What is there cannot be opened, or not be renamed over.
        std::fs::create_dir_all(path("audit.log.new/x")).unwrap();
        record("one");
        std::fs::remove_dir_all(path("audit.log.new")).unwrap();
        std::fs::create_dir_all(path("audit.log.1/x")).unwrap();
        record("two");
        std::fs::remove_dir_all(path("audit.log.1")).unwrap();
        record("three");
        assert_eq!(told("audit.log.1"), ["one", "two"]);
        assert_eq!(told("audit.log"), ["three"]);
        // What is left where the second renaming fails.
        std::fs::rename(path("audit.log"), path("audit.log.1")).unwrap();
        fill();
        record("four");
        assert_eq!(told("audit.log"), ["four"]);
        assert_eq!(told("audit.log.1"), ["three"]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_one_before_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::open(directory.path()).unwrap();
        let long = "x".repeat(MOST);
        let lines = 2 * usize::try_from(MAX_BYTES).unwrap() / MOST + 1000;
        for _ in 0..lines {
            audit
                .append(
                    &mut audit.open.lock().unwrap(),
                    line(Timestamp::UNIX_EPOCH, "anna", &long).as_bytes(),
                )
                .unwrap();
        }
        let size = |name: &str| {
            std::fs::metadata(directory.path().join(name))
                .unwrap()
                .len()
        };
        assert!(size("audit.log") + size("audit.log.1") < 2 * (MAX_BYTES + 8192));
        assert!(audit.last(usize::MAX).unwrap().len() < lines);
    }
}
