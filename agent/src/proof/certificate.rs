//! The proof `certificate`: a chain to the site's authority, and the site's defined name in the certificate.
//!
//! Path and name are rustls's own check ([`crate::tls`]); what it leaves unlooked-at, [`dd_pki::judge`] rules on what was
//! recorded, as the controller does where a member shows its certificate.

use dd_pki::judge;
use dd_proto::site::Certified;
use jiff::Timestamp;

use super::{Checked, Proof, Refusal, Seen, Terms, TlsSeen, TlsUp, TlsUse, Verified};

#[derive(Debug)]
pub(super) struct Certificate;

impl Proof for Certificate {
    fn kind(&self) -> &'static str {
        "certificate"
    }

    fn tls(&self, _terms: &Terms) -> TlsUse {
        TlsUse::Needed
    }

    fn rule(&self, terms: &Terms, seen: &Seen, now: Timestamp) -> Result<Verified, Refusal> {
        let certified_by = terms.proof.certified().ok_or(Refusal::NoAnchor)?;
        certified(certified_by, seen, now)?;
        Ok(Verified::by(self.kind()))
    }
}

/// The site's authority has certified the far end under the site's name.
pub(super) fn certified(wanted: &Certified, seen: &Seen, now: Timestamp) -> Result<(), Refusal> {
    let up = secured(seen)?;
    let Checked::AgainstAnchors { name, anchors } = &up.checked else {
        return Err(Refusal::UnknownIssuer);
    };
    if *name != wanted.name {
        return Err(Refusal::UnknownIssuer);
    }
    Ok(judge::chain(&up.chain, anchors, now)?)
}

/// The handshake that finished, or why there is none.
pub(super) fn secured(seen: &Seen) -> Result<&TlsUp, Refusal> {
    match &seen.tls {
        TlsSeen::Up(up) => Ok(up),
        TlsSeen::NotAsked | TlsSeen::NotOffered => Err(Refusal::NoStartTls),
        TlsSeen::Refused(reply) => Err(Refusal::StartTlsRefused(reply.clone())),
        TlsSeen::Failed { refusal, .. } => Err(refusal.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{certified, seen_at, terms};
    use super::*;
    use dd_proto::site;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls_pki_types::CertificateDer;

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority(from: i32, until: i32) -> Authority {
        authority_until(from, (until, 1, 1))
    }

    fn authority_until(from: i32, (year, month, day): (i32, u8, u8)) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(of: &Authority, key: &KeyPair) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
        params.signed_by(key, &of.issuer).unwrap().der().clone()
    }

    fn rule(chain: Vec<CertificateDer<'static>>, checked: Checked) -> &'static str {
        let terms = terms(site::Proof::Certificate(certified()));
        let tls = TlsSeen::Up(TlsUp {
            version: "TLSv1.3".into(),
            cipher: String::new(),
            chain,
            checked,
            asked: crate::proof::Asked::No,
        });
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        match Certificate.rule(&terms, &seen_at("192.0.2.7", 25, tls), now) {
            Ok(verified) => verified.proof(),
            Err(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn the_anchor_and_the_keys_are_ruled_on_too() {
        let named = |name: &str, anchors: &[&Authority]| Checked::AgainstAnchors {
            name: name.parse().unwrap(),
            anchors: anchors.iter().map(|it| it.der.clone()).collect(),
        };
        let good = |anchors: &[&Authority]| named("home.example", anchors);
        let key = KeyPair::generate().unwrap();
        let (current, expired, coming) = (
            authority(2020, 2040),
            authority(2020, 2024),
            authority(2030, 2040),
        );
        // RFC 5280 §4.1.2.5: no end, and none in 1970.
        let endless = authority_until(2020, (9999, 12, 31));
        let chain = vec![leaf(&current, &key)];
        let damaged = vec![CertificateDer::from(vec![1, 2])];
        for (chain, checked, ruling) in [
            (chain.clone(), good(&[&current]), "certificate"),
            (chain.clone(), good(&[&expired, &current]), "certificate"),
            (chain.clone(), good(&[&endless]), "certificate"),
            (chain.clone(), good(&[&expired]), "AnchorExpired"),
            (chain.clone(), good(&[&coming]), "AnchorNotYetValid"),
            (chain.clone(), good(&[]), "NoAnchor"),
            (
                chain.clone(),
                named("other.example", &[&current]),
                "UnknownIssuer",
            ),
            (chain, Checked::OnlyRecorded, "UnknownIssuer"),
            (damaged, good(&[&current]), "BadCertificate"),
        ] {
            assert_eq!(rule(chain, checked), ruling);
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
            anchors: vec![authority(2020, 2040).der],
        };
        assert_eq!(rule(vec![der], checked), "WeakKey");
    }
}
