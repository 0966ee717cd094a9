//! The registry's log: every change is a synced `Put`, and the map in memory is its replay.
//!
//! Ten thousand sites take a few MiB, so the map is whole in memory (docs/decisions/0003-registry-in-memory.md).
//!
//! A record whose value is damaged still says which key it was: that one serves nobody. Where not even the key can be
//! read it may have been anybody's, a hold or a new proof among them, so nothing is delivered to any site until an
//! administrator has applied the whole registry once more. That is a record too, so it holds over later starts, which
//! find the same damage again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use super::body;
use super::log::{AppendError, Files, Log, NewRecord, Place, Written};
use super::record::Kind;
use super::replay::{Before, Found, Replayed};
use crate::store::Record;

/// The record that ends the hold of everybody: family and key.
const REPAIRED: (&str, &str) = ("registry", "repaired");

type Key = (String, String);

/// The records by family and key, and how many bytes of the log they take.
#[derive(Debug, Default)]
struct Map {
    records: BTreeMap<Key, Kept>,
    live: u64,
}

impl Map {
    fn insert(&mut self, key: Key, kept: Kept) {
        self.live += kept.place.len;
        let before = self.records.insert(key, kept);
        self.live -= before.map_or(0, |it| it.place.len);
    }

    fn remove(&mut self, key: &Key) {
        let before = self.records.remove(key);
        self.live -= before.map_or(0, |it| it.place.len);
    }

    /// It was written anew.
    fn moved(&mut self, key: &Key, place: Place) {
        let kept = self.records.get_mut(key);
        let kept = kept.expect("nobody else changes the map");
        self.live = self.live + place.len - kept.place.len;
        kept.place = place;
    }
}

/// What is registered under a key.
#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    value: Bytes,
    place: Place,
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
    map: Map,
    keys: Keys,
}

/// The map as a replay builds it.
#[derive(Debug, Default)]
pub(crate) struct Replaying {
    map: Map,
    keys: Keys,
    damaged: u64,
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
        if found.after == Before::Damage {
            self.key_is_lost();
        }
        if found.header.kind != Kind::Put {
            return;
        }
        let Ok(put) = body::Put::decode(found.envelope) else {
            return self.key_is_lost();
        };
        if (put.family.as_str(), put.key.as_str()) == REPAIRED {
            self.keys = Keys::Read;
            return;
        }
        // The content's checksum is not looked at by replay; a damaged value must not become a site.
        let damaged = crc32c::crc32c(found.content) != found.header.content_crc;
        let value = match damaged {
            true => Bytes::new(),
            false => Bytes::copy_from_slice(found.content),
        };
        if damaged {
            tracing::error!(
                family = put.family,
                key = put.key,
                "a registry record is damaged"
            );
        }
        let written = Written {
            sequence: found.header.sequence,
            place: found.place,
        };
        apply(&mut self.map, put, written, value);
    }

    /// The replay is through.
    pub(crate) fn ends(&mut self, was: &Replayed) {
        self.damaged = was.damaged;
        if was.ends_damaged {
            self.key_is_lost();
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
fn apply(map: &mut Map, put: body::Put, written: Written, value: Bytes) -> u64 {
    let version = match put.version {
        0 => written.sequence,
        version => version,
    };
    let key = (put.family, put.key);
    let kept = Kept {
        version,
        value,
        place: written.place,
    };
    match put.removed {
        true => map.remove(&key),
        false => map.insert(key, kept),
    };
    version
}

impl Registry {
    pub(crate) fn new(log: Log, files: Files, replayed: Replaying) -> Self {
        let Replaying { map, keys, damaged } = replayed;
        Self {
            locked: Mutex::new(Locked {
                log,
                files,
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
        locked.commit(&put(family, key, None), Bytes::new(), wall_ms)?;
        locked.keys = Keys::Read;
        Ok(())
    }

    /// Where the log ends: segment, offset, next sequence.
    pub(crate) fn end(&self) -> (u64, u64, u64) {
        self.lock().log.end()
    }

    /// Durable when Ok; returns the sequence, which is the version. Blocks on the disk.
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
        let written = locked.commit(&put, value.clone(), wall_ms)?;
        let version = apply(&mut locked.map, put, written, value);
        locked.clean(wall_ms)?;
        Ok(version)
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
    fn commit(
        &mut self,
        put: &body::Put,
        value: Bytes,
        wall_ms: u64,
    ) -> Result<Written, AppendError> {
        let written = self.log.append(&[record(put, value)], 0, wall_ms)?;
        Ok(written[0])
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
                    (key, record(&again, kept.value.clone()))
                })
                .unzip();
            match self.log.append(&records, 0, wall_ms) {
                Ok(written) => {
                    for (key, written) in keys.iter().zip(written) {
                        self.map.moved(key, written.place);
                    }
                }
                // It goes on when there is room.
                Err(AppendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
            self.log.remove(oldest)?;
            tracing::info!(
                segment = oldest,
                carried = records.len(),
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

fn record(put: &body::Put, value: Bytes) -> NewRecord {
    NewRecord {
        kind: Kind::Put,
        envelope: put.encode_to_vec(),
        content: value,
    }
}

fn put(family: &str, key: &str, value: Option<&Bytes>) -> body::Put {
    body::Put {
        family: family.to_owned(),
        key: key.to_owned(),
        removed: value.is_none(),
        version: 0,
    }
}
