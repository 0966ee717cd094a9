//! Text that is in no text for people: a password, a secret URL.

use std::fmt;
use std::ops::Deref;

/// Shown by nothing but its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Unshown(pub String);

impl Deref for Unshown {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
