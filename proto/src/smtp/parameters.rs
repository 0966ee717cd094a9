//! The parameters of MAIL and RCPT.
//!
//! Who hands in mail stands behind a server that has accepted it, so a parameter is no reason to give the message back:
//! one that only matters for reports is mended or left out, and what a message needs is found in the message itself.
//! What is passed on is valid (RFC 3461 §4). Refused is a contradiction, and what was never offered: nobody knows what
//! its sender relies on.

use super::command::{CommandError, Mail, Rcpt};
use crate::envelope::{Encoding, Ret};
use crate::path::{ForwardPath, ReversePath};

/// RFC 3461 §4.4: an ENVID has at most 100 characters.
const MAX_ENVID: usize = 100;
/// RFC 3461 §4.2: an ORCPT has at most 500 characters.
const MAX_ORCPT: usize = 500;

type Parameters<'a> = Vec<(String, &'a str)>;

/// `KEYWORD` or `KEYWORD=value`, separated by spaces; keywords in upper case, no value is an empty one. Of two equal
/// ones the second says nothing new.
fn split(text: &str) -> Result<Parameters<'_>, CommandError> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(CommandError::Syntax("a space before the parameters"));
    }
    let mut found: Parameters<'_> = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
        let keyword = keyword.to_ascii_uppercase();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if keyword.is_empty() || !keyword.bytes().all(sound) {
            return Err(CommandError::Parameter(word.to_owned()));
        }
        match found.iter().find(|(known, _)| *known == keyword) {
            Some((_, known)) if *known == value => {}
            Some(_) => return Err(CommandError::Twice(keyword)),
            None => found.push((keyword, value)),
        }
    }
    Ok(found)
}

pub(super) fn mail(reverse_path: ReversePath, text: &str) -> Result<Mail, CommandError> {
    let mut mail = Mail::new(reverse_path);
    for (keyword, value) in split(text)? {
        match keyword.as_str() {
            "SIZE" => mail.size = number(value),
            // Whether there is an eighth bit is seen in the content.
            "BODY" => {}
            "SMTPUTF8" => mail.encoding = Encoding::Utf8,
            "RET" if value.eq_ignore_ascii_case("FULL") => mail.ret = Some(Ret::Full),
            "RET" if value.eq_ignore_ascii_case("HDRS") => mail.ret = Some(Ret::Headers),
            "RET" => {}
            "ENVID" => mail.envid = xtext(value).filter(|it| it.len() <= MAX_ENVID),
            // RFC 4954 §5: what a client claims here is no proof of anything.
            "AUTH" => {}
            _ => return Err(CommandError::UnknownParameter(keyword)),
        }
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
        match keyword.as_str() {
            "NOTIFY" => rcpt.notify = notify(value)?,
            "ORCPT" => rcpt.orcpt = orcpt(value).filter(|it| it.len() <= MAX_ORCPT),
            _ => return Err(CommandError::UnknownParameter(keyword)),
        }
    }
    Ok(rcpt)
}

/// RFC 1870 §5. What is no number announces nothing.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// RFC 3461 §4.1: NEVER alone, or any of the others, each once; None where no such word is there.
fn notify(text: &str) -> Result<Option<String>, CommandError> {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(',') {
        let is = |other: &&str| other.eq_ignore_ascii_case(word);
        let known = ["NEVER", "SUCCESS", "FAILURE", "DELAY"].iter().any(is);
        if known && !words.iter().any(is) {
            words.push(word);
        }
    }
    let never = words.iter().any(|word| word.eq_ignore_ascii_case("NEVER"));
    // Whoever asks for both may not be told what they did not want, nor miss what they wanted.
    if never && words.len() > 1 {
        return Err(CommandError::Parameter("NOTIFY".to_owned()));
    }
    Ok((!words.is_empty()).then(|| words.join(",")))
}

/// RFC 3461 §4.2: an address type, a semicolon, and the address; None where one of them is missing.
fn orcpt(text: &str) -> Option<String> {
    let (kind, address) = text.split_once(';')?;
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if kind.is_empty() || !kind.bytes().all(sound) {
        return None;
    }
    let address = match kind.eq_ignore_ascii_case("utf-8") {
        true => utf8_address(address),
        false => xtext(address),
    };
    Some(format!("{kind};{}", address?))
}

/// RFC 3461 §4 as it is meant to be written: `!` to `~` without `+` and `=`, and `+` with two upper-case hexadecimal
/// digits. None where nothing is there, or what xtext cannot be made of.
///
/// A plus with lower-case digits is read as a code where that is a character that has to be written so; what looks
/// like one by chance, as in `user+ad@c.example`, and any other plus or equals sign, stands for itself.
fn xtext(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => match code(bytes.get(at..at + 2)) {
                Some(code) => {
                    out.push_str(&format!("+{code:02X}"));
                    at += 2;
                }
                None => out.push_str("+2B"),
            },
            b'=' => out.push_str("+3D"),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => return None,
        }
    }
    (!out.is_empty()).then_some(out)
}

