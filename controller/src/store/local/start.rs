//! The start: in this order, lock, clean-stop marker, the ends of both logs, this start's own segments, the registry.
//!
//! Of each log first the old end is cut, and synced; only then this start's own segment is made. So a segment that has
//! a successor has its end settled: whatever is bad there is damage, and never again cut as a torn commit. The cut looks
//! at the last segment only, so a start is as quick with a million messages as with none
//! (docs/decisions/0009-the-index-is-rebuilt-in-the-background.md).
//!
//! # Not here
//! What waits from earlier starts: [`super::learn`] reads it while intake is open.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;

use super::body;
use super::content;
use super::index::Own;
use super::index::entry::time;
use super::learn::CleanStop;
use super::log::{Files, Log};
use super::record::Kind;
use super::registry::{Registry, Replaying};
use super::replay::{self, End, Found};
use super::segment::{self, Segment, sync_dir};
use crate::store::{OpenError, RebuildIndex, Settings, StartReport};

/// Segments of the registry's log are small: it changes rarely.
const REGISTRY_SEGMENT_BYTES: u64 = 1 << 20;
/// Words of a clean-stop marker: three for the end of each log, and how many deliveries are open.
const MARKER_WORDS: usize = 7;

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    pub(crate) queue: PathBuf,
    pub(crate) registry: PathBuf,
    pub(crate) content: PathBuf,
    pub(crate) quarantine: PathBuf,
    marker: PathBuf,
}

/// Where a log ends: segment, offset, next sequence.
pub(crate) type LogEnd = (u64, u64, u64);

impl Places {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            queue: root.join("queue"),
            registry: root.join("registry"),
            content: root.join("content"),
            quarantine: root.join("quarantine"),
            marker: root.join("clean-stop"),
        }
    }

    /// What the clean-stop marker and the last key of the index say: the ends of both logs, and what is open.
    pub(crate) fn end_of(queue: LogEnd, registry: LogEnd, entries: u64) -> Vec<u8> {
        let words: [u64; MARKER_WORDS] = [
            queue.0, queue.1, queue.2, registry.0, registry.1, registry.2, entries,
        ];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Bytes that are free for us.
    pub(crate) fn free(&self) -> u64 {
        free(&self.root)
    }

    /// Written last of all. A crash before leaves none, and the next start rebuilds the index.
    pub(crate) fn write_marker(&self, end: &[u8]) -> io::Result<()> {
        let mut file = File::create(&self.marker)?;
        file.write_all(end)?;
        file.sync_all()?;
        sync_dir(&self.root)
    }

    fn take_marker(&self) -> io::Result<Option<Vec<u8>>> {
        let marker = match std::fs::read(&self.marker) {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        std::fs::remove_file(&self.marker)?;
        sync_dir(&self.root)?;
        Ok(Some(marker))
    }
}

/// Bytes that are free on the file system of a path; 0 where nobody knows.
pub(crate) fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path);
    stat.map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize))
}

/// Everything that is open after a start.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) lock: File,
    pub(crate) places: Places,
    pub(crate) start: u64,
    pub(crate) queue: Log,
    pub(crate) files: Files,
    pub(crate) registry: Registry,
    /// The segments of earlier starts.
    pub(crate) old: Vec<(Segment, PathBuf)>,
    pub(crate) own: Own,
    pub(crate) clean_stop: Option<CleanStop>,
    pub(crate) report: StartReport,
}

/// # Errors
/// The directory is in use, or cannot be read or written.
pub(crate) fn start(settings: &Settings) -> Result<Started, OpenError> {
    let places = Places::new(&settings.dir);
    make_dirs(&places).map_err(at(&places.root))?;
    let lock = lock(&places.root)?;
    let marker = places.take_marker().map_err(at(&places.marker))?;
    let old_queue = segment::list(&places.queue).map_err(at(&places.queue))?;
    let old_registry = segment::list(&places.registry).map_err(at(&places.registry))?;
    let start = 1 + old_queue
        .iter()
        .chain(&old_registry)
        .map(|(segment, _)| segment.start)
        .max()
        .unwrap_or(0);

    let cut = |old: &[(Segment, PathBuf)], dir: &Path| {
        let whole = |found: &Found<'_>| content_is_whole(&places.content, found);
        replay::cut_end(old, &places.quarantine, whole).map_err(at(dir))
    };
    let queue_end = cut(&old_queue, &places.queue)?;
    let registry_end = cut(&old_registry, &places.registry)?;
    let files = Files::default();
    let tail = own_segment(&old_queue, start, &queue_end);
    let queue = Log::begin(&places.queue, settings.segment_bytes, tail, files.clone())
        .map_err(at(&places.queue))?;
    let registry_tail = own_segment(&old_registry, start, &registry_end);
    let registry = registry(&places, &old_registry, registry_tail)?;

    for (named, path) in &old_queue {
        let file = File::open(path).map_err(at(path))?;
        let segment = read_header(&file).unwrap_or(*named);
        files.add(segment, Arc::new(file));
    }
    let clean_stop = marker
        .and_then(|marker| agreeing(marker, &queue_end, &registry_end))
        .filter(|_| settings.rebuild_index == RebuildIndex::No);
    Ok(Started {
        lock,
        start,
        queue,
        files,
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

/// Replays the registry's log, and goes on with a segment of its own.
fn registry(
    places: &Places,
    old: &[(Segment, PathBuf)],
    tail: Segment,
) -> Result<Registry, OpenError> {
    let mut replaying = Replaying::default();
    let was = replay::read(old, &places.quarantine, |found, _| {
        replaying.apply(&found);
        true
    });
    replaying.ends(&was.map_err(at(&places.registry))?);
    let files = Files::default();
    let log = Log::begin(&places.registry, REGISTRY_SEGMENT_BYTES, tail, files)
        .map_err(at(&places.registry))?;
    Ok(Registry::new(log, replaying))
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
        &places.quarantine,
    ];
    for dir in dirs {
        if !dir.exists() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
    }
    sync_dir(&places.root)
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("lock"))
        .map_err(at(root))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(at(root)(error)),
    }
}

fn own_segment(old: &[(Segment, PathBuf)], start: u64, end: &End) -> Segment {
    let last = old.last().map(|(segment, _)| *segment);
    Segment {
        log_id: last.map_or_else(rand::random, |segment| segment.log_id),
        number: last.map_or(1, |segment| segment.number + 1),
        marker: rand::random(),
        start,
        first_sequence: end.last_sequence + 1,
    }
}

fn read_header(file: &File) -> Option<Segment> {
    let mut header = [0; segment::HEADER_LEN];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut header, 0).ok()?;
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
fn content_is_whole(dir: &Path, found: &Found<'_>) -> bool {
    if found.header.kind != Kind::Accepted {
        return true;
    }
    let Ok(accepted) = body::Accepted::decode(found.envelope) else {
        return false;
    };
    if accepted.file.is_empty() {
        return true;
    }
    content::is_whole(&dir.join(&accepted.file), &accepted)
}
