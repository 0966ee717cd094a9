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

/// # Errors
/// Not every one is a list of one of the certificates.
pub fn check(lists: &[Bytes], certificates: &[Bytes]) -> Result<(), ListError> {
    if lists.len() > MAX_LISTS {
        return Err(ListError::Count);
    }
    for (index, der) in lists.iter().enumerate() {
        let number = index + 1;
        let list = parse(der).ok_or(ListError::Unreadable(number))?;
        if signer(&list, certificates).is_none() {
            let issuer = list.issuer().to_string();
            return Err(ListError::OtherIssuer { number, issuer });
        }
    }
    Ok(())
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
    check(new, certificates)?;
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
        let old = parse(&merged[place]).expect("what is merged was parsed");
        if list.last_update() < old.last_update() {
            let known = at(old.last_update());
            return Err(ListError::Older { number, known });
        }
        merged[place] = der.clone();
    }
    match merged.len() > MAX_LISTS {
        true => Err(ListError::Count),
        false => Ok(merged),
    }
}

/// Whether this certificate's key signed it.
pub fn is_of(der: &[u8], certificate: &Bytes) -> bool {
    parse(der).is_some_and(|list| signer(&list, std::slice::from_ref(certificate)).is_some())
}

/// Whether a list names exactly these, and will not be old before `margin` is over.
pub fn says(der: &[u8], revoked: &[Revoked], now: Timestamp, margin: Duration) -> bool {
    let Some(list) = parse(der) else { return false };
    let lasts = list.next_update().map(at).is_some_and(|next| {
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

/// None where it cannot be read.
pub fn summary(der: &[u8]) -> Option<Summary> {
    let list = parse(der)?;
    Some(Summary {
        issuer: list.issuer().to_string(),
        number: list
            .crl_number()
            .map(ToString::to_string)
            .unwrap_or_default(),
        this_update: at(list.last_update()),
        next_update: list.next_update().map(at),
        revoked: list.iter_revoked_certificates().count(),
    })
}

fn parse(der: &[u8]) -> Option<CertificateRevocationList<'_>> {
    let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
    rest.is_empty().then_some(list)
}

fn at(time: x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or_default()
}

/// The key that signed it, out of the authority's certificates.
fn signer(list: &CertificateRevocationList<'_>, certificates: &[Bytes]) -> Option<Vec<u8>> {
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let signed = list.tbs_cert_list.as_ref();
    let signature = &list.signature_value.data;
    certificates.iter().find_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        if certificate.subject().as_raw() != list.issuer().as_raw() {
            return None;
        }
        let key = certificate.public_key().raw.to_vec();
        let bits = &certificate.public_key().subject_public_key.data;
        let good = algorithms
            .all
            .iter()
            .any(|algorithm| algorithm.verify_signature(bits, signed, signature).is_ok());
        good.then_some(key)
    })
}

#[cfg(test)]
mod tests {
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
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(year, 2, 1),
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
}
