//! Commands as a client writes them, each a whole line with its CRLF.
//!
//! # Invariants
//! A parameter goes out only where the server offered its extension. Paths and parameters hold no control characters
//! (see [`crate::path`] and [`super::parameters`]), so each function writes exactly one line.

use super::extensions::{Extensions, SizeOffer};
use crate::envelope::{Body, Encoding, Envelope, Recipient};

pub const DATA: &str = "DATA\r\n";
pub const QUIT: &str = "QUIT\r\n";
pub const RSET: &str = "RSET\r\n";
pub const STARTTLS: &str = "STARTTLS\r\n";

pub fn ehlo(name: &str) -> String {
    format!("EHLO {name}\r\n")
}

/// RFC 5321 §4.1.4: for a server that does not know EHLO.
pub fn helo(name: &str) -> String {
    format!("HELO {name}\r\n")
}

/// MAIL for an envelope and a content of that many bytes.
///
/// Whether the envelope can be sent at all to a server without SMTPUTF8 is the caller's question.
pub fn mail(envelope: &Envelope, content_bytes: u64, offered: &Extensions) -> String {
    let mut line = format!("MAIL FROM:<{}>", envelope.reverse_path.as_str());
    if offered.size != SizeOffer::NotOffered {
        line.push_str(&format!(" SIZE={content_bytes}"));
    }
    if offered.eight_bit_mime && envelope.body == Body::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    if offered.smtputf8 && envelope.encoding == Encoding::Utf8 {
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

/// RCPT for one recipient.
pub fn rcpt(recipient: &Recipient, offered: &Extensions) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.path.as_str());
    if offered.dsn {
        if let Some(notify) = &recipient.notify {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &recipient.orcpt {
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Ret;
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
        }
    }

    #[test]
    fn a_parameter_goes_only_where_its_extension_is_offered() {
        let everything = Extensions {
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            size: SizeOffer::Unlimited,
            ..Extensions::default()
        };
        let envelope = envelope();
        assert_eq!(
            mail(&envelope, 42, &everything),
            "MAIL FROM:<j\u{f6}rg@example.net> SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\r\n"
        );
        assert_eq!(
            rcpt(&envelope.recipients[0], &everything),
            "RCPT TO:<\"a b\"@c.d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+20b@c.d\r\n"
        );
        let nothing = Extensions::default();
        assert_eq!(
            mail(&envelope, 42, &nothing),
            "MAIL FROM:<j\u{f6}rg@example.net>\r\n"
        );
        assert_eq!(
            rcpt(&envelope.recipients[0], &nothing),
            "RCPT TO:<\"a b\"@c.d>\r\n"
        );
    }
}
