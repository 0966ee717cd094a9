//! A member's certificate request (PKCS#10): what of it is looked at, and what is refused.
//!
//! Only its key is taken. What else it asks for is not put in; where it asks for what it must not have, it is refused
//! with a sentence instead of being quietly answered with something else.

use dd_pki::key::{self, MAX_RSA_BITS, MIN_RSA_BITS};
use dd_proto::domain::Domain;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("this is no certificate request: expected PKCS#10, as `openssl req -new` makes it")]
    Unreadable,
    #[error(
        "the request is not signed by its own key: whoever sent it has not shown to hold the key"
    )]
    NotItsKey,
    #[error(
        "the request is signed with {0}, which is not taken here: make it with SHA-256 (openssl: -sha256), and with RSA not as RSA-PSS"
    )]
    Signature(String),
    #[error("the request's RSA key has {0} bits: at least 2048 and at most 8192 are needed")]
    RsaBits(usize),
    #[error(
        "the request's key is of the kind {0}, which is not supported: use RSA, P-256, P-384, P-521 or Ed25519"
    )]
    KeyKind(String),
    #[error(
        "the request asks for `{asked}`, but only the site's own name `{name}` is certified: make it for that name, or for none"
    )]
    OtherName { asked: String, name: Domain },
    #[error("the request asks to be an authority: make it without that")]
    Authority,
}

/// The key that is to be certified for `name`.
///
/// # Errors
/// The request is malformed, not signed by its key, or asks for what a member cannot have.
pub fn key_of(der: &[u8], name: &Domain) -> Result<SubjectPublicKeyInfo, RequestError> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| RequestError::Unreadable)?;
    if !rest.is_empty() {
        return Err(RequestError::Unreadable);
    }
    let key = strong_key(&request)?;
    if !is_signed_by_its_key(&request) {
        return Err(not_signed(&request));
    }
    asks_only_for(&request, name)?;
    Ok(key)
}

/// Why a request for the control plane cannot be used, where the library that refused it says less: of a kind that is not
/// supported it says that the signature is wrong.
pub(super) fn why_not(der: &[u8], error: &rcgen::Error) -> String {
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else {
        return RequestError::Unreadable.to_string();
    };
    if let Err(error) = strong_key(&request) {
        return error.to_string();
    }
    if !is_signed_by_its_key(&request) {
        return not_signed(&request).to_string();
    }
    let kind = key::kind(request.certification_request_info.subject_pki.raw);
    format!("{error}; its key is {kind}: use P-256, P-384, Ed25519, or RSA with 2048 bits or more")
}

fn strong_key(
    request: &X509CertificationRequest<'_>,
) -> Result<SubjectPublicKeyInfo, RequestError> {
    let key = &request.certification_request_info.subject_pki;
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        let bits = rsa.key_size();
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(RequestError::RsaBits(bits));
        }
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| RequestError::KeyKind(key::kind(key.raw)))
}

/// A signature that nobody here can verify accuses nobody.
fn not_signed(request: &X509CertificationRequest<'_>) -> RequestError {
    let algorithm = &request.signature_algorithm.algorithm;
    let name = key::signature_name(&algorithm.to_id_string());
    match key::unsupported_signature(algorithm, &dd_pki::provider()) {
        Some(algorithm) => RequestError::Signature(algorithm),
        // Verified only with a salt as long as the hash, which is not OpenSSL's default.
        None if name == "RSA-PSS" => RequestError::Signature(name),
        None => RequestError::NotItsKey,
    }
}

/// RFC 2986 §3: the signature shows that whoever asks holds the key.
fn is_signed_by_its_key(request: &X509CertificationRequest<'_>) -> bool {
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let info = &request.certification_request_info;
    let key = &info.subject_pki.subject_public_key.data;
    let signature = &request.signature_value.data;
    algorithms
        .all
        .iter()
        .any(|algorithm| algorithm.verify_signature(key, info.raw, signature).is_ok())
}

