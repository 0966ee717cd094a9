//! The start: in this order, lock, clean-stop marker, the registry's log, sled or else the queue log.
//!
//! Of each log first the old end is cut, and synced; only then this start's own segment is made. So a segment that has
//! a successor has its end settled: whatever is bad there is damage, and never again cut as a torn commit.
//!
//! The index is trusted only after a clean stop: the marker, sled's last key and the end of the log must say the same,
//! and one full scan must find as many entries. Anything else deletes it, and the log is replayed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;

use super::body;
use super::content::Contents;
use super::disk::{self, DiskFile, Lock, SharedDisk};
use super::index::Index;
use super::index::entry::time;
use super::log::{Files, Log, Segments, Written};
use super::record::Kind;
use super::registry::{Registry, Replaying};
use super::replay::{Before, Found, Replayed, replay};
use super::segment::{self, Segment};
use super::spares::Making;
use crate::store::{OpenError, RebuildIndex, Settings, StartReport, StoreError};

/// Segments of the registry's log are small: it changes rarely.
const REGISTRY_SEGMENT_BYTES: u64 = 1 << 20;
/// Keys that may be pending during a replay before they are written to sled.
const PENDING_IN_REPLAY: usize = 50_000;

/// Says that the process ended cleanly, and what it left.
const MARKER: &str = "clean-stop";

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) disk: SharedDisk,
    pub(crate) root: PathBuf,
    pub(crate) queue: PathBuf,
    pub(crate) registry: PathBuf,
    pub(crate) content: PathBuf,
    pub(crate) index: PathBuf,
    quarantine: PathBuf,
}

impl Places {
    fn new(disk: SharedDisk, root: &Path) -> Self {
        Self {
            disk,
            root: root.to_owned(),
            queue: root.join("queue"),
            registry: root.join("registry"),
            content: root.join("content"),
            index: root.join("index"),
            quarantine: root.join("quarantine"),
        }
    }

    /// What the clean-stop marker, the last key in sled and the log agree on.
    pub(crate) fn end_of(end: (u64, u64, u64), entries: u64) -> Vec<u8> {
        [end.0, end.1, end.2, entries]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    /// Written last of all. A crash before leaves none, and the next start rebuilds the index.
    pub(crate) fn write_marker(&self, end: &[u8]) -> io::Result<()> {
        disk::write(&*self.disk, &self.root, MARKER, end)
    }

    fn take_marker(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.root.join(MARKER);
        let marker = match disk::read(&*self.disk, &path) {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        self.disk.unlink(&path)?;
        self.disk.sync_dir(&self.root)?;
        Ok(Some(marker))
    }
}

/// Everything that is open after a start.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) places: Places,
    pub(crate) start: u64,
    pub(crate) queue: Log,
    pub(crate) files: Files,
    pub(crate) contents: Contents,
    pub(crate) registry: Registry,
    pub(crate) index: Arc<Index>,
    pub(crate) report: StartReport,
}

/// # Errors
/// The directory is in use, or cannot be read or written.
pub(crate) fn start(
    disk: SharedDisk,
    making: Making,
    settings: &Settings,
) -> Result<Started, OpenError> {
    let places = Places::new(disk, &settings.dir);
    let disk = &places.disk;
    make_dirs(&places)?;
    let lock = lock(&places)?;
    let marker = places.take_marker()?;
    let contents = Contents::new(Arc::clone(disk), &places.content);
    let old_queue = segment::list(&**disk, &places.queue)?;
    let old_registry = segment::list(&**disk, &places.registry)?;
    let highest = |dir| segment::highest_start(&**disk, dir);
    let start = 1 + highest(&places.queue)?.max(highest(&places.registry)?);

    let mut replaying = Replaying::default();
    let registry_was = replay(
        &**disk,
        &places.registry,
        &places.quarantine,
        start,
        |_| true,
        |found| replaying.apply(&found),
    )?;
    let registry_files = Files::default();
    let tail = own_segment(&old_registry, start, registry_was.last_sequence);
    let log = Log::begin(
        disk,
        &places.registry,
        Segments {
            bytes: REGISTRY_SEGMENT_BYTES,
            making: Making::WhenTaken,
        },
        tail,
        registry_files,
    )?;
    let registry = Registry::new(log, replaying);

    let trusted = match settings.rebuild_index {
        RebuildIndex::No => marker
            .as_deref()
            .and_then(|marker| trusted_index(&places, &old_queue, marker, start)),
        RebuildIndex::Yes => None,
    };
    let (index, was) = match trusted {
        Some((index, last_sequence)) => (
            index,
            Replayed {
                last_sequence,
                ..Replayed::default()
            },
        ),
        None => rebuild(&places, &contents, start)?,
    };
    let files = Files::default();
    for (named, path) in &old_queue {
        let file = disk.open(path)?;
        let segment = read_header(&*file).unwrap_or(*named);
        let bytes = file.len()?;
        files.add(segment, file, bytes);
    }
    let tail = own_segment(&old_queue, start, was.last_sequence);
    let queue = Log::begin(
        disk,
        &places.queue,
        Segments {
            bytes: settings.segment_bytes,
            making,
        },
        tail,
        files.clone(),
    )?;
    Ok(Started {
        lock,
        start,
        queue,
        files,
        contents,
        registry,
        index: Arc::new(index),
        report: StartReport {
            start,
            replayed: was.records,
            damaged: was.damaged + registry_was.damaged,
            torn_bytes: was.torn_bytes + registry_was.torn_bytes,
            newest: match was.newest_ms.max(registry_was.newest_ms) {
                0 => None,
                ms => time(ms),
            },
        },
        places,
    })
}

fn make_dirs(places: &Places) -> io::Result<()> {
    let dirs = [
        &places.root,
        &places.queue,
        &places.registry,
        &places.content,
        &places.quarantine,
    ];
    for dir in dirs {
        places.disk.make_dir(dir)?;
    }
    places.disk.sync_dir(&places.root)
}

fn lock(places: &Places) -> Result<Box<dyn Lock>, OpenError> {
    match places.disk.lock(&places.root.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse(places.root.clone()))
        }
        result => Ok(result?),
    }
}

