//! The SHA-256 of a certificate, or of its public key: how a member names his own server.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A digest; of what it is one, whoever compares it knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a SHA-256: 64 hexadecimal digits, with or without colons, or pin-sha256: with base64"
)]
pub struct FingerprintError;

/// What tools print in front of the digits; compared without regard to case.
const PREFIXES: [&str; 8] = [
    "sha256 fingerprint=",
    "sha-256 fingerprint=",
    "sha256:",
    "sha-256:",
    "sha256(stdin)=",
    "sha2-256(stdin)=",
    "sha256=",
    "(stdin)=",
];

/// RFC 7469 §2.1.1: the base64 of the digest of the key, as GnuTLS prints it.
const PINS: [&str; 2] = ["pin-sha256:", "pin-sha256="];

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// As `openssl`, `sha256sum`, `keytool`, `certtool` and `gnutls-cli` print it, copied with what stands around it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.trim();
        let pin = PINS.iter().find_map(|prefix| after(text, prefix));
        let bytes = match (pin, PREFIXES.iter().find_map(|prefix| after(text, prefix))) {
            (Some(pin), _) => base64(pin.trim_matches('"')),
            (None, Some(digits)) => hexadecimal(digits),
            (None, None) => hexadecimal(text).or_else(|| base64(text)),
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(FingerprintError)
    }
}

fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| rest.trim())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    // `sha256sum` names its file behind the digits; other tools put blanks between pairs.
    let text = match text.split_whitespace().collect::<Vec<_>>()[..] {
        [digits, _] if digits.len() == 64 => digits.to_owned(),
        ref words => words.concat(),
    };
    let pairs: Vec<&[u8]> = match text.contains(':') {
        true => text.split(':').map(str::as_bytes).collect(),
        false => text.as_bytes().chunks(2).collect(),
    };
    pairs.into_iter().map(pair).collect()
}

fn pair(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(*high)? * 16 + value(*low)?).ok()
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it() {
        let plain = "ab".repeat(32);
        let expected = Ok(Fingerprint([0xab; 32]));
        let colons = vec!["AB"; 32].join(":");
        let base64 = STANDARD.encode([0xab; 32]);
        for good in [
            plain.clone(),
            plain.to_uppercase(),
            colons.clone(),
            format!("sha256:{plain}"),
            format!("SHA256 Fingerprint={colons}"),
            format!("SHA256: {colons}"),
            format!("  {plain} \n"),
            format!("{plain}  -"),
            format!("{plain} *cert.der"),
            format!("SHA2-256(stdin)= {plain}"),
            vec!["AB"; 32].join(" "),
            format!("pin-sha256:{base64}"),
            format!("pin-sha256=\"{base64}\""),
            base64.clone(),
        ] {
            assert_eq!(good.parse(), expected, "{good}");
        }
        assert_eq!(Fingerprint([0xab; 32]).to_string(), plain);
        for bad in [
            String::new(),
            "ab".repeat(20),
            "ab".repeat(33),
            format!("{}g", &plain[1..]),
            format!("+{}", &plain[1..]),
            format!("{colons}:"),
            format!("{plain} a b"),
            // OpenSSH's, of a key in another form.
            format!("SHA256:{base64}"),
            STANDARD.encode([0xab; 31]),
            "\u{e4}".repeat(32),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }
}
