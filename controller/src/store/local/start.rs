//! The start: the directory is locked, both logs are replayed, this start's own segments begin.
//!
//! A crash anywhere in here leaves what the next start does again: cutting, setting aside and unlinking are all
//! repeatable, and a segment without a record is no log's end.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::body::Accepted;
use super::content;
use super::fold;
use super::index::Index;
use super::log::{Files, Log};
use super::record::Kind;
use super::registry::Records;
use super::replay::{self, Found, Replayed};
use super::segment::{self, Segment, sync_dir};
use crate::store::{OpenError, StartReport};

/// Bytes of a segment of the registry's log.
const REGISTRY_SEGMENT: u64 = 1 << 20;

/// The parts of the state directory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    queue: PathBuf,
    registry: PathBuf,
    pub(crate) content: PathBuf,
    quarantine: PathBuf,
}

/// What a start has made.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) index: Index,
    pub(crate) records: Records,
    pub(crate) queue: Log,
    pub(crate) registry: Log,
    pub(crate) files: Files,
    pub(crate) report: StartReport,
}

impl Places {
    pub(crate) fn make(root: &Path) -> io::Result<Self> {
        let places = Self {
            root: root.to_owned(),
            queue: root.join("queue"),
            registry: root.join("registry"),
            content: root.join("content"),
            quarantine: root.join("quarantine"),
        };
        for dir in [
            &places.root,
            &places.queue,
            &places.registry,
            &places.content,
            &places.quarantine,
        ] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        sync_dir(root)?;
        Ok(places)
    }
}

/// Held as long as the file is open.
pub(crate) fn lock(root: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io {
        dir: root.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(root.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

pub(crate) fn start(places: &Places, segment_bytes: u64) -> io::Result<Started> {
    let known = [
        segment::list(&places.queue)?,
        segment::list(&places.registry)?,
    ];
    let all = known.iter().flatten();
    let start = all.map(|(segment, _)| segment.start).max().unwrap_or(0) + 1;

    let (index, queue_read) = replay_queue(places, start)?;
    let (records, registry_read) = replay_registry(places, start)?;
    let files = Files::default();
    for (named, path) in &known[0] {
        let file = File::open(path)?;
        files.add(segment::read_header(&file).unwrap_or(*named), file.into());
    }
    let queue = own_segment(&known[0], start, &queue_read);
    let queue = Log::begin(&places.queue, segment_bytes, queue, files.clone())?;
    let registry = own_segment(&known[1], start, &registry_read);
    let registry = Log::begin(
        &places.registry,
        REGISTRY_SEGMENT,
        registry,
        Files::default(),
    )?;
    tidy(&known[0], index.oldest_segment(), &queue_read)?;
    let orphans = content::remove_orphans(
        &places.content,
        start,
        (queue_read.damaged > 0).then_some(&*places.quarantine),
        &index.files().collect::<HashSet<_>>(),
    )?;
    let newest_ms = queue_read.newest_ms.max(registry_read.newest_ms);
    let report = StartReport {
        start_number: start,
        open_deliveries: index.total().messages,
        records: queue_read.records + registry_read.records,
        damaged: queue_read.damaged + registry_read.damaged,
        torn_bytes: queue_read.torn_bytes + registry_read.torn_bytes,
        orphans,
        newest: Some(newest_ms)
            .filter(|ms| *ms > 0)
            .and_then(|ms| fold::timestamp(ms).ok()),
    };
    Ok(Started {
        index,
        records,
        queue,
        registry,
        files,
        report,
    })
}

fn replay_queue(places: &Places, start: u64) -> io::Result<(Index, Replayed)> {
    let mut index = Index::default();
    let mut unreadable = 0;
    let whole = |found: &Found<'_>| content_is_whole(&places.content, found);
    let mut read = replay::replay(&places.queue, &places.quarantine, start, whole, |found| {
        if fold::apply(&mut index, &found).is_err() {
            // It may have been a settlement.
            index.doubt_all();
            unreadable += 1;
        }
    })?;
    if read.ends_damaged {
        index.doubt_all();
    }
    read.damaged += unreadable;
    Ok((index, read))
}

fn replay_registry(places: &Places, start: u64) -> io::Result<(Records, Replayed)> {
    let mut records = Records::default();
    let mut unreadable = 0;
    let mut read = replay::replay(
        &places.registry,
        &places.quarantine,
        start,
        |_| true,
        |found| {
            let value = Bytes::copy_from_slice(found.content);
            let sound = crc32c::crc32c(found.content) == found.header.content_crc;
            let (kind, sequence) = (found.header.kind, found.header.sequence);
            if !sound
                || records
                    .apply(kind, sequence, found.envelope, value)
                    .is_err()
            {
                unreadable += 1;
            }
        },
    )?;
    read.damaged += unreadable;
    Ok((records, read))
}

/// Whether the content file that a record of the last commit names is there and whole.
fn content_is_whole(dir: &Path, found: &Found<'_>) -> bool {
    if found.header.kind != Kind::Accepted {
        return true;
    }
    let Ok(accepted) = Accepted::decode(found.envelope) else {
        return true;
    };
    accepted.file.is_empty() || content::open_whole(dir, &accepted.file, accepted.file_crc).is_ok()
}

fn own_segment(known: &[(Segment, PathBuf)], start: u64, read: &Replayed) -> Segment {
    let last = known.last().map(|(segment, _)| segment);
    Segment {
        log_id: last.map_or_else(rand::random, |it| it.log_id),
        number: last.map_or(1, |it| it.number + 1),
        marker: rand::random(),
        start,
        first_sequence: read.last_sequence + 1,
    }
}

/// Unlinks segments at the log's old end that hold no open message. Each unlinking is synced before the next, for the
/// settlement of a message must not go before the message. After damage nothing is unlinked.
fn tidy(known: &[(Segment, PathBuf)], oldest: Option<u64>, read: &Replayed) -> io::Result<()> {
    if read.damaged > 0 {
        return Ok(());
    }
    for (segment, path) in known {
        if oldest.is_some_and(|oldest| segment.number >= oldest) {
            break;
        }
        std::fs::remove_file(path)?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
    }
    Ok(())
}
