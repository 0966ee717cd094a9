//! That the far end holds a certificate's key, shown by its signature over the handshake, with nothing asked of the
//! certificate but that key.
//!
//! rustls's own functions read the certificate whole first, and so refuse X.509 version 1, unknown critical extensions, or
//! serial numbers that are negative or long. Where only the key or a digest counts (RFC 7250 is the same idea), none of
//! that is anybody's business.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use crate::key;

/// RFC 8446 §4.4.3.
///
/// # Errors
/// The signature is not of this key, or of a kind that is not verified here.
pub fn tls13(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(key_of(certificate)?);
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

/// RFC 5246 §7.4.3. There a scheme leaves the curve open, so the key says which algorithm it is.
///
/// # Errors
/// The signature is not of this key, or of a kind that is not verified here.
pub fn tls12(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let spki = key_of(certificate)?;
    let (_, candidates) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let kind = key::algorithm(spki).ok_or(CertificateError::BadEncoding)?;
    let bits = key::bits(spki).ok_or(CertificateError::BadEncoding)?;
    candidates
        .iter()
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
        .any(|algorithm| {
            let verified = algorithm.verify_signature(&bits, message, signed.signature());
            verified.is_ok()
        })
        .then(HandshakeSignatureValid::assertion)
        .ok_or_else(|| CertificateError::BadSignature.into())
}

fn key_of(certificate: &[u8]) -> Result<&[u8], Error> {
    key::of_certificate(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
}
