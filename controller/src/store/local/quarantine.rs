//! `quarantine/`: what was found in a log and is no record, where an operator can look at it.
//!
//! # Invariants
//! - Nothing is copied twice under two names: a start that finds the same damage again replaces the copy.
//! - A disk that is full keeps nobody from starting: the room that is held back is given up for the copy, and where that
//!   is not enough it is said what could not be copied.
//! - A segment of which a part could not be read is never unlinked: emptied, it goes here, for another disk or another
//!   day may read the rest. So each part is noted when it is seen. A note for which there is no room is owed: it is kept
//!   in memory, and the process does not stop cleanly without it, so that the next start reads the log and sees it again.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ballast::Ballast;
use super::disk::{self, SharedDisk};
use super::pieces::{BLOCK, Looked, Pieces};
use super::segment::Segment;

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    disk: SharedDisk,
    root: PathBuf,
    dir: PathBuf,
    /// Notes for which there was no room, by the name of their file.
    owed: Arc<Mutex<BTreeMap<String, String>>>,
}

/// Whether something is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Found,
    /// The disk is full.
    Missing,
}

impl Quarantine {
    pub(crate) fn new(disk: SharedDisk, root: &Path, dir: &Path) -> Self {
        Self {
            disk,
            root: root.to_owned(),
            dir: dir.to_owned(),
            owed: Arc::default(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn owed(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a part of a segment, if there is anything but zeros in it, and notes what of it cannot be read. Returns
    /// what stands there.
    ///
    /// # Errors
    /// The disk's, but for a full one.
    pub(super) fn set_aside(
        &self,
        pieces: &mut Pieces,
        segment: &Segment,
        range: Range<u64>,
    ) -> io::Result<Looked> {
        let looked = pieces.look(range.clone(), |_, _| Ok(()))?;
        if looked.written_to.is_some() {
            let name = named(segment, &format!("{:016x}", range.start));
            let copied = self.with_room(|| self.copy(pieces, &name, range.clone()))?;
            if copied == Room::Missing {
                tracing::error!(
                    name,
                    "the disk is full: what is no record is not copied to quarantine/"
                );
            }
        }
        self.note(segment, &looked.holes)?;
        Ok(looked)
    }

    /// Notes parts of a segment that cannot be read, beside those that are noted already. Durable where there was room;
    /// a crash before leaves the note as it was.
    ///
    /// # Errors
    /// The disk's, but for a full one.
    pub(super) fn note(&self, segment: &Segment, holes: &[Range<u64>]) -> io::Result<Room> {
        if holes.is_empty() {
            return Ok(Room::Found);
        }
        // As the disk gives them: whole blocks.
        let block = BLOCK as u64;
        let line = |hole: &Range<u64>| {
            let (start, end) = (hole.start / block, hole.end.div_ceil(block));
            format!(
                "bytes {} to {} cannot be read\n",
                start * block,
                end * block
            )
        };
        let more: String = holes.iter().map(line).collect();
        let name = named(segment, "unreadable");
        tracing::error!(
            segment = segment.number,
            ?holes,
            "a part of a log cannot be read; what lay there is lost unless it is read elsewhere"
        );
        self.add(&name, &more)
    }

    fn add(&self, name: &str, more: &str) -> io::Result<Room> {
        let mut owed = self.owed();
        let more = owed.remove(name).unwrap_or_default() + more;
        // A note that cannot be read is begun anew.
        let before = disk::read(&*self.disk, &self.dir.join(name)).unwrap_or_default();
        let before = String::from_utf8_lossy(&before).into_owned();
        let mut text = before.clone();
        for line in more.lines() {
            if !text.lines().any(|it| it == line) {
                text.push_str(line);
                text.push('\n');
            }
        }
        if text == before {
            return Ok(Room::Found);
        }
        let write = || disk::write(&*self.disk, &self.dir, name, text.as_bytes());
        let written = self.with_room(write);
        if !matches!(written, Ok(Room::Found)) {
            owed.insert(name.to_owned(), more);
        }
        if matches!(written, Ok(Room::Missing)) {
            tracing::error!(
                name,
                "the disk is full: what cannot be read is not noted in quarantine/ until there is room"
            );
        }
        written
    }

    /// Writes the notes for which there was no room.
    ///
    /// # Errors
    /// The disk's, but for a full one.
    pub(crate) fn write_owed(&self) -> io::Result<Room> {
        let names: Vec<String> = self.owed().keys().cloned().collect();
        for name in names {
            if self.add(&name, "")? == Room::Missing {
                return Ok(Room::Missing);
            }
        }
        Ok(Room::Found)
    }

    fn copy(&self, pieces: &mut Pieces, name: &str, range: Range<u64>) -> io::Result<()> {
        let begin = range.start;
        disk::write_with(&*self.disk, &self.dir, name, |file| {
            let copied = pieces.look(range, |at, bytes| file.write_all_at(bytes, at - begin));
            copied.map(|_| ())
        })
    }

    fn with_room(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<Room> {
        let is_full = |written: &io::Result<()>| written.as_ref().is_err_and(disk::is_full);
        let mut written = write();
        if is_full(&written) && Ballast::new(&self.root, 0).give_up() {
            tracing::warn!("the disk is full: what was held back for the index is used");
            written = write();
        }
        match is_full(&written) {
            true => Ok(Room::Missing),
            false => written.map(|()| Room::Found),
        }
    }

    /// Whether a part of a segment is known to be unreadable.
    pub(crate) fn is_noted(&self, segment: &Segment) -> bool {
        let name = named(segment, "unreadable");
        let is_owed = self.owed().contains_key(&name);
        is_owed || self.disk.open(&self.dir.join(name)).is_ok()
    }
}

fn named(segment: &Segment, what: &str) -> String {
    format!("{:016x}-{:016x}-{what}", segment.log_id, segment.number)
}
