//! Reverse-path and forward-path, kept byte for byte as they were received.
//!
//! Who hands in mail stands behind a server that has accepted it: what is refused here comes back to its sender, who
//! could do nothing about it. So an address is refused where it is dangerous or cannot be written down, not where the
//! grammar of RFC 5321 §4.1.2 would not have made it: `tanaka..ichiro.@carrier.example` is a mailbox that exists.
//!
//! # Invariants
//! A [`Mailbox`] has a local part that is a quoted string, or a text without blank, quote, angle bracket or `@`; and
//! a domain. It holds no CR, LF, NUL or other control character, and is no longer than a command line. RFC 5321
//! §4.5.3.1 says how much everybody has to take at least; that is no reason to take no more.
//!
//! # Not here
//! The angle brackets, source routes and parameters around it: [`crate::smtp::path`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::domain::Domain;

/// An address that no command line could hold is refused: RCPT, its brackets and the address have to fit.
pub const MAX_MAILBOX: usize = crate::smtp::line::COMMAND_LIMIT - "RCPT TO:<>".len();

/// An address: local part, `@`, domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    text: String,
    at: usize,
    /// Whether the local part is written as it was received.
    is_plain: bool,
    domain: MailboxDomain,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum MailboxDomain {
    Name(Domain),
    /// An address literal such as `[127.0.0.1]`, or a name that no site can have, such as `-a.example`.
    NoSite,
}

/// Why a text is no mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("the address has no `@`: expected local-part@domain")]
    NoAt,
    #[error(
        "the local part of the address cannot be read: a blank, a quote, an angle bracket or an `@` in it needs quotes around it"
    )]
    LocalPart,
    #[error("the domain of the address cannot be read: expected a name or an address literal")]
    Domain,
    #[error("the address is longer than {MAX_MAILBOX} bytes")]
    TooLong,
}

impl Mailbox {
    /// The whole address as received.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As received, with its quotes.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// The local part that is meant: quotes and backslashes are only how it is written.
    pub fn unquoted(&self) -> Cow<'_, str> {
        let written = self.local_part();
        match written
            .strip_prefix('"')
            .and_then(|it| it.strip_suffix('"'))
        {
            Some(quoted) if quoted.contains('\\') => unescaped(quoted).into(),
            Some(quoted) => quoted.into(),
            None => written.into(),
        }
    }

    /// None where no site can have it: an address literal, or a name that is no host's.
    pub fn domain(&self) -> Option<&Domain> {
        match &self.domain {
            MailboxDomain::Name(domain) => Some(domain),
            MailboxDomain::NoSite => None,
        }
    }

    /// Whether it can only be passed on with SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether both name the same mailbox: the domain compares without case, the local part with (RFC 5321 §2.4), and
    /// quotes make no other mailbox (§4.1.2).
    pub fn same_mailbox(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// Equal for two addresses of the same mailbox.
    pub fn key(&self) -> (String, String) {
        let domain = match &self.domain {
            MailboxDomain::Name(domain) => domain.as_str().to_owned(),
            MailboxDomain::NoSite => self.written_domain().to_lowercase(),
        };
        (self.unquoted().into_owned(), domain)
    }

    /// As it stands in a command or a header field.
    ///
    /// A local part that is no dot-string is quoted: bare, `a(b)` is `a` with a comment to some servers, and `a..b` a
    /// syntax error to others, while a quoted string is the same mailbox to all (RFC 5321 §4.1.2).
    pub fn written(&self) -> Cow<'_, str> {
        match self.is_plain {
            true => self.text.as_str().into(),
            false => format!("{}@{}", quoted(self.local_part()), self.written_domain()).into(),
        }
    }

    /// The same for a server that takes ASCII only; None where the local part is beyond it. A domain has a form in
    /// ASCII (RFC 5890 §2.3.2.1).
    pub fn written_in_ascii(&self) -> Option<Cow<'_, str>> {
        let written = self.written();
        if written.is_ascii() {
            return Some(written);
        }
        let (local, _) = written.rsplit_once('@')?;
        let domain = self.domain()?;
        local.is_ascii().then(|| format!("{local}@{domain}").into())
    }

    fn written_domain(&self) -> &str {
        &self.text[self.at + 1..]
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        if text.len() > MAX_MAILBOX {
            return Err(MailboxError::TooLong);
        }
        let at = local_part_end(text)?;
        let rest = &text[at + 1..];
        let domain = match rest.parse() {
            Ok(name) => MailboxDomain::Name(name),
            Err(_) if is_literal(rest) || is_some_name(rest) => MailboxDomain::NoSite,
            Err(_) => return Err(MailboxError::Domain),
        };
        let local = &text[..at];
        let mailbox = Self {
            text: text.to_owned(),
            at,
            is_plain: is_dot_string(local) || local.starts_with('"'),
            domain,
        };
        // Quotes and a domain in ASCII make it longer; whoever is told of it has to be able to read it again.
        let fits = |form: Cow<'_, str>| form.len() <= MAX_MAILBOX;
        match fits(mailbox.written()) && mailbox.written_in_ascii().is_none_or(fits) {
            true => Ok(mailbox),
            false => Err(MailboxError::TooLong),
        }
    }
}

