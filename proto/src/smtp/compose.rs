//! Commands as a client writes them, each a whole line with its CRLF.
//!
//! # Invariants
//! A parameter goes out only where the server offered its extension. Paths and parameters hold no control characters
//! (see [`crate::path`] and [`super::parameters`]), so each function writes exactly one line.

use std::borrow::Cow;

use super::extensions::{Extensions, SizeOffer};
use crate::envelope::{Body, Envelope, Recipient};
use crate::path::Mailbox;

pub const DATA: &str = "DATA\r\n";
pub const QUIT: &str = "QUIT\r\n";
pub const RSET: &str = "RSET\r\n";
pub const STARTTLS: &str = "STARTTLS\r\n";

pub fn ehlo(name: &str) -> String {
    format!("EHLO {name}\r\n")
}

/// RFC 2033 §4.1: in LMTP.
pub fn lhlo(name: &str) -> String {
    format!("LHLO {name}\r\n")
}

/// RFC 5321 §4.1.4: for a server that does not know EHLO.
pub fn helo(name: &str) -> String {
    format!("HELO {name}\r\n")
}

/// MAIL for an envelope and a content of that many bytes.
///
/// SMTPUTF8 and BODY are asked for only where the message needs them: RFC 6531 §3.4, RFC 6152 §3. An address without
/// a form that the server takes is written all the same; whether it may be is the caller's question
/// ([`is_writable`]).
pub fn mail(envelope: &Envelope, content_bytes: u64, offered: &Extensions) -> String {
    let path = &envelope.reverse_path;
    let form = match offered.smtputf8 {
        true => path.written(),
        false => path.written_in_ascii().unwrap_or_else(|| path.written()),
    };
    let mut line = format!("MAIL FROM:<{form}>");
    if offered.size != SizeOffer::NotOffered {
        line.push_str(&format!(" SIZE={content_bytes}"));
    }
    if offered.eight_bit_mime && envelope.body == Body::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    if offered.smtputf8 && envelope.wants_utf8() {
        line.push_str(" SMTPUTF8");
    }
    if offered.dsn {
        if let Some(ret) = envelope.ret {
            line.push_str(&format!(" RET={}", ret.as_str()));
        }
        if let Some(envid) = &envelope.envid {
            line.push_str(&format!(" ENVID={envid}"));
        }
    }
    line.push_str("\r\n");
    line
}

/// RCPT for one recipient of a message for which SMTPUTF8 was asked for or not: [`Envelope::wants_utf8`].
pub fn rcpt(recipient: &Recipient, wants_utf8: bool, offered: &Extensions) -> String {
    let path = &recipient.path.0;
    let form = match offered.smtputf8 {
        true => path.written(),
        false => path.written_in_ascii().unwrap_or_else(|| path.written()),
    };
    let mut line = format!("RCPT TO:<{form}>");
    if offered.dsn {
        if let Some(notify) = &recipient.notify {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &recipient.orcpt {
            let orcpt = match offered.smtputf8 && wants_utf8 {
                true => orcpt.into(),
                false => orcpt_in_ascii(orcpt),
            };
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    line.push_str("\r\n");
    line
}

/// Whether a server with these extensions can be told of an address: all can that have SMTPUTF8, and all addresses
/// with a form in ASCII.
pub fn is_writable(mailbox: &Mailbox, offered: &Extensions) -> bool {
    offered.smtputf8 || mailbox.written_in_ascii().is_some()
}

/// RFC 6533 §3: utf-8-addr-xtext, which needs no SMTPUTF8.
fn orcpt_in_ascii(orcpt: &str) -> Cow<'_, str> {
    if orcpt.is_ascii() {
        return orcpt.into();
    }
    let embedded = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => format!("\\x{{{:X}}}", u32::from(c)),
    };
    orcpt.chars().map(embedded).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Encoding, Ret};
    use crate::id::RecipientNumber;

    fn envelope() -> Envelope {
        Envelope {
            reverse_path: "j\u{f6}rg@example.net".parse().unwrap(),
            body: Body::EightBitMime,
            encoding: Encoding::Utf8,
            ret: Some(Ret::Headers),
            envid: Some("QQ314159".to_owned()),
            recipients: vec![Recipient {
                number: RecipientNumber(0),
                path: "\"a b\"@c.d".parse().unwrap(),
                notify: Some("SUCCESS,FAILURE".to_owned()),
                orcpt: Some("rfc822;a+20b@c.d".to_owned()),
            }],
            client: None,
        }
    }

    fn everything() -> Extensions {
        Extensions {
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            size: SizeOffer::Unlimited,
            ..Extensions::default()
        }
    }

    #[test]
    fn a_parameter_goes_only_where_its_extension_is_offered() {
        let envelope = envelope();
        assert_eq!(
            mail(&envelope, 42, &everything()),
            "MAIL FROM:<j\u{f6}rg@example.net> SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n"
        );
        assert_eq!(
            rcpt(&envelope.recipients[0], true, &everything()),
            "RCPT TO:<\"a b\"@c.d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+20b@c.d\r\n"
        );
        let nothing = Extensions::default();
        assert_eq!(
            mail(&envelope, 42, &nothing),
            "MAIL FROM:<j\u{f6}rg@example.net>\r\n"
        );
        assert_eq!(
            rcpt(&envelope.recipients[0], true, &nothing),
            "RCPT TO:<\"a b\"@c.d>\r\n"
        );
    }

    #[test]
    fn what_a_message_does_not_need_is_not_asked_for() {
        let mut envelope = envelope();
        envelope.reverse_path = "a@b\u{fc}cher.example".parse().unwrap();
        envelope.body = Body::SevenBit;
        envelope.encoding = Encoding::Ascii;
        (envelope.ret, envelope.envid) = (None, None);
        let mail_to = |envelope: &Envelope, offered| mail(envelope, 42, offered);
        let everything = everything();
        assert_eq!(
            mail_to(&envelope, &everything),
            "MAIL FROM:<a@b\u{fc}cher.example> SIZE=42 SMTPUTF8\r\n"
        );
        let old = Extensions {
            smtputf8: false,
            ..everything
        };
        assert_eq!(
            mail_to(&envelope, &old),
            "MAIL FROM:<a@xn--bcher-kva.example> SIZE=42\r\n"
        );
        envelope.reverse_path = "tanaka..i.@carrier.example".parse().unwrap();
        assert_eq!(
            mail_to(&envelope, &everything),
            "MAIL FROM:<\"tanaka..i.\"@carrier.example> SIZE=42\r\n"
        );
        envelope.recipients[0].path = "j\u{f6}rg@c.d".parse().unwrap();
        assert_eq!(
            mail_to(&envelope, &everything),
            "MAIL FROM:<\"tanaka..i.\"@carrier.example> SIZE=42 SMTPUTF8\r\n"
        );
        assert!(!is_writable(&envelope.recipients[0].path.0, &old));
    }

    #[test]
    fn an_original_recipient_beyond_ascii_has_a_form_without_smtputf8() {
        let mut recipient = envelope().recipients.remove(0);
        recipient.notify = None;
        recipient.orcpt = Some("utf-8;j\u{f6}rg@c.d".to_owned());
        let everything = everything();
        assert_eq!(
            rcpt(&recipient, true, &everything),
            "RCPT TO:<\"a b\"@c.d> ORCPT=utf-8;j\u{f6}rg@c.d\r\n"
        );
        assert_eq!(
            rcpt(&recipient, false, &everything),
            "RCPT TO:<\"a b\"@c.d> ORCPT=utf-8;j\\x{F6}rg@c.d\r\n"
        );
    }
}
