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
//! Where the disk cannot read a part of a segment, what can be read is carried as ever, and the rest is asked for again a
//! minute later ([`going`]). A delivery whose record, or a part of whose content, is lost then is carried as what the index
//! knows of it: held, shown, and never tried. The file is not unlinked but put into `quarantine/`, for the rest of it may
//! be read some day; a note there says so before such a copy is durable.
//!
//! # Invariants
//! - Nothing is cleaned before all is known.
//! - A segment goes only when the index, which counts by itself, says that nothing lives in it. If something is left
//!   after all was carried, the process ends, and the next start rebuilds the index.

mod going;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use prost::Message as _;

use super::body;
use super::index::{Index, Living};
use super::log::{AppendError, Files, Log, NewRecord, Place};
use super::quarantine::{Quarantine, Room};
use super::record::{Header, Kind};
use super::wall::Times;
use crate::store::StoreError;
use going::{Content, Going, Pass, Search};

/// Bytes that are read, or written, in one turn; less where segments are small.
const SLICE: u64 = 1 << 20;
/// While mail flows, this many bytes are read for each that is appended.
const PACE: u64 = 4;
/// Segments that may be there however little lives in them: each start leaves one.
const FEW: u64 = 16;
/// Deliveries that are looked at in one turn, in search of those whose record is lost.
const SEARCHED_AT_ONCE: usize = 512;
/// A delivery that is noted meanwhile may step behind the search: it is begun anew, but not for ever.
const SEARCHES_IN_VAIN: u32 = 3;

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

/// What a turn of reading a segment came to.
enum Step {
    More,
    /// There was no room: it is begun anew.
    NoRoom,
    /// Nothing lives there any more.
    Emptied,
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
        times: &Times,
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
        self.slice(log, oldest, times)
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

    fn slice(&mut self, log: &mut Log, oldest: u64, times: &Times) -> Result<Turn, CleanError> {
        let mut going = match self.going.take() {
            Some(going) if going.segment.number == oldest => going,
            Some(_) | None => self.begin(oldest)?,
        };
        if !going.is_due(times.monotonic()) {
            self.going = Some(going);
            return Ok(Turn::NothingToDo);
        }
        let step = match going.pass {
            Pass::First | Pass::Again(_) => self.read(log, &mut going, times)?,
            Pass::Lost(_) => self.search(log, &mut going, times)?,
        };
        match step {
            Step::NoRoom => return Ok(Turn::NothingToDo),
            Step::More => self.going = Some(going),
            Step::Emptied => {
                self.going = Some(going);
                self.remove(log, oldest)?;
            }
        }
        Ok(Turn::Worked)
    }

    fn read(
        &mut self,
        log: &mut Log,
        going: &mut Going,
        times: &Times,
    ) -> Result<Step, CleanError> {
        let (from, mut carrying, mut bytes) = (going.passed, Vec::new(), 0);
        while going.passed - from < self.slice && bytes < self.slice {
            let Some((place, header, envelope)) = going.next()? else {
                break;
            };
            if let Some(carried) = self.carried(going, place, &header, &envelope)? {
                bytes += carried.record.len();
                carrying.push(carried);
            }
        }
        // Once a copy is durable, nobody looks at the content of what it was copied from.
        let lost = going.lost_parts()?;
        if self.quarantine.note(&going.segment, &lost)? == Room::Missing {
            return Ok(Step::NoRoom);
        }
        going.are_noted();
        if !self.append(log, going, carrying, times)? {
            return Ok(Step::NoRoom);
        }
        if !going.is_through() {
            return Ok(Step::More);
        }
        if going.pass == Pass::First && going.has_holes() {
            going.begin_again(times.monotonic());
            return Ok(Step::More);
        }
        let segment = going.segment.number;
        match self.index.live_in(segment).deliveries {
            0 => Ok(Step::Emptied),
            _ if going.has_holes() => {
                going.pass = Pass::Lost(Search::default());
                Ok(Step::More)
            }
            left => Err(CleanError::Mismatch { segment, left }),
        }
    }

    /// Looks through a part of the index for what lives in a segment and was not to be found there.
    fn search(
        &mut self,
        log: &mut Log,
        going: &mut Going,
        times: &Times,
    ) -> Result<Step, CleanError> {
        let segment = going.segment.number;
        let Pass::Lost(mut search) = std::mem::replace(&mut going.pass, Pass::First) else {
            return Ok(Step::NoRoom);
        };
        let (living, next) = self
            .index
            .living_in(segment, &search.from, SEARCHED_AT_ONCE)?;
        search.found += living.len();
        let room = self.append(log, going, lost(segment, living), times)?;
        let left = self.index.live_in(segment).deliveries;
        match next {
            _ if !room => return Ok(Step::NoRoom),
            _ if left == 0 => return Ok(Step::Emptied),
            Some(from) => search.from = from,
            None => {
                search = Search {
                    in_vain: match search.found {
                        0 => search.in_vain + 1,
                        _ => 0,
                    },
                    ..Search::default()
                }
            }
        }
        if search.in_vain == SEARCHES_IN_VAIN {
            return Err(CleanError::Mismatch { segment, left });
        }
        going.pass = Pass::Lost(search);
        Ok(Step::More)
    }

    /// Whether there was room.
    fn append(
        &mut self,
        log: &mut Log,
        going: &mut Going,
        carrying: Vec<Carrying>,
        times: &Times,
    ) -> Result<bool, CleanError> {
        let (bodies, records): (Vec<_>, Vec<_>) = carrying
            .into_iter()
            .map(|carrying| (carrying.body, carrying.record))
            .unzip();
        if records.is_empty() {
            return Ok(true);
        }
        match log.append(&records, 1, times.written_ms()) {
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

    fn begin(&self, oldest: u64) -> Result<Going, CleanError> {
        let (segment, file) = self
            .files
            .get(oldest)
            .ok_or_else(|| io::Error::other("a segment is missing"))?;
        Ok(Going::new(segment, file)?)
    }

    fn remove(&mut self, log: &mut Log, oldest: u64) -> Result<(), CleanError> {
        let going = self.going.take().filter(|it| it.segment.number == oldest);
        let segment = self.files.get(oldest).map(|(segment, _)| segment);
        let unreadable = going.as_ref().is_some_and(Going::has_holes)
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

    /// What is open of the message that a record holds. None: nothing, a later record holds it, or it is read later.
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
        let content = match going.content(place, header)? {
            Content::Read(content) => content,
            Content::Later => return Ok(None),
        };
        // The checksum of the copy is right whatever it copies, so that what is bad stays known to be.
        body.damaged =
            known == body::Content::Damaged || crc32c::crc32c(&content) != header.content_crc;
        body.accepted = Some(accepted);
        Ok(Some(Carrying::new(body, content)))
    }
}

/// Deliveries whose record was not to be found: a message for each record, without what only that said.
fn lost(segment: u64, living: Vec<Living>) -> Vec<Carrying> {
    let mut lost: BTreeMap<u64, body::Carried> = BTreeMap::new();
    for (delivery, position, entry) in living {
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
    let lost = lost.into_values();
    lost.map(|body| Carrying::new(body, Bytes::new())).collect()
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
mod tests;