fn asks_only_for(
    request: &X509CertificationRequest<'_>,
    name: &Domain,
) -> Result<(), RequestError> {
    let other = |asked: &str| RequestError::OtherName {
        asked: asked
            .chars()
            .take(80)
            .flat_map(char::escape_debug)
            .collect(),
        name: name.clone(),
    };
    let subject = &request.certification_request_info.subject;
    for common_name in subject.iter_common_name().filter_map(|it| it.as_str().ok()) {
        // A common name may be anything; only one that is the name of somebody is a claim.
        if common_name.contains('.') && !common_name.eq_ignore_ascii_case(name.as_str()) {
            return Err(other(common_name));
        }
    }
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::BasicConstraints(basic) if basic.ca => {
                return Err(RequestError::Authority);
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for asked in &names.general_names {
                    match asked {
                        GeneralName::DNSName(asked)
                            if asked.eq_ignore_ascii_case(name.as_str()) => {}
                        GeneralName::DNSName(asked) => return Err(other(asked)),
                        asked => return Err(other(&format!("{asked:?}"))),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dd_proto::pem::{self, Kind};
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SanType,
    };

    type Change = fn(&mut CertificateParams);

    fn request(names: &[&str], change: Change) -> Vec<u8> {
        with_key(&KeyPair::generate().unwrap(), names, change)
    }

    fn with_key(key: &KeyPair, names: &[&str], change: Change) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn refused(der: &[u8]) -> Option<RequestError> {
        key_of(der, &"home.example".parse().unwrap()).err()
    }

    #[test]
    fn a_request_for_the_name_or_for_none_gives_its_key() {
        let key = KeyPair::generate().unwrap();
        for names in [&["home.example"][..], &["HOME.example"], &[]] {
            let der = with_key(&key, names, |params| {
                params
                    .distinguished_name
                    .push(DnType::CommonName, "my server");
            });
            let taken = key_of(&der, &"home.example".parse().unwrap()).unwrap();
            assert_eq!(
                taken.subject_public_key_info(),
                key.subject_public_key_info()
            );
        }
        for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(refused(&with_key(&key, &[], |_| {})), None);
        }
    }

    #[test]
    fn a_request_for_what_a_member_cannot_have_is_refused() {
        let other = |names: &[&str], change: Change| {
            matches!(
                refused(&request(names, change)),
                Some(RequestError::OtherName { .. })
            )
        };
        assert!(other(&["neighbour.example"], |_| {}));
        assert!(other(&["home.example", "neighbour.example"], |_| {}));
        assert!(other(&["*.home.example"], |_| {}));
        assert!(other(&["a.home.example"], |_| {}));
        assert!(other(&["home.example"], |params| {
            params
                .distinguished_name
                .push(DnType::CommonName, "neighbour.example");
        }));
        assert!(other(&[], |params| {
            params.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 1].into())];
        }));
        let authority = request(&["home.example"], |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        assert_eq!(refused(&authority), Some(RequestError::Authority));
    }

    #[test]
    fn what_else_is_asked_for_is_not_looked_at() {
        let der = request(&["home.example"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            let mut unknown =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions = vec![unknown];
        });
        assert_eq!(refused(&der), None);
    }

    #[test]
    fn a_broken_or_weak_request_is_refused() {
        let good = request(&["home.example"], |_| {});
        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(refused(&forged), Some(RequestError::NotItsKey));
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(refused(&longer), Some(RequestError::Unreadable));
        assert_eq!(
            refused(&good[..good.len() - 1]),
            Some(RequestError::Unreadable)
        );
        assert_eq!(refused(b""), Some(RequestError::Unreadable));
        // Made with openssl, which makes what aws-lc does not.
        for (pem, expected) in [
            (
                include_str!("../../tests/data/rsa1024.csr.pem"),
                RequestError::RsaBits(1024),
            ),
            (
                include_str!("../../tests/data/secp256k1.csr.pem"),
                RequestError::KeyKind("secp256k1".to_owned()),
            ),
            (
                include_str!("../../tests/data/sha1.csr.pem"),
                RequestError::Signature("SHA-1 with RSA".to_owned()),
            ),
            (
                include_str!("../../tests/data/sha224.csr.pem"),
                RequestError::Signature("SHA-224 with RSA".to_owned()),
            ),
            (
                include_str!("../../tests/data/pss.csr.pem"),
                RequestError::Signature("RSA-PSS".to_owned()),
            ),
        ] {
            let der = pem::read_one(pem.as_bytes(), Kind::Request).unwrap();
            assert_eq!(refused(&der), Some(expected));
        }
    }
}
