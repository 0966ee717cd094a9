//! `VERSION` in a state directory: the number of the format that lies there, so that an older program leaves alone what
//! it would misread. `OWNER` beside it: whose directory it is, so that nobody begins in one of somebody else.
//!
//! Older programs read `VERSION` as a number from its first character to its last, so nothing else is ever written there.
//!
//! The number changes only where an older program would lose or misread something; new kinds of records that old
//! programs pass over are no new format. docs/decisions/0091-the-format-of-the-state.md
//!
//! # Invariants
//! - It is read before anything else in the directory is, and written before anything of a new format is.
//! - Where it is missing the directory is new, or an older version's, which is known by the names in it. Any other one is
//!   refused, and nothing in it is touched.
//! - A full disk is no reason to refuse a state that is in the first format and stays in it: without the file it is
//!   taken for what it is, and the next start writes the file.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What a state without the file is in: it was made before there was one.
const FIRST: u32 = 1;
/// The name of the file with the number.
pub const FILE: &str = "VERSION";
/// The name of the file that says whose directory it is.
pub const OWNER_FILE: &str = "OWNER";
/// Under these names the two are written before they get their own.
const TEMPORARY: [&str; 2] = ["VERSION.new", "OWNER.new"];

/// Whose state it is.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub program: &'static str,
    /// What the program makes in its state directory.
    pub names: &'static [&'static str],
}

/// Names in one sentence.
const SHOWN: usize = 3;

/// Why a state directory is not touched.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{path} cannot be used: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no format number: expected {known}, or a smaller number; if the file was changed by hand, write what was there", path = path.display())]
    Unreadable { path: PathBuf, known: u32 },
    #[error("{dir} is the state directory of {owner}: name another one for {program} (`state_dir`)", dir = dir.display())]
    Others {
        dir: PathBuf,
        owner: String,
        program: &'static str,
    },
    #[error("{dir} holds no state of {program}, and is not empty: {found} lies there; name an empty or a new directory (`state_dir`)", dir = dir.display())]
    Foreign {
        dir: PathBuf,
        program: &'static str,
        found: String,
    },
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
/// The directory is of a newer format or somebody else's, or cannot be read or written.
pub fn claim(dir: &Path, owner: Owner, known: u32) -> Result<(), FormatError> {
    claim_by(dir, owner, known, write)
}

/// Whether [`claim`] would refuse the directory, without making or changing anything.
///
/// # Errors
/// As those of [`claim`], but for what only a write finds.
pub fn look(dir: &Path, owner: Owner, known: u32) -> Result<(), FormatError> {
    read(dir, owner, known).map(drop)
}

/// What lies there.
#[derive(Debug)]
struct Found {
    /// None: nobody has written one yet.
    number: Option<u32>,
    /// Both files are as they would be written.
    is_current: bool,
}

fn claim_by(
    dir: &Path,
    owner: Owner,
    known: u32,
    write: impl Fn(&Path, &str, &str) -> io::Result<()>,
) -> Result<(), FormatError> {
    let found = read(dir, owner, known)?;
    if found.is_current {
        return Ok(());
    }
    let path = dir.join(FILE);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let written = made
        .and_then(|()| write(dir, OWNER_FILE, &format!("{}\n", owner.program)))
        .and_then(|()| write(dir, FILE, &format!("{known}\n")));
    let stands = found.number == Some(known)
        || known == FIRST && (found.number.is_some() || holds_state(dir));
    match written {
        Err(full) if is_full(&full) && stands => {
            tracing::warn!(file = %path.display(), error = %full, "no room to write the number of the state's format: goes on without, and the next start writes it");
            Ok(())
        }
        written => written.map_err(|source| FormatError::Io { path, source }),
    }
}

