//! The start: in this order, lock, clean-stop marker, the ends of both logs, this start's own segments, the registry.
//!
//! Of each log first the old end is cut, and synced; only then this start's own segment is made. So a segment that has
//! a successor has its end settled: whatever is bad there is damage, and never again cut as a torn commit. The cut looks
//! at the last segment only, so a start is as quick with a million messages as with none
//! (docs/decisions/0009-the-index-is-rebuilt-in-the-background.md).
//!
//! A start on a full disk finds room: the queue's own segment is a spare, the registry's fits where its old end was cut,
//! and the ballast goes before either fails. So nothing is made ahead until both logs have begun.
//!
//! # Not here
//! What waits from earlier starts: [`super::learn`] reads it while intake is open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;

use super::ballast::Ballast;
use super::body;
use super::content::Contents;
use super::disk::{self, DiskFile, Lock, SharedDisk};
use super::index::Own;
use super::index::entry::time;
use super::learn::CleanStop;
use super::log::{Files, Log, Segments};
use super::quarantine::Quarantine;
use super::record::Kind;
use super::registry::{Registry, Replaying};
use super::replay::{self, End, Found, Sequences, Wanted};
use super::segment::{self, Segment};
use super::spares::Making;
use crate::store::{OpenError, RebuildIndex, Settings, StartReport};

/// Segments of the registry's log are small: it changes rarely.
const REGISTRY_SEGMENT_BYTES: u64 = 1 << 20;
/// Words of a clean-stop marker: three for the end of each log, and how many deliveries are open.
const MARKER_WORDS: usize = 7;

/// Where what is left of a log does not say which sequences were given out, each start has so many of its own: 2 to this.
const SEQUENCES_OF_A_START: u32 = 40;
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
    pub(crate) quarantine: Quarantine,
}

/// Where a log ends: segment, offset, next sequence.
pub(crate) type LogEnd = (u64, u64, u64);

impl Places {
    fn new(disk: SharedDisk, root: &Path) -> Self {
        let quarantine = root.join("quarantine");
        Self {
            quarantine: Quarantine::new(disk.clone(), root, &quarantine),
            disk,
            root: root.to_owned(),
            queue: root.join("queue"),
            registry: root.join("registry"),
            content: root.join("content"),
        }
    }

