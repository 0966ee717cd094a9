//! The proof `certificate`: a chain to the site's authority, and the site's defined name in the certificate.
//!
//! Path and name are rustls's own check ([`crate::tls`]); it leaves two things unlooked-at, which are ruled here on
//! what was recorded: the validity of the anchor itself, and the length of an RSA key.

use dd_proto::site;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::{Checked, Proof, Refusal, Seen, Terms, TlsSeen, TlsUp, TlsUse, Verified};

const MIN_RSA_BITS: usize = 2048;

#[derive(Debug)]
pub(super) struct Certificate;

impl Proof for Certificate {
    fn kind(&self) -> &'static str {
        "certificate"
    }

    fn tls(&self) -> TlsUse {
        TlsUse::Needed
    }

    fn rule(&self, terms: &Terms, seen: &Seen, now: Timestamp) -> Result<Verified, Refusal> {
        let up = match &seen.tls {
            TlsSeen::Up(up) => up,
            TlsSeen::NotAsked | TlsSeen::NotOffered => return Err(Refusal::NoStartTls),
            TlsSeen::Refused(reply) => return Err(Refusal::StartTlsRefused(reply.clone())),
            TlsSeen::Failed { refusal, .. } => return Err(refusal.clone()),
        };
        let site::Proof::Certificate { name, .. } = &terms.proof else {
            return Err(Refusal::NoAnchor);
        };
        match &up.checked {
            Checked::AgainstAnchors { name: checked } if checked == name => {}
            Checked::AgainstAnchors { .. } | Checked::OnlyRecorded => {
                return Err(Refusal::UnknownIssuer);
            }
        }
        keys_are_strong(up)?;
        anchor_is_valid(&up.chain, &terms.anchors, now)?;
        Ok(Verified::by(self.kind()))
    }
}

fn keys_are_strong(up: &TlsUp) -> Result<(), Refusal> {
    for der in &up.chain {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| Refusal::BadCertificate)?;
        let bits = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => key.key_size(),
            Ok(_) => continue,
            Err(_) => return Err(Refusal::BadCertificate),
        };
        if bits < MIN_RSA_BITS {
            return Err(Refusal::WeakKey { bits });
        }
    }
    Ok(())
}

/// At least one of the anchors that the chain can lead to must be valid now. Which one it led to follows from names and
/// key identifiers, so that an expired anchor is not excused by its successor of the same name.
fn anchor_is_valid(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), Refusal> {
    let presented: Vec<X509Certificate<'_>> = chain
        .iter()
        .filter_map(|der| {
            X509Certificate::from_der(der)
                .ok()
                .map(|(_, parsed)| parsed)
        })
        .collect();
    let mut ruling = Err(Refusal::NoAnchor);
    for der in anchors {
        let Ok((_, anchor)) = X509Certificate::from_der(der) else {
            continue;
        };
        if !presented
            .iter()
            .any(|certificate| may_have_issued(&anchor, certificate))
        {
            continue;
        }
        let validity = anchor.validity();
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).unwrap_or_default()
        };
        if now > at(validity.not_after) {
            ruling = Err(Refusal::AnchorExpired {
                not_after: at(validity.not_after),
            });
        } else if now < at(validity.not_before) {
            ruling = Err(Refusal::AnchorNotYetValid {
                not_before: at(validity.not_before),
            });
        } else {
            return Ok(());
        }
    }
    ruling
}

fn may_have_issued(anchor: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    if anchor.subject().as_raw() != certificate.issuer().as_raw() {
        return false;
    }
    match (subject_key(anchor), authority_key(certificate)) {
        (Some(subject), Some(authority)) => subject == authority,
        _ => true,
    }
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{seen_at, terms};
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(until: i32) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(of: &Authority, key: &KeyPair) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &of.issuer).unwrap().der().clone()
    }

    fn rule(
        chain: Vec<CertificateDer<'static>>,
        anchors: Vec<CertificateDer<'static>>,
        checked: Checked,
    ) -> &'static str {
        let mut terms = terms(site::Proof::Certificate {
            authority: "ca".parse().unwrap(),
            name: "home.example".parse().unwrap(),
        });
        terms.anchors = anchors;
        let tls = TlsSeen::Up(TlsUp {
            version: "TLSv1.3".into(),
            cipher: String::new(),
            chain,
            checked,
        });
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        match Certificate.rule(&terms, &seen_at("192.0.2.7", 25, tls), now) {
            Ok(verified) => verified.proof(),
            Err(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn the_anchor_and_the_keys_are_ruled_on_too() {
        let good = || Checked::AgainstAnchors {
            name: "home.example".parse().unwrap(),
        };
        let other = Checked::AgainstAnchors {
            name: "other.example".parse().unwrap(),
        };
        let key = KeyPair::generate().unwrap();
        let (current, expired) = (authority(2040), authority(2024));
        let of_current = leaf(&current, &key);
        let of_expired = leaf(&expired, &key);
        let both = || vec![expired.der.clone(), current.der.clone()];
        for (chain, anchors, checked, ruling) in [
            (vec![of_current.clone()], both(), good(), "certificate"),
            (vec![of_current.clone()], both(), other, "UnknownIssuer"),
            (
                vec![of_current.clone()],
                both(),
                Checked::OnlyRecorded,
                "UnknownIssuer",
            ),
            (vec![of_expired.clone()], both(), good(), "AnchorExpired"),
            (vec![of_current], Vec::new(), good(), "NoAnchor"),
            (
                vec![CertificateDer::from(vec![1, 2])],
                both(),
                good(),
                "BadCertificate",
            ),
        ] {
            assert_eq!(rule(chain, anchors, checked), ruling);
        }
    }

    #[test]
    fn a_short_rsa_key_is_refused() {
        // aws-lc makes no such key, so the certificate comes from openssl.
        let pem = include_str!("../../tests/data/rsa1024-cert.pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let der = CertificateDer::from(pem.contents);
        let checked = Checked::AgainstAnchors {
            name: "home.example".parse().unwrap(),
        };
        assert_eq!(rule(vec![der.clone()], vec![der], checked), "WeakKey");
    }
}