fn read(dir: &Path, owner: Owner, known: u32) -> Result<Found, FormatError> {
    let path = dir.join(FILE);
    let text = text(&path)?;
    let mut lines = text.iter().flat_map(|text| text.lines()).map(str::trim);
    let number = match lines.next().map(str::parse::<u32>) {
        Some(Ok(number)) => Some(number),
        None if text.is_none() => None,
        None | Some(Err(_)) => return Err(FormatError::Unreadable { path, known }),
    };
    // One version has written the name into a second line of the same file.
    let second = lines.next().unwrap_or_default();
    let named = self::text(&dir.join(OWNER_FILE))?;
    let named = named.as_deref().map(str::trim).unwrap_or_default();
    match if named.is_empty() { second } else { named } {
        "" => is_ours(dir, owner)?,
        other if other != owner.program => {
            return Err(FormatError::Others {
                dir: dir.to_owned(),
                owner: other.chars().take(40).collect(),
                program: owner.program,
            });
        }
        _ => {}
    }
    match number {
        Some(found) if found > known => Err(FormatError::Newer {
            dir: dir.to_owned(),
            program: owner.program,
            found,
            known,
        }),
        number => Ok(Found {
            number,
            is_current: number == Some(known) && second.is_empty() && !named.is_empty(),
        }),
    }
}

/// None: there is no such file.
fn text(path: &Path) -> Result<Option<String>, FormatError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // What is no directory is found by whoever makes one.
        Err(failed)
            if matches!(
                failed.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(FormatError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A directory without the name of its owner is new, or older than that name, or somebody else's.
fn is_ours(dir: &Path, owner: Owner) -> Result<(), FormatError> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !says_nothing(name)).collect();
    names.sort_unstable();
    if names.is_empty()
        || names
            .iter()
            .any(|name| owner.names.iter().any(|own| own == name))
    {
        return Ok(());
    }
    let mut found: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > SHOWN {
        found.push(format!("{} more", names.len() - SHOWN));
    }
    Err(FormatError::Foreign {
        dir: dir.to_owned(),
        program: owner.program,
        found: found.join(", "),
    })
}

/// What may lie in a directory that is new all the same: a file system's own, a user's, and what a start needs.
fn says_nothing(name: &str) -> bool {
    let is_configuration = [".toml", ".token"].iter().any(|end| name.ends_with(end));
    is_configuration
        || name.starts_with('.')
        || ["lost+found", "lock", FILE, OWNER_FILE].contains(&name)
        || TEMPORARY.contains(&name)
}

/// The disk, or the share of it that this user may have.
fn is_full(failed: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(failed.kind(), StorageFull | QuotaExceeded)
}

