//! Cleaning: the oldest segment is emptied, by writing what is still open in it anew, and goes.
//!
//! The writer does it in its own turn, between commits, a slice at a time. Each message with open deliveries becomes one
//! [`Kind::Carried`], as it stands at that moment: since nobody else appends, no recipient that is open there has its
//! settlement before it. Only the oldest segment is ever cleaned or removed, so what is left is always the end of the
//! log: a settlement never outlives its message, nor a message its settlement.
//!
//! ```text
//!   all is known, and the log takes more than twice what lives in it
//!        ▼
//!   read a slice ─▶ append what is open, synced ─▶ the index learns the new places ─▶ … ─▶ nothing lives here any more
//!                                                                                              ▼
//!                                                             the file is unlinked, the directory synced ─▶ the next
//! ```
//! A power cut leaves both copies, or a segment that was removed and is back: the later record wins.
//!
//! Where the disk cannot read a part of a segment, what can be read is carried as ever. A delivery whose record, or a part
//! of whose content, is lost is carried as what the index knows of it: held, shown, and never tried. The file is not
//! unlinked then but put into `quarantine/`, for the rest of it may be read some day.
//!
//! # Invariants
//! - Nothing is cleaned before all is known.
//! - A segment goes only when the index, which counts by itself, says that nothing lives in it. If something is left
//!   after all was carried, the process ends, and the next start rebuilds the index.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use prost::Message as _;

use super::body;
use super::index::Index;
use super::log::{AppendError, Files, Log, NewRecord, Place};
use super::pieces::{Pieces, content_of, envelope_of};
use super::quarantine::Quarantine;
use super::record::{Header, Kind};
use super::replay::{Stands, stands};
use super::segment::{self, Segment};
use crate::store::StoreError;

/// Bytes that are read, or written, in one turn; less where segments are small.
const SLICE: u64 = 1 << 20;
/// While mail flows, this many bytes are read for each that is appended.
const PACE: u64 = 4;
/// Segments that may be there however little lives in them: each start leaves one.
const FEW: u64 = 16;
/// Deliveries whose record is lost that are carried at once.
const LOST_AT_ONCE: usize = 256;

/// Why cleaning does not go on. All but a full disk ends the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Index(#[from] StoreError),
    #[error("a segment cannot be read")]
    Disk(#[from] io::Error),
    #[error(
        "{left} deliveries live in segment {segment} and are not to be found there: the next start rebuilds the index"
    )]
    Mismatch { segment: u64, left: u64 },
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Worked,
    NothingToDo,
}

/// Whether somebody waits for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Press {
    Idle,
    Busy,
}

/// How much cleaning is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    None,
    /// At its pace.
    Some,
    /// And a slice after each commit, however small.
    Urgent,
}

/// What has been done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cleaned {
    pub(crate) segments: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The state of cleaning, owned by the writer.
#[derive(Debug)]
pub(crate) struct Cleaner {
    index: Arc<Index>,
    files: Files,
    quarantine: Quarantine,
    segment_bytes: u64,
    slice: u64,
    going: Option<Going>,
    /// Bytes that may be read before mail goes first again.
    earned: u64,
    pub(crate) cleaned: Cleaned,
}

/// A segment that is half emptied.
#[derive(Debug)]
struct Going {
    segment: Segment,
    pieces: Pieces,
    at: u64,
    carried: u64,
    /// A part of it cannot be read.
    unreadable: bool,
}

/// A message with open deliveries, ready to be written.
struct Carrying {
    body: body::Carried,
    record: NewRecord,
}

impl Cleaner {
    pub(crate) fn new(
        index: Arc<Index>,
        files: Files,
        quarantine: Quarantine,
        segment_bytes: u64,
    ) -> Self {
        Self {
            index,
            files,
            quarantine,
            segment_bytes,
            slice: SLICE.min(segment_bytes / 2),
            going: None,
            earned: 0,
            cleaned: Cleaned::default(),
        }
    }

    /// Whether a segment is half emptied.
    pub(crate) fn is_going(&self) -> bool {
        self.going.is_some()
    }

    /// This much was appended. Returns how many slices there is time for: more than one after a large commit, or cleaning
    /// would fall behind. What was not needed is not saved up for long.
    pub(crate) fn earn(&mut self, bytes: u64) -> u64 {
        let now = bytes * PACE;
        self.earned = (self.earned + now).min(now.max(4 * self.slice));
        (now / self.slice).max(1)
    }

