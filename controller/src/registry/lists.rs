//! Revocation lists of authorities: what is one, whose it is, and which of two is the newer.
//!
//! # Invariants
//! A list is kept only where one of the authority's own certificates signed it: one that covers nothing would let its
//! importer believe that something is revoked.
//!
//! # Not here
//! What a list does: agents pass it to rustls with each handshake.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dd_pki::list::{self, List, ListFault};
use dd_pki::time::instant;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::authority::members::Revoked;

/// As many as certificates.
const MAX_LISTS: usize = 10;

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("an authority has 10 revocation lists at most")]
    Count,
    #[error("revocation list {0} cannot be read: expected an X.509 CRL")]
    Unreadable(usize),
    #[error(
        "revocation list {number} is of `{issuer}`, which is none of the authority's certificates: import that certificate too, or its list elsewhere"
    )]
    OtherIssuer { number: usize, issuer: String },
    #[error(
        "revocation list {number} is of `{issuer}`, which is the name of one of the authority's certificates, but another key signed it: import the certificate of that key too, or have the list made by the authority"
    )]
    OtherKey { number: usize, issuer: String },
    #[error(
        "revocation list {number} writes its issuer `{issuer}` in another string type or case than the authority's certificate does, and no verifier finds it so: make it with the program that made the certificate"
    )]
    NameWrittenOtherwise { number: usize, issuer: String },
    #[error("revocation list {number} cannot be used: {fault}")]
    Unusable { number: usize, fault: ListFault },
    #[error(
        "revocation list {number} is older than the one that is known, of {known}: import the newest"
    )]
    Older { number: usize, known: Timestamp },
}

/// What a list says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub issuer: String,
    /// Decimal; empty where it has none.
    pub number: String,
    pub this_update: Timestamp,
    pub next_update: Option<Timestamp>,
    pub revoked: usize,
}

/// Whether each is a list of one of the certificates; what is stored was.
///
/// # Errors
/// Not every one is.
pub fn check(lists: &[Bytes], certificates: &[Bytes]) -> Result<(), ListError> {
    if lists.len() > MAX_LISTS {
        return Err(ListError::Count);
    }
    for (index, der) in lists.iter().enumerate() {
        issuer(der, index + 1, certificates)?;
    }
    Ok(())
}

/// The same of lists that come in: each is tried by the verifier that will use it.
///
/// # Errors
/// Not every one is a list of one of the certificates that can be used.
pub fn check_usable(lists: &[Bytes], certificates: &[Bytes]) -> Result<(), ListError> {
    check(lists, certificates)?;
    for (index, der) in lists.iter().enumerate() {
        let number = index + 1;
        let issuer = issuer(der, number, certificates)?;
        list::judge(der, issuer).map_err(|fault| ListError::Unusable { number, fault })?;
    }
    Ok(())
}

/// Why a list that is stored cannot be used; None where it can, or is nobody's.
pub fn fault(der: &[u8], certificates: &[Bytes]) -> Option<ListFault> {
    let issuer = issuer(der, 0, certificates).ok()?;
    list::judge(der, issuer).err()
}

/// The certificate whose key signed it.
fn issuer<'a>(
    der: &[u8],
    number: usize,
    certificates: &'a [Bytes],
) -> Result<&'a Bytes, ListError> {
    let list = List::parse(der).ok_or(ListError::Unreadable(number))?;
    let provider = dd_pki::provider();
    let parsed = |der: &'a Bytes| Some((der, X509Certificate::from_der(der).ok()?.1));
    let parsed: Vec<_> = certificates.iter().filter_map(parsed).collect();
    let found = parsed.iter().find(|(_, it)| list.is_of(it, &provider));
    if let Some((der, _)) = found {
        return Ok(der);
    }
    let issuer = list.0.issuer().to_string();
    let named = || parsed.iter().filter(|(_, it)| list.says_name_of(it));
    let unsupported = list.unsupported_signature(&provider);
    Err(match unsupported {
        Some(algorithm) if named().next().is_some() => ListError::Unusable {
            number,
            fault: ListFault::Signature(algorithm),
        },
        _ if named().any(|(_, it)| list.is_signed_by(it, &provider)) => {
            ListError::NameWrittenOtherwise { number, issuer }
        }
        _ if named().next().is_some() => ListError::OtherKey { number, issuer },
        _ => ListError::OtherIssuer { number, issuer },
    })
}

