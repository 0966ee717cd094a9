//! Why a proof was withheld: a greppable word for scripts, and one sentence for people.
//!
//! # Invariants
//! Every sentence says what was seen, and what the member or the provider can do about it. Text that comes from the
//! far end is bounded and printable before it gets here.

use std::net::IpAddr;

use dd_proto::domain::Domain;
use dd_proto::report::RefusalReason;
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
        "the certificate is for {presented}, not for {expected}; another machine answers, or the wrong certificate is installed"
    )]
    NameMismatch { expected: Domain, presented: String },
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
            Self::NameMismatch { .. } => "NameMismatch",
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
            Self::NotSmtp(_) => "NotSmtp",
        }
    }

    /// As it travels in a report.
    pub fn to_reason(&self) -> RefusalReason {
        RefusalReason {
            reason: self.reason().to_owned(),
            sentence: self.to_string(),
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
            // webpki's own word is the only thing that tells this case apart.
            E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                Self::CaUsedAsEndEntity
            }
            other => Self::HandshakeFailed(printable(&other.to_string())),
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
            (other("something new"), "HandshakeFailed"),
        ] {
            let refusal = Refusal::from_tls(&error.clone().into(), Some(&name));
            assert_eq!(refusal.reason(), reason, "{error:?}");
            assert!(format!("{refusal:?}").starts_with(reason));
        }
    }
}
