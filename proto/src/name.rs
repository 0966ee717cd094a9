//! Names that operators give to sites, agents, authorities and administrators.
//!
//! # Invariants
//! A name is 1 to 63 of `a-z 0-9 . - _`, begins with a letter or digit, and is lower case: it is safe in a log line,
//! a file name, a URL and a certificate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name: use 1 to 63 of a-z, 0-9, `.`, `-`, `_`, and begin with a letter or digit"
)]
pub struct NameError(String);

fn parse(text: &str) -> Result<Arc<str>, NameError> {
    let lower = text.to_ascii_lowercase();
    let ok = (1..=63).contains(&lower.len())
        && lower.starts_with(|c: char| c.is_ascii_alphanumeric())
        && lower
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if ok {
        Ok(lower.into())
    } else {
        Err(NameError(crate::excerpt::of(text)))
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a site.
    SiteName;
    /// The name of an agent.
    AgentName;
    /// The name of an authority (a CA) in the registry.
    AuthorityName;
    /// The name of an administrator who calls from another machine.
    AdminName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_are_names() {
        for good in ["a", "site.example.net", "0-1_2", "IN-Berlin"] {
            assert!(good.parse::<SiteName>().is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", ".", "-a", "a b", "a/b", "ä", "a\n", long.as_str()] {
            assert!(bad.parse::<SiteName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn case_does_not_make_another_name() {
        assert_eq!("Home".parse::<SiteName>(), "home".parse::<SiteName>());
    }
}
