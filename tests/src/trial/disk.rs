//! A disk whose power can be cut: an ext4 file system in an image, attached as a loop device.
//!
//! `EXT4_IOC_SHUTDOWN` stops the file system where it is: what was not synced is gone when it is mounted again, data and names
//! alike. Rust has no safe way to that ioctl and this workspace none but safe ones, so Debian's `perl-base`, which is on every
//! Debian, makes the call; it is started before and waits, so that the cut comes at the moment it is asked for.
//!
//! # Invariants
//! What was synced before [`Disk::cut`] is there after [`Disk::plug_in`]: the image itself lies on a disk that keeps running.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::wait::{PATIENCE, until};

/// `_IOR('X', 125, __u32)` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: the journal's newest entries are lost too.
const CUT: &str = "$| = 1; my $flags = pack('L', 2); open(my $disk, '<', $ARGV[0]) or die $!; \
                   print \"armed\\n\"; <STDIN>; ioctl($disk, 0x8004587d, $flags) or die $!; print \"cut\\n\";";

/// A mounted image. Dropped, it is unmounted and removed.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    _directory: TempDir,
}

/// Why there can be no such disk here.
#[derive(Debug)]
pub struct Unavailable(String);

/// Waits for the word to cut the power.
#[derive(Debug)]
pub struct Switch(Child);

impl Disk {
    /// Makes and mounts one.
    ///
    /// # Errors
    /// This user may not, or the machine has no loop devices.
    ///
    /// # Panics
    /// There is no room.
    pub fn new(bytes: u64) -> Result<Self, Unavailable> {
        let directory = tempfile::Builder::new()
            .prefix("dd-disk-")
            .tempdir()
            .expect("a temporary directory");
        let (image, mount) = (
            directory.path().join("image"),
            directory.path().join("disk"),
        );
        fs::create_dir(&mount).expect("a new directory");
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .expect("an image can be made");
        let disk = Self {
            image,
            mount,
            _directory: directory,
        };
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&disk.image))?;
        disk.mounted()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Everything on it is safe from here on.
    ///
    /// # Panics
    /// It cannot be synced.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.mount)).expect("a mounted disk can be synced");
    }

    /// Makes ready to cut.
    ///
    /// # Panics
    /// There is no perl.
    pub fn arm(&self) -> Switch {
        let child = Command::new("perl")
            .args(["-e", CUT])
            .arg(&self.mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl can be run");
        let mut switch = Switch(child);
        switch.hears("armed");
        switch
    }

    /// Mounts it again after a cut. Nobody may have anything open there.
    ///
    /// # Panics
    /// It cannot be unmounted or mounted.
    pub fn plug_in(&self) {
        until("the disk to be free", PATIENCE, || {
            run(Command::new("umount").arg(&self.mount)).ok()
        });
        self.mounted()
            .expect("what was mounted once can be mounted again");
    }

    fn mounted(&self) -> Result<(), Unavailable> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,noatime"])
            .arg(&self.image)
            .arg(&self.mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: after a failure something may still be open there.
        let _ = run(Command::new("umount").arg("-l").arg(&self.mount));
    }
}

impl Switch {
    /// Cuts the power. From here on nothing reaches the disk.
    ///
    /// # Panics
    /// The file system refuses, or is no ext4.
    pub fn cut(mut self) {
        let stdin = self.0.stdin.as_mut().expect("it was piped");
        stdin.write_all(b"now\n").expect("perl waits for this");
        self.hears("cut");
        let _ = self.0.wait();
    }

    fn hears(&mut self, word: &str) {
        let stdout = self.0.stdout.as_mut().expect("it was piped");
        let mut line = String::new();
        // Unbuffered but for one line: perl says one word and waits.
        let read = BufReader::with_capacity(1, stdout).read_line(&mut line);
        assert!(
            read.is_ok() && line.trim() == word,
            "perl says `{line}` and not `{word}`"
        );
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It holds a file of the disk open until it ends.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn run(command: &mut Command) -> Result<(), Unavailable> {
    let output = command
        .output()
        .map_err(|error| Unavailable(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable(format!("{command:?}: {}", said.trim())))
}
