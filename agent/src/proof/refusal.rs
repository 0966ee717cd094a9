//! Why a proof was withheld: a greppable word for scripts, and one sentence for people.
//!
//! # Invariants
//! Every sentence says what was seen, and what the member or the provider can do about it. Text that comes from the
//! far end is bounded and printable before it gets here.

use std::net::IpAddr;

use dd_pki::judge::Fault;
use dd_pki::key;
use dd_proto::domain::Domain;
use dd_proto::fingerprint::Fingerprint;
use jiff::Timestamp;
use rustls::CertificateError;

/// Proof withheld.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the host offers no STARTTLS, and without TLS it cannot show its certificate; turn TLS on at the site"
    )]
    NoStartTls,
    #[error(
        "the host offered STARTTLS but answered it with `{0}`; look into the site's TLS settings"
    )]
    StartTlsRefused(String),
    #[error(
        "the certificate was not issued by the site's authority; install one of that authority, with its chain"
    )]
    UnknownIssuer,
    #[error(
        "the host presents a certificate that it issued to itself; install one of the site's authority"
    )]
    SelfSigned,
    #[error(
        "the certificate comes from another authority that also calls itself `{issuer}` but has another key; somebody else answers, or the authority was made anew without `ddadm ca rollover`"
    )]
    SameNameOtherKey { issuer: String },
    #[error(
        "the certificate was issued by `{issuer}`, whose own certificate the host does not send; install the whole chain if the site's authority certified that one, else a certificate of the site's authority"
    )]
    ChainIncomplete { issuer: String },
    #[error(
        "the certificate is for {presented}, not for {expected}; the address may have a new owner whose machine answers now, or the wrong certificate is installed"
    )]
    NameMismatch { expected: Domain, presented: String },
    #[error(
        "the certificate has {expected} as its common name only, which counts nowhere any more; issue one with that name as a subject alternative name"
    )]
    NameOnlyInCn { expected: Domain },
    #[error(
        "the authority may not certify this name (name constraints); use a name it may certify, or another authority"
    )]
    NameNotPermitted,
    #[error("the chain breaks a rule of its own certificates ({0}); have it issued anew")]
    ChainNotAllowed(&'static str),
    #[error(
        "a certificate of the chain is signed in a way that is no longer safe, such as SHA-1 or MD5; issue a new one"
    )]
    UnsafeSignature,
    #[error(
        "a certificate of the chain uses {0}, which is not supported here; use RSA (PKCS#1), P-256, P-384, P-521 or Ed25519, and SHA-256"
    )]
    UnsupportedKey(String),
    #[error(
        "a certificate of the chain is of X.509 version 1, which carries no names; issue it as version 3 (with `openssl x509 -req` add -extfile with a subjectAltName, or -copy_extensions copy)"
    )]
    CertificateVersion1,
    #[error(
        "a certificate of the chain has a critical extension that nobody here knows; issue one without it"
    )]
    CriticalExtension,
    #[error(
        "the revocation list of the certificate's issuer cannot be used; import a good one with `ddadm ca crl`"
    )]
    BadRevocationList,
    #[error(
        "neither the certificate ({certificate}) that the host shows{asked} nor its key ({key}) is listed for the site; another machine answers, or list it with `ddadm site set --fingerprint`"
    )]
    FingerprintNotListed {
        certificate: Fingerprint,
        key: Fingerprint,
        /// The name it was asked for, in words; empty: none.
        asked: String,
    },
    #[error(
        "the site has shown TLS before, and now there is none ({0}); turn it on again, or say `ddadm site set NAME --clear shown` if that is meant"
    )]
    TlsFellAway(String),
    #[error("the certificate has expired; renew it")]
    Expired,
    #[error("the certificate is not valid yet; check the clocks, and the certificate's dates")]
    NotYetValid,
    #[error(
        "the host presents an authority's own certificate instead of one issued to a server; issue it one"
    )]
    CaUsedAsEndEntity,
    #[error("the certificate has been revoked; issue a new one")]
    Revoked,
    #[error(
        "whether the certificate is revoked cannot be told: no revocation list covers its issuer"
    )]
    RevocationUnknown,
    #[error("the certificate's RSA key has {bits} bits; at least 2048 are needed")]
    WeakKey { bits: usize },
    #[error(
        "the authority's own certificate was valid until {not_after} only; roll the authority over"
    )]
    AnchorExpired { not_after: Timestamp },
    #[error("the authority's own certificate is valid from {not_before} only; check the clocks")]
    AnchorNotYetValid { not_before: Timestamp },
    #[error("the site's authority has no usable certificate here; look at it with `ddadm ca show`")]
    NoAnchor,
    #[error("the host presents no certificate that can be read; install a new one")]
    BadCertificate,
    #[error("the certificate may not be used by a server (extended key usage); issue one that may")]
    WrongPurpose,
    #[error(
        "the host speaks only TLS versions or ciphers that are no longer safe; update the site's mail server to TLS 1.2 or newer"
    )]
    TlsTooOld,
    #[error("the TLS handshake failed: {0}")]
    HandshakeFailed(String),
    #[error(
        "{address} is not among the addresses listed for the site; list it, or find out who answers there"
    )]
    AddressNotListed { address: IpAddr },
    #[error("the proof `port` needs a port other than 25, but the site is configured with port 25")]
    PortIsPublic,
    #[error(
        "the host greets with this agent's own name: the connection came back to ourselves; check the site's host"
    )]
    Loop,
    #[error("the host turned us away with `{0}` before it had proved to be the site")]
    TurnedAway(String),
    #[error(
        "the host answered EHLO with `{0}`: it speaks LMTP or an SMTP without EHLO; give the site the port of its ESMTP server"
    )]
    NoEsmtp(String),
    #[error("the host {0} before it had proved to be the site; check what listens there")]
    NotSmtp(String),
}

