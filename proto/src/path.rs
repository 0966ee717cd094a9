//! Reverse-path and forward-path, kept byte for byte as they were received.
//!
//! # Invariants
//! A [`Mailbox`] has a local part that is a dot-string or a quoted string (RFC 5321 §4.1.2) of at most 64 bytes, a
//! domain that parses, and at most 254 bytes in all (§4.5.3.1). It holds no CR, LF, NUL or other control character,
//! so it can be written into a command or a header field as it is.
//!
//! # Not here
//! The angle brackets, source routes and parameters around it: [`crate::smtp::path`].

use std::fmt;
use std::str::FromStr;

use crate::domain::Domain;

/// An address: local part, `@`, domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    text: String,
    at: usize,
    domain: MailboxDomain,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum MailboxDomain {
    Name(Domain),
    /// `[127.0.0.1]`, `[IPv6:::1]`: a sender may have one, a site never.
    Literal,
}

/// Why a text is no mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("the address has no `@`: expected local-part@domain")]
    NoAt,
    #[error(
        "the local part of the address is malformed: quote what is not a letter, digit or one of !#$%&'*+-/=?^_`{{|}}~."
    )]
    LocalPart,
    #[error("the local part of the address is longer than 64 bytes")]
    LocalPartTooLong,
    #[error("the domain of the address is malformed")]
    Domain,
    #[error("the address is longer than 254 bytes")]
    TooLong,
}

impl Mailbox {
    /// The whole address as received.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// None for an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match &self.domain {
            MailboxDomain::Name(domain) => Some(domain),
            MailboxDomain::Literal => None,
        }
    }

    /// Whether it can only be passed on with SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether both name the same mailbox: the domain compares without case, the local part with (RFC 5321 §2.4).
    pub fn same_mailbox(&self, other: &Self) -> bool {
        self.local_part() == other.local_part() && self.domain() == other.domain()
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        let at = local_part_end(text)?;
        if at > 64 {
            return Err(MailboxError::LocalPartTooLong);
        }
        if text.len() > 254 {
            return Err(MailboxError::TooLong);
        }
        let rest = &text[at + 1..];
        let domain = if rest.starts_with('[') {
            literal(rest).ok_or(MailboxError::Domain)?
        } else {
            MailboxDomain::Name(rest.parse().map_err(|_| MailboxError::Domain)?)
        };
        Ok(Self {
            text: text.to_owned(),
            at,
            domain,
        })
    }
}

/// Where the `@` behind a well-formed local part stands.
fn local_part_end(text: &str) -> Result<usize, MailboxError> {
    let end = if text.starts_with('"') {
        quoted_string_end(text).ok_or(MailboxError::LocalPart)?
    } else {
        let end = text.find('@').ok_or(MailboxError::NoAt)?;
        if !text[..end].split('.').all(is_atom) {
            return Err(MailboxError::LocalPart);
        }
        end
    };
    match text[end..].chars().next() {
        Some('@') => Ok(end),
        Some(_) => Err(MailboxError::LocalPart),
        None => Err(MailboxError::NoAt),
    }
}

/// RFC 5322 §3.2.3 atext, and RFC 6531 §3.3 UTF-8.
fn is_atom(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || "!#$%&'*+-/=?^_`{|}~".contains(c)
                || (!c.is_ascii() && !c.is_control())
        })
}

/// The index behind the closing quote; RFC 5321 §4.1.2 Quoted-string.
fn quoted_string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        if c.is_control() {
            return None;
        }
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => return Some(index + 1),
            (false, _) => {}
        }
    }
    None
}

fn literal(text: &str) -> Option<MailboxDomain> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let ok = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            inner[5..].parse::<std::net::Ipv6Addr>().is_ok()
        }
        _ => inner.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    ok.then_some(MailboxDomain::Literal)
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where notifications about a message go: nowhere, or to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a notification; never answered with another one.
    Null,
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Empty for the null reverse-path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }
}

impl FromStr for ReversePath {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        match text {
            "" => Ok(Self::Null),
            _ => text.parse().map(Self::Mailbox),
        }
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardPath(pub Mailbox);

impl ForwardPath {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ForwardPath {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_byte_for_byte() {
        for text in [
            "a@b.example",
            "First.Last@Example.NET",
            "\"a b\"@c.d",
            "\"a\\\"@b\"@c.d",
            "user@[127.0.0.1]",
            "user@[IPv6:::1]",
            "jörg@bücher.example",
            "a/b=c@d.example",
        ] {
            assert_eq!(text.parse::<Mailbox>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use MailboxError as E;
        let long = format!("{}@b.example", "x".repeat(65));
        for (text, error) in [
            ("", E::NoAt),
            ("a", E::NoAt),
            ("@b", E::LocalPart),
            ("a..b@c", E::LocalPart),
            ("a b@c", E::LocalPart),
            ("\"a@c", E::LocalPart),
            ("\"a\"b@c", E::LocalPart),
            ("\"a\n\"@c", E::LocalPart),
            ("a@", E::Domain),
            ("a@b c", E::Domain),
            ("a@[1.2.3]", E::Domain),
            ("a@b@c", E::Domain),
            (long.as_str(), E::LocalPartTooLong),
        ] {
            assert_eq!(text.parse::<Mailbox>(), Err(error), "{text:?}");
        }
    }
}
