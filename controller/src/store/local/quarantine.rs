//! `quarantine/`: what was found in a log and is no record, where an operator can look at it.
//!
//! # Invariants
//! - Nothing is copied twice under two names: a start that finds the same damage again replaces the copy.
//! - A disk that is full keeps nobody from starting: the room that is held back is given up for the copy, and where that
//!   is not enough it is said what could not be copied.
//! - A segment of which a part could not be read is never unlinked: emptied, it goes here, for another disk or another
//!   day may read the rest. So it is noted when that is first seen.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ballast::Ballast;
use super::disk::{self, SharedDisk};
use super::pieces::{Looked, Pieces};
use super::segment::Segment;

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    disk: SharedDisk,
    root: PathBuf,
    dir: PathBuf,
}

impl Quarantine {
    pub(crate) fn new(disk: SharedDisk, root: &Path, dir: &Path) -> Self {
        Self {
            disk,
            root: root.to_owned(),
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
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
        let named = |what: &str| format!("{:016x}-{:016x}-{what}", segment.log_id, segment.number);
        if looked.written_to.is_some() {
            let name = named(&format!("{:016x}", range.start));
            self.with_room(&name, || self.copy(pieces, &name, range.clone()))?;
        }
        if !looked.holes.is_empty() {
            let holes = looked.holes.iter();
            let text: String = holes
                .map(|hole| format!("bytes {} to {} cannot be read\n", hole.start, hole.end))
                .collect();
            tracing::error!(segment = segment.number, holes = ?looked.holes, "a part of a log cannot be read; what lay there is lost unless it is read elsewhere");
            let name = named("unreadable");
            self.with_room(&name, || {
                disk::write(&*self.disk, &self.dir, &name, text.as_bytes())
            })?;
        }
        Ok(looked)
    }

    fn copy(&self, pieces: &mut Pieces, name: &str, range: Range<u64>) -> io::Result<()> {
        let begin = range.start;
        disk::write_with(&*self.disk, &self.dir, name, |file| {
            let copied = pieces.look(range, |at, bytes| file.write_all_at(bytes, at - begin));
            copied.map(|_| ())
        })
    }

    fn with_room(&self, name: &str, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let is_full = |written: &io::Result<()>| written.as_ref().is_err_and(disk::is_full);
        let mut written = write();
        if is_full(&written) && Ballast::new(&self.root, 0).give_up() {
            tracing::warn!("the disk is full: what was held back for the index is used");
            written = write();
        }
        if is_full(&written) {
            tracing::error!(
                name,
                "the disk is full: what is no record is not copied to quarantine/"
            );
            return Ok(());
        }
        written
    }

    /// Whether a part of a segment is known to be unreadable.
    pub(crate) fn is_noted(&self, segment: &Segment) -> bool {
        let name = format!("{:016x}-{:016x}-unreadable", segment.log_id, segment.number);
        self.disk.open(&self.dir.join(name)).is_ok()
    }
}
