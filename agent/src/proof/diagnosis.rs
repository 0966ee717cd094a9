//! Why a chain leads nowhere, in the words of whoever has to mend it.
//!
//! A verifier says no more than it needs to know: "unknown issuer" is a neighbour's machine, an authority of the same
//! name, and an intermediate that was forgotten. What was presented tells them apart.
//!
//! # Invariants
//! A refusal stays a refusal: only its reason is made more exact.

use dd_pki::key::{self, MIN_RSA_BITS};
use dd_pki::names;
use dd_proto::domain::Domain;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::refusal::printable;
use super::{Refusal, Terms};

/// The same refusal, as exact as what was presented allows.
pub(crate) fn diagnose(refusal: Refusal, terms: &Terms, chain: &[CertificateDer<'_>]) -> Refusal {
    if terms.proof.certificate_name().is_none() && refusal == Refusal::UnknownIssuer {
        return not_its_key(chain);
    }
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map_while(|der| X509Certificate::from_der(der).ok().map(|(_, it)| it))
        .collect();
    let Some(leaf) = parsed.first() else {
        return refusal;
    };
    match refusal {
        // `openssl req -x509` makes an authority's certificate unless told otherwise: it is one that the server made itself.
        Refusal::CaUsedAsEndEntity
            if names::same(leaf.subject(), leaf.issuer()) && !terms.anchors.contains(&chain[0]) =>
        {
            Refusal::SelfSigned
        }
        Refusal::UnknownIssuer => unknown_issuer(terms, &parsed, leaf),
        Refusal::NameMismatch { expected, .. } if only_in_cn(leaf, &expected) => {
            Refusal::NameOnlyInCn { expected }
        }
        other => other,
    }
}

/// Where no chain is verified, only the signature over the handshake can have been wrong.
fn not_its_key(chain: &[CertificateDer<'_>]) -> Refusal {
    let spki = chain.first().and_then(|der| key::of_certificate(der));
    match spki.and_then(key::rsa_bits) {
        Some(bits) if bits < MIN_RSA_BITS => Refusal::WeakKey { bits },
        _ => Refusal::HandshakeFailed(
            "the host does not hold the key of the certificate that it shows; somebody else answers with a copy of it"
                .to_owned(),
        ),
    }
}

fn unknown_issuer(
    terms: &Terms,
    chain: &[X509Certificate<'_>],
    leaf: &X509Certificate<'_>,
) -> Refusal {
    if let Some(bits) = chain.iter().find_map(weak_rsa) {
        return Refusal::WeakKey { bits };
    }
    let anchors: Vec<X509Certificate<'_>> = terms
        .anchors
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, it)| it))
        .collect();
    for found in chain {
        let named = anchors.iter();
        let named = named.filter(|anchor| names::same(anchor.subject(), found.issuer()));
        let weak: Vec<Option<usize>> = named.map(weak_rsa).collect();
        // An anchor whose signatures no verifier takes.
        if let Some(bits) = weak
            .iter()
            .flatten()
            .next()
            .filter(|_| !weak.contains(&None))
        {
            return Refusal::WeakKey { bits: *bits };
        }
        if !weak.is_empty() {
            let issuer = printable(&found.issuer().to_string());
            return Refusal::SameNameOtherKey { issuer };
        }
    }
    if chain.len() == 1 && names::same(leaf.subject(), leaf.issuer()) {
        return Refusal::SelfSigned;
    }
    // Follows the chain from the leaf as far as it was sent.
    let mut last = leaf;
    for _ in 0..chain.len() {
        let above = chain
            .iter()
            .find(|it| names::same(it.subject(), last.issuer()) && it.subject() != last.subject());
        match above {
            Some(above) => last = above,
            None => break,
        }
    }
    match names::same(last.subject(), last.issuer()) {
        true => Refusal::UnknownIssuer,
        false => Refusal::ChainIncomplete {
            issuer: printable(&last.issuer().to_string()),
        },
    }
}

/// A verifier takes no signature of such a key, and says only that it found no issuer.
fn weak_rsa(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits < MIN_RSA_BITS),
        _ => None,
    }
}