impl Refusal {
    /// The greppable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoStartTls => "NoStartTls",
            Self::StartTlsRefused(_) => "StartTlsRefused",
            Self::UnknownIssuer => "UnknownIssuer",
            Self::SelfSigned => "SelfSigned",
            Self::SameNameOtherKey { .. } => "SameNameOtherKey",
            Self::ChainIncomplete { .. } => "ChainIncomplete",
            Self::NameMismatch { .. } => "NameMismatch",
            Self::NameOnlyInCn { .. } => "NameOnlyInCn",
            Self::NameNotPermitted => "NameNotPermitted",
            Self::ChainNotAllowed(_) => "ChainNotAllowed",
            Self::UnsafeSignature => "UnsafeSignature",
            Self::UnsupportedKey(_) => "UnsupportedKey",
            Self::CertificateVersion1 => "CertificateVersion1",
            Self::CriticalExtension => "CriticalExtension",
            Self::BadRevocationList => "BadRevocationList",
            Self::FingerprintNotListed { .. } => "FingerprintNotListed",
            Self::TlsFellAway(_) => "TlsFellAway",
            Self::Expired => "Expired",
            Self::NotYetValid => "NotYetValid",
            Self::CaUsedAsEndEntity => "CaUsedAsEndEntity",
            Self::Revoked => "Revoked",
            Self::RevocationUnknown => "RevocationUnknown",
            Self::WeakKey { .. } => "WeakKey",
            Self::AnchorExpired { .. } => "AnchorExpired",
            Self::AnchorNotYetValid { .. } => "AnchorNotYetValid",
            Self::NoAnchor => "NoAnchor",
            Self::BadCertificate => "BadCertificate",
            Self::WrongPurpose => "WrongPurpose",
            Self::TlsTooOld => "TlsTooOld",
            Self::HandshakeFailed(_) => "HandshakeFailed",
            Self::AddressNotListed { .. } => "AddressNotListed",
            Self::PortIsPublic => "PortIsPublic",
            Self::Loop => "Loop",
            Self::TurnedAway(_) => "TurnedAway",
            Self::NoEsmtp(_) => "NoEsmtp",
            Self::NotSmtp(_) => "NotSmtp",
        }
    }

    /// What a failed handshake means. `expected` is the name the certificate had to carry.
    pub fn from_tls(error: &rustls::Error, expected: Option<&Domain>) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => {
                Self::from_certificate(certificate, expected)
            }
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                rustls::AlertDescription::ProtocolVersion
                | rustls::AlertDescription::InsufficientSecurity,
            ) => Self::TlsTooOld,
            rustls::Error::NoCertificatesPresented => Self::BadCertificate,
            rustls::Error::InvalidCertRevocationList(_) => Self::BadRevocationList,
            other => Self::HandshakeFailed(printable(&other.to_string())),
        }
    }

    fn from_certificate(error: &CertificateError, expected: Option<&Domain>) -> Self {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::Revoked => Self::Revoked,
            E::UnknownRevocationStatus
            | E::ExpiredRevocationList
            | E::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            E::UnknownIssuer | E::BadSignature => Self::UnknownIssuer,
            E::NotValidForName => Self::mismatch(expected, &[]),
            E::NotValidForNameContext { presented, .. } => Self::mismatch(expected, presented),
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::WrongPurpose,
            E::BadEncoding => Self::BadCertificate,
            E::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: signature,
                ..
            } => Self::unsupported(signature, None),
            E::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: signature,
                public_key_algorithm_id: key,
            } => Self::unsupported(signature, Some(key)),
            E::UnhandledCriticalExtension => Self::CriticalExtension,
            E::Other(other) => Self::from_webpki(&format!("{other:?}")),
            other => Self::HandshakeFailed(printable(&other.to_string())),
        }
    }

    /// What is unsafe is told from what is only not supported: one is mended in haste, the other with another kind of key.
    fn unsupported(signature: &[u8], key: Option<&[u8]>) -> Self {
        let signature = key::signature_of(signature);
        if signature.as_ref().is_some_and(|it| it.is_unsafe) {
            return Self::UnsafeSignature;
        }
        let signature = signature.map_or_else(|| "an unknown signature".to_owned(), |it| it.name);
        Self::UnsupportedKey(match key {
            Some(key) => format!("{signature} by a key of the kind {}", key::kind_of(key)),
            None => format!("a signature of the kind {signature}"),
        })
    }

    /// rustls passes these on whole: webpki's own word is the only thing that tells them apart.
    fn from_webpki(error: &str) -> Self {
        let is = |words: &[&str]| words.iter().any(|word| error.contains(word));
        if is(&["CaUsedAsEndEntity"]) {
            Self::CaUsedAsEndEntity
        } else if is(&["EndEntityUsedAsCa"]) {
            Self::ChainNotAllowed("one that is no authority issued another")
        } else if is(&["PathLenConstraintViolated"]) {
            Self::ChainNotAllowed("it is longer than its authority permits")
        } else if is(&["NameConstraint"]) {
            Self::NameNotPermitted
        } else if is(&["UnsupportedCertVersion"]) {
            Self::CertificateVersion1
        } else if is(&["UnsupportedCriticalExtension"]) {
            Self::CriticalExtension
        } else if is(&["SignatureAlgorithm"]) {
            Self::UnsafeSignature
        } else if is(&["Maximum"]) {
            Self::ChainNotAllowed("it is too long or too tangled")
        } else if is(&["Malformed", "Invalid", "Unsupported", "Bad", "Empty"]) {
            Self::BadCertificate
        } else {
            Self::HandshakeFailed(printable(error))
        }
    }

    fn mismatch(expected: Option<&Domain>, presented: &[String]) -> Self {
        let Some(expected) = expected else {
            return Self::BadCertificate;
        };
        let names: Vec<String> = presented
            .iter()
            .take(8)
            .map(|name| webpki_name(name))
            .collect();
        let presented = match names.len() {
            0 => "no name at all".to_owned(),
            _ => names.join(", "),
        };
        Self::NameMismatch {
            expected: expected.clone(),
            presented,
        }
    }
}

