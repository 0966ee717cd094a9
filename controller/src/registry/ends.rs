//! That a site's contact was told of the end of its certificate: one record a site, so that it is told once over restarts.
//!
//! # Not here
//! When, and what is written: [`crate::ends`].

use bytes::Bytes;
use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use prost::Message as _;

use super::record::{self, Damaged};
use super::{Change, ChangeError, Registry};
use crate::store::Record;

/// What was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Of which certificate: its SHA-256.
    pub certificate: String,
    /// That so many days were left, or fewer.
    pub days: u32,
    /// The mail that says so, until it is known to be in the queue.
    pub owed: Option<MessageId>,
}

/// As it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(string, tag = "1")]
    certificate: String,
    #[prost(uint32, tag = "2")]
    days: u32,
    /// Empty: none.
    #[prost(bytes = "bytes", tag = "3")]
    owed: Bytes,
}

fn encode(told: &Told) -> Bytes {
    let owed = told.owed.map(|id| Bytes::copy_from_slice(id.as_bytes()));
    Row {
        certificate: told.certificate.clone(),
        days: told.days,
        owed: owed.unwrap_or_default(),
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode(record: &Record) -> Result<Told, Damaged> {
    let row = Row::decode(record.value.clone()).map_err(|error| Damaged(error.to_string()))?;
    if row.certificate.is_empty() {
        return Err(Damaged("it names no certificate".to_owned()));
    }
    let id = |bytes: &Bytes| {
        let bytes: Result<[u8; 16], _> = bytes[..].try_into();
        let bytes = bytes.map_err(|_| Damaged("its mail's id is cut".to_owned()))?;
        Ok(MessageId::from_bytes(bytes))
    };
    Ok(Told {
        certificate: row.certificate,
        days: row.days,
        owed: match row.owed.is_empty() {
            true => None,
            false => Some(id(&row.owed)?),
        },
    })
}

impl Registry {
    pub fn told_of_end(&self, site: &SiteName) -> Option<Told> {
        self.read().told_of_end.get(site).cloned()
    }
}

impl Change {
    /// Durable when Ok.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn tell_of_end(&self, site: &SiteName, told: Told) -> Result<Known, ChangeError> {
        if self.registry.site(site).is_none() {
            return Ok(Known::Gone);
        }
        let value = Some(encode(&told));
        self.store.put(record::TOLD, site.as_str(), value).await?;
        let mut snapshot = self.registry.write();
        snapshot.told_of_end.insert(site.clone(), told);
        Ok(Known::Yes)
    }

    pub(super) async fn forget_told(&self, site: &SiteName) -> Result<(), ChangeError> {
        if self.registry.told_of_end(site).is_some() {
            self.store.put(record::TOLD, site.as_str(), None).await?;
            self.registry.write().told_of_end.remove(site);
        }
        Ok(())
    }
}

/// Whether a site is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Yes,
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_comes_back_as_it_was_stored() {
        let mut told = Told {
            certificate: "ab".repeat(32),
            days: 14,
            owed: None,
        };
        for owed in [None, Some(MessageId::new(7, [3; 10]))] {
            told.owed = owed;
            let record = Record {
                key: "home".to_owned(),
                version: 1,
                value: encode(&told),
            };
            assert_eq!(decode(&record), Ok(told.clone()));
        }
        let lost = Record {
            key: "home".to_owned(),
            version: 1,
            value: Bytes::new(),
        };
        assert!(decode(&lost).is_err());
    }
}