/// RFC 9525 §2: the common name is no name of a service.
fn only_in_cn(leaf: &X509Certificate<'_>, expected: &Domain) -> bool {
    let no_names = matches!(leaf.subject_alternative_name(), Ok(None));
    no_names
        && leaf
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .any(|name| name.eq_ignore_ascii_case(expected.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{certified, terms};
    use super::*;
    use dd_proto::site::Proof;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn params(subject: &str, is_ca: IsCa) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = is_ca;
        params
    }

    fn authority(subject: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let params = params(subject, IsCa::Ca(BasicConstraints::Unconstrained));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    fn signed(subject: &str, by: &Issuer<'static, KeyPair>) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = params(subject, IsCa::NoCa);
        params.signed_by(&key, by).unwrap().der().clone()
    }

    #[test]
    fn what_was_presented_says_why_the_issuer_is_unknown() {
        let (anchor, _) = authority("members");
        let (twin, of_twin) = authority("members");
        let (other, of_other) = authority("elsewhere");
        let mut terms = terms(Proof::Certificate(certified()));
        terms.anchors = vec![anchor];
        for (chain, reason) in [
            (vec![other.clone()], "SelfSigned"),
            (vec![signed("home", &of_twin)], "SameNameOtherKey"),
            (vec![signed("home", &of_twin), twin], "SameNameOtherKey"),
            (vec![signed("home", &of_other), other], "UnknownIssuer"),
            (vec![signed("home", &of_other)], "ChainIncomplete"),
            (vec![CertificateDer::from(vec![1])], "UnknownIssuer"),
            (vec![], "UnknownIssuer"),
        ] {
            let refusal = diagnose(Refusal::UnknownIssuer, &terms, &chain);
            assert_eq!(refusal.reason(), reason);
        }
    }

    #[test]
    fn a_certificate_that_a_server_made_itself_is_no_authority_s() {
        let (anchor, of_anchor) = authority("members");
        let (own, _) = authority("home.example");
        let mut terms = terms(Proof::Certificate(certified()));
        terms.anchors = vec![anchor.clone()];
        let params = params("below", IsCa::Ca(BasicConstraints::Unconstrained));
        let below = params.signed_by(&KeyPair::generate().unwrap(), &of_anchor);
        for (leaf, reason) in [
            (own, "SelfSigned"),
            (anchor, "CaUsedAsEndEntity"),
            (below.unwrap().der().clone(), "CaUsedAsEndEntity"),
        ] {
            let refusal = diagnose(Refusal::CaUsedAsEndEntity, &terms, &[leaf]);
            assert_eq!(refusal.reason(), reason);
        }
    }

    #[test]
    fn an_anchor_whose_key_is_too_short_is_said_to_be_that() {
        let pem = include_bytes!("../../../proto/pki/tests/data/authority-rsa1024.pem");
        let weak = dd_proto::pem::read_one(pem, dd_proto::pem::Kind::Certificate).unwrap();
        let (_, parsed) = X509Certificate::from_der(&weak).unwrap();
        let subject = parsed.subject().iter_common_name().next().unwrap();
        // Of the same name, for the key is not there to sign with.
        let (_, of_twin) = authority(subject.as_str().unwrap());
        let leaf = signed("home", &of_twin);
        let (_, issued) = X509Certificate::from_der(&leaf).unwrap();
        assert!(names::same(issued.issuer(), parsed.subject()));
        let mut terms = terms(Proof::Certificate(certified()));
        terms.anchors = vec![weak.clone().into()];
        let refusal = diagnose(Refusal::UnknownIssuer, &terms, std::slice::from_ref(&leaf));
        assert_eq!(refusal, Refusal::WeakKey { bits: 1024 });
    }

    #[test]
    fn a_name_that_is_only_the_common_name_is_said_to_be_that() {
        let (_, issuer) = authority("members");
        let terms = terms(Proof::Certificate(certified()));
        let mismatch = || Refusal::NameMismatch {
            expected: "home.example".parse().unwrap(),
            presented: String::new(),
        };
        for (subject, reason) in [
            ("home.example", "NameOnlyInCn"),
            ("Home.Example", "NameOnlyInCn"),
            ("other.example", "NameMismatch"),
        ] {
            let refusal = diagnose(mismatch(), &terms, &[signed(subject, &issuer)]);
            assert_eq!(refusal.reason(), reason);
        }
        let both = ["home.example".to_owned()];
        let key = KeyPair::generate().unwrap();
        let named = CertificateParams::new(both).unwrap().self_signed(&key);
        let named = named.unwrap().der().clone();
        let refusal = diagnose(mismatch(), &terms, &[named]);
        assert_eq!(refusal.reason(), "NameMismatch");
    }
}
