//! Replies: read by the client, written by the server.
//!
//! # Invariants
//! What is read is bounded in lines, line length and bytes, whatever the far end sends, and is printable. Only the text
//! that is kept for people is cut: what a server offers is read from every line as it comes. What is written is printable ASCII: no CR or LF gets into it, and each line begins with the code.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

use super::extensions::Extensions;
use super::line::{LineBuffer, LineError, REPLY_LIMIT};
use super::status::{Status, push_number};
use crate::report::Reply;

const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 64 * 1024;
/// Of the text that is kept for people.
const MAX_TEXT: usize = 2000;
/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 bytes.
const MAX_SERVER_TEXT: usize = 480;

/// Why what the server sent is no reply. Each is the rest of a sentence that begins with the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("sent a reply that cannot be read: {0}")]
    Line(#[from] LineError),
    #[error("sent a reply of more than {MAX_LINES} lines, and none that long is read")]
    TooManyLines,
    #[error("sent a reply of more than {MAX_BYTES} bytes, and none that long is read")]
    TooLarge,
    #[error("sent `{0}`, which is no SMTP reply")]
    Malformed(String),
}

/// Bytes in, replies out.
#[derive(Debug)]
pub struct ReplyParser {
    lines: LineBuffer,
    partial: Option<Partial>,
}

/// A reply whose last line has not come.
#[derive(Debug)]
struct Partial {
    code: u16,
    status: Option<Status>,
    text: String,
    /// What the lines behind the first name, as the answer to EHLO does.
    offered: Extensions,
    lines: usize,
    bytes: usize,
}

impl Default for ReplyParser {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyParser {
    pub fn new() -> Self {
        Self {
            lines: LineBuffer::new(REPLY_LIMIT),
            partial: None,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// Whether nothing waits: no whole reply, no part of one. RFC 3207 §4.2: what a client asks before it starts TLS.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.partial.is_none()
    }

    /// The next whole reply; None until more is pushed.
    ///
    /// # Errors
    /// The server does not speak SMTP, or sends without end. The connection is of no further use.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        Ok(self.next_ehlo()?.map(|(reply, _)| reply))
    }

    /// The next whole reply, and what it offers if it is the one to EHLO.
    ///
    /// # Errors
    /// As [`ReplyParser::next_reply`].
    pub fn next_ehlo(&mut self) -> Result<Option<(Reply, Extensions)>, ReplyError> {
        while let Some(line) = self.lines.next_line() {
            // RFC 5321 §2.3.8 knows CRLF alone. A few homes end their replies with LF, behind which nothing can hide here.
            let line = match (line, self.lines.take_bare_line()) {
                (Err(LineError::BareLf), Some(line)) => line,
                (line, _) => line?,
            };
            let (code, last, text) = split(&line).ok_or_else(|| {
                ReplyError::Malformed(printable(&String::from_utf8_lossy(&line), 80))
            })?;
            self.partial
                .get_or_insert_with(|| Partial::new(code))
                .add(code, text, line.len())?;
            if last == Last::Yes {
                return Ok(self.partial.take().map(Partial::finish));
            }
        }
        Ok(None)
    }
}

#[derive(PartialEq)]
enum Last {
    Yes,
    No,
}

/// RFC 5321 §4.2: three digits, then a hyphen, a space, or nothing at all.
fn split(line: &[u8]) -> Option<(u16, Last, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    match rest {
        [] => Some((code, Last::Yes, rest)),
        [b' ', text @ ..] => Some((code, Last::Yes, text)),
        [b'-', text @ ..] => Some((code, Last::No, text)),
        _ => None,
    }
}

impl Partial {
    fn new(code: u16) -> Self {
        Self {
            code,
            status: None,
            text: String::new(),
            offered: Extensions::default(),
            lines: 0,
            bytes: 0,
        }
    }

