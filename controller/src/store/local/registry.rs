//! The registry's records: small, all in memory, replayed from their log at every start.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::body::{Put, Unreadable};
use super::log::NewRecord;
use super::record::Kind;
use crate::store::Record;

#[derive(Debug, Default)]
pub(crate) struct Records(BTreeMap<(String, String), Record>);

impl Records {
    pub(crate) fn apply(
        &mut self,
        kind: Kind,
        sequence: u64,
        envelope: &[u8],
        value: Bytes,
    ) -> Result<(), Unreadable> {
        if kind != Kind::Put {
            return Err(Unreadable);
        }
        let put = Put::decode(envelope).map_err(|_| Unreadable)?;
        let key = (put.family, put.key);
        if put.removed {
            self.0.remove(&key);
            return Ok(());
        }
        let record = Record {
            key: key.1.clone(),
            version: sequence,
            value,
        };
        self.0.insert(key, record);
        Ok(())
    }

    pub(crate) fn of(&self, family: &str) -> Vec<Record> {
        self.0
            .range((family.to_owned(), String::new())..)
            .take_while(|((of, _), _)| of == family)
            .map(|(_, record)| record.clone())
            .collect()
    }
}

pub(crate) fn put_record(family: &str, key: &str, value: Option<Bytes>) -> NewRecord {
    let body = Put {
        family: family.to_owned(),
        key: key.to_owned(),
        removed: value.is_none(),
    };
    NewRecord {
        kind: Kind::Put,
        envelope: body.encode_to_vec(),
        content: value.unwrap_or_default(),
    }
}