/// Whether something lies there besides the lock of a running program and what a write of the two files has left.
fn holds_state(dir: &Path) -> bool {
    let is_state = |name: &OsStr| {
        name != "lock" && name != OWNER_FILE && TEMPORARY.iter().all(|it| name != *it)
    };
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| is_state(&entry.file_name()))
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(failed) = written {
        // Nothing reads it; it only takes a name, where names may be what is short.
        let _ = fs::remove_file(&temporary);
        return Err(failed);
    }
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: Owner = Owner {
        program: "dd-agent",
        names: &["journal"],
    };
    const CONTROLLER: Owner = Owner {
        program: "dd-controller",
        names: &["queue", "registry"],
    };

    fn written(dir: &Path) -> [String; 2] {
        [FILE, OWNER_FILE].map(|name| fs::read_to_string(dir.join(name)).unwrap())
    }

    #[test]
    fn the_program_of_before_reads_the_number() {
        let dir = tempfile::tempdir().unwrap();
        let as_before = || {
            let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
            text.trim().parse::<u32>()
        };
        claim(dir.path(), AGENT, 1).unwrap();
        assert_eq!(as_before(), Ok(1));
        assert_eq!(written(dir.path()), ["1\n", "dd-agent\n"]);
        // A build in between has written both into one file: it is read, and mended.
        fs::remove_file(dir.path().join(OWNER_FILE)).unwrap();
        fs::write(dir.path().join(FILE), "1\ndd-agent\n").unwrap();
        assert!(matches!(
            look(dir.path(), CONTROLLER, 1),
            Err(FormatError::Others { .. })
        ));
        claim(dir.path(), AGENT, 1).unwrap();
        assert_eq!(as_before(), Ok(1));
        assert_eq!(written(dir.path()), ["1\n", "dd-agent\n"]);
    }

    #[test]
    fn an_older_program_refuses_a_newer_state_and_names_the_ways_out() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), AGENT, 1).unwrap();
        claim(dir.path(), AGENT, 1).unwrap();
        claim(dir.path(), AGENT, 2).unwrap();
        let refused = claim(dir.path(), AGENT, 1).unwrap_err().to_string();
        assert!(
            refused.contains("newer dd-agent, in format 2") && refused.contains("backup"),
            "{refused}"
        );
        assert_eq!(written(dir.path()), ["2\n", "dd-agent\n"]);
    }

    #[test]
    fn what_is_no_number_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "two\n").unwrap();
        assert!(matches!(
            claim(dir.path(), AGENT, 1),
            Err(FormatError::Unreadable { .. })
        ));
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "two\n");
    }

    #[test]
    fn nobody_begins_in_a_directory_of_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), AGENT, 1).unwrap();
        let refused = claim(dir.path(), CONTROLLER, 1).unwrap_err().to_string();
        assert!(
            refused.contains("is the state directory of dd-agent"),
            "{refused}"
        );

        let other = tempfile::tempdir().unwrap();
        for name in ["mail", "www", "backups", "cache"] {
            fs::create_dir(other.path().join(name)).unwrap();
        }
        let refused = claim(other.path(), CONTROLLER, 1).unwrap_err().to_string();
        assert!(
            refused.contains("not empty: `backups`, `cache`, `mail`, 1 more lies there"),
            "{refused}"
        );
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_state_without_the_name_of_its_program_is_taken_over_and_named() {
        for number in [None, Some("1\n")] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("queue")).unwrap();
            fs::write(dir.path().join("notes"), "").unwrap();
            if let Some(number) = number {
                fs::write(dir.path().join(FILE), number).unwrap();
            }
            assert!(matches!(
                look(dir.path(), AGENT, 1),
                Err(FormatError::Foreign { .. })
            ));
            claim(dir.path(), CONTROLLER, 1).unwrap();
            assert_eq!(written(dir.path()), ["1\n", "dd-controller\n"]);
        }
        let fresh = tempfile::tempdir().unwrap();
        for name in ["agent.toml", ".profile", "lost+found"] {
            fs::write(fresh.path().join(name), "").unwrap();
        }
        claim(fresh.path(), AGENT, 1).unwrap();
    }

    fn full(_: &Path, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn a_full_disk_keeps_no_state_of_the_first_format_from_its_program() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        claim_by(dir.path(), AGENT, 1, full).unwrap();
        assert!(!dir.path().join(FILE).exists());
        // With room again, the file is written.
        claim(dir.path(), AGENT, 1).unwrap();
        assert!(dir.path().join(FILE).exists());
        assert!(!dir.path().join(TEMPORARY[0]).exists());
    }

    #[test]
    fn a_full_disk_refuses_a_new_state_and_a_new_format() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        for name in TEMPORARY {
            fs::write(dir.path().join(name), "").unwrap();
        }
        // Nothing is there yet: a format that is nowhere written would be lost.
        let refused = |known| claim_by(dir.path(), AGENT, known, full);
        assert!(matches!(refused(1), Err(FormatError::Io { .. })));
        fs::write(dir.path().join("journal"), "").unwrap();
        assert!(matches!(refused(2), Err(FormatError::Io { .. })));
        fs::write(dir.path().join(FILE), "1\n").unwrap();
        assert!(matches!(refused(2), Err(FormatError::Io { .. })));
        refused(1).unwrap();
    }
}