/// The local part, as it is written, of an address that the text begins with; whatever follows.
pub fn leading_local_part(text: &str) -> Option<&str> {
    local_part_end(text).ok().map(|end| &text[..end])
}

/// Where the `@` behind the local part stands.
fn local_part_end(text: &str) -> Result<usize, MailboxError> {
    let end = if text.starts_with('"') {
        quoted_string_end(text).ok_or(MailboxError::LocalPart)?
    } else {
        let end = text.find('@').ok_or(MailboxError::NoAt)?;
        if end == 0 || text[..end].chars().any(needs_quotes_to_be_read) {
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

/// What a path or a command could not be taken apart with, or what could become a line of its own.
fn needs_quotes_to_be_read(c: char) -> bool {
    c.is_control() || matches!(c, ' ' | '<' | '>' | '"')
}

/// RFC 5321 §4.1.2, and RFC 6531 §3.3 for UTF-8.
fn is_dot_string(text: &str) -> bool {
    text.split('.').all(is_atom)
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

/// RFC 5321 §4.1.2 Quoted-string.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// Without the backslashes of quoted pairs.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
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

/// RFC 5321 §4.1.3, of any kind.
fn is_literal(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && inner.chars().all(stands_in_a_domain))
}

/// No name of a host, but one that can be written down.
fn is_some_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| stands_in_a_domain(c) && !matches!(c, ':' | ',' | ';' | '(' | ')'))
}

fn stands_in_a_domain(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>' | '"' | '@' | '[' | ']' | '\\')
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

    /// As it stands between angle brackets: [`Mailbox::written`].
    pub fn written(&self) -> Cow<'_, str> {
        match self {
            Self::Null => "".into(),
            Self::Mailbox(mailbox) => mailbox.written(),
        }
    }

    /// The same in ASCII, if it has such a form.
    pub fn written_in_ascii(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => Some("".into()),
            Self::Mailbox(mailbox) => mailbox.written_in_ascii(),
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
    fn an_address_is_no_longer_than_a_command_line_however_it_is_written() {
        let room = MAX_MAILBOX - "@d.example".len();
        let dots = format!("a..{}", "x".repeat(room - 3));
        let backslashes = "\\".repeat(room);
        let wide = format!("{}@b\u{fc}cher.example", "x".repeat(MAX_MAILBOX - 16));
        for text in [
            &format!("{dots}@d.example"),
            &format!("{backslashes}@d.example"),
            &wide,
        ] {
            assert!(text.len() <= MAX_MAILBOX);
            assert_eq!(text.parse::<Mailbox>(), Err(MailboxError::TooLong));
        }
        let longest = format!("{}@d.example", "x".repeat(room));
        assert_eq!(
            longest.parse::<Mailbox>().map(|it| it.written().len()),
            Ok(MAX_MAILBOX)
        );
    }

    #[test]
    fn an_address_is_kept_byte_for_byte() {
        let long = format!("{}@{}.b.example", "x".repeat(999), "y".repeat(300));
        for text in [
            "a@b.example",
            "First.Last@Example.NET",
            "\"a b\"@c.d",
            "\"a\\\"@b\"@c.d",
            "user@[127.0.0.1]",
            "user@[IPv6:::1]",
            "user@[x400:c=de]",
            "j\u{f6}rg@b\u{fc}cher.example",
            "a/b=c@d.example",
            "tanaka..ichiro.@carrier.example",
            ".ken@carrier.example",
            "a(b)@c.d",
            "a,b:c;d[e]\\f@c.d",
            "a@-b.example",
            "a@b-.example",
            "a@b..example",
            "a@host_name",
            long.as_str(),
        ] {
            assert_eq!(text.parse::<Mailbox>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use MailboxError as E;
        let long = format!("{}@b.example", "x".repeat(MAX_MAILBOX));
        for (text, error) in [
            ("", E::NoAt),
            ("a", E::NoAt),
            ("@b", E::LocalPart),
            ("a b@c", E::LocalPart),
            ("a<b@c", E::LocalPart),
            ("a>b@c", E::LocalPart),
            ("a\"b@c", E::LocalPart),
            ("a\tb@c", E::LocalPart),
            ("a\rb@c", E::LocalPart),
            ("a\u{85}b@c", E::LocalPart),
            ("\"a@c", E::LocalPart),
            ("\"a\"b@c", E::LocalPart),
            ("\"a\n\"@c", E::LocalPart),
            ("a@", E::Domain),
            ("a@b c", E::Domain),
            ("a@b>", E::Domain),
            ("a@b\n", E::Domain),
            ("a@[]", E::Domain),
            ("a@[b", E::Domain),
            ("a@b,c", E::Domain),
            ("a@b@c", E::Domain),
            (long.as_str(), E::TooLong),
        ] {
            assert_eq!(text.parse::<Mailbox>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_no_grammar_made_is_quoted_where_it_is_written() {
        for (text, written) in [
            ("a.b@C.example", "a.b@C.example"),
            ("\"a\"@c.example", "\"a\"@c.example"),
            ("a..b@c.example", "\"a..b\"@c.example"),
            (".a@c.example", "\".a\"@c.example"),
            ("a.@c.example", "\"a.\"@c.example"),
            ("a(b)@c.example", "\"a(b)\"@c.example"),
            ("a\\b@c.example", "\"a\\\\b\"@c.example"),
            ("a,b:c;d[e]@-x.example", "\"a,b:c;d[e]\"@-x.example"),
        ] {
            let mailbox = text.parse::<Mailbox>().unwrap();
            assert_eq!(mailbox.written(), written);
            let again = written.parse::<Mailbox>().unwrap();
            assert!(mailbox.same_mailbox(&again), "{text}");
            assert_eq!(again.written(), written, "once is enough");
        }
    }

    #[test]
    fn quotes_make_no_other_mailbox() {
        let of = |text: &str| text.parse::<Mailbox>().unwrap();
        for (one, other, same) in [
            ("a@c.example", "\"a\"@C.example", true),
            ("a..b@c.example", "\"a..b\"@c.example", true),
            ("a\\b@c.example", "\"a\\\\b\"@c.example", true),
            ("ab@c.example", "\"a\\b\"@c.example", true),
            ("a@c.example", "A@c.example", false),
            ("a@-C.example", "a@-c.example", true),
            ("a@[127.0.0.1]", "a@[127.0.0.2]", false),
            ("a@b\u{fc}cher.example", "a@xn--bcher-kva.example", true),
        ] {
            assert_eq!(of(one).same_mailbox(&of(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn only_a_local_part_beyond_ascii_has_no_form_in_ascii() {
        let of = |text: &str| {
            let mailbox = text.parse::<Mailbox>().unwrap();
            mailbox.written_in_ascii().map(Cow::into_owned)
        };
        for (text, ascii) in [
            ("a..b@c.example", Some("\"a..b\"@c.example")),
            ("a@b\u{fc}cher.example", Some("a@xn--bcher-kva.example")),
            (
                "\"a@b\"@b\u{fc}cher.example",
                Some("\"a@b\"@xn--bcher-kva.example"),
            ),
            ("j\u{f6}rg@c.example", None),
        ] {
            assert_eq!(of(text).as_deref(), ascii, "{text}");
        }
    }
}
