//! Public keys: what kind one is, and whether a verifier here takes signatures that it made.

use rustls::crypto::CryptoProvider;
use x509_parser::asn1_rs::{Any, FromBer as _, Oid, Tag};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

/// Shorter RSA keys prove nothing any more.
pub const MIN_RSA_BITS: usize = 2048;
/// Longer ones no verifier here takes.
pub const MAX_RSA_BITS: usize = 8192;

/// Why a key is of no use here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error(
        "its key is of the kind {0}, which is not supported here; use RSA (PKCS#1), P-256, P-384, P-521 or Ed25519"
    )]
    Unsupported(String),
    #[error("its RSA key has {0} bits; at least 2048 and at most 8192 are needed")]
    RsaBits(usize),
    #[error("its key cannot be read")]
    Unreadable,
}

/// Whether the provider verifies signatures of a key, which is given as SubjectPublicKeyInfo.
///
/// # Errors
/// It does not, and why.
pub fn judge(spki: &[u8], provider: &CryptoProvider) -> Result<(), KeyFault> {
    let algorithm = algorithm(spki).ok_or(KeyFault::Unreadable)?;
    let known = provider.signature_verification_algorithms.all;
    if !known
        .iter()
        .any(|it| it.public_key_alg_id().as_ref() == algorithm)
    {
        return Err(KeyFault::Unsupported(kind(spki)));
    }
    match rsa_bits(spki) {
        Some(bits) if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) => {
            Err(KeyFault::RsaBits(bits))
        }
        _ => Ok(()),
    }
}

/// The SubjectPublicKeyInfo of a certificate. Nothing else of it is looked at: not its version, its serial number, its
/// extensions or its signature.
pub fn of_certificate(certificate: &[u8]) -> Option<&[u8]> {
    const VERSION: u32 = 0;
    let (_, certificate) = Any::from_ber(certificate).ok()?;
    let (_, signed) = Any::from_ber(certificate.data).ok()?;
    let (after, first) = Any::from_ber(signed.data).ok()?;
    // RFC 5280 §4.1: an explicit version, which version 1 leaves out; then serial number, signature algorithm, issuer,
    // validity, subject and key.
    let explicit = first.header.is_contextspecific() && first.tag().0 == VERSION;
    let mut rest = match explicit {
        true => after,
        false => signed.data,
    };
    for _ in 0..5 {
        (rest, _) = Any::from_ber(rest).ok()?;
    }
    let (after, key) = Any::from_ber(rest).ok()?;
    (key.header.is_universal() && key.tag() == Tag::Sequence)
        .then(|| &rest[..rest.len() - after.len()])
}

/// The contents of the algorithm identifier, as providers compare them.
pub(crate) fn algorithm(spki: &[u8]) -> Option<&[u8]> {
    let (_, spki) = Any::from_ber(spki).ok()?;
    let (_, algorithm) = Any::from_ber(spki.data).ok()?;
    Some(algorithm.data)
}

/// The bits of the key itself.
pub(crate) fn bits(spki: &[u8]) -> Option<Vec<u8>> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    Some(spki.subject_public_key.data.to_vec())
}

/// The length of an RSA key's modulus; none where it is another key.
pub fn rsa_bits(spki: &[u8]) -> Option<usize> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).ok()?;
    match spki.parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

/// The kind of a key in the words of the tools that make it.
pub fn kind(spki: &[u8]) -> String {
    algorithm(spki).map_or_else(|| "unknown".to_owned(), kind_of)
}

/// The same, from the contents of its algorithm identifier.
pub fn kind_of(algorithm: &[u8]) -> String {
    let parsed = Any::from_ber(algorithm);
    let Some((parameters, oid)) = parsed
        .ok()
        .and_then(|(rest, it)| Some((rest, it.oid().ok()?)))
    else {
        return "unknown".to_owned();
    };
    let oid = oid.to_id_string();
    if oid != "1.2.840.10045.2.1" {
        return key_name(&oid);
    }
    match Any::from_ber(parameters) {
        Ok((_, curve)) if curve.tag() == Tag::Oid => match curve.oid() {
            Ok(name) => curve_name(&name.to_id_string()),
            Err(_) => "EC".to_owned(),
        },
        _ => "EC with explicit parameters".to_owned(),
    }
}

fn curve_name(oid: &str) -> String {
    let name = match oid {
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.2.840.10045.3.1.1" => "P-192",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.10" => "secp256k1",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        other => return format!("EC on the curve {other}"),
    };
    name.to_owned()
}

fn key_name(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10040.4.1" => "DSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        other => return other.to_owned(),
    };
    name.to_owned()
}

/// A signature algorithm, from the contents of its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureKind {
    pub name: String,
    /// Its hash is no longer safe; others are only not supported.
    pub is_unsafe: bool,
}

/// None where it cannot be read.
pub fn signature_of(algorithm: &[u8]) -> Option<SignatureKind> {
    let (_, oid) = Any::from_ber(algorithm).ok()?;
    let oid = oid.oid().ok()?.to_id_string();
    Some(SignatureKind {
        name: signature_name(&oid),
        is_unsafe: is_unsafe(&oid),
    })
}

/// The name of a signature algorithm, where no verifier here takes it.
pub fn unsupported_signature(algorithm: &Oid<'_>, provider: &CryptoProvider) -> Option<String> {
    let taken = provider
        .signature_verification_algorithms
        .all
        .iter()
        .any(|it| starts_with_oid(it.signature_alg_id().as_ref(), algorithm.as_bytes()));
    (!taken).then(|| signature_name(&algorithm.to_id_string()))
}

/// Whether the contents of an algorithm identifier begin with this object identifier.
fn starts_with_oid(algorithm: &[u8], oid: &[u8]) -> bool {
    let length = u8::try_from(oid.len()).unwrap_or(u8::MAX);
    algorithm
        .strip_prefix(&[0x06, length])
        .is_some_and(|rest| rest.starts_with(oid))
}

/// The name of a signature algorithm, by its object identifier in dotted form.
pub fn signature_name(oid: &str) -> String {
    let name = match oid {
        "1.2.840.113549.1.1.2" => "MD2 with RSA",
        "1.2.840.113549.1.1.4" => "MD5 with RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA-1 with RSA",
        "1.2.840.113549.1.1.14" => "SHA-224 with RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.10045.4.1" => "SHA-1 with ECDSA",
        "1.2.840.10045.4.3.1" => "SHA-224 with ECDSA",
        "1.2.840.10045.4.3.2" => "SHA-256 with ECDSA",
        "1.2.840.10045.4.3.3" => "SHA-384 with ECDSA",
        "1.2.840.10045.4.3.4" => "SHA-512 with ECDSA",
        "1.2.840.113549.1.1.11" => "SHA-256 with RSA",
        "1.2.840.113549.1.1.12" => "SHA-384 with RSA",
        "1.2.840.113549.1.1.13" => "SHA-512 with RSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.13" => "SHA3-224 with RSA",
        "2.16.840.1.101.3.4.3.14" => "SHA3-256 with RSA",
        "2.16.840.1.101.3.4.3.15" => "SHA3-384 with RSA",
        "2.16.840.1.101.3.4.3.16" => "SHA3-512 with RSA",
        other => return other.to_owned(),
    };
    name.to_owned()
}

fn is_unsafe(oid: &str) -> bool {
    matches!(
        oid,
        "1.2.840.113549.1.1.2"
            | "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.3.14.3.2.29"
            | "1.2.840.10045.4.1"
            | "1.2.840.10040.4.3"
    )
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
