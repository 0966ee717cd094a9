//! The registry's log: every change is a synced `Put`, and the map in memory is its replay.
//!
//! Ten thousand sites take a few MiB, so the map is whole in memory (docs/decisions/0003-registry-in-memory.md).
//!
//! Each record is written twice, in one commit: where one of the two is damaged, the other one says the same, and nobody
//! is held for it. A record whose value is damaged both times still says which key it was: that one serves nobody. Where
//! not even the key can be read it may have been anybody's, a hold or a new proof among them, so nothing is delivered to
//! any site until an administrator has applied the whole registry once more. That is a record too, so it holds over later
//! starts, which find the same damage again.
//!
//! Which records are missing is told by the sequences: the damage between a first copy and what follows it at the distance
//! of two hides its second copy, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use super::body;
use super::log::{AppendError, Files, Log, NewRecord, Place, Written};
use super::quarantine::Quarantine;
use super::record::Kind;
use super::replay::{Before, Found, Replayed};
use super::spares::RESERVE;
use crate::store::Record;

/// The record that ends the hold of everybody: family and key.
const REPAIRED: (&str, &str) = ("registry", "repaired");

/// Which of the two records of a change it is.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

type Key = (String, String);

/// The records by family and key, and how many bytes of the log they take.
#[derive(Debug, Default)]
struct Map {
    records: BTreeMap<Key, Kept>,
    live: u64,
}

impl Map {
    fn insert(&mut self, key: Key, kept: Kept) {
        self.live += kept.bytes;
        let before = self.records.insert(key, kept);
        self.live -= before.map_or(0, |it| it.bytes);
    }

    fn remove(&mut self, key: &Key) {
        let before = self.records.remove(key);
        self.live -= before.map_or(0, |it| it.bytes);
    }

    /// It was written anew.
    fn moved(&mut self, key: &Key, twice: &Twice) {
        let kept = self.records.get_mut(key);
        let kept = kept.expect("nobody else changes the map");
        self.live = self.live + twice.bytes - kept.bytes;
        (kept.place, kept.bytes) = (twice.place, twice.bytes);
    }
}

/// What is registered under a key.
#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    value: Bytes,
    /// Of the second of its records.
    place: Place,
    /// Of both.
    bytes: u64,
}

/// Where both records of a change lie.
#[derive(Debug, Clone, Copy)]
struct Twice {
    /// Of the first.
    sequence: u64,
    /// Of the second.
    place: Place,
    bytes: u64,
}

impl Twice {
    fn of(first: &Written, second: &Written) -> Self {
        Self {
            sequence: first.sequence,
            place: second.place,
            bytes: first.place.len + second.place.len,
        }
    }
}

/// The registry's records by family and key.
#[derive(Debug)]
pub(crate) struct Registry {
    locked: Mutex<Locked>,
    damaged: u64,
}

#[derive(Debug)]
struct Locked {
    log: Log,
    files: Files,
    quarantine: Quarantine,
    map: Map,
    keys: Keys,
}

/// The map as a replay builds it.
#[derive(Debug, Default)]
pub(crate) struct Replaying {
    map: Map,
    keys: Keys,
    damaged: u64,
    /// The record before, where it was the first of two.
    first: Option<First>,
    /// Whose newest value is damaged, both times.
    valueless: BTreeSet<Key>,
}

#[derive(Debug)]
struct First {
    written: Written,
    is_good: bool,
}

/// Whether the key of every record could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Keys {
    #[default]
    Read,
    Unreadable,
}

impl Replaying {
    pub(crate) fn apply(&mut self, found: &Found<'_>) {
        let first = self.first.take();
        let put = match found.header.kind {
            Kind::Put => body::Put::decode(found.envelope).ok(),
            _ => None,
        };
        let copy = put.as_ref().map_or(0, |put| put.copy);
        let copies = u64::from(first.is_some()) + u64::from(copy == SECOND);
        if found.after == Before::Damage && found.missing > copies {
            self.key_is_lost();
        }
        let Some(put) = put else {
            return;
        };
        if (put.family.as_str(), put.key.as_str()) == REPAIRED {
            self.keys = Keys::Read;
        }
        let written = Written {
            sequence: found.header.sequence,
            place: found.place,
        };
        let is_good = found.content.is_some();
        if copy == FIRST {
            self.first = Some(First { written, is_good });
        }
        if (put.family.as_str(), put.key.as_str()) == REPAIRED {
            return;
        }
        let first =
            first.filter(|it| copy == SECOND && it.written.sequence + 1 == written.sequence);
        let key = (put.family.clone(), put.key.clone());
        let twice = match &first {
            Some(first) => Twice::of(&first.written, &written),
            None => Twice {
                sequence: written.sequence - u64::from(copy == SECOND),
                place: written.place,
                bytes: written.place.len,
            },
        };
        if first.is_some_and(|it| it.is_good) && !is_good {
            if self.map.records.contains_key(&key) {
                self.map.moved(&key, &twice);
            }
            return;
        }
        match is_good {
            true => self.valueless.remove(&key),
            false => self.valueless.insert(key),
        };
        // A damaged value must not become a site: without any it is known to be one, and which.
        let value = found.content.clone().unwrap_or_default();
        apply(&mut self.map, put, twice, value);
    }

