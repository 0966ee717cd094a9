//! `VERSION` in a state directory: the number of the format that lies there, so that an older program leaves alone what
//! it would misread.
//!
//! The number changes only where an older program would lose or misread something; new kinds of records that old
//! programs pass over are no new format. docs/decisions/0091-the-format-of-the-state.md
//!
//! # Invariants
//! It is read before anything else in the directory is, and written before anything of a new format is.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The file's name.
pub const FILE: &str = "VERSION";

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
/// A crash in between leaves no file, or the whole one.
///
/// # Errors
/// The directory is of a newer format, or cannot be read or written.
pub fn claim(dir: &Path, program: &'static str, known: u32) -> Result<(), FormatError> {
    let path = dir.join(FILE);
    let error = |source| FormatError::Io {
        path: path.clone(),
        source,
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            return made.and_then(|()| write(dir, known)).map_err(error);
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

fn write(dir: &Path, number: u32) -> io::Result<()> {
    let temporary = dir.join("VERSION.new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{number}")?;
    file.sync_all()?;
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
}
