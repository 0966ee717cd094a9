//! Content files: what is too large to lie in the log.
//!
//! # Invariants
//! - A file is synced, and its directory, before the record that names it is written.
//! - Its name carries the start number: only files of earlier starts can be orphans.
//! - It goes away when the last delivery's settlement is synced, or when it is dropped without being accepted.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::body;
use super::segment::sync_dir;
use crate::intake::accept::{AcceptError, Spool};

/// A file that fills as a large content arrives. A crash leaves an orphan, which a later start removes.
#[derive(Debug)]
pub struct Spooled {
    file: Option<File>,
    name: String,
    dir: PathBuf,
    crc: u32,
    bytes: u64,
    kept: bool,
}

/// A synced content file.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) name: String,
    pub(crate) crc: u32,
    pub(crate) bytes: u64,
}

impl Spooled {
    pub(crate) fn create(dir: &Path, start: u64, random: [u8; 16]) -> io::Result<Self> {
        let name = format!("{start:016x}-{}", Uuid::from_bytes(random).simple());
        let file = std::os::unix::fs::OpenOptionsExt::mode(
            File::options().read(true).write(true).create_new(true),
            0o600,
        )
        .open(dir.join(&name))?;
        Ok(Self {
            file: Some(file),
            name,
            dir: dir.to_owned(),
            crc: 0,
            bytes: 0,
            kept: false,
        })
    }

    /// Makes the content durable.
    pub(crate) fn sync(&self) -> io::Result<Synced> {
        self.file
            .as_ref()
            .ok_or_else(|| io::Error::other("a write to the content file failed before"))?
            .sync_all()?;
        sync_dir(&self.dir)?;
        Ok(Synced {
            name: self.name.clone(),
            crc: self.crc,
            bytes: self.bytes,
        })
    }

    /// A record names it: it stays.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Spool for Spooled {
    async fn write(&mut self, chunk: Bytes) -> Result<(), AcceptError> {
        let mut file = self.file.take().ok_or(AcceptError::Full)?;
        self.crc = crc32c::crc32c_append(self.crc, &chunk);
        self.bytes += chunk.len() as u64;
        let written = tokio::task::spawn_blocking(move || file.write_all(&chunk).map(|()| file));
        match written.await {
            Ok(Ok(file)) => {
                self.file = Some(file);
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
        if !self.kept {
            unlink(&self.dir, &self.name);
        }
    }
}

/// Removes a content file. If that fails the next start finds an orphan.
pub(crate) fn unlink(dir: &Path, name: &str) {
    if let Err(error) = std::fs::remove_file(dir.join(name)) {
        tracing::warn!(%error, name, "a content file cannot be removed");
    }
}

/// The names of all files of earlier starts.
///
/// # Errors
/// The disk's.
pub(crate) fn of_earlier_starts(dir: &Path, current_start: u64) -> io::Result<HashSet<String>> {
    let mut names = HashSet::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let start = name
            .get(..16)
            .and_then(|start| u64::from_str_radix(start, 16).ok());
        if start.is_some_and(|start| start < current_start) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether a content file is what its record says.
pub(crate) fn is_whole(path: &Path, accepted: &body::Accepted) -> bool {
    checksum(path).is_ok_and(|(bytes, crc)| bytes == accepted.bytes && crc == accepted.file_crc)
}

/// Length and CRC-32C of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        if read == 0 {
            return Ok((bytes, crc));
        }
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
    }
}
