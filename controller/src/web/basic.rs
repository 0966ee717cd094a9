//! HTTP Basic, RFC 7617.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Some clients leave the padding away.
const DECODE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client says that it is.
#[derive(PartialEq, Eq)]
pub struct Basic {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basic")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Basic {
    /// None: it says nothing, or nothing that can be read.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let decoded = DECODE.decode(encoded.trim()).ok()?;
        let text = crate::credentials::typed(decoded);
        // `echo user:password | base64` encodes the line's end too.
        let text = text.trim_end_matches(['\r', '\n']);
        let (user, password) = text.split_once(':')?;
        if text.contains(char::is_control) {
            return None;
        }
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn only_what_is_whole_is_taken() {
        let encoded = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let long = encoded(&"x".repeat(100_000));
        for (value, expected) in [
            (encoded("home:a:b"), Some(("home", "a:b"))),
            (
                encoded("home:").replace("Basic", "bASIC"),
                Some(("home", "")),
            ),
            (encoded("home"), None),
            (encoded("home:a\0b"), None),
            (encoded("home\r\n:ab"), None),
            (encoded("home:ab\n"), Some(("home", "ab"))),
            (encoded("home:ab").replace('=', ""), Some(("home", "ab"))),
            (encoded("home:gr\u{fc}n"), Some(("home", "gr\u{fc}n"))),
            (
                format!("Basic {}", STANDARD.encode(b"home:gr\xfcn")),
                Some(("home", "gr\u{fc}n")),
            ),
            ("Basic not base64!".to_owned(), None),
            ("Basic".to_owned(), None),
            ("Bearer x".to_owned(), None),
            (format!("Basic {}", STANDARD.encode(b"\x85:\xfe")), None),
            (long, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            let found = Basic::of(&headers);
            let found = found.as_ref().map(|it| (&*it.user, &*it.password));
            assert_eq!(found, expected, "{value:.40}");
        }
        assert_eq!(Basic::of(&HeaderMap::new()), None);
    }
}
