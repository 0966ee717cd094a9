//! A certificate as PEM (RFC 7468 §5), the form in which TLS libraries and people take it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The PEM text of a certificate's DER.
pub fn certificate(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
