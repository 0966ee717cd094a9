//! `VERSION` in a state directory: the number of the format that lies there, so that an older program leaves alone what
//! it would misread.
//!
//! The number changes only where an older program would lose or misread something; new kinds of records that old
//! programs pass over are no new format. docs/decisions/0091-the-format-of-the-state.md
//!
//! # Invariants
//! - It is read before anything else in the directory is, and written before anything of a new format is.
//! - A full disk is no reason to refuse a state that is in the first format and stays in it: without the file it is
//!   taken for what it is, and the next start writes the file.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What a state without the file is in: it was made before there was one.
const FIRST: u32 = 1;
/// The file's name.
pub const FILE: &str = "VERSION";
const TEMPORARY: &str = "VERSION.new";

/// Why a state directory is not touched.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{path} cannot be used: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no format number: expected {known}, or a smaller number; if the file was changed by hand, write what was there", path = path.display())]
    Unreadable { path: PathBuf, known: u32 },
    #[error("{dir} was written by a newer {program}, in format {found}, and this one reads formats up to {known}: install the newer {program} again, or restore a backup that is older than the upgrade", dir = dir.display())]
    Newer {
        dir: PathBuf,
        program: &'static str,
        found: u32,
        known: u32,
    },
}

/// Reads the number, and writes `known` where there is none or a smaller one. Makes the directory where it is missing,
/// for nobody else to look into.
///
/// A crash in between leaves no file, or the whole one. Where the disk is full, a state in the first format goes without.
///
/// # Errors
/// The directory is of a newer format, or cannot be read or written.
pub fn claim(dir: &Path, program: &'static str, known: u32) -> Result<(), FormatError> {
    claim_by(dir, program, known, write)
}

fn claim_by(
    dir: &Path,
    program: &'static str,
    known: u32,
    write: impl Fn(&Path, u32) -> io::Result<()>,
) -> Result<(), FormatError> {
    let path = dir.join(FILE);
    let error = |source| FormatError::Io {
        path: path.clone(),
        source,
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            let written = made.and_then(|()| write(dir, known));
            return match written {
                Err(full) if known == FIRST && is_full(&full) && holds_state(dir) => {
                    tracing::warn!(file = %path.display(), error = %full, "no room to write the number of the state's format: goes on without, and the next start writes it");
                    Ok(())
                }
                written => written.map_err(error),
            };
        }
        Err(failed) => return Err(error(failed)),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > known => Err(FormatError::Newer {
            dir: dir.to_owned(),
            program,
            found,
            known,
        }),
        Ok(found) if found == known => Ok(()),
        Ok(_) => write(dir, known).map_err(error),
        Err(_) => Err(FormatError::Unreadable { path, known }),
    }
}

/// The disk, or the share of it that this user may have.
fn is_full(failed: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(failed.kind(), StorageFull | QuotaExceeded)
}

/// Whether something lies there besides the lock of a running program and what a write of the number has left.
fn holds_state(dir: &Path) -> bool {
    let is_state = |name: &OsStr| name != TEMPORARY && name != "lock";
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| is_state(&entry.file_name()))
}

fn write(dir: &Path, number: u32) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY);
    let written = File::create(&temporary).and_then(|mut file| {
        writeln!(file, "{number}")?;
        file.sync_all()
    });
    if let Err(failed) = written {
        // Nothing reads it; it only takes a name, where names may be what is short.
        let _ = fs::remove_file(&temporary);
        return Err(failed);
    }
    fs::rename(&temporary, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_program_refuses_a_newer_state_and_names_the_ways_out() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), "dd-agent", 1).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "1\n");
        claim(dir.path(), "dd-agent", 1).unwrap();
        claim(dir.path(), "dd-agent", 2).unwrap();
        let refused = claim(dir.path(), "dd-agent", 1).unwrap_err().to_string();
        assert!(
            refused.contains("newer dd-agent, in format 2") && refused.contains("backup"),
            "{refused}"
        );
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "2\n");
    }

    #[test]
    fn what_is_no_number_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "two\n").unwrap();
        assert!(matches!(
            claim(dir.path(), "dd-agent", 1),
            Err(FormatError::Unreadable { .. })
        ));
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "two\n");
    }

    fn full(_: &Path, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn a_full_disk_keeps_no_state_of_the_first_format_from_its_program() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        claim_by(dir.path(), "dd-agent", 1, full).unwrap();
        assert!(!dir.path().join(FILE).exists());
        // With room again, the file is written.
        claim(dir.path(), "dd-agent", 1).unwrap();
        assert!(dir.path().join(FILE).exists());
        assert!(!dir.path().join(TEMPORARY).exists());
    }

    #[test]
    fn a_full_disk_refuses_a_new_state_and_a_new_format() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        fs::write(dir.path().join(TEMPORARY), "").unwrap();
        // Nothing is there yet: a format that is nowhere written would be lost.
        let refused = |known| claim_by(dir.path(), "dd-agent", known, full);
        assert!(matches!(refused(1), Err(FormatError::Io { .. })));
        fs::write(dir.path().join("journal"), "").unwrap();
        assert!(matches!(refused(2), Err(FormatError::Io { .. })));
        fs::write(dir.path().join(FILE), "1\n").unwrap();
        assert!(matches!(refused(2), Err(FormatError::Io { .. })));
        refused(1).unwrap();
    }
}
