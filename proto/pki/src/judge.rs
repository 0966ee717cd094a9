//! What rustls's verifier leaves unlooked-at, ruled by agents at a handshake and by the controller where a member shows its
//! certificate: the validity of the anchor itself, the length of RSA keys, and whether an intermediate's key usage lets it issue
//! (RFC 5280 §4.2.1.3).
//!
//! # Not here
//! Path, name and revocation: [`crate::anchored`].

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::key::MIN_RSA_BITS;
use crate::time::instant;

/// What is wrong with a chain that a verifier accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Unreadable,
    WeakKey {
        bits: usize,
    },
    /// One that may not sign certificates issued another.
    MayNotIssue,
    NoAnchor,
    AnchorExpired {
        not_after: Timestamp,
    },
    AnchorNotYetValid {
        not_before: Timestamp,
    },
}

/// Everything that is ruled here, on a chain and the anchors that it led to.
///
/// # Errors
/// The first fault.
pub fn chain(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), Fault> {
    keys_are_strong(chain)?;
    issuers_may_issue(chain)?;
    one_is_valid(anchors, now)
}

/// # Errors
/// One is weak, or cannot be read.
pub fn keys_are_strong(chain: &[CertificateDer<'_>]) -> Result<(), Fault> {
    for der in chain {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Fault::Unreadable)?;
        let bits = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => key.key_size(),
            Ok(_) => continue,
            Err(_) => return Err(Fault::Unreadable),
        };
        if bits < MIN_RSA_BITS {
            return Err(Fault::WeakKey { bits });
        }
    }
    Ok(())
}

/// Whoever issued another certificate of the chain is meant to.
///
/// # Errors
/// One is not.
pub fn issuers_may_issue(chain: &[CertificateDer<'_>]) -> Result<(), Fault> {
    let chain: Vec<X509Certificate<'_>> = chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, it)| it))
        .collect();
    for issuer in chain.iter().skip(1) {
        let Ok(Some(usage)) = issuer.key_usage() else {
            continue;
        };
        let issued = chain.iter().any(|it| {
            it.issuer().as_raw() == issuer.subject().as_raw()
                && it.tbs_certificate.as_ref() != issuer.tbs_certificate.as_ref()
        });
        if issued && !usage.value.key_cert_sign() {
            return Err(Fault::MayNotIssue);
        }
    }
    Ok(())
}

/// Of the anchors that a path led to, at least one must be valid itself.
///
/// # Errors
/// None is.
pub fn one_is_valid(anchors: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Fault> {
    let mut ruling = Err(Fault::NoAnchor);
    for der in anchors {
        let Ok((_, anchor)) = X509Certificate::from_der(der) else {
            continue;
        };
        let validity = anchor.validity();
        let (not_before, not_after) = (instant(validity.not_before), instant(validity.not_after));
        if now > not_after {
            ruling = Err(Fault::AnchorExpired { not_after });
        } else if now < not_before {
            ruling = Err(Fault::AnchorNotYetValid { not_before });
        } else {
            return Ok(());
        }
    }
    ruling
}

/// Whether a certificate says that it is of this name: a cheap look, before anything is verified. RFC 9525 §6.3: a wildcard
/// stands for the whole first label.
pub fn carries(certificate: &[u8], name: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return false;
    };
    let above = name.split_once('.').map(|(_, above)| above);
    names.value.general_names.iter().any(|it| match it {
        GeneralName::DNSName(it) => match it.strip_prefix("*.") {
            Some(suffix) => above.is_some_and(|above| above.eq_ignore_ascii_case(suffix)),
            None => it.eq_ignore_ascii_case(name),
        },
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::date_time_ymd;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

    fn ca(from: i32, until: i32, usages: Vec<KeyUsagePurpose>) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.key_usages = usages;
        (params, KeyPair::generate().unwrap())
    }

    #[test]
    fn anchors_keys_and_issuers_are_ruled_on() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let anchor = |from, until| {
            let (params, key) = ca(from, until, Vec::new());
            params.self_signed(&key).unwrap().der().clone()
        };
        let (current, expired, coming) =
            (anchor(2020, 2040), anchor(2020, 2024), anchor(2030, 2040));
        assert_eq!(chain(&[], &[expired.clone(), current.clone()], now), Ok(()));
        assert!(matches!(
            chain(&[], &[expired], now),
            Err(Fault::AnchorExpired { .. })
        ));
        assert!(matches!(
            chain(&[], &[coming], now),
            Err(Fault::AnchorNotYetValid { .. })
        ));
        assert_eq!(chain(&[], &[], now), Err(Fault::NoAnchor));
        let damaged = CertificateDer::from(vec![1, 2]);
        assert_eq!(
            chain(&[damaged], std::slice::from_ref(&current), now),
            Err(Fault::Unreadable)
        );
        for (usages, ruling) in [
            (vec![KeyUsagePurpose::KeyCertSign], Ok(())),
            (vec![KeyUsagePurpose::CrlSign], Err(Fault::MayNotIssue)),
        ] {
            let (params, key) = ca(2020, 2040, usages);
            let intermediate = params.self_signed(&key).unwrap().der().clone();
            let leaf = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
            let leaf_key = KeyPair::generate().unwrap();
            let leaf = leaf
                .signed_by(&leaf_key, &Issuer::new(params, key))
                .unwrap();
            let presented = [leaf.der().clone(), intermediate];
            assert_eq!(
                chain(&presented, std::slice::from_ref(&current), now),
                ruling
            );
        }
    }

    #[test]
    fn an_anchor_without_end_has_not_ended_in_1970() {
        let (mut params, key) = ca(2020, 2040, Vec::new());
        params.not_after = date_time_ymd(9999, 12, 31);
        let endless = params.self_signed(&key).unwrap().der().clone();
        for now in ["2026-06-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
            let anchors = std::slice::from_ref(&endless);
            assert_eq!(chain(&[], anchors, now.parse().unwrap()), Ok(()));
        }
    }

    #[test]
    fn a_look_says_whose_name_a_certificate_carries() {
        let of = |name: &str| {
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        for (certificate, name, expected) in [
            ("home.example", "home.example", true),
            ("Home.Example", "home.example", true),
            ("*.example", "home.example", true),
            ("*.example", "a.home.example", false),
            ("other.example", "home.example", false),
            ("xhome.example", "home.example", false),
            ("192.0.2.1", "192.0.2.1", false),
        ] {
            assert_eq!(
                carries(&of(certificate), name),
                expected,
                "{certificate} {name}"
            );
        }
        assert!(!carries(b"nothing", "home.example"));
    }
}