/// The known lists with the new ones in their places.
///
/// # Errors
/// A new one is no list of these certificates, or older than the known one of the same issuer.
pub fn merge(
    known: &[Bytes],
    new: &[Bytes],
    certificates: &[Bytes],
) -> Result<Vec<Bytes>, ListError> {
    check_usable(new, certificates)?;
    let newest = newest(known, new, certificates, OfOneTime::Goes)?;
    match newest.older.first() {
        Some(older) => Err(ListError::Older {
            number: older.number,
            known: older.known,
        }),
        None => Ok(newest.lists),
    }
}

/// Of the known lists and the new ones, the newest of each issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    pub lists: Vec<Bytes>,
    /// New ones that took no place.
    pub older: Vec<OlderList>,
}

/// What becomes of a known list where another one comes of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfOneTime {
    Stays,
    Goes,
}

/// A list that a known one is newer than, or as new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlderList {
    /// Which of the new ones, from 1.
    pub number: usize,
    pub issuer: String,
    pub new: Timestamp,
    pub known: Timestamp,
}

/// # Errors
/// A new one cannot be read, or there are too many.
pub fn newest(
    known: &[Bytes],
    new: &[Bytes],
    certificates: &[Bytes],
    same: OfOneTime,
) -> Result<Newest, ListError> {
    let mut older = Vec::new();
    // A certificate that is gone takes its list along.
    let mut merged: Vec<Bytes> = known
        .iter()
        .filter(|der| parse(der).is_some_and(|list| signer(&list, certificates).is_some()))
        .cloned()
        .collect();
    for (index, der) in new.iter().enumerate() {
        let number = index + 1;
        let list = parse(der).ok_or(ListError::Unreadable(number))?;
        let by = signer(&list, certificates);
        let place = merged.iter().position(|old| {
            let old = parse(old).expect("what is merged was parsed");
            signer(&old, certificates) == by
        });
        let Some(place) = place else {
            merged.push(der.clone());
            continue;
        };
        if merged[place] == *der {
            continue;
        }
        let old = parse(&merged[place]).expect("what is merged was parsed");
        // A list that cannot be used bars no way back to one that can.
        let usable = fault(&merged[place], certificates).is_none();
        let is_older = match same {
            OfOneTime::Stays => list.last_update() <= old.last_update(),
            OfOneTime::Goes => list.last_update() < old.last_update(),
        };
        if usable && is_older {
            older.push(OlderList {
                number,
                issuer: list.issuer().to_string(),
                new: instant(list.last_update()),
                known: instant(old.last_update()),
            });
            continue;
        }
        merged[place] = der.clone();
    }
    match merged.len() > MAX_LISTS {
        true => Err(ListError::Count),
        false => Ok(Newest {
            lists: merged,
            older,
        }),
    }
}

/// Whether this certificate's key signed it.
pub fn is_of(der: &[u8], certificate: &Bytes) -> bool {
    parse(der).is_some_and(|list| signer(&list, std::slice::from_ref(certificate)).is_some())
}

/// Whether a list names exactly these, and will not be old before `margin` is over.
pub fn says(der: &[u8], revoked: &[Revoked], now: Timestamp, margin: Duration) -> bool {
    let Some(list) = parse(der) else { return false };
    let lasts = list.next_update().map(instant).is_some_and(|next| {
        let soon = now.saturating_add(margin);
        soon.is_ok_and(|soon| soon < next)
    });
    let said: BTreeSet<&[u8]> = list
        .iter_revoked_certificates()
        .map(x509_parser::revocation_list::RevokedCertificate::raw_serial)
        .collect();
    let wanted: BTreeSet<&[u8]> = revoked.iter().map(|it| it.serial.as_slice()).collect();
    lasts && said == wanted
}

/// What a list revokes; nothing where it cannot be read.
pub fn revoked(der: &[u8]) -> Vec<Revoked> {
    let Some(list) = parse(der) else {
        return Vec::new();
    };
    let entries = list.iter_revoked_certificates();
    let entries = entries.map(|it| Revoked {
        serial: it.raw_serial().to_vec(),
        at: instant(it.revocation_date),
    });
    entries.collect()
}

/// None where it cannot be read.
pub fn summary(der: &[u8]) -> Option<Summary> {
    let list = parse(der)?;
    Some(Summary {
        issuer: list.issuer().to_string(),
        number: list
            .crl_number()
            .map(ToString::to_string)
            .unwrap_or_default(),
        this_update: instant(list.last_update()),
        next_update: list.next_update().map(instant),
        revoked: list.iter_revoked_certificates().count(),
    })
}

fn parse(der: &[u8]) -> Option<CertificateRevocationList<'_>> {
    let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
    rest.is_empty().then_some(list)
}

/// The key that signed it, out of the authority's certificates.
fn signer(list: &CertificateRevocationList<'_>, certificates: &[Bytes]) -> Option<Vec<u8>> {
    let provider = dd_pki::provider();
    certificates.iter().find_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let key = || certificate.public_key().raw.to_vec();
        List(list.clone()).is_of(&certificate, &provider).then(key)
    })
}

