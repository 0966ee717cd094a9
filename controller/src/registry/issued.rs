//! Certificates issued to members: one record each, under its serial.
//!
//! # Invariants
//! A certificate is on record before it is given out, so that what is in the world can be revoked.
//!
//! # Not here
//! Its key: it never was here, or was forgotten with the answer.

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::name::{AuthorityName, SiteName};
use jiff::Timestamp;
use prost::Message as _;

use super::record::Damaged;
use crate::authority::members::Revoked;
use crate::store::Record;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub serial: Vec<u8>,
    pub site: SiteName,
    pub authority: AuthorityName,
    /// SHA-256 of the public key of the authority's certificate that signed it.
    pub signed_by: [u8; 32],
    /// The DNS name in it.
    pub name: Domain,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub revoked: Option<Timestamp>,
    /// Of its DER, and of its public key.
    pub sha256: [u8; 32],
    pub spki_sha256: [u8; 32],
    /// Its DER, for whoever has lost it; empty in records from before this was kept.
    pub certificate: Bytes,
}

impl Issued {
    /// Whether it can be given to its site again.
    pub fn is_at_hand(&self, now: Timestamp) -> bool {
        !self.certificate.is_empty() && self.revoked.is_none() && now <= self.not_after
    }

    /// As it is shown and typed.
    pub fn serial_text(&self) -> String {
        serial_text(&self.serial)
    }

    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fn sha256_text(&self) -> String {
        serial_text(&self.sha256)
    }

    /// For the list of whoever signed it, as long as the certificate itself does not end.
    pub fn revocation(&self, now: Timestamp) -> Option<Revoked> {
        let at = self.revoked?;
        (now <= self.not_after).then(|| Revoked {
            serial: self.serial.clone(),
            at,
        })
    }
}

/// Lower-case hexadecimal.
pub fn serial_text(serial: &[u8]) -> String {
    serial.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As it is stored.
#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(string, tag = "1")]
    site: String,
    #[prost(string, tag = "2")]
    authority: String,
    #[prost(bytes = "bytes", tag = "3")]
    signed_by: Bytes,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(int64, tag = "5")]
    not_before_ms: i64,
    #[prost(int64, tag = "6")]
    not_after_ms: i64,
    /// 0: it is not.
    #[prost(int64, tag = "7")]
    revoked_ms: i64,
    #[prost(bytes = "bytes", tag = "8")]
    sha256: Bytes,
    #[prost(bytes = "bytes", tag = "9")]
    spki_sha256: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    certificate: Bytes,
}

pub(super) fn encode(issued: &Issued) -> Bytes {
    Row {
        site: issued.site.to_string(),
        authority: issued.authority.to_string(),
        signed_by: issued.signed_by.to_vec().into(),
        name: issued.name.to_string(),
        not_before_ms: issued.not_before.as_millisecond(),
        not_after_ms: issued.not_after.as_millisecond(),
        revoked_ms: issued.revoked.map_or(0, Timestamp::as_millisecond),
        sha256: issued.sha256.to_vec().into(),
        spki_sha256: issued.spki_sha256.to_vec().into(),
        certificate: issued.certificate.clone(),
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode(record: &Record) -> Result<Issued, Damaged> {
    let damaged = |error: &dyn std::fmt::Display| Damaged(error.to_string());
    let row = Row::decode(record.value.clone()).map_err(|error| damaged(&error))?;
    let at = |ms| Timestamp::from_millisecond(ms).map_err(|error| damaged(&error));
    let digest = |bytes: &Bytes| {
        bytes[..]
            .try_into()
            .map_err(|_| damaged(&"a digest is cut"))
    };
    Ok(Issued {
        serial: serial(&record.key).ok_or_else(|| damaged(&"its serial is no number"))?,
        site: row.site.parse().map_err(|error| damaged(&error))?,
        authority: row.authority.parse().map_err(|error| damaged(&error))?,
        signed_by: digest(&row.signed_by)?,
        name: row.name.parse().map_err(|error| damaged(&error))?,
        not_before: at(row.not_before_ms)?,
        not_after: at(row.not_after_ms)?,
        revoked: match row.revoked_ms {
            0 => None,
            ms => Some(at(ms)?),
        },
        sha256: digest(&row.sha256)?,
        spki_sha256: digest(&row.spki_sha256)?,
        certificate: row.certificate,
    })
}

/// From [`serial_text`], or as `openssl` shows it.
pub fn serial(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.is_empty() || digits.len() > 40 || digits.len() % 2 == 1 {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            let pair = digits.get(at..at + 2)?;
            pair.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_back_as_it_was_stored_and_ends_on_the_list_with_itself() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut issued = Issued {
            serial: vec![0x4a, 1],
            site: "home".parse().unwrap(),
            authority: "member-ca".parse().unwrap(),
            signed_by: [1; 32],
            name: "home.example".parse().unwrap(),
            not_before: at(1_700_000_000),
            not_after: at(1_800_000_000),
            revoked: None,
            sha256: [2; 32],
            spki_sha256: [3; 32],
            certificate: Bytes::from_static(b"0"),
        };
        assert_eq!(issued.revocation(at(1_700_000_001)), None);
        for revoked in [None, Some(at(1_750_000_000))] {
            issued.revoked = revoked;
            let record = Record {
                key: issued.serial_text(),
                version: 1,
                value: encode(&issued),
            };
            assert_eq!(decode(&record), Ok(issued.clone()));
        }
        assert!(!issued.is_at_hand(at(1_750_000_000)));
        assert!(issued.revocation(at(1_790_000_000)).is_some());
        assert_eq!(issued.revocation(at(1_800_000_001)), None);
        let torn = Record {
            key: "4a01".to_owned(),
            version: 1,
            value: Bytes::new(),
        };
        assert!(decode(&torn).is_err());
    }

    #[test]
    fn a_serial_is_read_as_it_is_shown() {
        assert_eq!(serial("4A:01"), Some(vec![0x4a, 1]));
        assert_eq!(serial("4a01"), Some(vec![0x4a, 1]));
        for bad in [
            "",
            "4",
            "+401",
            "zz",
            "4a0",
            &"00".repeat(21),
            "\u{e4}\u{e4}",
        ] {
            assert_eq!(serial(bad), None, "{bad}");
        }
    }
}