    fn add(&mut self, code: u16, text: &[u8], bytes: usize) -> Result<(), ReplyError> {
        // RFC 5321 §4.2.1: the lines of a reply have one code. Where they do not, the last one says how it ends.
        if code / 100 != self.code / 100 {
            self.status = None;
        }
        self.code = code;
        self.bytes += bytes;
        self.lines += 1;
        if self.lines > MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        if self.bytes > MAX_BYTES {
            return Err(ReplyError::TooLarge);
        }
        let text = String::from_utf8_lossy(text);
        // RFC 5321 §4.1.1.1: the first line has the server's name.
        if self.lines > 1 {
            self.offered.add(&text);
        }
        let mut shown: &str = &text;
        if let Some((status, rest)) = leading_status(&text, code)
            && self.status.is_none_or(|before| before == status)
        {
            self.status = Some(status);
            shown = rest;
        }
        if self.lines > 1 && self.text.len() < MAX_TEXT {
            self.text.push('\n');
        }
        let room = MAX_TEXT - self.text.len();
        self.text.push_str(&printable(shown, room));
        Ok(())
    }

    fn finish(self) -> (Reply, Extensions) {
        let reply = Reply {
            code: self.code,
            enhanced: self.status.map(|s| s.to_string()).unwrap_or_default(),
            text: self.text,
        };
        (reply, self.offered)
    }
}

/// RFC 2034 §4: an enhanced code whose class is not the reply's first digit is just text.
fn leading_status(text: &str, code: u16) -> Option<(Status, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status: Status = word.parse().ok()?;
    (u16::from(status.class()) == code / 100).then_some((status, rest))
}

/// At most `limit` bytes, and nothing that could steer a terminal or reorder what is shown.
pub fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let c = match c {
            '\t' => ' ',
            c if c.is_control() || steers(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if shown.len() + c.len_utf8() > limit {
            break;
        }
        shown.push(c);
    }
    shown
}

/// Invisible characters that change the direction or the lines of a text.
fn steers(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A reply as a server says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReply {
    pub code: u16,
    /// Goes onto every line (RFC 2034 §4); none for greeting, EHLO and 3yz.
    pub status: Option<Status>,
    /// One for each line, at least one.
    pub lines: Vec<Cow<'static, str>>,
}

impl ServerReply {
    pub fn new(code: u16, status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: Some(status),
            lines: vec![text.into()],
        }
    }

    /// Without an enhanced status code.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: None,
            lines: vec![text.into()],
        }
    }

    pub fn write(&self, out: &mut BytesMut) {
        let last = self.lines.len().saturating_sub(1);
        // A byte at a time is cheap to add here, and not there.
        let mut text = Vec::with_capacity(128);
        for (index, line) in self.lines.iter().enumerate() {
            push_number(self.code, &mut text);
            text.push(if index == last { b' ' } else { b'-' });
            if let Some(status) = self.status {
                status.write(&mut text);
                text.push(b' ');
            }
            let is_printable = |byte: u8| matches!(byte, b' '..=b'~');
            if line.len() <= MAX_SERVER_TEXT
                && line.bytes().fold(true, |all, it| all & is_printable(it))
            {
                text.extend_from_slice(line.as_bytes());
            } else {
                text.extend(line.chars().take(MAX_SERVER_TEXT).map(|c| match c {
                    ' '..='~' => c as u8,
                    _ => b'?',
                }));
            }
            text.extend_from_slice(b"\r\n");
        }
        out.put_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Reply>, ReplyError> {
        let mut parser = ReplyParser::new();
        let mut replies = Vec::new();
        for byte in bytes.chunks(1) {
            parser.push(byte);
            replies.extend(parser.next_reply()?);
        }
        Ok(replies)
    }

    fn reply(code: u16, enhanced: &str, text: &str) -> Reply {
        Reply {
            code,
            enhanced: enhanced.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn replies_are_read_whatever_their_lines() {
        for (bytes, expected) in [
            (&b"250 ok\r\n"[..], reply(250, "", "ok")),
            (b"250\r\n", reply(250, "", "")),
            (
                b"250-a\r\n250-B 1\r\n250 C\r\n",
                reply(250, "", "a\nB 1\nC"),
            ),
            (
                b"550-5.7.1 a\r\n550 5.7.1 b\r\n",
                reply(550, "5.7.1", "a\nb"),
            ),
            (
                b"550-5.7.1 a\r\n550 5.7.2 b\r\n",
                reply(550, "5.7.1", "a\n5.7.2 b"),
            ),
            (b"450 5.7.1 a\r\n", reply(450, "", "5.7.1 a")),
            // The lines disagree: the last one counts, and all are shown.
            (b"220-a\r\n554 go\r\n", reply(554, "", "a\ngo")),
            (
                b"550-5.1.1 a\r\n450 4.2.0 b\r\n",
                reply(450, "4.2.0", "a\nb"),
            ),
            // Cyrus has the status in the last line only.
            (
                b"550-no\r\n550 5.1.1 unknown\r\n",
                reply(550, "5.1.1", "no\nunknown"),
            ),
            (b"250 2.0.0\r\n", reply(250, "2.0.0", "")),
            (b"250-a\n250 b\n", reply(250, "", "a\nb")),
            (
                b"250 \x1b[31m\0\xff\r\n",
                reply(250, "", "\u{fffd}[31m\u{fffd}\u{fffd}"),
            ),
        ] {
            assert_eq!(read(bytes), Ok(vec![expected]));
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        let malformed = |t: &str| ReplyError::Malformed(t.to_owned());
        for (bytes, error) in [
            (&b"hello\r\n"[..], malformed("hello")),
            (b"25\r\n", malformed("25")),
            (b"150 x\r\n", malformed("150 x")),
            (b"250x\r\n", malformed("250x")),
            (b"2\xc3\xb60\r\n", malformed("2\u{f6}0")),
            (b"250 a\r250 b\r\n", ReplyError::Line(LineError::BareCr)),
        ] {
            assert_eq!(read(bytes), Err(error));
        }
    }

    #[test]
    fn an_endless_reply_ends() {
        assert_eq!(
            read(&b"250-a\r\n".repeat(MAX_LINES + 1)),
            Err(ReplyError::TooManyLines)
        );
        let long = [b"250-", &[b'x'; 1990][..], b"\r\n"].concat();
        assert_eq!(read(&long.repeat(50)), Err(ReplyError::TooLarge));
        let line = [&long[..], b"250 y\r\n"].concat();
        assert!(read(&line).unwrap()[0].text.len() <= MAX_TEXT);
        assert_eq!(
            read(&[b'2'; 3000]),
            Err(ReplyError::Line(LineError::TooLong))
        );
    }

    #[test]
    fn what_a_long_answer_offers_is_seen_to_its_end() {
        for (bytes, width) in [(2_100, 990), (10_000, 990), (60_000, 990), (25_000, 40)] {
            let line = [b"250-X-", &b"x".repeat(width)[..], b"\r\n"].concat();
            let long = line.repeat(bytes / line.len() + 1);
            let answer = [b"250-home\r\n", &long[..], b"250 STARTTLS\r\n"].concat();
            let mut parser = ReplyParser::new();
            parser.push(&answer);
            let (reply, offered) = parser.next_ehlo().unwrap().unwrap();
            assert!(offered.starttls && !offered.dsn, "{bytes}");
            assert!(reply.text.len() <= MAX_TEXT);
        }
    }

    #[test]
    fn nothing_foreign_gets_into_a_server_reply() {
        let mut out = BytesMut::new();
        let mut reply = ServerReply::new(550, Status::new(5, 1, 1), "<a\r\n250 b>: \u{e9}\0");
        reply.lines.push("second".into());
        reply.write(&mut out);
        assert_eq!(
            &out[..],
            b"550-5.1.1 <a??250 b>: ??\r\n550 5.1.1 second\r\n"
        );
    }
}