    /// What the clean-stop marker and the last key of the index say: the ends of both logs, and what is open.
    pub(crate) fn end_of(queue: LogEnd, registry: LogEnd, entries: u64) -> Vec<u8> {
        let words: [u64; MARKER_WORDS] = [
            queue.0, queue.1, queue.2, registry.0, registry.1, registry.2, entries,
        ];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Bytes that are free for us; 0 where nobody knows.
    pub(crate) fn free(&self) -> u64 {
        self.disk.room(&self.root).map_or(0, |room| room.free)
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
            Err(error) if disk::is_unreadable(&error) => {
                tracing::warn!(%error, "the marker of the clean stop cannot be read: the index is rebuilt");
                Vec::new()
            }
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
    /// The segments of earlier starts.
    pub(crate) old: Vec<(Segment, PathBuf)>,
    pub(crate) own: Own,
    pub(crate) clean_stop: Option<CleanStop>,
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
    make_dirs(&places).map_err(at(&places.root))?;
    let lock = lock(&places)?;
    let marker = places.take_marker().map_err(at(&places.root))?;
    let contents = Contents::new(Arc::clone(disk), &places.content);
    let mut old_queue = segment::list(&**disk, &places.queue).map_err(at(&places.queue))?;
    let mut old_registry =
        segment::list(&**disk, &places.registry).map_err(at(&places.registry))?;
    let highest = |dir| segment::highest_start(&**disk, dir).map_err(at(dir));
    let start = 1 + highest(&places.queue)?.max(highest(&places.registry)?);

    let cut = |old: &[(Segment, PathBuf)], dir: &Path| {
        let whole = |found: &Found<'_>| content_is_whole(&contents, found);
        replay::cut_end(&**disk, old, &places.quarantine, whole).map_err(at(dir))
    };
    let mut queue_end = cut(&old_queue, &places.queue)?;
    let mut registry_end = cut(&old_registry, &places.registry)?;
    let clean_stop = marker.and_then(|marker| agreeing(marker, &queue_end, &registry_end));
    if clean_stop.is_some() {
        // The marker says where the logs end: nothing lies behind, read or not.
        (queue_end.hidden, registry_end.hidden) = (0, 0);
    }
    let files = Files::default();
    let tail = own_segment(&old_queue, start, &queue_end);
    let segments = Segments {
        bytes: settings.segment_bytes,
        making,
    };
    let mut queue = begin(&places, &places.queue, segments, tail, &files)?;
    let registry_tail = own_segment(&old_registry, start, &registry_end);
    remove_empty(disk, &places.queue, &mut old_queue)?;
    remove_empty(disk, &places.registry, &mut old_registry)?;
    let registry = registry(&places, settings, &old_registry, registry_tail)?;
    queue.make_ahead().map_err(at(&places.queue))?;

    readable(disk, &old_queue, &files)?;
    let clean_stop = clean_stop.filter(|_| settings.rebuild_index == RebuildIndex::No);
    Ok(Started {
        lock,
        start,
        queue,
        files,
        contents,
        report: StartReport {
            start,
            clean: clean_stop.is_some(),
            registry_damage: registry.damaged(),
            torn_bytes: queue_end.torn_bytes + registry_end.torn_bytes,
            newest: match queue_end.newest_ms.max(registry_end.newest_ms) {
                0 => None,
                ms => time(ms),
            },
        },
        registry,
        old: old_queue,
        own: Own {
            sequence: tail.first_sequence,
            segment: tail.number,
        },
        clean_stop,
        places,
    })
}

/// Begins a log's own segment, with the ballast's room where there is no other.
fn begin(
    places: &Places,
    dir: &Path,
    segments: Segments,
    tail: Segment,
    files: &Files,
) -> Result<Log, OpenError> {
    let begin = || Log::begin(&places.disk, dir, segments, tail, files.clone());
    let begun = match begin() {
        Err(error) if disk::is_full(&error) && Ballast::new(&places.root, 0).give_up() => {
            tracing::warn!("the disk is full: what was held back for the index is used");
            begin()
        }
        result => result,
    };
    begun.map_err(at(dir))
}

/// Replays the registry's log, and goes on with a segment of its own.
fn registry(
    places: &Places,
    settings: &Settings,
    old: &[(Segment, PathBuf)],
    tail: Segment,
) -> Result<Registry, OpenError> {
    let mut replaying = Replaying::default();
    let each = |found: Found<'_>, _| {
        replaying.apply(&found);
        true
    };
    let (wanted, next) = (|_, _: &[u8]| Wanted::Contents, tail.first_sequence);
    let was = replay::read(&*places.disk, old, &places.quarantine, next, wanted, each);
    replaying.ends(&was.map_err(at(&places.registry))?);
    let files = Files::default();
    let segments = Segments {
        bytes: REGISTRY_SEGMENT_BYTES.min(settings.segment_bytes),
        making: Making::WhenTaken,
    };
    let log = begin(places, &places.registry, segments, tail, &files)?;
    readable(&places.disk, old, &files)?;
    Ok(Registry::new(
        log,
        files,
        places.quarantine.clone(),
        replaying,
    ))
}

/// Removes segments that no record ever got into; that of a start which did nothing.
fn remove_empty(
    disk: &SharedDisk,
    dir: &Path,
    old: &mut Vec<(Segment, PathBuf)>,
) -> Result<(), OpenError> {
    let mut kept = Vec::with_capacity(old.len());
    for (segment, path) in old.drain(..) {
        let len = disk.open(&path).and_then(|file| file.len());
        match len.map_err(at(&path))? {
            0..=segment::HEADER => disk.unlink(&path).map_err(at(&path))?,
            _ => kept.push((segment, path)),
        }
    }
    *old = kept;
    disk.sync_dir(dir).map_err(at(dir))
}

/// Opens the segments of earlier starts.
fn readable(disk: &SharedDisk, old: &[(Segment, PathBuf)], files: &Files) -> Result<(), OpenError> {
    for (named, path) in old {
        let file = disk.open(path).map_err(at(path))?;
        let segment = read_header(&*file).unwrap_or(*named);
        let bytes = file.len().map_err(at(path))?;
        files.add(segment, file, bytes);
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    |source| OpenError::Disk { path, source }
}

fn make_dirs(places: &Places) -> io::Result<()> {
    let dirs = [
        &places.root,
        &places.queue,
        &places.registry,
        &places.content,
        places.quarantine.dir(),
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
        result => result.map_err(at(&places.root)),
    }
}

fn own_segment(old: &[(Segment, PathBuf)], start: u64, end: &End) -> Segment {
    let last = old.last().map(|(segment, _)| *segment);
    // No start gives out as many, so these are nobody's.
    let from = match end.sequences {
        Sequences::Told => 0,
        Sequences::Untold => start << SEQUENCES_OF_A_START,
    };
    Segment {
        log_id: last.map_or_else(rand::random, |segment| segment.log_id),
        number: last.map_or(1, |segment| segment.number + 1),
        marker: rand::random(),
        start,
        first_sequence: (end.last_sequence + end.hidden + 1).max(from),
    }
}

fn read_header(file: &dyn DiskFile) -> Option<Segment> {
    let mut header = [0; segment::HEADER_LEN];
    disk::read_exact_at(file, &mut header, 0).ok()?;
    Segment::decode(&header)
}

/// What the marker says, where the ends of both logs say the same.
fn agreeing(marker: Vec<u8>, queue: &End, registry: &End) -> Option<CleanStop> {
    let entries = marker.last_chunk().copied().map(u64::from_be_bytes)?;
    let of = |end: &End| (end.segment, end.offset, end.last_sequence + 1);
    let agrees = Places::end_of(of(queue), of(registry), entries) == marker;
    let whole = queue.torn_bytes == 0 && registry.torn_bytes == 0;
    if !agrees || !whole {
        tracing::warn!("the logs are not what they were at the clean stop: the index is rebuilt");
        return None;
    }
    Some(CleanStop { marker, entries })
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
    match contents.open(&accepted) {
        // It was there; that it cannot be read shows when it is wanted.
        Err(error) => disk::is_unreadable(&error),
        Ok(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::disk::memory::MemoryDisk;
    use crate::store::local::tests::settings;

    #[test]
    fn what_is_held_back_goes_before_a_start_fails_for_want_of_room() {
        let held_back = tempfile::TempDir::new().unwrap();
        let ballast = Ballast::new(held_back.path(), 1 << 10);
        ballast.make();
        let disk = MemoryDisk::default();
        disk.set_capacity(20 << 10);
        // Room for the queue's own segment, and none for the registry's.
        let failed = start(
            Arc::new(disk),
            Making::WhenTaken,
            &settings(held_back.path()),
        );
        let Err(OpenError::Disk { path, source }) = failed else {
            panic!("{failed:?}");
        };
        assert!(disk::is_full(&source), "{source}");
        assert!(path.ends_with("registry"), "{}", path.display());
        assert!(!ballast.give_up(), "it was given up before");
    }
}