    /// The replay is through.
    pub(crate) fn ends(&mut self, was: &Replayed) {
        self.damaged = was.damaged;
        if was.ends_damaged && was.missing > u64::from(self.first.is_some()) {
            self.key_is_lost();
        }
        for (family, key) in &self.valueless {
            tracing::error!(family, key, "a registry record is damaged");
        }
        if self.keys == Keys::Unreadable {
            tracing::error!(
                "a record of the registry cannot be read, not even whose it is: all sites are held until `ddadm registry apply`"
            );
        }
    }

    fn key_is_lost(&mut self) {
        self.keys = Keys::Unreadable;
    }
}

/// Returns the version.
fn apply(map: &mut Map, put: body::Put, twice: Twice, value: Bytes) -> u64 {
    let version = match put.version {
        0 => twice.sequence,
        version => version,
    };
    let key = (put.family, put.key);
    let kept = Kept {
        version,
        value,
        place: twice.place,
        bytes: twice.bytes,
    };
    match put.removed {
        true => map.remove(&key),
        false => map.insert(key, kept),
    };
    version
}

impl Registry {
    pub(crate) fn new(log: Log, files: Files, quarantine: Quarantine, replayed: Replaying) -> Self {
        let Replaying {
            map, keys, damaged, ..
        } = replayed;
        Self {
            locked: Mutex::new(Locked {
                log,
                files,
                quarantine,
                map,
                keys,
            }),
            damaged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places in the log that could not be read at the start.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    pub(crate) fn holds_all(&self) -> bool {
        self.lock().keys == Keys::Unreadable
    }

    /// Ends the hold of all sites, for good. Blocks on the disk.
    ///
    /// # Errors
    /// The log's.
    pub(crate) fn repaired(&self, wall_ms: u64) -> Result<(), AppendError> {
        let (family, key) = REPAIRED;
        let mut locked = self.lock();
        locked.commit(&put(family, key, None), &Bytes::new(), wall_ms)?;
        locked.keys = Keys::Read;
        Ok(())
    }

    /// Where the log ends: segment, offset, next sequence.
    pub(crate) fn end(&self) -> (u64, u64, u64) {
        self.lock().log.end()
    }

    /// Durable when Ok; returns the version, which is the sequence of its first record. Blocks on the disk.
    pub(crate) fn put(
        &self,
        family: &str,
        key: &str,
        value: Option<Bytes>,
        wall_ms: u64,
    ) -> Result<u64, AppendError> {
        let put = put(family, key, value.as_ref());
        let value = value.unwrap_or_default();
        let mut locked = self.lock();
        let twice = locked.commit(&put, &value, wall_ms)?;
        let version = apply(&mut locked.map, put, twice, value);
        locked.clean(wall_ms)?;
        Ok(version)
    }

    /// The same for several records: one commit for all of them.
    pub(crate) fn put_all(
        &self,
        family: &str,
        records: Vec<(String, Bytes)>,
        wall_ms: u64,
    ) -> Result<Vec<u64>, AppendError> {
        let records = records.into_iter().map(|(key, value)| (key, Some(value)));
        let puts = puts(family, records);
        let mut locked = self.lock();
        let versions = locked.commit_all(puts, 0, wall_ms)?;
        locked.clean(wall_ms)?;
        Ok(versions)
    }

    /// The same for records that nothing rests on. What is held back for the others is not
    /// taken for these. Blocks on the disk.
    ///
    /// # Errors
    /// The log's; `Full` where they would need what is held back.
    pub(crate) fn remember(
        &self,
        family: &str,
        records: Vec<(String, Option<Bytes>)>,
        wall_ms: u64,
    ) -> Result<(), AppendError> {
        let puts = puts(family, records);
        let new = puts.iter().flat_map(|(put, it)| twice(put, it));
        let bytes = new.map(|it| it.len()).sum();
        let mut locked = self.lock();
        // This log makes its segments when it takes one: what is held back may not be there yet.
        let is_held_back = locked.log.spares().has(RESERVE);
        if !is_held_back || !locked.log.takes_mail(bytes) {
            return Err(AppendError::Full);
        }
        locked.commit_all(puts, RESERVE, wall_ms)?;
        locked.clean(wall_ms)
    }

    pub(crate) fn records(&self, family: &str) -> Vec<Record> {
        let locked = self.lock();
        let of_family = locked.map.records.iter().filter(|((f, _), _)| f == family);
        of_family
            .map(|((_, key), kept)| Record {
                key: key.clone(),
                version: kept.version,
                value: kept.value.clone(),
            })
            .collect()
    }
}

impl Locked {
    /// Returns the versions. A new segment leaves `leave` of the spares.
    fn commit_all(
        &mut self,
        puts: Vec<(body::Put, Bytes)>,
        leave: usize,
        wall_ms: u64,
    ) -> Result<Vec<u64>, AppendError> {
        let new: Vec<_> = puts.iter().flat_map(|(put, it)| twice(put, it)).collect();
        let written = self.log.append(&new, leave, wall_ms)?;
        let puts = puts.into_iter().zip(written.chunks(2));
        let versions = puts.map(|((put, value), written)| {
            let twice = Twice::of(&written[0], &written[1]);
            apply(&mut self.map, put, twice, value)
        });
        Ok(versions.collect())
    }

    fn commit(
        &mut self,
        put: &body::Put,
        value: &Bytes,
        wall_ms: u64,
    ) -> Result<Twice, AppendError> {
        let written = self.log.append(&twice(put, value), 0, wall_ms)?;
        Ok(Twice::of(&written[0], &written[1]))
    }

    /// Writes what is registered in the oldest segments anew, and removes them, until the log takes at most twice what
    /// lives in it, and its tail. Not while a key is lost: what could not be read stays as it is.
    ///
    /// A crash leaves both copies: the later record wins, and says the same.
    fn clean(&mut self, wall_ms: u64) -> Result<(), AppendError> {
        while self.keys == Keys::Read && self.is_wasteful() {
            let tail = self.log.end().0;
            let Some(oldest) = self.files.oldest().filter(|oldest| *oldest < tail) else {
                return Ok(());
            };
            let live = self
                .map
                .records
                .iter()
                .filter(|(_, kept)| kept.place.segment == oldest);
            let (keys, records): (Vec<_>, Vec<_>) = live
                .map(|((family, key), kept)| {
                    let again = body::Put {
                        version: kept.version,
                        ..put(family, key, Some(&kept.value))
                    };
                    let key = (family.clone(), key.clone());
                    (key, twice(&again, &kept.value))
                })
                .unzip();
            match self.log.append(&records.concat(), 0, wall_ms) {
                Ok(written) => {
                    for (key, written) in keys.iter().zip(written.chunks(2)) {
                        self.map.moved(key, &Twice::of(&written[0], &written[1]));
                    }
                }
                // It goes on when there is room.
                Err(AppendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
            let segment = self.files.get(oldest).map(|(segment, _)| segment);
            match segment.is_some_and(|segment| self.quarantine.is_noted(&segment)) {
                true => self.log.set_aside(oldest, self.quarantine.dir())?,
                false => self.log.remove(oldest)?,
            }
            tracing::info!(
                segment = oldest,
                carried = keys.len(),
                "registry segment cleaned"
            );
        }
        Ok(())
    }

    fn is_wasteful(&self) -> bool {
        let (_, bytes) = self.files.size();
        bytes.saturating_sub(self.log.tail_bytes()) > 2 * self.map.live
    }
}

fn twice(put: &body::Put, value: &Bytes) -> [NewRecord; 2] {
    [FIRST, SECOND].map(|copy| NewRecord {
        kind: Kind::Put,
        envelope: body::Put {
            copy,
            ..put.clone()
        }
        .encode_to_vec(),
        content: value.clone(),
    })
}

fn puts(
    family: &str,
    records: impl IntoIterator<Item = (String, Option<Bytes>)>,
) -> Vec<(body::Put, Bytes)> {
    let puts = records.into_iter().map(|(key, value)| {
        let put = put(family, &key, value.as_ref());
        (put, value.unwrap_or_default())
    });
    puts.collect()
}

fn put(family: &str, key: &str, value: Option<&Bytes>) -> body::Put {
    body::Put {
        family: family.to_owned(),
        key: key.to_owned(),
        removed: value.is_none(),
        version: 0,
        copy: 0,
    }
}
