//! A mail domain, in the one form in which it is stored and compared.
//!
//! # Invariants
//! Lower-case A-labels (`xn--…`), no trailing dot, at most 253 bytes (RFC 1035 §2.3.4), no address literal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::excerpt;

/// A mail domain such as `sitename.example.net`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// Why a text is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no mail domain: expected a DNS name such as sitename.example.net")]
pub struct DomainError(String);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` is `parent` or lies below it.
    pub fn is_within(&self, parent: &Domain) -> bool {
        self == parent
            || self
                .0
                .strip_suffix(&*parent.0)
                .is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let error = || DomainError(excerpt::of(text));
        let bare = text.strip_suffix('.').unwrap_or(text);
        let ascii = idna::domain_to_ascii(bare).map_err(|_| error())?;
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if ascii.len() <= 253 && ascii.split('.').all(label) {
            Ok(Self(ascii.into()))
        } else {
            Err(error())
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_domain() {
        let cases = [
            ("Example.NET", "example.net"),
            ("example.net.", "example.net"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a_b.example", "a_b.example"),
        ];
        for (text, form) in cases {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), form);
        }
        for bad in ["", ".", "a..b", "-a.example", "[127.0.0.1]", "a b", "a@b"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_only_ends_alike_is_not_within() {
        let of = |t: &str| t.parse::<Domain>().unwrap();
        assert!(of("a.b.example").is_within(&of("b.example")));
        assert!(of("b.example").is_within(&of("b.example")));
        assert!(!of("ab.example").is_within(&of("b.example")));
    }
}
