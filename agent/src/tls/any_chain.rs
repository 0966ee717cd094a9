//! A verifier that takes any certificate chain, for sites whose proof does not rest on one.
//!
//! Nothing is asked of the certificate but its key: its version, extensions, serial number and signature are nobody's
//! business here (docs/decisions/0078-of-a-certificate-only-what-counts.md). That the far end holds the key is checked,
//! so that a fingerprint proves something, and so that another key at a *port* or *static-ip* site is noticed.
//!
//! # Invariants
//! - Reached only through [`super::Tls`], and only for terms other than `certificate` and `public`.
//! - A key whose signatures cannot be verified here is taken unverified only where the proof does not rest on TLS: to
//!   go on in the clear instead would keep out even fewer.

use std::sync::Arc;

use dd_pki::{key, possession};
use dd_proto::site::Proof;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What becomes of a key whose signatures nobody here can verify, such as RSA of 1024 bits or Ed448.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Refused,
    Taken,
}

impl Unknown {
    /// Only a fingerprint rests on the key.
    pub(super) fn of(proof: &Proof) -> Self {
        match proof {
            Proof::Fingerprint { .. } => Self::Refused,
            _ => Self::Taken,
        }
    }
}

#[derive(Debug)]
pub(super) struct AnyChain {
    provider: Arc<CryptoProvider>,
    unknown: Unknown,
}

/// What hosts with rarer keys sign with, and nobody here verifies.
const RARE: [SignatureScheme; 7] = [
    SignatureScheme::ED448,
    // RFC 8446 §4.2.3: rsa_pss_pss, by keys that are of the kind RSA-PSS themselves.
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
    // RFC 8734: ECDSA on the brainpool curves, in TLS 1.3.
    SignatureScheme::Unknown(0x081a),
    SignatureScheme::Unknown(0x081b),
    SignatureScheme::Unknown(0x081c),
];

impl AnyChain {
    pub(super) fn new(provider: &Arc<CryptoProvider>, unknown: Unknown) -> Self {
        let provider = Arc::clone(provider);
        Self { provider, unknown }
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    fn is_taken_unverified(&self, certificate: &[u8]) -> bool {
        let known = |spki| key::judge(spki, &self.provider).is_ok();
        self.unknown == Unknown::Taken && !key::of_certificate(certificate).is_some_and(known)
    }
}

/// rustls wants a server name; this one is neither sent nor compared.
pub(super) fn no_name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))
}

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.is_taken_unverified(cert) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => possession::tls12(message, cert, dss, self.algorithms()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.is_taken_unverified(cert) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => possession::tls13(message, cert, dss, self.algorithms()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms().supported_schemes();
        if self.unknown == Unknown::Taken {
            schemes.extend(RARE);
        }
        schemes
    }
}

#[cfg(test)]
#[path = "any_chain_tests.rs"]
mod tests;
