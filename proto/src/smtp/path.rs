//! Paths as MAIL and RCPT have them: angle brackets, source routes, quoted local parts.
//!
//! # Not here
//! What a mailbox is: [`crate::path`].

use crate::path::{ForwardPath, MailboxError, ReversePath};

/// Why a text does not begin with a usable path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the address must stand in angle brackets, as in <user@example.net>")]
    Brackets,
    #[error("the source route before the address is malformed")]
    Route,
    #[error("<postmaster> without a domain is not taken here: write <postmaster@domain>")]
    BarePostmaster,
    #[error("a recipient cannot be empty")]
    Empty,
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

/// The reverse-path that `text` begins with, and what follows it.
///
/// # Errors
/// Anything but `<>` or a mailbox in angle brackets.
pub fn reverse_path(text: &str) -> Result<(ReversePath, &str), PathError> {
    let (inner, rest) = split(text)?;
    let path = match inner {
        "" => ReversePath::Null,
        _ => ReversePath::Mailbox(without_route(inner)?.parse()?),
    };
    Ok((path, rest))
}

/// The forward-path that `text` begins with, and what follows it.
///
/// # Errors
/// Anything but a mailbox in angle brackets.
pub fn forward_path(text: &str) -> Result<(ForwardPath, &str), PathError> {
    let (inner, rest) = split(text)?;
    let address = without_route(inner)?;
    // RFC 5321 §4.5.1: a server takes <postmaster> for itself; this one has no mailboxes, only sites with domains.
    if address.eq_ignore_ascii_case("postmaster") {
        return Err(PathError::BarePostmaster);
    }
    if address.is_empty() {
        return Err(PathError::Empty);
    }
    Ok((address.parse()?, rest))
}

/// What stands between the first `<` and its `>`, and what follows; a `>` within quotes does not end it.
fn split(text: &str) -> Result<(&str, &str), PathError> {
    let body = text.strip_prefix('<').ok_or(PathError::Brackets)?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Ok((&body[..at], &body[at + 1..])),
            _ => {}
        }
    }
    Err(PathError::Brackets)
}

/// RFC 5321 §4.1.1.3 and appendix C: source routes are accepted and ignored.
fn without_route(inner: &str) -> Result<&str, PathError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    let (route, address) = inner.split_once(':').ok_or(PathError::Route)?;
    let hop = |h: &str| {
        h.strip_prefix('@')
            .is_some_and(|d| d.parse::<crate::domain::Domain>().is_ok())
    };
    if route.split(',').all(hop) {
        Ok(address)
    } else {
        Err(PathError::Route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_stands_in_its_brackets() {
        for (text, path, rest) in [
            ("<>", "", ""),
            ("<a@b.example> SIZE=1", "a@b.example", " SIZE=1"),
            ("<@x.example,@y.example:a@b.example>", "a@b.example", ""),
            ("<\"a b\"@c.d>x", "\"a b\"@c.d", "x"),
            ("<\"a>\\\">b\"@c.d> X", "\"a>\\\">b\"@c.d", " X"),
        ] {
            let (found, behind) = reverse_path(text).unwrap();
            assert_eq!((found.as_str(), behind), (path, rest), "{text}");
            if !path.is_empty() {
                assert_eq!(forward_path(text).unwrap().0.as_str(), path, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (text, error) in [
            ("", PathError::Brackets),
            ("a@b.example", PathError::Brackets),
            ("<a@b.example", PathError::Brackets),
            ("<\"a@b.example>", PathError::Brackets),
            ("<>", PathError::Empty),
            ("<postMaster>", PathError::BarePostmaster),
            ("<@x.example>", PathError::Route),
            ("<@x.example,y:a@b.example>", PathError::Route),
            ("<@:a@b.example>", PathError::Route),
            ("<a b@c.d>", PathError::Mailbox(MailboxError::LocalPart)),
            ("<root>", PathError::Mailbox(MailboxError::NoAt)),
        ] {
            assert_eq!(forward_path(text), Err(error), "{text}");
        }
    }
}