#[cfg(test)]
mod tests {
    use super::super::authorities::{Authority, Origin, Usage};
    use super::super::made_by_tools::{self, UNUSABLE_LISTS};
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
    };

    fn authority(subject: &str) -> (Bytes, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        (der.into(), Issuer::new(params, key))
    }

    fn list(of: &Issuer<'static, KeyPair>, year: i32) -> Bytes {
        list_until(of, year, (year, 2, 1))
    }

    fn list_until(of: &Issuer<'static, KeyPair>, year: i32, next: (i32, u8, u8)) -> Bytes {
        let (next_year, month, day) = next;
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(next_year, month, day),
            crl_number: SerialNumber::from(7_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(of).unwrap().der().to_vec().into()
    }

    #[test]
    fn only_lists_of_the_authority_are_kept_and_the_newest_of_each() {
        let (first, of_first) = authority("members");
        let (second, of_second) = authority("members");
        let (_, of_stranger) = authority("strangers");
        let certificates = [first.clone(), second];
        let (old, new, other) = (
            list(&of_first, 2024),
            list(&of_first, 2025),
            list(&of_second, 2020),
        );
        let merged = |known: &[&Bytes], taken: &[&Bytes]| {
            let owned = |all: &[&Bytes]| all.iter().map(|it| (*it).clone()).collect::<Vec<_>>();
            merge(&owned(known), &owned(taken), &certificates)
        };
        assert_eq!(merged(&[], &[&old]), Ok(vec![old.clone()]));
        assert_eq!(merged(&[&old], &[&new]), Ok(vec![new.clone()]));
        // Same name, another key: another list.
        assert_eq!(
            merged(&[&new], &[&other]),
            Ok(vec![new.clone(), other.clone()])
        );
        assert!(matches!(
            merged(&[&new], &[&old]),
            Err(ListError::Older { .. })
        ));
        assert!(matches!(
            merged(&[], &[&list(&of_stranger, 2025)]),
            Err(ListError::OtherIssuer { .. })
        ));
        assert_eq!(
            merged(&[], &[&Bytes::from_static(b"junk")]),
            Err(ListError::Unreadable(1))
        );
        // The second certificate goes, and its list with it.
        assert_eq!(merge(&[new.clone(), other], &[], &[first]), Ok(vec![new]));
    }

    #[test]
    fn a_list_says_what_it_is() {
        let (_, issuer) = authority("members");
        let summary = summary(&list(&issuer, 2025)).unwrap();
        assert!(summary.issuer.contains("CN=members"), "{summary:?}");
        assert_eq!(summary.number, "7");
        assert_eq!(summary.this_update.to_string(), "2025-01-01T00:00:00Z");
        assert_eq!(summary.revoked, 0);
    }

    /// RFC 5280 §4.1.2.5: a time past the last one that we can say is no time in 1970.
    #[test]
    fn a_list_without_end_is_in_force_and_no_alarm() {
        let (certificate, issuer) = authority("members");
        let endless = list_until(&issuer, 2025, (9999, 12, 31));
        let summary = summary(&endless).unwrap();
        assert_eq!(summary.next_update, Some(Timestamp::MAX));
        let lists = merge(&[], &[endless], std::slice::from_ref(&certificate)).unwrap();
        assert!(says(&lists[0], &[], Timestamp::UNIX_EPOCH, Duration::ZERO));
        let authority = Authority {
            name: "members".parse().unwrap(),
            version: 1,
            certificates: vec![made_by_tools::certificate("authority-endless")],
            revocation_lists: lists,
            origin: Origin::Imported,
        };
        let late = "2300-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(authority.alarms(late, Usage::OfSites), [""; 0]);
    }

    #[test]
    fn a_list_that_no_agent_can_use_is_refused_and_bars_no_way_back() {
        let ca = [made_by_tools::certificate("ca")];
        let good = made_by_tools::list("list-good");
        for (name, word) in UNUSABLE_LISTS {
            let bad = made_by_tools::list(name);
            let refused = merge(std::slice::from_ref(&good), std::slice::from_ref(&bad), &ca);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(word), "{name}: {said}");
            if *name == "list-sha1" {
                continue;
            }
            // Taken in by an earlier version: newer than the good one, which comes back all the same.
            assert!(fault(&bad, &ca).is_some());
            let back = merge(&[bad], std::slice::from_ref(&good), &ca);
            assert_eq!(back, Ok(vec![good.clone()]), "{name}");
        }
        assert_eq!(fault(&good, &ca), None);
    }
}
