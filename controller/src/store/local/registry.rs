//! The registry's log: every change is a synced `Put`, and the map in memory is its replay.
//!
//! Ten thousand sites take a few MiB, so the map is whole in memory (docs/decisions/0003-registry-in-memory.md).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;

use super::body;
use super::log::{AppendError, Log, NewRecord};
use super::record::Kind;
use super::replay::Found;
use crate::store::Record;

type Map = BTreeMap<(String, String), (u64, Bytes)>;

/// The registry's records by family and key.
#[derive(Debug)]
pub(crate) struct Registry(Mutex<(Log, Map)>);

/// The map as a replay builds it.
#[derive(Debug, Default)]
pub(crate) struct Replaying(Map);

impl Replaying {
    pub(crate) fn apply(&mut self, found: &Found<'_>) {
        if found.header.kind != Kind::Put {
            return;
        }
        let Ok(put) = body::Put::decode(found.envelope) else {
            tracing::error!(place = ?found.place, "a registry record cannot be read");
            return;
        };
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
        apply(&mut self.0, put, found.header.sequence, value);
    }
}

fn apply(map: &mut Map, put: body::Put, version: u64, value: Bytes) {
    let key = (put.family, put.key);
    match put.removed {
        true => map.remove(&key),
        false => map.insert(key, (version, value)),
    };
}

impl Registry {
    pub(crate) fn new(log: Log, replayed: Replaying) -> Self {
        Self(Mutex::new((log, replayed.0)))
    }

    fn lock(&self) -> MutexGuard<'_, (Log, Map)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Durable when Ok; returns the sequence, which is the version. Blocks on the disk.
    pub(crate) fn put(
        &self,
        family: &str,
        key: &str,
        value: Option<Bytes>,
        wall_ms: u64,
    ) -> Result<u64, AppendError> {
        let mut locked = self.lock();
        let (log, map) = &mut *locked;
        let put = body::Put {
            family: family.to_owned(),
            key: key.to_owned(),
            removed: value.is_none(),
        };
        let value = value.unwrap_or_default();
        let record = NewRecord {
            kind: Kind::Put,
            envelope: put.encode_to_vec(),
            content: value.clone(),
        };
        let written = log.append(&[record], 0, wall_ms)?;
        let version = written[0].sequence;
        apply(map, put, version, value);
        Ok(version)
    }

    pub(crate) fn records(&self, family: &str) -> Vec<Record> {
        let locked = self.lock();
        let of_family = locked.1.iter().filter(|((f, _), _)| f == family);
        of_family
            .map(|((_, key), (version, value))| Record {
                key: key.clone(),
                version: *version,
                value: value.clone(),
            })
            .collect()
    }
}
