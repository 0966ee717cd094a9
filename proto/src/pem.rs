//! Certificates, revocation lists and keys as PEM (RFC 7468), the form in which TLS libraries and people take it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The PEM text of a certificate's DER (§5).
pub fn certificate(der: &[u8]) -> String {
    text("CERTIFICATE", der)
}

/// Of a revocation list's (§6).
pub fn revocation_list(der: &[u8]) -> String {
    text("X509 CRL", der)
}

/// Of a private key's in PKCS#8 (§10).
pub fn private_key(der: &[u8]) -> String {
    text("PRIVATE KEY", der)
}

/// The DER of the first certificate request in a PEM file (§7).
pub fn request(file: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(file).ok()?;
    let begins = [
        "-----BEGIN CERTIFICATE REQUEST-----",
        "-----BEGIN NEW CERTIFICATE REQUEST-----",
    ];
    let (_, rest) = begins.iter().find_map(|begin| text.split_once(begin))?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

fn text(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
