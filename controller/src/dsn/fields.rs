//! The part of a report for programs: RFC 3464 §2.

use std::net::IpAddr;

use dd_proto::report::Reply;
use dd_proto::smtp::reply::printable;
use dd_proto::smtp::status::Status;

use super::text::{Form, Report, date};
use super::whether::{Entry, What};

/// RFC 5322 §2.1.1: lines should have no more characters.
const WIDTH: usize = 76;
const MAX_ENVID: usize = 300;
const MAX_ORCPT: usize = 500;

pub(super) fn of(report: &Report<'_>) -> String {
    let form = report.form();
    let mut out = String::new();
    let (host, envelope) = (&report.from.hostname, report.original.envelope);
    if let Some(envid) = &envelope.envid {
        let envid = shown(&from_xtext(envid), MAX_ENVID, form);
        field(&mut out, "Original-Envelope-Id", &envid);
    }
    field(&mut out, "Reporting-MTA", &format!("dns; {host}"));
    field(&mut out, "Arrival-Date", &date(report.original.arrived));
    for entry in report.entries {
        out.push_str("\r\n");
        recipient(&mut out, entry, report);
    }
    out
}

fn recipient(out: &mut String, entry: &Entry<'_>, report: &Report<'_>) {
    let form = report.form();
    if let Some(orcpt) = &entry.recipient.orcpt {
        field(out, "Original-Recipient", &original(orcpt, form));
    }
    let path = address(entry.recipient.path.as_str(), form);
    field(out, "Final-Recipient", &path);
    field(out, "Action", entry.action.as_str());
    field(out, "Status", &status(entry).to_string());
    let reply = entry.fate.reply.as_ref();
    if let Some(reply) = reply.filter(|reply| !reply.to_string().is_empty()) {
        let words = || shown(&said(reply), report.reply_limit(), form);
        let diagnosis = match (reply.code, in_our_words(entry.fate.what)) {
            (0, Some(ours)) => format!("x-dd; {ours}"),
            (0, None) => format!("x-dd; {}", words()),
            _ => format!("smtp; {}", words()),
        };
        field(out, "Diagnostic-Code", &diagnosis);
        if let Some(peer) = report.peer.filter(|_| reply.code != 0) {
            if let Some(ip) = public(peer) {
                field(out, "Remote-MTA", &format!("dns; [{ip}]"));
            }
            field(out, "Last-Attempt-Date", &date(report.now));
        }
    }
    if let What::Delayed { until } = entry.fate.what {
        field(out, "Will-Retry-Until", &date(until));
    }
}

/// Where no server of the recipient said anything. What is known then is for operators: it has names and addresses of the
/// inside, and advice for those who can follow it. None: it is about what the message needs.
fn in_our_words(what: What) -> Option<&'static str> {
    match what {
        What::Expired | What::Delayed { .. } => {
            Some("the recipient's mail server was not reached, or could not be recognised")
        }
        What::GivenUp | What::Removed => Some("taken out of the queue by the operator"),
        What::Failed | What::Relayed(_) => None,
    }
}

/// The address of a host that the whole world may know. A sender learns nothing of a network behind it.
fn public(peer: &str) -> Option<IpAddr> {
    let ip = peer.rsplit_once(':').map_or(peer, |(ip, _)| ip);
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
    let is_inside = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // RFC 6598: shared between a provider and its customers.
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    (!is_inside).then_some(ip)
}

/// RFC 3463, of the class that the action asks for.
pub(super) fn status(entry: &Entry<'_>) -> Status {
    let reply = entry.fate.reply.as_ref();
    let said = reply.and_then(|reply| reply.enhanced.parse::<Status>().ok());
    let of_class = |class: u8| said.filter(|status| status.class() == class);
    let answered = reply.is_some_and(|reply| reply.code != 0);
    match entry.fate.what {
        What::Relayed(_) => of_class(2).unwrap_or(Status::new(2, 0, 0)),
        What::Failed => of_class(5).unwrap_or(Status::new(5, 0, 0)),
        What::GivenUp if !answered => of_class(5).unwrap_or(Status::new(5, 0, 0)),
        What::GivenUp | What::Removed => Status::new(5, 0, 0),
        // RFC 3463 §3.5: delivery time expired; where nobody proved to be the site, that is why.
        What::Expired => {
            let withheld = of_class(4).filter(|status| !answered && status.is_security());
            withheld.unwrap_or(Status::new(4, 4, 7))
        }
        What::Delayed { .. } if answered => of_class(4).unwrap_or(Status::new(4, 0, 0)),
        // RFC 3463 §3.5: no answer from host.
        What::Delayed { .. } => of_class(4).unwrap_or(Status::new(4, 4, 1)),
    }
}