    /// One slice, where there is something to clean and time for it.
    ///
    /// # Errors
    /// See [`CleanError`]. After a full disk nothing has changed.
    pub(crate) fn turn(
        &mut self,
        log: &mut Log,
        press: Press,
        wall_ms: u64,
    ) -> Result<Turn, CleanError> {
        let oldest = self.files.oldest().filter(|oldest| *oldest < log.end().0);
        let Some(oldest) = oldest.filter(|_| self.index.knows_all()) else {
            return Ok(Turn::NothingToDo);
        };
        let dead = self.index.live_in(oldest).deliveries == 0;
        let (wanted, costs) = match self.need(log, oldest) {
            _ if dead => (true, 1),
            Need::None => (self.going.is_some(), self.slice),
            Need::Some => (true, self.slice),
            Need::Urgent => (true, 1),
        };
        if !wanted || press == Press::Busy && self.earned < costs {
            return Ok(Turn::NothingToDo);
        }
        self.earned = self.earned.saturating_sub(self.slice);
        if dead {
            self.remove(log, oldest)?;
            return Ok(Turn::Worked);
        }
        self.slice(log, oldest, wall_ms)
    }

    /// Disk ≤ 2 × live + 2 segments: the tail and one that is being cleaned. Short of
    /// space, a segment of which half is dead is gain enough; a copy of one that lives would only take from the reserve.
    fn need(&self, log: &Log, oldest: u64) -> Need {
        let (segments, bytes) = self.files.size();
        let live = self.index.live().bytes;
        let behind = bytes.saturating_sub(log.tail_bytes());
        let few = FEW + 2 * behind / self.segment_bytes.max(1);
        let half_dead = 2 * self.index.live_in(oldest).bytes < self.segment_bytes;
        let short = log.spares().is_short() && half_dead;
        if behind > 2 * live + self.segment_bytes / 2 {
            Need::Urgent
        } else if behind > 2 * live || segments > few || short {
            Need::Some
        } else {
            Need::None
        }
    }

    fn slice(&mut self, log: &mut Log, oldest: u64, wall_ms: u64) -> Result<Turn, CleanError> {
        let mut going = match self.going.take() {
            Some(going) if going.segment.number == oldest => going,
            Some(_) | None => self.begin(oldest)?,
        };
        let (from, mut carrying, mut bytes) = (going.at, Vec::new(), 0);
        while going.at - from < self.slice && bytes < self.slice {
            let Some((header, envelope)) = going.next()? else {
                break;
            };
            let place = going.place(&header);
            going.at += header.len();
            if let Some(carried) = self.carried(&mut going, place, &header, &envelope)? {
                bytes += carried.record.len();
                carrying.push(carried);
            }
        }
        let is_through = going.at >= going.pieces.len();
        if !self.append(log, &mut going, carrying, wall_ms)? {
            return Ok(Turn::NothingToDo);
        }
        if !is_through {
            self.going = Some(going);
            return Ok(Turn::Worked);
        }
        if going.unreadable {
            let mut lost = self.lost(oldest)?;
            while !lost.is_empty() {
                let some = lost.drain(..lost.len().min(LOST_AT_ONCE)).collect();
                if !self.append(log, &mut going, some, wall_ms)? {
                    return Ok(Turn::NothingToDo);
                }
            }
        }
        let left = self.index.live_in(oldest).deliveries;
        if left > 0 {
            let segment = oldest;
            return Err(CleanError::Mismatch { segment, left });
        }
        self.going = Some(going);
        self.remove(log, oldest)?;
        Ok(Turn::Worked)
    }