fn own_segment(old: &[(Segment, PathBuf)], start: u64, last_sequence: u64) -> Segment {
    let last = old.last().map(|(segment, _)| *segment);
    Segment {
        log_id: last.map_or_else(rand::random, |segment| segment.log_id),
        number: last.map_or(1, |segment| segment.number + 1),
        marker: rand::random(),
        start,
        first_sequence: last_sequence + 1,
    }
}

fn read_header(file: &dyn DiskFile) -> Option<Segment> {
    let mut header = [0; segment::HEADER_LEN];
    disk::read_exact_at(file, &mut header, 0).ok()?;
    Segment::decode(&header)
}

/// The index with the last sequence of the log, if everything agrees.
fn trusted_index(
    places: &Places,
    old: &[(Segment, PathBuf)],
    marker: &[u8],
    start: u64,
) -> Option<(Index, u64)> {
    let word = |n: usize| {
        Some(u64::from_be_bytes(
            marker.get(8 * n..8 * n + 8)?.try_into().ok()?,
        ))
    };
    let (segment, offset, next_sequence, entries) = (word(0)?, word(1)?, word(2)?, word(3)?);
    let (last, path) = old.last()?;
    let bytes = disk::read(&*places.disk, path).ok()?;
    let behind = bytes.get(usize::try_from(offset).ok()?..)?;
    if last.number != segment || behind.iter().any(|byte| *byte != 0) {
        return None;
    }
    remove_half_snapshots(&places.index).ok()?;
    let index = Index::open(&places.index, start).ok()?;
    let agrees = index.end().ok()?.as_deref() == Some(marker);
    (agrees && index.count_all().ok()? == entries).then(|| (index, next_sequence - 1))
}

/// A crash can leave a snapshot that sled had not finished, and that its next open takes for a whole one.
fn remove_half_snapshots(index: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(index)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Deletes the index and replays the log into a new one.
fn rebuild(
    places: &Places,
    contents: &Contents,
    start: u64,
) -> Result<(Index, Replayed), OpenError> {
    if places.index.exists() {
        std::fs::remove_dir_all(&places.index)?;
    }
    let index = Index::open(&places.index, start)?;
    let mut failed = None;
    let whole = |found: &Found<'_>| content_is_whole(contents, found);
    let was = replay(
        &*places.disk,
        &places.queue,
        &places.quarantine,
        start,
        whole,
        |found| {
            if failed.is_none() {
                failed = apply(&index, &found).err();
            }
        },
    )?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if was.ends_damaged {
        index.doubt_everything()?;
    }
    // After damage a file may belong to a record that cannot be read: nothing is removed then.
    if was.damaged == 0 {
        let named = index.content_files()?;
        for orphan in contents.orphans(start, |name| named.contains(name))? {
            contents.unlink(&orphan);
        }
    } else {
        tracing::error!(
            damaged = was.damaged,
            "the log is damaged; what could not be read is in quarantine/"
        );
    }
    Ok((index, was))
}

fn apply(index: &Index, found: &Found<'_>) -> Result<(), StoreError> {
    if found.after == Before::Damage {
        index.doubt_everything()?;
    }
    let unreadable = |_| StoreError::Index("a record does not parse".to_owned());
    let written = Written {
        sequence: found.header.sequence,
        place: found.place,
    };
    match found.header.kind {
        Kind::Accepted => {
            let accepted = body::Accepted::decode(found.envelope).map_err(unreadable)?;
            index.accepted(&accepted, written, found.start);
        }
        Kind::Settled => {
            let settled = body::Settled::decode(found.envelope).map_err(unreadable)?;
            if let Some(dsn) = &settled.dsn {
                index.accepted(dsn, written, found.start);
            }
            index.settled(&settled)?;
        }
        Kind::Noted => {
            let noted = body::Noted::decode(found.envelope).map_err(unreadable)?;
            if let Some(dsn) = &noted.dsn {
                index.accepted(dsn, written, found.start);
            }
            index.noted(&noted)?;
        }
        Kind::Carried | Kind::Put => {
            tracing::warn!(place = ?found.place, "a record of a kind that is not for this log");
        }
    }
    while index.pending() > PENDING_IN_REPLAY {
        index.flush_pending()?;
    }
    Ok(())
}

/// Whether the content file that a record of the last commit names is there, whole.
fn content_is_whole(contents: &Contents, found: &Found<'_>) -> bool {
    if found.header.kind != Kind::Accepted {
        return true;
    }
    let Ok(accepted) = body::Accepted::decode(found.envelope) else {
        return false;
    };
    if accepted.file.is_empty() {
        return true;
    }
    contents.open(&accepted).is_ok()
}