/// The reply as one line; a sentence where there was none.
pub(super) fn said(reply: &Reply) -> String {
    match reply.code {
        0 => reply.text.replace(['\r', '\n'], " "),
        _ => reply.to_string(),
    }
}

/// Printable, bounded, and within what the form can carry.
pub(super) fn shown(text: &str, limit: usize, form: Form) -> String {
    let text = printable(text, limit);
    match form {
        Form::Utf8 => text,
        Form::Ascii | Form::Encoded => text
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect(),
    }
}

/// RFC 3464 §2.1.2 and RFC 6533 §3.
fn address(path: &str, form: Form) -> String {
    match form {
        _ if path.is_ascii() => format!("rfc822; {path}"),
        Form::Utf8 => format!("utf-8; {path}"),
        Form::Ascii | Form::Encoded => format!("utf-8; {}", in_ascii(path)),
    }
}

/// RFC 6533 §3: utf-8-addr-xtext.
fn in_ascii(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        match c {
            '!'..='~' if !matches!(c, '+' | '=' | '\\') => out.push(c),
            c => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
        }
    }
    out
}

/// The ORCPT as it was meant: its type stays, its xtext is decoded (RFC 3461 §4.2).
fn original(orcpt: &str, form: Form) -> String {
    let (kind, text) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
    let text = match kind.eq_ignore_ascii_case("utf-8") {
        true if form == Form::Utf8 || text.is_ascii() => text.to_owned(),
        true => in_ascii(text),
        false => from_xtext(text),
    };
    format!("{kind}; {}", shown(&text, MAX_ORCPT, form))
}

/// RFC 3461 §4. What is no xtext stays as it is.
fn from_xtext(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'+');
        let code = code.and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes a field, folded between words. Unfolded it is what it was: a quoted local part may hold several blanks.
fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in value.split(' ') {
        let fits = column + 1 + word.len() <= WIDTH;
        if !fits && !word.is_empty() && column > name.len() + 1 {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_told_no_address_of_the_inside() {
        for (peer, told) in [
            ("192.0.2.7:25", Some("192.0.2.7")),
            ("[2001:db8::7]:25", Some("2001:db8::7")),
            ("10.1.2.3:25", None),
            ("172.16.0.1:2525", None),
            ("192.168.1.2:25", None),
            ("127.0.0.1:25", None),
            ("100.64.0.1:25", None),
            ("[::ffff:10.1.2.3]:25", None),
            ("[fd00::1]:25", None),
            ("[fe80::1]:25", None),
            ("mx.inside.example:25", None),
        ] {
            let public = public(peer).map(|ip| ip.to_string());
            assert_eq!(public.as_deref(), told, "{peer}");
        }
    }

    #[test]
    fn what_a_sender_wrote_adds_no_line() {
        for (orcpt, expected) in [
            ("rfc822;a+2Bb@c.d", "rfc822; a+b@c.d"),
            (
                "rfc822;a+0D+0AAction:+20none",
                "rfc822; a\u{fffd}\u{fffd}Action: none",
            ),
            ("rfc822;a+GG+2", "rfc822; a+GG+2"),
            ("utf-8;j\\x{F6}rg@c.d", "utf-8; j\\x{F6}rg@c.d"),
        ] {
            assert_eq!(original(orcpt, Form::Utf8), expected);
            let ascii = original(orcpt, Form::Encoded);
            assert!(ascii.is_ascii() && !ascii.contains(['\r', '\n']), "{ascii}");
        }
        assert_eq!(
            address("j\u{f6}rg+x@c.d", Form::Encoded),
            "utf-8; j\\x{F6}rg\\x{2B}x@c.d"
        );
    }

    #[test]
    fn a_field_is_folded_between_words() {
        let mut out = String::new();
        field(&mut out, "Diagnostic-Code", "word ".repeat(40).trim_end());
        assert!(out.split("\r\n").all(|line| line.len() <= WIDTH), "{out}");
        assert!(
            out.split("\r\n")
                .skip(1)
                .all(|line| line.is_empty() || line.starts_with(' '))
        );
        for value in ["rfc822; \"a  b\"@c.d", &"x ".repeat(70)] {
            let mut out = String::new();
            field(&mut out, "A", value);
            assert_eq!(out.replace("\r\n", ""), format!("A: {value}"));
        }
    }
}
