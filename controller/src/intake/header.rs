//! The header of a message: what we read of it, and the one field we add.
//!
//! # Invariants
//! The field is printable ASCII apart from its own line ends, whatever the client calls itself.

use std::net::IpAddr;

use dd_proto::domain::Domain;
use dd_proto::id::MessageId;
use dd_proto::smtp::reply::printable;
use jiff::Timestamp;

/// So much of a header line is looked at.
const LINE_PREFIX: usize = 1000;

/// Counts hops, finds the Message-ID and what is beyond ASCII while the content comes in, over any chunking.
#[derive(Debug, Default)]
pub struct HeaderScan {
    line: Vec<u8>,
    field: Field,
    hops: u32,
    message_id: String,
    charset: Charset,
    capture: Capture,
    received: Vec<u8>,
}

/// Whether the topmost `Received` field is kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    #[default]
    Not,
    Wanted,
    /// In it.
    Within,
}

/// So much of the topmost `Received` field is kept.
const RECEIVED_PREFIX: usize = 4000;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Charset {
    #[default]
    Ascii,
    Utf8,
    /// Of no standard; common all the same.
    Other,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    MessageId,
    /// Behind the empty line.
    Body,
}

impl HeaderScan {
    pub fn new(capture: Capture) -> Self {
        Self {
            capture,
            ..Self::default()
        }
    }

    pub fn feed(&mut self, content: &[u8]) {
        let mut rest = content;
        while self.field != Field::Body && !rest.is_empty() {
            let end = memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            let room = LINE_PREFIX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let Some(end) = end else { return };
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.look_at(line.strip_suffix(b"\r").unwrap_or(&line));
        }
    }

    fn look_at(&mut self, line: &[u8]) {
        if line.is_empty() {
            self.field = Field::Body;
            return;
        }
        self.charset = self.charset.with(line);
        if self.capture != Capture::Not {
            self.capture(line);
        }
        let value = if line[0] == b' ' || line[0] == b'\t' {
            line
        } else if let Some(value) = named(line, b"message-id") {
            self.field = Field::MessageId;
            value
        } else {
            self.field = Field::Other;
            self.hops += u32::from(named(line, b"received").is_some());
            return;
        };
        if self.field == Field::MessageId && self.message_id.is_empty() {
            self.message_id = printable(String::from_utf8_lossy(value).trim(), 250);
        }
    }

    fn capture(&mut self, line: &[u8]) {
        let folded = matches!(line[0], b' ' | b'\t');
        let more = match (self.capture, folded) {
            (Capture::Within, true) => line,
            (Capture::Within, false) => return self.capture = Capture::Not,
            _ => match named(line, b"received") {
                Some(value) => value,
                None => return,
            },
        };
        self.capture = Capture::Within;
        let room = RECEIVED_PREFIX.saturating_sub(self.received.len());
        self.received
            .extend_from_slice(&more[..more.len().min(room)]);
    }

    /// The value of the topmost `Received` field, on one line.
    pub fn first_received(&self) -> &[u8] {
        &self.received
    }

    /// `Received` fields, RFC 5321 §6.3.
    pub fn hops(&self) -> u32 {
        self.hops
    }

    /// Printable and bounded; empty if there is none.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Whether it is a header of RFC 6532: UTF-8 beyond ASCII.
    pub fn is_utf8(&self) -> bool {
        self.charset == Charset::Utf8
    }
}

impl Charset {
    fn with(self, line: &[u8]) -> Self {
        if line.is_ascii() {
            return self;
        }
        match (self, std::str::from_utf8(line)) {
            (Self::Other, _) => Self::Other,
            (_, Ok(_)) => Self::Utf8,
            // A character that the end of what is looked at cut in two.
            (_, Err(error)) if error.error_len().is_none() && line.len() == LINE_PREFIX => {
                Self::Utf8
            }
            (_, Err(_)) => Self::Other,
        }
    }
}

/// The Message-ID of a content, or of its beginning; empty if there is none.
pub fn message_id(content: &[u8]) -> String {
    let mut scan = HeaderScan::default();
    scan.feed(content);
    scan.message_id
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&b| b == byte)
}

/// The value, if the line begins a field of that name.
fn named<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    // RFC 5322 §4.5.8: obsolete syntax has spaces before the colon.
    rest.trim_ascii_start().strip_prefix(b":")
}

/// What the `Received` field says.
#[derive(Debug)]
pub struct Hop<'a> {
    /// As the client called itself.
    pub from: &'a str,
    pub client: IpAddr,
    pub by: &'a Domain,
    pub with: &'static str,
    pub id: MessageId,
    pub at: Timestamp,
}

impl Hop<'_> {
    /// RFC 5321 §4.4.
    pub fn field(&self) -> String {
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let from = self.from.replace(|c| !is_plain(c), "?");
        let address = match self.client.to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("IPv6:{ip}"),
        };
        let Self {
            by, with, id, at, ..
        } = self;
        let date = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
        format!(
            "Received: from {from} ([{address}])\r\n\tby {by} with {with} id {id};\r\n\t{date}\r\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(content: &[u8], size: usize) -> (u32, String) {
        let mut scan = HeaderScan::default();
        content.chunks(size).for_each(|c| scan.feed(c));
        (scan.hops(), scan.message_id().to_owned())
    }

    #[test]
    fn hops_and_message_id_are_found_in_the_header_only() {
        let content =
            b"Received: a\r\n\tReceived: folded\r\nRECEIVED : b\r\nMessage-ID:\r\n <x@y>\r\n\
            Subject: \r\n s\r\n\r\nReceived: body\r\nMessage-ID: <no>\r\n";
        for size in [1, 3, 1000] {
            assert_eq!(scan(content, size), (2, "<x@y>".to_owned()));
        }
        assert_eq!(scan(b"message-id: <a\x1b@b>\r\n\r\n", 7).1, "<a\u{fffd}@b>");
        assert_eq!(scan(b"", 1), (0, String::new()));
    }

    #[test]
    fn a_header_is_utf8_where_all_that_is_beyond_ascii_is() {
        let cut = format!("Subject: {}\u{fc}\r\n\r\n", "x".repeat(LINE_PREFIX - 10));
        for (content, utf8) in [
            (&b"Subject: x\r\n\r\nbody \xc3\xbc\r\n"[..], false),
            (b"Subject: \xc3\xbc\r\n\r\n", true),
            (b"Subject: x\r\n \xc3\xbc\r\n\r\n", true),
            (b"Subject: \xfc\r\n\r\n", false),
            (b"Subject: \xfc\r\nTo: \xc3\xbc\r\n\r\n", false),
            (b"To: \xc3\xbc\r\nSubject: \xfc\r\n\r\n", false),
            (cut.as_bytes(), true),
        ] {
            for size in [1, 1000] {
                let mut scan = HeaderScan::default();
                content.chunks(size).for_each(|c| scan.feed(c));
                assert_eq!(scan.is_utf8(), utf8, "{}", content.escape_ascii());
            }
        }
    }

    #[test]
    fn a_client_s_name_cannot_break_the_field() {
        let hop = Hop {
            from: "a\r\n.\r\n(b);<c>\u{e9}",
            client: "::ffff:192.0.2.1".parse().unwrap(),
            by: &"mail.example.net".parse().unwrap(),
            with: "ESMTP",
            id: MessageId::new(0, [0; 10]),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            hop.field(),
            "Received: from a??.???b???c?? ([192.0.2.1])\r\n\tby mail.example.net with ESMTP id \
             00000000000070008000000000000000;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
        );
    }
}
