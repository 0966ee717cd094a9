//! The parameters of MAIL and RCPT: each typed, none twice, none unknown.

use super::command::{CommandError, Mail, Rcpt};
use crate::envelope::{Body, Encoding, Ret};
use crate::path::{ForwardPath, ReversePath};

/// RFC 3461 §4.4: an ENVID has at most 100 characters.
const MAX_ENVID: usize = 100;
/// RFC 3461 §4.2: an ORCPT has at most 500 characters.
const MAX_ORCPT: usize = 500;

type Parameters<'a> = Vec<(String, Option<&'a str>)>;

/// `KEYWORD` or `KEYWORD=value`, separated by spaces; keywords in upper case.
fn split(text: &str) -> Result<Parameters<'_>, CommandError> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(CommandError::Syntax("a space before the parameters"));
    }
    let mut found: Parameters<'_> = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        // RFC 5321 §4.1.2: esmtp-keyword and esmtp-value.
        let sound = keyword
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && value.is_none_or(|v| {
                !v.is_empty() && v.bytes().all(|b| b > b' ' && b != b'=' && b != 0x7f)
            });
        if !sound || keyword.is_empty() {
            return Err(CommandError::Parameter(word.to_owned()));
        }
        if found.iter().any(|(k, _)| *k == keyword) {
            return Err(CommandError::Twice(keyword));
        }
        found.push((keyword, value));
    }
    Ok(found)
}

pub(super) fn mail(reverse_path: ReversePath, text: &str) -> Result<Mail, CommandError> {
    let mut mail = Mail::new(reverse_path);
    for (keyword, value) in split(text)? {
        let bad = || CommandError::Parameter(keyword.clone());
        match (keyword.as_str(), value) {
            // RFC 1870 §5: at most 20 digits.
            ("SIZE", Some(v)) => mail.size = Some(number(v).ok_or_else(bad)?),
            ("BODY", Some(v)) if v.eq_ignore_ascii_case("7BIT") => mail.body = Body::SevenBit,
            ("BODY", Some(v)) if v.eq_ignore_ascii_case("8BITMIME") => {
                mail.body = Body::EightBitMime;
            }
            ("SMTPUTF8", None) => mail.encoding = Encoding::Utf8,
            ("RET", Some(v)) if v.eq_ignore_ascii_case("FULL") => mail.ret = Some(Ret::Full),
            ("RET", Some(v)) if v.eq_ignore_ascii_case("HDRS") => mail.ret = Some(Ret::Headers),
            ("ENVID", Some(v)) if v.len() <= MAX_ENVID && is_xtext(v) => {
                mail.envid = Some(v.to_owned());
            }
            // RFC 4954 §5: what a client claims here is no proof of anything; it is checked and dropped.
            ("AUTH", Some(v)) if is_xtext(v) => {}
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH", _) => return Err(bad()),
            _ => return Err(CommandError::UnknownParameter(keyword)),
        }
    }
    // RFC 6531 §3.4: an address beyond ASCII needs SMTPUTF8 on MAIL.
    if mail.encoding == Encoding::Ascii && !mail.reverse_path.as_str().is_ascii() {
        return Err(CommandError::NeedsUtf8);
    }
    Ok(mail)
}

pub(super) fn rcpt(forward_path: ForwardPath, text: &str) -> Result<Rcpt, CommandError> {
    let mut rcpt = Rcpt {
        forward_path,
        notify: None,
        orcpt: None,
    };
    for (keyword, value) in split(text)? {
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(v)) if is_notify(v) => rcpt.notify = Some(v.to_owned()),
            ("ORCPT", Some(v)) if is_orcpt(v) => rcpt.orcpt = Some(v.to_owned()),
            ("NOTIFY" | "ORCPT", _) => return Err(CommandError::Parameter(keyword)),
            _ => return Err(CommandError::UnknownParameter(keyword)),
        }
    }
    Ok(rcpt)
}

fn number(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// RFC 3461 §4.1: NEVER alone, or any of the others, none twice.
fn is_notify(text: &str) -> bool {
    if text.eq_ignore_ascii_case("NEVER") {
        return true;
    }
    let words: Vec<String> = text.split(',').map(str::to_ascii_uppercase).collect();
    words.iter().enumerate().all(|(index, word)| {
        matches!(word.as_str(), "SUCCESS" | "FAILURE" | "DELAY") && !words[..index].contains(word)
    })
}

/// RFC 3461 §4.2: an address type, a semicolon, xtext; with SMTPUTF8 also UTF-8 (RFC 6533 §3).
fn is_orcpt(text: &str) -> bool {
    text.len() <= MAX_ORCPT
        && text.split_once(';').is_some_and(|(kind, address)| {
            !kind.is_empty()
                && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !address.is_empty()
                && (is_xtext(address)
                    || kind.eq_ignore_ascii_case("utf-8") && !address.contains(char::is_control))
        })
}

/// RFC 3461 §4: `!` to `~` without `+` and `=`, and `+` with two upper-case hexadecimal digits.
fn is_xtext(text: &str) -> bool {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'+' => bytes
            .get(at + 1..at + 3)
            .is_some_and(|two| two.iter().all(hex)),
        b'=' => false,
        b => (b'!'..=b'~').contains(b),
    })
}
