//! The SHA-256 of a certificate, or of its public key: how a member names his own server.

use std::str::FromStr;

/// A digest; of what it is one, whoever compares it knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a SHA-256: 64 hexadecimal digits, with or without colons")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// As `openssl x509 -fingerprint -sha256` and `sha256sum` print it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bare = [
            "sha256:",
            "SHA256:",
            "sha256 Fingerprint=",
            "SHA256 Fingerprint=",
        ]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
        let pairs: Vec<&[u8]> = match bare.contains(':') {
            true => bare.split(':').map(str::as_bytes).collect(),
            false => bare.as_bytes().chunks(2).collect(),
        };
        let bytes: Vec<u8> = pairs
            .into_iter()
            .map(pair)
            .collect::<Option<_>>()
            .ok_or(FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
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
        for good in [
            plain.clone(),
            plain.to_uppercase(),
            colons.clone(),
            format!("sha256:{plain}"),
            format!("SHA256 Fingerprint={colons}"),
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
            "\u{e4}".repeat(32),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }
}
