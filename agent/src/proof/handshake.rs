//! Why a TLS handshake ended before it was done, in words that say what to do.
//!
//! An alert says little by itself (RFC 8446 §6.2); whether the host had shown its certificate by then says the rest.

use rustls::{AlertDescription as Alert, Error};

use super::refusal::printable;
use super::{Asked, Refusal};

const NOTHING_IN_COMMON: &str = "the host found nothing in common (alert 40): its ciphers are too old, or its certificate's key is of a kind that is not in general use; let it use ECDHE with AES-GCM or ChaCha20-Poly1305, and a key of RSA, P-256, P-384 or Ed25519";

/// What a host that ended it could take amiss, where it had shown its own certificate.
fn about_ours(asked: Asked) -> String {
    let why = match asked {
        Asked::No => {
            return "the host ended it after it had shown its certificate, and asked for none of the agent's; its log says why"
                .to_owned();
        }
        Asked::ShownNothing => NOTHING_SHOWN,
        Asked::Shown => OURS_REFUSED,
    };
    format!("the host ended it after it had shown its certificate: {why}")
}

const NOTHING_SHOWN: &str = "it asks for a client certificate, and the agent has none to show to this site; turn that off for mail that comes in (Postfix: smtpd_tls_req_ccert, Exim: tls_verify_hosts), or let agents show one (--client-certificate)";
const OURS_REFUSED: &str = "the agent showed it the client certificate that it asks for, and it does not take that one; let it take certificates of the authority that --client-certificate names (Postfix: smtpd_tls_CAfile, Exim: tls_verify_certificates), or look into its log";

/// The host hung up right behind the handshake. RFC 8446 §4.4.2.4: in TLS 1.3 a server refuses the client's certificate, or
/// that there is none, when the client is done. None: it has not asked for any, so that is no reason.
pub(crate) fn ended_behind(asked: Asked) -> Option<String> {
    (asked != Asked::No).then(|| about_ours(asked))
}

/// The same where TLS begins with the first byte, and nothing comes behind it.
pub(crate) fn ended_ungreeted(asked: Asked) -> String {
    const RUNS_NOT: &str = "what stands behind the TLS does not run (stunnel: connect)";
    let ended = "the host ended it behind the TLS handshake and did not greet";
    match asked {
        Asked::No => format!("{ended}: {RUNS_NOT}"),
        Asked::ShownNothing => format!("{ended}: {NOTHING_SHOWN}; or {RUNS_NOT}"),
        Asked::Shown => format!("{ended}: {OURS_REFUSED}; or {RUNS_NOT}"),
    }
}

/// An alert of the host; none where another word says more.
pub(crate) fn alerted(error: &Error, has_shown: bool, asked: Asked) -> Option<Refusal> {
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
        ) => about_ours(asked),
        (alert, true) if asked == Asked::Shown && is_about_a_certificate(*alert) => {
            format!("{} (alert {alert:?})", about_ours(asked))
        }
        (alert, _) => {
            format!("the host ended it with the alert {alert:?}; its log says why")
        }
    };
    Some(Refusal::HandshakeFailed(words))
}

/// What a server says of a client's certificate that it does not take. It may be a signature: that of an authority whose name
/// it knows, and whose key is another one.
fn is_about_a_certificate(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::DecryptError
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

/// The connection itself failed.
pub(crate) fn broken(error: &std::io::Error, has_shown: bool, asked: Asked) -> Refusal {
    use std::io::ErrorKind;
    let words = match (error.kind(), has_shown) {
        (ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, false) => {
            "the host closed the connection before it had shown a certificate; look into its log: often it cannot read its certificate or key".to_owned()
        }
        (ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, true) => {
            about_ours(asked)
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
        use Asked::{No, Shown, ShownNothing};
        for (alert, has_shown, asked, says) in [
            (Alert::HandshakeFailure, false, No, "nothing in common"),
            (Alert::HandshakeFailure, true, No, "asked for none"),
            (
                Alert::HandshakeFailure,
                true,
                ShownNothing,
                "has none to show",
            ),
            (
                Alert::CertificateRequired,
                true,
                ShownNothing,
                "has none to show",
            ),
            (Alert::BadCertificate, true, Shown, "does not take that one"),
            (Alert::InternalError, false, No, "the alert InternalError"),
            (
                Alert::UnknownCA,
                true,
                No,
                "ended it with the alert UnknownCA",
            ),
            (Alert::UnknownCA, true, Shown, "does not take that one"),
        ] {
            let refusal = alerted(&Error::AlertReceived(alert), has_shown, asked).unwrap();
            assert_eq!(refusal.reason(), "HandshakeFailed");
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
        let too_old = Error::AlertReceived(Alert::ProtocolVersion);
        assert_eq!(alerted(&too_old, false, No), None);
        assert_eq!(Refusal::from_tls(&too_old, None).reason(), "TlsTooOld");
    }

    #[test]
    fn a_connection_that_broke_says_how_far_it_had_come() {
        for (kind, has_shown, asked, says) in [
            (
                ErrorKind::UnexpectedEof,
                false,
                Asked::No,
                "certificate or key",
            ),
            (
                ErrorKind::ConnectionReset,
                true,
                Asked::No,
                "asked for none",
            ),
            (
                ErrorKind::ConnectionReset,
                true,
                Asked::ShownNothing,
                "none to show",
            ),
            (
                ErrorKind::ConnectionReset,
                true,
                Asked::Shown,
                "does not take",
            ),
            (ErrorKind::Other, false, Asked::No, "other"),
        ] {
            let refusal = broken(&io::Error::new(kind, "other"), has_shown, asked);
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
    }

    #[test]
    fn who_hangs_up_behind_the_handshake_has_a_certificate_to_mind_only_where_it_asked() {
        assert_eq!(ended_behind(Asked::No), None);
        for (asked, says) in [
            (Asked::ShownNothing, "has none to show"),
            (Asked::Shown, "does not take that one"),
        ] {
            assert!(ended_behind(asked).unwrap().contains(says));
            assert!(ended_ungreeted(asked).contains(says));
        }
        assert!(!ended_ungreeted(Asked::No).contains("client certificate"));
    }
}
