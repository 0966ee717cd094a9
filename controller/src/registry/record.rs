//! How sites, agents and authorities are stored: one family each, protobuf values.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `site` | its name | `dd.v1.Site`, its version 0: the record's own sequence is the version |
//! | `agent` | its name | [`AgentRow`] |
//! | `admin` | its name | [`super::admins::Row`] |
//! | `issued` | a certificate's serial | [`super::issued::Issued`] |
//! | `shown` | a site's name | `dd.v1.Shown`: what the site showed, see [`super::shown`] |
//! | `told` | a site's name | [`super::ends::Told`] |
//! | `authority` | its name | `dd.v1.Authority`; of certificates and lists the DER only |
//!
//! # Invariants
//! A value that does not read back whole is no record: nothing is guessed from the rest of it.

use bytes::Bytes;
use dd_proto::id::SiteVersion;
use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::site::Site;
use jiff::Timestamp;
use prost::Message as _;

use super::agents::{AgentRecord, Left, Token};
use super::authorities::{self, Authority, Origin};
use super::lists;
use crate::authority::client::AgentKey;
use crate::dispatch::Drain;
use crate::store::Record;

pub(super) const SITE: &str = "site";
pub(super) const AGENT: &str = "agent";
pub(super) const ADMIN: &str = "admin";
pub(super) const AUTHORITY: &str = "authority";
pub(super) const ISSUED: &str = "issued";
pub(super) const SHOWN: &str = "shown";
pub(super) const TOLD: &str = "told";

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub(super) String);

pub(super) fn damaged(error: impl std::fmt::Display) -> Damaged {
    Damaged(error.to_string())
}

pub(super) fn encode_site(site: &Site) -> Bytes {
    let mut stored = pb::Site::from(site);
    stored.version = 0;
    stored.encode_to_vec().into()
}

pub(super) fn decode_site(record: &Record) -> Result<Site, Damaged> {
    let mut site = pb::Site::decode(record.value.clone())
        .map_err(damaged)
        .and_then(|stored| Site::try_from(stored).map_err(damaged))?;
    if site.name.as_str() != record.key {
        return Err(Damaged(format!("it names the site {}", site.name)));
    }
    site.version = SiteVersion(record.version);
    Ok(site)
}

/// An agent, as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AgentRow {
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
    /// Unix time in milliseconds; 0: at once.
    #[prost(int64, tag = "2")]
    from_ms: i64,
    #[prost(message, optional, tag = "3")]
    token: Option<TokenRow>,
    /// 0: it works; 1: an operator drains it; 2: that has ended.
    #[prost(uint32, tag = "5")]
    drain: u32,
    /// SHA-256 of the public key that joined last; empty: none has.
    #[prost(bytes = "bytes", tag = "4")]
    key: Bytes,
    /// Empty: nobody knows, or it has left in order.
    #[prost(string, tag = "6")]
    boot_id: String,
    /// [`LEFT_IN_ORDER`]: nothing of it is in hand, and it has not attached since. Programs that do not know this field
    /// drop it when they write the record, and they do so when they let the agent in.
    #[prost(uint32, tag = "7")]
    left: u32,
    /// Always [`FORMAT`]: without it, a value whose bytes are lost would be an agent without addresses.
    #[prost(uint32, tag = "15")]
    format: u32,
}

const FORMAT: u32 = 1;
const LEFT_IN_ORDER: u32 = 1;

/// An unspent join token.
#[derive(Clone, PartialEq, prost::Message)]
struct TokenRow {
    /// SHA-256 of the secret.
    #[prost(bytes = "bytes", tag = "1")]
    secret: Bytes,
    #[prost(int64, tag = "2")]
    expires_ms: i64,
    /// SHA-256 of the key it was used with; empty: not used.
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
}

pub(super) fn encode_agent(agent: &AgentRecord) -> Bytes {
    AgentRow {
        addresses: agent.addresses.iter().map(ToString::to_string).collect(),
        from_ms: agent.from.map_or(0, Timestamp::as_millisecond),
        drain: match agent.drain {
            Drain::Works => 0,
            Drain::Drains => 1,
            Drain::Ended => 2,
        },
        token: agent.token.as_ref().map(|token| TokenRow {
            secret: token.secret.to_vec().into(),
            expires_ms: token.expires.as_millisecond(),
            key: key_bytes(token.key),
        }),
        key: key_bytes(agent.key),
        boot_id: agent.boot_id.clone(),
        left: match agent.left {
            Left::No => 0,
            Left::InOrder => LEFT_IN_ORDER,
        },
        format: FORMAT,
    }
    .encode_to_vec()
    .into()
}

fn key_bytes(key: Option<AgentKey>) -> Bytes {
    key.map(|key| key.0.to_vec().into()).unwrap_or_default()
}

pub(super) fn decode_agent(record: &Record) -> Result<AgentRecord, Damaged> {
    let row = AgentRow::decode(record.value.clone()).map_err(damaged)?;
    if row.format != FORMAT {
        return Err(Damaged(format!("its format is {}", row.format)));
    }
    let name: AgentName = record.key.parse().map_err(damaged)?;
    let at = |ms| Timestamp::from_millisecond(ms).map_err(damaged);
    let digest = |bytes: &Bytes| bytes[..].try_into().map_err(damaged);
    let key = |bytes: &Bytes| match bytes.is_empty() {
        true => Ok(None),
        false => digest(bytes).map(AgentKey).map(Some),
    };
    let token = |row: TokenRow| {
        Ok(Token {
            secret: digest(&row.secret)?,
            expires: at(row.expires_ms)?,
            key: key(&row.key)?,
        })
    };
    Ok(AgentRecord {
        name,
        addresses: row
            .addresses
            .iter()
            .map(|text| text.parse().map_err(damaged))
            .collect::<Result<_, _>>()?,
        from: match row.from_ms {
            0 => None,
            ms => Some(at(ms)?),
        },
        drain: match row.drain {
            0 => Drain::Works,
            1 => Drain::Drains,
            2 => Drain::Ended,
            other => return Err(Damaged(format!("its drain is {other}"))),
        },
        token: row.token.map(token).transpose()?,
        key: key(&row.key)?,
        boot_id: row.boot_id,
        // What a later version may mean by another number is no reason to believe that it holds nothing.
        left: match row.left {
            LEFT_IN_ORDER => Left::InOrder,
            _ => Left::No,
        },
    })
}