/// webpki writes a name as `DnsName("a.example")`.
fn webpki_name(name: &str) -> String {
    let bare = name
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"))
        .unwrap_or(name);
    printable(bare)
}

/// Bounded, one line, nothing that moves a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable => Self::BadCertificate,
            Fault::WeakKey { bits } => Self::WeakKey { bits },
            Fault::MayNotIssue => {
                Self::ChainNotAllowed("one that may not sign certificates issued another")
            }
            Fault::NoAnchor => Self::NoAnchor,
            Fault::AnchorExpired { not_after } => Self::AnchorExpired { not_after },
            Fault::AnchorNotYetValid { not_before } => Self::AnchorNotYetValid { not_before },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_error_has_its_own_word() {
        let name: Domain = "home.example".parse().unwrap();
        let other = |text: &'static str| {
            CertificateError::Other(rustls::OtherError(std::sync::Arc::new(
                std::io::Error::other(text),
            )))
        };
        for (error, reason) in [
            (CertificateError::Expired, "Expired"),
            (CertificateError::NotValidYet, "NotYetValid"),
            (CertificateError::Revoked, "Revoked"),
            (
                CertificateError::UnknownRevocationStatus,
                "RevocationUnknown",
            ),
            (CertificateError::UnknownIssuer, "UnknownIssuer"),
            (CertificateError::BadSignature, "UnknownIssuer"),
            (CertificateError::NotValidForName, "NameMismatch"),
            (CertificateError::InvalidPurpose, "WrongPurpose"),
            (CertificateError::BadEncoding, "BadCertificate"),
            (other("CaUsedAsEndEntity"), "CaUsedAsEndEntity"),
            (other("EndEntityUsedAsCa"), "ChainNotAllowed"),
            (other("PathLenConstraintViolated"), "ChainNotAllowed"),
            (other("NameConstraintViolation"), "NameNotPermitted"),
            (other("UnsupportedCriticalExtension"), "CriticalExtension"),
            (other("MaximumPathDepthExceeded"), "ChainNotAllowed"),
            (other("MalformedExtensions"), "BadCertificate"),
            (other("UnsupportedCertVersion"), "CertificateVersion1"),
            (other("something new"), "HandshakeFailed"),
        ] {
            let refusal = Refusal::from_tls(&error.clone().into(), Some(&name));
            assert_eq!(refusal.reason(), reason, "{error:?}");
            assert!(format!("{refusal:?}").starts_with(reason));
        }
    }

    #[test]
    fn what_is_not_supported_is_told_from_what_is_unsafe() {
        // The contents of algorithm identifiers, as rustls passes them on.
        let sha1_with_rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0];
        let ecdsa_sha256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let ed448 = [6, 3, 0x2b, 0x65, 0x71];
        let brainpool = [
            6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 9, 0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7,
        ];
        let by_itself = |it: &[u8]| CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: it.to_vec(),
            supported_algorithms: Vec::new(),
        };
        let for_key = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: ecdsa_sha256.to_vec(),
            public_key_algorithm_id: brainpool.to_vec(),
        };
        for (error, reason, says) in [
            (by_itself(&sha1_with_rsa), "UnsafeSignature", "SHA-1"),
            (by_itself(&ed448), "UnsupportedKey", "Ed448"),
            (for_key, "UnsupportedKey", "brainpoolP256r1"),
        ] {
            let refusal = Refusal::from_tls(&error.into(), None);
            assert_eq!(refusal.reason(), reason);
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
    }
}
