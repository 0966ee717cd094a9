//! A small file system in memory, to be filled up. Needs root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs. Dropped, it is unmounted.
#[derive(Debug)]
pub struct Tmpfs {
    mount: PathBuf,
    _directory: TempDir,
}

impl Tmpfs {
    /// With so much room, and so many names.
    ///
    /// # Panics
    /// This user may not mount.
    pub fn new(bytes: u64, inodes: u64) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("dd-tmpfs-")
            .tempdir()
            .expect("a temporary directory");
        let tmpfs = Self {
            mount: directory.path().join("small"),
            _directory: directory,
        };
        fs::create_dir(&tmpfs.mount).expect("a new directory");
        let options = format!("size={bytes},nr_inodes={inodes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "dd-small"])
            .arg(&tmpfs.mount)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a tmpfs cannot be mounted: this test needs root"
        );
        tmpfs
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Takes all the room there is but `left` bytes, until [`free`](Self::free).
    ///
    /// # Panics
    /// Less than that is left already.
    pub fn fill(&self, left: u64) {
        let room = rustix::fs::statvfs(&self.mount).expect("a mounted file system has its figures");
        let taken = (room.f_bavail * room.f_frsize)
            .checked_sub(left)
            .expect("there is more room than shall be left");
        let mut file = File::create(self.filler()).expect("there is an inode left");
        let chunk = vec![0; 1 << 16];
        let mut rest = usize::try_from(taken).expect("a small file system");
        while rest > 0 {
            let count = rest.min(chunk.len());
            // The programs go on meanwhile: the end may come sooner.
            if file.write_all(&chunk[..count]).is_err() {
                return;
            }
            rest -= count;
        }
    }

    /// Takes all names but a few that are left.
    ///
    /// # Panics
    /// The directory cannot be made.
    pub fn fill_inodes(&self) {
        let names = self.filler().with_extension("names");
        fs::create_dir_all(&names).expect("there is an inode left");
        let mut number = 0;
        while File::create(names.join(format!("{number}"))).is_ok() {
            number += 1;
        }
    }

    /// Gives back what was taken.
    pub fn free(&self) {
        // Whichever of the two was filled.
        let _ = fs::remove_file(self.filler());
        let _ = fs::remove_dir_all(self.filler().with_extension("names"));
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}