    /// Whether there was room.
    fn append(
        &mut self,
        log: &mut Log,
        going: &mut Going,
        carrying: Vec<Carrying>,
        wall_ms: u64,
    ) -> Result<bool, CleanError> {
        let (bodies, records): (Vec<_>, Vec<_>) = carrying
            .into_iter()
            .map(|carrying| (carrying.body, carrying.record))
            .unzip();
        if records.is_empty() {
            return Ok(true);
        }
        match log.append(&records, 1, wall_ms) {
            Ok(written) => {
                for (body, written) in bodies.iter().zip(written) {
                    going.carried += self.index.carried(body, written)?;
                }
            }
            Err(AppendError::Full) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.cleaned.records += records.len() as u64;
        self.cleaned.bytes += records.iter().map(NewRecord::len).sum::<u64>();
        Ok(true)
    }

    /// What lives in a segment and was not to be found there: a message for each record, without what only that said.
    fn lost(&self, segment: u64) -> Result<Vec<Carrying>, CleanError> {
        let mut lost: BTreeMap<u64, body::Carried> = BTreeMap::new();
        for (delivery, position, entry) in self.index.living_in(segment)? {
            tracing::error!(%delivery, segment, "the record of a delivery cannot be read: it is held, and shown");
            let body = lost.entry(entry.offset).or_insert_with(|| body::Carried {
                accepted: Some(body::Accepted {
                    id: entry.id.to_vec(),
                    arrived_ms: entry.arrived_ms,
                    bytes: entry.bytes,
                    file: entry.file.clone(),
                    ..body::Accepted::default()
                }),
                sequence: position.sequence,
                start: entry.start,
                damaged: true,
                ..body::Carried::default()
            });
            body.states.push(entry.state(position));
            let open = entry.stored(&delivery.site);
            let accepted = body.accepted.get_or_insert_default();
            accepted.deliveries.push(open);
        }
        Ok(lost
            .into_values()
            .map(|body| Carrying::new(body, Bytes::new()))
            .collect())
    }

    fn begin(&self, oldest: u64) -> Result<Going, CleanError> {
        let (segment, file) = self
            .files
            .get(oldest)
            .ok_or_else(|| io::Error::other("a segment is missing"))?;
        Ok(Going {
            pieces: Pieces::new(file)?,
            segment,
            at: segment::HEADER,
            carried: 0,
            unreadable: false,
        })
    }

    fn remove(&mut self, log: &mut Log, oldest: u64) -> Result<(), CleanError> {
        let going = self.going.take().filter(|it| it.segment.number == oldest);
        let segment = self.files.get(oldest).map(|(segment, _)| segment);
        let unreadable = going.as_ref().is_some_and(|going| going.unreadable)
            || segment.is_some_and(|segment| self.quarantine.is_noted(&segment));
        let carried = going.map_or(0, |going| going.carried);
        match unreadable {
            true => log.set_aside(oldest, self.quarantine.dir())?,
            false => log.remove(oldest)?,
        }
        self.cleaned.segments += 1;
        let (segments, bytes) = self.files.size();
        tracing::info!(
            segment = oldest,
            carried,
            unreadable,
            segments,
            bytes,
            live = self.index.live().bytes,
            "segment cleaned"
        );
        Ok(())
    }

    /// What is open of the message that a record holds. None: nothing, or a later record holds it.
    fn carried(
        &self,
        going: &mut Going,
        place: Place,
        header: &Header,
        envelope: &[u8],
    ) -> Result<Option<Carrying>, CleanError> {
        let Some((mut accepted, known)) = body::held_in(header.kind, envelope) else {
            return Ok(None);
        };
        let mut body = body::Carried::default();
        let mut open = Vec::new();
        for site in accepted.deliveries.iter().map(|delivery| &delivery.site) {
            let id = MessageId::try_from(&accepted.id[..]).ok();
            let Some((message, site)) = id.zip(site.parse::<SiteName>().ok()) else {
                continue;
            };
            let delivery = DeliveryId { message, site };
            if let Some((position, entry)) = self.index.get(&delivery)?
                && entry.place() == place
            {
                body.sequence = position.sequence;
                body.start = entry.start;
                body.states.push(entry.state(position));
                open.push(entry.stored(&delivery.site));
            }
        }
        if open.is_empty() {
            return Ok(None);
        }
        accepted.deliveries = open;
        let content = going.content(place, header)?;
        // The checksum of the copy is right whatever it copies, so that what is bad stays known to be.
        body.damaged =
            known == body::Content::Damaged || crc32c::crc32c(&content) != header.content_crc;
        body.accepted = Some(accepted);
        Ok(Some(Carrying::new(body, content)))
    }
}

impl Going {
    fn place(&self, header: &Header) -> Place {
        Place {
            segment: self.segment.number,
            offset: self.at,
            len: header.len(),
        }
    }

