//! Why a TLS handshake ended before it was done, in words that say what to do.
//!
//! An alert says little by itself (RFC 8446 §6.2); whether the host had shown its certificate by then says the rest.

use rustls::{AlertDescription as Alert, Error};

use super::Refusal;
use super::refusal::printable;

const NOTHING_IN_COMMON: &str = "the host found nothing in common (alert 40): its ciphers are too old, or its certificate's key is of a kind that is not in general use; let it use ECDHE with AES-GCM or ChaCha20-Poly1305, and a key of RSA, P-256, P-384 or Ed25519";

/// Said too where a host ends a session of TLS 1.3 right behind the handshake: there it looks at the client's certificate
/// after the client is done.
pub(crate) const ASKS_FOR_CERTIFICATE: &str = "the host ended it after it had shown its certificate: it probably asks for a client certificate, which agents do not have; turn that off for mail that comes in (Postfix: smtpd_tls_req_ccert, Exim: tls_verify_hosts)";

/// Said where TLS begins with the first byte, and nothing comes behind it.
pub(crate) const ENDED_UNGREETED: &str = "the host ended it behind the TLS handshake and did not greet: what stands behind the TLS does not run (stunnel: connect), or the host asks for a client certificate that it knows; turn that off for mail that comes in, or see --client-certificate";

/// An alert of the host; none where another word says more.
pub(crate) fn alerted(error: &Error, has_shown: bool) -> Option<Refusal> {
    let Error::AlertReceived(alert) = error else {
        return None;
    };
    let words = match (alert, has_shown) {
        (Alert::ProtocolVersion | Alert::InsufficientSecurity, _) => return None,
        (Alert::HandshakeFailure, false) => NOTHING_IN_COMMON.to_owned(),
        (
            Alert::HandshakeFailure
            | Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::NoCertificate,
            true,
        ) => ASKS_FOR_CERTIFICATE.to_owned(),
        (alert, _) => {
            format!("the host ended it with the alert {alert:?}; its log says why")
        }
    };
    Some(Refusal::HandshakeFailed(words))
}

/// The connection itself failed.
pub(crate) fn broken(error: &std::io::Error, has_shown: bool) -> Refusal {
    use std::io::ErrorKind;
    let words = match (error.kind(), has_shown) {
        (ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, false) => {
            "the host closed the connection before it had shown a certificate; look into its log: often it cannot read its certificate or key".to_owned()
        }
        (ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, true) => {
            ASKS_FOR_CERTIFICATE.to_owned()
        }
        _ => printable(&error.to_string()),
    };
    Refusal::HandshakeFailed(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    #[test]
    fn an_alert_is_read_beside_what_was_shown() {
        for (alert, has_shown, says) in [
            (Alert::HandshakeFailure, false, "nothing in common"),
            (Alert::HandshakeFailure, true, "client certificate"),
            (Alert::CertificateRequired, true, "client certificate"),
            (Alert::BadCertificate, true, "client certificate"),
            (Alert::InternalError, false, "the alert InternalError"),
            (Alert::UnknownCA, true, "the alert UnknownCA"),
        ] {
            let refusal = alerted(&Error::AlertReceived(alert), has_shown).unwrap();
            assert_eq!(refusal.reason(), "HandshakeFailed");
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
        let too_old = Error::AlertReceived(Alert::ProtocolVersion);
        assert_eq!(alerted(&too_old, false), None);
        assert_eq!(Refusal::from_tls(&too_old, None).reason(), "TlsTooOld");
    }

    #[test]
    fn a_connection_that_broke_says_how_far_it_had_come() {
        for (kind, has_shown, says) in [
            (ErrorKind::UnexpectedEof, false, "certificate or key"),
            (ErrorKind::ConnectionReset, true, "client certificate"),
            (ErrorKind::Other, false, "other"),
        ] {
            let refusal = broken(&io::Error::new(kind, "other"), has_shown);
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
    }
}