pub(super) fn encode_authority(authority: &Authority) -> Bytes {
    let certificate = |der: &Bytes| pb::AuthorityCertificate {
        der: der.clone(),
        ..pb::AuthorityCertificate::default()
    };
    let list = |der: &Bytes| pb::RevocationList {
        der: der.clone(),
        ..pb::RevocationList::default()
    };
    let (own, permit) = match &authority.origin {
        Origin::Imported => (false, Vec::new()),
        Origin::Own { permit } => (true, permit.iter().map(ToString::to_string).collect()),
    };
    pb::Authority {
        certificates: authority.certificates.iter().map(certificate).collect(),
        revocation_lists: authority.revocation_lists.iter().map(list).collect(),
        own,
        permit,
        ..pb::Authority::default()
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode_authority(record: &Record) -> Result<Authority, Damaged> {
    let stored = pb::Authority::decode(record.value.clone()).map_err(damaged)?;
    let permit = |text: &String| text.parse().map_err(damaged);
    let origin = match stored.own {
        false => Origin::Imported,
        true => Origin::Own {
            permit: stored.permit.iter().map(permit).collect::<Result<_, _>>()?,
        },
    };
    let authority = Authority {
        name: record.key.parse().map_err(damaged)?,
        version: record.version,
        certificates: stored.certificates.into_iter().map(|it| it.der).collect(),
        revocation_lists: stored
            .revocation_lists
            .into_iter()
            .map(|it| it.der)
            .collect(),
        origin,
    };
    authorities::check(&authority.certificates).map_err(damaged)?;
    lists::check(&authority.revocation_lists, &authority.certificates).map_err(damaged)?;
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Bytes) -> Record {
        Record {
            key: key.to_owned(),
            version: 12,
            value,
        }
    }

    #[test]
    fn an_agent_comes_back_as_it_was_stored() {
        let plain = AgentRecord {
            name: "out1".parse().unwrap(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            from: None,
            drain: Drain::Works,
            token: None,
            key: None,
            boot_id: String::new(),
            left: Left::No,
        };
        let mut joining = plain.clone();
        joining.token = Some(Token {
            secret: [1; 32],
            expires: Timestamp::from_second(1_700_000_000).unwrap(),
            key: None,
        });
        let mut joined = joining.clone();
        joined.drain = Drain::Drains;
        joined.boot_id = "a1b2".to_owned();
        joined.token.as_mut().unwrap().key = Some(AgentKey([2; 32]));
        joined.key = Some(AgentKey([2; 32]));
        joined.from = Some(Timestamp::from_second(1_600_000_000).unwrap());
        let mut drained = joined.clone();
        drained.drain = Drain::Ended;
        let mut left = joined.clone();
        left.boot_id = String::new();
        left.left = Left::InOrder;
        for agent in [plain, joining, joined, drained, left] {
            let stored = record("out1", encode_agent(&agent));
            assert_eq!(decode_agent(&stored), Ok(agent));
        }
    }

    /// An agent, as programs stored it that do not know who has left in order.
    #[derive(Clone, PartialEq, prost::Message)]
    struct OlderRow {
        #[prost(string, repeated, tag = "1")]
        addresses: Vec<String>,
        #[prost(bytes = "bytes", tag = "4")]
        key: Bytes,
        #[prost(string, tag = "6")]
        boot_id: String,
        #[prost(uint32, tag = "15")]
        format: u32,
    }

    #[test]
    fn that_an_agent_has_left_in_order_does_not_outlive_a_program_that_does_not_know_it() {
        let agent = AgentRecord {
            addresses: vec!["192.0.2.1".parse().unwrap()],
            key: Some(AgentKey([2; 32])),
            left: Left::InOrder,
            ..AgentRecord::new("out1".parse().unwrap())
        };
        let mut older = OlderRow::decode(encode_agent(&agent)).unwrap();
        assert_eq!(older.boot_id, "", "it has to write the boot id of a Hello");
        older.boot_id = "a1".to_owned();
        let greeted = decode_agent(&record("out1", older.encode_to_vec().into()));
        assert_eq!(
            greeted,
            Ok(AgentRecord {
                boot_id: "a1".to_owned(),
                left: Left::No,
                ..agent
            })
        );
    }

    #[test]
    fn a_damaged_value_is_no_record() {
        let torn = Bytes::from_static(&[0x0a, 0x30, 0x01]);
        assert!(decode_site(&record("home", torn.clone())).is_err());
        assert!(decode_agent(&record("out1", torn.clone())).is_err());
        assert!(decode_authority(&record("ca", torn)).is_err());
        // Valid protobuf, yet nothing that was written.
        assert!(decode_agent(&record("out1", Bytes::new())).is_err());
        assert!(decode_site(&record("home", Bytes::new())).is_err());
        assert!(decode_authority(&record("ca", Bytes::new())).is_err());
    }
}