    /// The record at `at`, or the next good one behind it, with its envelope; None where there is none.
    fn next(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        loop {
            match stands(&mut self.pieces, &self.segment, self.at)? {
                Stands::Record(header) => {
                    let envelope = self.pieces.slice(envelope_of(self.at, &header))?;
                    return Ok(Some((header, envelope.to_vec())));
                }
                // What is no record has been copied to `quarantine/` by the start that found it.
                Stands::Gap(end, looked) => {
                    self.unreadable |= !looked.holes.is_empty();
                    self.at = end;
                }
                Stands::Nothing => {
                    self.at = self.pieces.len();
                    return Ok(None);
                }
            }
        }
    }

    /// Zeros where it cannot be read.
    fn content(&mut self, place: Place, header: &Header) -> io::Result<Bytes> {
        let range = content_of(place.offset, header);
        self.unreadable |= self.pieces.whole(range.clone())?.is_none();
        let mut content = self.pieces.slice(range)?.to_vec();
        content.resize(header.content_len as usize, 0);
        Ok(Bytes::from(content))
    }
}

impl Carrying {
    fn new(body: body::Carried, content: Bytes) -> Self {
        let record = NewRecord {
            kind: Kind::Carried,
            envelope: body.encode_to_vec(),
            content,
        };
        Self { body, record }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::task::{JoinSet, yield_now};

    use super::*;
    use crate::intake::accept::Content;
    use crate::store::local::disk::memory::MemoryDisk;
    use crate::store::local::index::in_memory::InMemory;
    use crate::store::local::steps::Steps;
    use crate::store::local::tests::{settlement, stood, submission};
    use crate::store::local::{Blocking, On};
    use crate::store::{MinFree, RebuildIndex, Settings, Store};

    const SEGMENT: u64 = 64 << 10;
    /// Messages of one commit.
    const GROUP: u64 = 16;

    fn opened() -> (Store, Steps) {
        let settings = Settings {
            dir: PathBuf::from("/state"),
            segment_bytes: SEGMENT,
            min_free: MinFree::Bytes(0),
            rebuild_index: RebuildIndex::No,
        };
        let on = On {
            blocking: Blocking::Caller,
            ..stood(MemoryDisk::default(), InMemory::default())
        };
        let (store, mut steps, _) = Store::open_stepped(on, &settings).unwrap();
        while !*store.all_known().borrow() {
            steps.index();
        }
        (store, steps)
    }

    /// All of it waits before the writer takes a step, and the writer never finds nothing to do.
    async fn committed<T: 'static>(mut asked: JoinSet<T>, steps: &mut Steps) {
        while !asked.is_empty() {
            yield_now().await;
            steps.commit();
            yield_now().await;
            while asked.try_join_next().is_some() {}
        }
    }

    async fn a_group_comes_and_most_of_it_goes(store: &Store, steps: &mut Steps, first: u64) {
        let message = |number| MessageId::new(number, [0; 10]);
        let mut accepting = JoinSet::new();
        for number in first..first + GROUP {
            let mut submission = submission(0, &["a"], Content::Inline(vec![0; 1 << 10].into()));
            submission.id = message(number);
            let store = store.clone();
            accepting.spawn(async move { store.accept(submission).await.unwrap() });
        }
        committed(accepting, steps).await;
        let mut settling = JoinSet::new();
        for number in first + 1..first + GROUP {
            let mut settlement = settlement(0, "a", 0);
            settlement.delivery.message = message(number);
            let store = store.clone();
            settling.spawn(async move { store.settle(vec![settlement]).await.unwrap() });
        }
        committed(settling, steps).await;
    }

    #[tokio::test]
    async fn cleaning_keeps_pace_with_commits_that_are_larger_than_a_slice() {
        let (store, mut steps) = opened();
        steps.writer.cleaner.slice = 1 << 10;
        for group in 0..60 {
            a_group_comes_and_most_of_it_goes(&store, &mut steps, group * GROUP).await;
            let it = store.measures();
            assert!(
                it.log_bytes <= 2 * it.live_bytes + 2 * SEGMENT,
                "{group}: {} bytes, of which {} live",
                it.log_bytes,
                it.live_bytes
            );
        }
        assert!(store.measures().cleaned_segments > 10);
    }
}
