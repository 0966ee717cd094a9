//! Who changed what: a log line and a line in `audit.log`, for every change of the registry and the queue.
//!
//! # Invariants
//! The file and its predecessor together stay under twice [`MAX_BYTES`]. A line that cannot be written is an error in
//! the log and no reason to refuse the change, which is durable already.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;

const MAX_BYTES: u64 = 16 << 20;

/// The open `audit.log`.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    /// # Errors
    /// The file can be neither opened nor made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("audit.log");
        let file = Mutex::new(open(&path)?);
        Ok(Self { path, file })
    }

    pub fn record(&self, at: Timestamp, who: &str, what: &str) {
        tracing::info!(target: "audit", who, what);
        // A line is one line, whatever a name or a sentence holds.
        let line = format!("{at} {} {}\n", who.escape_debug(), what.escape_debug());
        let mut file = self.file.lock().expect("no holder of this lock panics");
        if let Err(error) = self.append(&mut file, line.as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "the audit cannot be written");
        }
    }

    fn append(&self, file: &mut File, line: &[u8]) -> io::Result<()> {
        if file.metadata()?.len() >= MAX_BYTES {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *file = open(&self.path)?;
        }
        file.write_all(line)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line_that_says_who_and_what() {
        let directory = tempfile::tempdir().unwrap();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        for what in ["site home added", "site a\nb refused"] {
            let audit = Audit::open(directory.path()).unwrap();
            audit.record(at, "anna", what);
        }
        let text = std::fs::read_to_string(directory.path().join("audit.log")).unwrap();
        assert_eq!(
            text,
            "2023-11-14T22:13:20Z anna site home added\n2023-11-14T22:13:20Z anna site a\\nb refused\n"
        );
    }
}
