//! The disk, in the words the store needs: every file of the store but sled's is made, written and removed through it.
//!
//! A seam for tests: [`memory`] keeps what was synced apart from what was not, cuts the power and breaks at will.
//!
//! # Invariants
//! - What was written to a file is durable after `sync_data` or `sync_all` of that file, and not before.
//! - That a name exists, has changed or is gone is durable after `sync_dir` of its directory, and not before.
//!
//! # Not here
//! sled's own files: the index is derived, and deleted whenever it cannot be trusted.

#[cfg(test)]
pub(crate) mod memory;

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// A disk, shared by all who use it.
pub(crate) type SharedDisk = Arc<dyn Disk>;
/// An open file, shared by its readers and its one writer.
pub(crate) type SharedFile = Arc<dyn DiskFile>;

/// Held for as long as the state directory is in use.
pub(crate) trait Lock: Debug + Send + Sync {}

/// Bytes of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// For us, without what only root may use.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes a directory, and what is missing above it, with mode 0700. Nothing where it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file, with mode 0600, that must not be there yet.
    fn create(&self, path: &Path) -> io::Result<SharedFile>;

    /// A file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<SharedFile>;

    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// In one step: after a power cut the file has one of both names.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    fn room(&self, dir: &Path) -> io::Result<Room>;

    /// # Errors
    /// `WouldBlock` where another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

pub(crate) trait DiskFile: Debug + Send + Sync {
    /// Fewer bytes than asked for only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Content, and as much else as reading it needs.
    fn sync_data(&self) -> io::Result<()>;

    fn sync_all(&self) -> io::Result<()>;
}

/// Whether there is no room, or none left for us.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the disk has lost what lay there: a sector, or the file system's word about it. It may be read another day, but
/// nothing is gained by waiting for that.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    let lost = [
        Errno::IO,
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::REMOTEIO,
        Errno::UCLEAN,
        Errno::BADMSG,
    ];
    let lost = lost.map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|it| lost.contains(&it))
}

/// What cannot be read is asked for once more.
///
/// # Errors
/// The disk's; `UnexpectedEof` where the file ends before the buffer is full.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let read = match file.read_at(buffer, offset) {
        Err(error) if is_unreadable(&error) => file.read_at(buffer, offset),
        read => read,
    };
    match read? {
        read if read == buffer.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A whole file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes a file of these bytes, durable with its name; one that is there already is replaced. A crash before it returns
/// leaves what was there before, and perhaps a file `NAME.new` that the next call removes.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_with(disk, dir, name, |file| file.write_all_at(bytes, 0))
}

/// The same of what `fill` writes into it.
pub(crate) fn write_with(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    match disk.unlink(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&new)?;
    if let Err(error) = fill(&*file).and_then(|()| file.sync_all()) {
        // It takes room that may be short; what cannot be removed is removed by the next call.
        let _ = disk.unlink(&new);
        return Err(error);
    }
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// The file system.
#[derive(Debug)]
pub(crate) struct RealDisk;

#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl Lock for RealLock {}

impl Disk for RealDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn create(&self, path: &Path) -> io::Result<SharedFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<SharedFile> {
        Ok(Arc::new(
            OpenOptions::new().read(true).write(true).open(path)?,
        ))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // What is no UTF-8 is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn room(&self, dir: &Path) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            match FileExt::read_at(self, &mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}
