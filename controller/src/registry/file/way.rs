//! What a table says of the way to a site's hosts, where that is not one word.

use serde::Deserialize;

/// A family of addresses: `4`, `"4"` or `"any"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected 4, 6 or \"any\"")]
pub(super) enum NumberOrWord {
    Number(u8),
    Word(String),
}

impl NumberOrWord {
    pub(super) fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word,
        }
    }
}

/// Of which authority agents show a certificate: as the flag, alone or with a name behind it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the name of an authority, or true")]
pub(super) enum Shown {
    Flag(bool),
    Named(String),
}

impl Shown {
    /// As `ddadm` asks for it: with an empty name the controller chooses.
    pub(super) fn asked(self) -> Option<String> {
        match self {
            Self::Flag(asked) => asked.then(String::new),
            Self::Named(authority) => Some(authority),
        }
    }
}
