//! What was seen at the far end: plain data, gathered first and ruled on afterwards.
//!
//! # Not here
//! Any judgement. Whether the chain was checked against the site's anchors is recorded by [`crate::tls`], the only
//! place that does such a check; what it is worth is for the proofs to say.

use std::net::{IpAddr, SocketAddr};

use dd_pki::time::instant;
use dd_proto::domain::Domain;
use dd_proto::report::{Observed, PeerCertificate, RefusalReason};
use dd_proto::site::Host;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refusal;
use super::refusal::printable;

/// Everything known about the far end of one connection.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As configured.
    pub host: Host,
    pub peer: SocketAddr,
    pub local: IpAddr,
    /// First line of the greeting, printable.
    pub greeting: String,
    pub tls: TlsSeen,
}

/// What became of TLS on this connection.
#[derive(Debug, Clone)]
pub enum TlsSeen {
    /// It was not asked for: not yet, or because an earlier handshake with this host failed.
    NotAsked,
    /// The host's EHLO does not offer it.
    NotOffered,
    /// The host answered STARTTLS with anything but 220.
    Refused(String),
    /// The handshake failed; the chain is what had been presented until then.
    Failed {
        refusal: Refusal,
        chain: Vec<CertificateDer<'static>>,
    },
    Up(TlsUp),
}

/// A finished handshake.
#[derive(Debug, Clone)]
pub struct TlsUp {
    pub version: String,
    pub cipher: String,
    /// As presented, the server's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    pub checked: Checked,
    pub asked: Asked,
}

/// Whether the host has asked for a certificate of ours, and what it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    #[default]
    No,
    ShownNothing,
    Shown,
}

/// By which verifier the chain went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// rustls's own verifier found a path to each of these anchors of the site, and this name in the certificate.
    AgainstAnchors {
        name: Domain,
        anchors: Vec<CertificateDer<'static>>,
    },
    /// The same, to one of the roots of the web PKI.
    AgainstPublicRoots { name: Domain },
    /// Any chain was taken.
    OnlyRecorded,
}

impl Seen {
    /// A connection on which nothing has been said yet.
    pub fn new(host: Host, peer: SocketAddr, local: IpAddr) -> Self {
        Self {
            host,
            peer,
            local,
            greeting: String::new(),
            tls: TlsSeen::NotAsked,
        }
    }

    pub fn is_secured(&self) -> bool {
        matches!(self.tls, TlsSeen::Up(_))
    }

    /// Whether the host wants to know by a certificate who comes, as far as a handshake was finished.
    pub fn asked(&self) -> Asked {
        match &self.tls {
            TlsSeen::Up(up) => up.asked,
            _ => Asked::No,
        }
    }

    /// As it travels in a report.
    pub fn to_observed(&self, proof: &str, refusal: Option<RefusalReason>) -> Observed {
        let (version, cipher, chain): (&str, &str, &[_]) = match &self.tls {
            TlsSeen::Up(up) => (&up.version, &up.cipher, &up.chain),
            TlsSeen::Failed { chain, .. } => ("", "", chain),
            TlsSeen::NotAsked | TlsSeen::NotOffered | TlsSeen::Refused(_) => ("", "", &[]),
        };
        Observed {
            host: self.host.to_string(),
            peer: self.peer.to_string(),
            local: self.local.to_string(),
            greeting: self.greeting.clone(),
            tls_version: version.to_owned(),
            tls_cipher: cipher.to_owned(),
            certificate: describe(chain),
            proof: proof.to_owned(),
            refusal,
        }
    }
}

/// The first certificate of a chain in words; None where there is none that can be read.
pub fn describe(chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
    let der = chain.first()?;
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(PeerCertificate {
        subject: printable(&certificate.subject().to_string()),
        issuer: printable(&certificate.issuer().to_string()),
        names: names(&certificate),
        sha256: hex(&Sha256::digest(der.as_ref())),
        not_before: instant(certificate.validity().not_before),
        not_after: instant(certificate.validity().not_after),
        chain_length: u32::try_from(chain.len()).unwrap_or(u32::MAX),
        spki_sha256: hex(&Sha256::digest(certificate.public_key().raw)),
    })
}

/// RFC 9525 §4.1: names come from the subject alternative name only.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .take(50)
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