/// What the two digits behind a plus stand for.
fn code(digits: Option<&[u8]>) -> Option<u8> {
    let digits = std::str::from_utf8(digits?).ok()?;
    let both = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u8::from_str_radix(digits, 16).ok().filter(|_| both)?;
    let strict = !digits.bytes().any(|b| b.is_ascii_lowercase());
    let meant = matches!(code, b' ' | b'+' | b'=');
    (strict || meant).then_some(code)
}

/// RFC 6533 §3: characters that stand for themselves, in UTF-8 too, and `\x{…}` for any other.
fn utf8_address(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\\' if is_embedded(&text[at..]) => out.push(c),
            '+' | '=' | '\\' => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    (!out.is_empty()).then_some(out)
}

fn is_embedded(text: &str) -> bool {
    let code = text.strip_prefix("\\x{").and_then(|it| it.split_once('}'));
    code.is_some_and(|(code, _)| {
        (2..=6).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_matters_for_reports_is_mended_or_left_out() {
        let long = format!("rfc822;{}@c.d", "x".repeat(490));
        for (orcpt, passed_on) in [
            ("rfc822;me@c.d", Some("rfc822;me@c.d")),
            ("RFC822;root", Some("RFC822;root")),
            ("rfc822;me+2Btag@c.d", Some("rfc822;me+2Btag@c.d")),
            ("rfc822;me+2btag@c.d", Some("rfc822;me+2Btag@c.d")),
            ("rfc822;a+20b@c.d", Some("rfc822;a+20b@c.d")),
            ("rfc822;user+ad@c.d", Some("rfc822;user+2Bad@c.d")),
            ("rfc822;user+tag@c.d", Some("rfc822;user+2Btag@c.d")),
            ("rfc822;a+", Some("rfc822;a+2B")),
            ("rfc822;b=c@d.e", Some("rfc822;b+3Dc@d.e")),
            ("x400;/G+3dAnna/", Some("x400;/G+3DAnna/")),
            ("utf-8;j\u{f6}rg@c.d", Some("utf-8;j\u{f6}rg@c.d")),
            (
                "utf-8;j\\x{F6}rg+x@c.d",
                Some("utf-8;j\\x{F6}rg\\x{2B}x@c.d"),
            ),
            ("rfc822;j\u{f6}rg@c.d", None),
            ("me@c.d", None),
            (";me@c.d", None),
            ("rfc822;", None),
            ("", None),
            (&long, None),
        ] {
            let text = format!(" ORCPT={orcpt} NOTIFY=");
            let rcpt = rcpt("a@b.example".parse().unwrap(), &text).unwrap();
            assert_eq!(rcpt.orcpt.as_deref(), passed_on, "{orcpt}");
            assert_eq!(rcpt.notify, None);
            if let Some(again) = passed_on {
                let text = format!(" ORCPT={again}");
                let rcpt = super::rcpt("a@b.example".parse().unwrap(), &text).unwrap();
                assert_eq!(rcpt.orcpt.as_deref(), passed_on, "{again} is valid");
            }
        }
        let long = "x".repeat(101);
        for (envid, passed_on) in [
            ("q+2Bx", Some("q+2Bx")),
            ("q+2bx", Some("q+2Bx")),
            ("a=b", Some("a+3Db")),
            ("", None),
            (&long, None),
        ] {
            let text = format!(" ENVID={envid} RET=NONE AUTH");
            let mail = mail(ReversePath::Null, &text).unwrap();
            assert_eq!(mail.envid.as_deref(), passed_on, "{envid}");
            assert_eq!(mail.ret, None);
        }
    }

    #[test]
    fn notify_is_refused_where_it_contradicts_itself() {
        for (text, passed_on) in [
            ("NEVER", Some("NEVER")),
            ("never,never", Some("never")),
            ("success,DELAY", Some("success,DELAY")),
            ("SUCCESS,SUCCESS", Some("SUCCESS")),
            ("SUCCESS,,MAYBE", Some("SUCCESS")),
            ("MAYBE", None),
            ("", None),
        ] {
            assert_eq!(notify(text).unwrap().as_deref(), passed_on, "{text}");
        }
        notify("SUCCESS,NEVER").unwrap_err();
    }

    #[test]
    fn a_flag_decides_nothing_that_can_be_seen() {
        for (text, size, encoding) in [
            (" SIZE=10 BODY=8BITMIME", Some(10), Encoding::Ascii),
            (" SIZE=-1 BODY=BINARYMIME", None, Encoding::Ascii),
            (" SIZE BODY", None, Encoding::Ascii),
            (" SMTPUTF8", None, Encoding::Utf8),
            (" SIZE=1 size=1 SMTPUTF8=yes", Some(1), Encoding::Utf8),
            (
                " SIZE=99999999999999999999999",
                Some(u64::MAX),
                Encoding::Ascii,
            ),
        ] {
            let mail = mail(ReversePath::Null, text).unwrap();
            assert_eq!((mail.size, mail.encoding), (size, encoding), "{text}");
        }
    }
}
