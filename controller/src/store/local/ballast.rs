//! Space held back, so that the index can be rebuilt on a disk that is full.
//!
//! # Not here
//! When it is needed: [`super::learn`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::disk::{Disk as _, RealDisk};

/// As much as is held back.
pub(crate) const BALLAST_BYTES: u64 = 64 << 20;
/// It is only made where this many times its size is free.
const PLENTY: u64 = 4;

/// The file that holds space back. A crash while it is made leaves a shorter one, which is made anew.
#[derive(Debug)]
pub(crate) struct Ballast {
    root: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(root: &Path, bytes: u64) -> Self {
        Self {
            root: root.to_owned(),
            bytes,
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Makes it where it is not there and space is plenty. Without it the next rebuild only has less room.
    pub(crate) fn make(&self) {
        let there = self.path().metadata().map_or(0, |found| found.len());
        if there == self.bytes
            || RealDisk.room(&self.root).map_or(0, |it| it.free) < PLENTY * self.bytes
        {
            return;
        }
        if let Err(error) = self.allocate() {
            tracing::warn!(%error, "no space can be held back for the index");
            self.give_up();
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let file = File::create(self.path())?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?;
        file.sync_all()
    }

    /// Removes it; whether there was one.
    pub(crate) fn give_up(&self) -> bool {
        std::fs::remove_file(self.path()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_space_and_gives_it_back_once() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::TempDir::new().unwrap();
        let ballast = Ballast::new(dir.path(), 1 << 20);
        ballast.make();
        let made = ballast.path().metadata().unwrap();
        assert_eq!(
            (made.len(), made.blocks() * 512 >= 1 << 20),
            (1 << 20, true)
        );
        assert!(ballast.give_up());
        assert!(!ballast.give_up());
    }
}
