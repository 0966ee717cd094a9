//! Content files: what is too large to lie in the log.
//!
//! # Invariants
//! - A file is synced, and its directory, before the record that names it is written.
//! - Its name carries the start number: only files of earlier starts can be orphans.
//! - It goes away when the last delivery's settlement is synced, or when it is dropped without being accepted.
//! - A file that is not what its record says is never handed out whole: it is checked once in each start before it is
//!   opened, and again while it is read.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use super::body;
use super::disk::{self, SharedDisk, SharedFile};
use super::record::Header;
use crate::intake::accept::{AcceptError, Spool};

/// Files that are remembered as checked; some KiB of names each thousand. Beyond it they are checked again.
const REMEMBERED: usize = 4096;
const PIECE: usize = 256 << 10;

/// The directory of content files. A clone is the same one.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    disk: SharedDisk,
    dir: PathBuf,
    checked: Arc<Mutex<HashSet<String>>>,
}

/// A file that fills as a large content arrives. A crash leaves an orphan, which a later start removes.
#[derive(Debug)]
pub struct Spooled {
    contents: Contents,
    file: SharedFile,
    name: String,
    crc: u32,
    bytes: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Undecided,
    /// A write failed: it can never be accepted.
    Broken,
    Kept,
}

/// A synced content file.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) name: String,
    pub(crate) crc: u32,
    pub(crate) bytes: u64,
}

/// Content that is read in order, from a file of its own or from the log. Where it turns out not to be what its record
/// says, the last piece is an error.
#[derive(Debug)]
pub struct ContentFile {
    file: SharedFile,
    /// Where it has been found to be whole; None: it lies in the log.
    checked: Option<(Contents, String)>,
    /// Where it begins.
    from: u64,
    at: u64,
    bytes: u64,
    crc: u32,
    crc_so_far: u32,
}

impl Contents {
    pub(crate) fn new(disk: SharedDisk, dir: &Path) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            checked: Arc::default(),
        }
    }

    pub(crate) fn spool(&self, start: u64, random: [u8; 16]) -> io::Result<Spooled> {
        let name = format!("{start:016x}-{}", Uuid::from_bytes(random).simple());
        Ok(Spooled {
            contents: self.clone(),
            file: self.disk.create(&self.dir.join(&name))?,
            name,
            crc: 0,
            bytes: 0,
            fate: Fate::Undecided,
        })
    }

    /// The file that a record names, checked.
    ///
    /// # Errors
    /// The disk's; `InvalidData` where it is not what the record says.
    pub(crate) fn open(&self, accepted: &body::Accepted) -> io::Result<ContentFile> {
        let file = self.disk.open(&self.dir.join(&accepted.file))?;
        if !self.checked().contains(&accepted.file) {
            if checksum(&file)? != (accepted.bytes, accepted.file_crc) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.remember(accepted.file.clone());
        }
        Ok(ContentFile {
            file,
            checked: Some((self.clone(), accepted.file.clone())),
            from: 0,
            at: 0,
            bytes: accepted.bytes,
            crc: accepted.file_crc,
            crc_so_far: 0,
        })
    }

    /// Removes a content file. If that fails the next start finds an orphan.
    pub(crate) fn unlink(&self, name: &str) {
        self.checked().remove(name);
        if let Err(error) = self.disk.unlink(&self.dir.join(name)) {
            tracing::warn!(%error, name, "a content file cannot be removed");
        }
    }

    /// Puts a content file where nobody but people looks for it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn move_to(&self, name: &str, dir: &Path) -> io::Result<()> {
        self.disk.rename(&self.dir.join(name), &dir.join(name))?;
        self.disk.sync_dir(dir)?;
        self.disk.sync_dir(&self.dir)
    }

    /// Files of earlier starts for which `is_named` says no: no open delivery needs them.
    pub(crate) fn orphans(
        &self,
        current_start: u64,
        is_named: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(&self.dir)?;
        names.retain(|name| {
            let start = name
                .get(..16)
                .and_then(|start| u64::from_str_radix(start, 16).ok());
            start.is_some_and(|start| start < current_start) && !is_named(name)
        });
        Ok(names)
    }

    fn checked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, name: String) {
        let mut checked = self.checked();
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(name);
    }
}

impl Spooled {
    /// Makes the content durable.
    pub(crate) fn sync(&self) -> io::Result<Synced> {
        if self.fate == Fate::Broken {
            return Err(io::Error::other(
                "a write to the content file failed before",
            ));
        }
        self.file.sync_all()?;
        self.contents.disk.sync_dir(&self.contents.dir)?;
        Ok(Synced {
            name: self.name.clone(),
            crc: self.crc,
            bytes: self.bytes,
        })
    }

    /// A record names it: it stays.
    pub(crate) fn keep(mut self) {
        self.fate = Fate::Kept;
        self.contents.remember(self.name.clone());
    }
}

impl Spool for Spooled {
    async fn write(&mut self, chunk: Bytes) -> Result<(), AcceptError> {
        if self.fate == Fate::Broken {
            return Err(AcceptError::Full);
        }
        // Until the write has ended well; also where nobody waits for that any more.
        self.fate = Fate::Broken;
        let (file, offset) = (Arc::clone(&self.file), self.bytes);
        self.crc = crc32c::crc32c_append(self.crc, &chunk);
        self.bytes += chunk.len() as u64;
        let writing = tokio::task::spawn_blocking(move || file.write_all_at(&chunk, offset));
        match writing.await {
            Ok(Ok(())) => {
                self.fate = Fate::Undecided;
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a content file cannot be written");
                Err(AcceptError::Full)
            }
            Err(_) => Err(AcceptError::LogFailed),
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if self.fate != Fate::Kept {
            self.contents.unlink(&self.name);
        }
    }
}

impl ContentFile {
    /// The content of a record that lies at `from`.
    pub(crate) fn in_log(file: SharedFile, from: u64, header: &Header) -> Self {
        Self {
            file,
            checked: None,
            from,
            at: 0,
            bytes: header.content_len.into(),
            crc: header.content_crc,
            crc_so_far: 0,
        }
    }

    /// The next piece, of at most `most` bytes; empty at the end.
    ///
    /// # Errors
    /// The disk's; `InvalidData` in place of the last piece where the file is not what its record says.
    pub async fn next(&mut self, most: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Bytes::new());
        }
        let (file, at) = (Arc::clone(&self.file), self.from + self.at);
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; left.min(most)];
            super::disk::read_exact_at(&*file, &mut piece, at).map(|()| Bytes::from(piece))
        });
        let piece = reading.await.map_err(io::Error::other)?;
        let piece = piece.inspect_err(|_| self.check_again())?;
        self.at += piece.len() as u64;
        self.crc_so_far = crc32c::crc32c_append(self.crc_so_far, &piece);
        if self.at == self.bytes && self.crc_so_far != self.crc {
            self.check_again();
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(piece)
    }

    /// Before it is next handed out; then it is found damaged.
    fn check_again(&self) {
        if let Some((contents, name)) = &self.checked {
            contents.checked().remove(name);
        }
    }
}

/// Length and CRC-32C of a file.
fn checksum(file: &SharedFile) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; PIECE];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = match file.read_at(&mut buffer, bytes) {
            Err(error) if disk::is_unreadable(&error) => file.read_at(&mut buffer, bytes)?,
            read => read?,
        };
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        if read < PIECE {
            return Ok((bytes, crc));
        }
    }
}
