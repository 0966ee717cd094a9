//! A report as a mail: RFC 3464 inside RFC 6522, for people first and for programs behind it.
//!
//! Three parts: what happened in plain English, the same for programs, and the message or its header.
//!
//! # Invariants
//! - What a far end or a sender wrote cannot add a line, a field or a part: it is bounded, printable, and folded. The
//!   boundary holds random bits that were drawn after the message came.
//! - It is no longer than [`MAX_RETURNED`], about 400 KB of words, and twice what the recipients' addresses take.
//! - It needs SMTPUTF8 only where the sender's own address does. Whatever else is beyond ASCII is encoded (RFC 6533).
//!
//! # Not here
//! Whom it is about: [`super::whether`]. The sentences: [`super::words`]; the fields: [`super::fields`].

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_proto::domain::Domain;
use dd_proto::envelope::{Body, Encoding, Envelope, Ret};
use dd_proto::id::MessageId;
use dd_proto::path::Mailbox;
use jiff::Timestamp;
use mail_builder::MessageBuilder;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use super::whether::{Action, Entry};
use super::{fields, words};
use crate::intake::header;
use crate::intake::policy::Space;

/// A larger content is not returned, only its header.
pub const MAX_RETURNED: usize = 64 * 1024;
/// A larger header is cut at the end of a line.
const MAX_HEADER: usize = 16 * 1024;

/// Who writes.
#[derive(Debug, Clone)]
pub struct Letterhead {
    pub hostname: Domain,
    pub postmaster: Mailbox,
}

/// The message that is reported about.
#[derive(Debug)]
pub(super) struct Original<'a> {
    pub(super) id: MessageId,
    pub(super) envelope: &'a Envelope,
    pub(super) arrived: Timestamp,
    /// From its beginning on, at least as much as is returned; empty where it cannot be read.
    pub(super) content: &'a [u8],
    pub(super) bytes: u64,
}

/// All that a report says.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// Its own.
    pub(super) id: MessageId,
    pub(super) from: &'a Letterhead,
    pub(super) now: Timestamp,
    pub(super) space: Space,
    pub(super) original: Original<'a>,
    /// Never empty.
    pub(super) entries: &'a [Entry<'a>],
    /// The address and port of the host that answered.
    pub(super) peer: Option<&'a str>,
}

/// A mail of ours, and what its envelope has to say about it.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) content: Vec<u8>,
    pub(super) body: Body,
    pub(super) encoding: Encoding,
}

/// How what is beyond ASCII travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The message had no address beyond ASCII.
    Ascii,
    /// It may have had some, but its sender's is not: no relay on the way back needs SMTPUTF8.
    Encoded,
    /// The sender's address is beyond ASCII: whoever can bring it the report speaks SMTPUTF8.
    Utf8,
}

/// How much of the message goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returned<'a> {
    Whole(&'a [u8]),
    Header(&'a [u8]),
    Nothing,
}

impl Report<'_> {
    /// The most that is wrong: what the subject says.
    pub(super) fn worst(&self) -> Action {
        let actions = self.entries.iter().map(|entry| entry.action);
        actions.max().expect("a report is about somebody")
    }

    pub(super) fn form(&self) -> Form {
        let envelope = self.original.envelope;
        let sender_is_ascii = envelope.reverse_path.as_str().is_ascii();
        match (envelope.wants_utf8(), sender_is_ascii) {
            (false, _) => Form::Ascii,
            (true, true) => Form::Encoded,
            (true, false) => Form::Utf8,
        }
    }

    pub(super) fn returned(&self) -> Returned<'_> {
        let Original {
            content,
            bytes,
            envelope,
            ..
        } = self.original;
        if content.is_empty() {
            return Returned::Nothing;
        }
        let complete = content.len() as u64 == bytes && content.len() <= MAX_RETURNED;
        // RFC 3461 §4.3: RET is about failures; otherwise the header will do.
        let asked = self.worst() == Action::Failed && envelope.ret != Some(Ret::Headers);
        match complete && asked && self.space == Space::Enough {
            true => Returned::Whole(content),
            false => Returned::Header(header_of(content)),
        }
    }

    /// Bytes of a reply that are shown, so that a message to a thousand recipients has a report of bearable size.
    pub(super) fn reply_limit(&self) -> usize {
        (200_000 / self.entries.len()).clamp(80, 1000)
    }
}

/// Up to the empty line, and without it.
fn header_of(content: &[u8]) -> &[u8] {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n");
    let header = end.map_or(content, |end| &content[..end + 2]);
    if header.len() <= MAX_HEADER {
        return header;
    }
    let line_end = header[..MAX_HEADER]
        .windows(2)
        .rposition(|two| two == b"\r\n");
    line_end.map_or(&[], |end| &header[..end + 2])
}

pub(super) fn compose(report: &Report<'_>) -> Composed {
    let form = report.form();
    let mut parts = vec![
        text_part(words::of(report), form),
        status_part(fields::of(report), form),
    ];
    parts.extend(returned_part(report.returned(), form));
    let boundary = format!("{}/{}", report.id, report.from.hostname);
    let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
    let body = MimePart {
        contents: BodyPart::Multipart(parts),
        headers: vec![("Content-Type".into(), Raw::new(kind).into())],
    };
    let sender = report.original.envelope.reverse_path.written();
    let mut mail = headed(report.from, report.id, report.now, &sender)
        .header("Subject", Raw::new(words::subject(report.worst())))
        .header("Auto-Submitted", Raw::new("auto-replied"));
    if let Some(id) = message_id(report.original.content) {
        mail = mail
            .header("In-Reply-To", Raw::new(id.clone()))
            .header("References", Raw::new(id));
    }
    finish(mail, body, form)
}

/// The header fields that all our mails begin with.
pub(super) fn headed<'a>(
    from: &Letterhead,
    id: MessageId,
    now: Timestamp,
    to: &'a str,
) -> MessageBuilder<'a> {
    let hostname = &from.hostname;
    let postmaster = from.postmaster.written();
    MessageBuilder::new()
        .header("Date", Raw::new(date(now)))
        .header(
            "From",
            Raw::new(format!("Mail Delivery System <{postmaster}>")),
        )
        .header("To", Raw::new(format!("<{to}>")))
        .header("Message-ID", Raw::new(format!("<{id}@{hostname}>")))
}

pub(super) fn finish(mail: MessageBuilder<'_>, body: MimePart<'_>, form: Form) -> Composed {
    let mail = mail.header("MIME-Version", Raw::new("1.0")).body(body);
    let mut content = Vec::new();
    mail.serialize(&mut content);
    Composed {
        body: match content.is_ascii() {
            true => Body::SevenBit,
            false => Body::EightBitMime,
        },
        encoding: match form {
            Form::Ascii | Form::Encoded => Encoding::Ascii,
            Form::Utf8 => Encoding::Utf8,
        },
        content,
    }
}

pub(super) fn text_part(text: String, form: Form) -> MimePart<'static> {
    let charset = match text.is_ascii() {
        true => "us-ascii",
        false => "utf-8",
    };
    let kind = format!("text/plain; charset={charset}");
    part(&kind, Cow::Owned(text.into_bytes()), form)
}

fn status_part(text: String, form: Form) -> MimePart<'static> {
    let kind = match form {
        Form::Ascii | Form::Encoded => "message/delivery-status",
        Form::Utf8 => "message/global-delivery-status",
    };
    part(kind, Cow::Owned(text.into_bytes()), form)
}

fn returned_part(returned: Returned<'_>, form: Form) -> Option<MimePart<'_>> {
    let (content, ascii, global) = match returned {
        Returned::Whole(content) => (content, "message/rfc822", "message/global"),
        Returned::Header(header) => (header, "text/rfc822-headers", "message/global-headers"),
        Returned::Nothing => return None,
    };
    // RFC 2046 §5.2.1: message/rfc822 is never encoded; RFC 6532 §3.7: message/global may be.
    Some(match form {
        _ if content.is_ascii() => part(ascii, Cow::Borrowed(content), form),
        Form::Ascii => part(ascii, Cow::Borrowed(content), Form::Utf8),
        Form::Encoded | Form::Utf8 => part(global, Cow::Borrowed(content), form),
    })
}

/// A part whose bytes are written as they are, or, where eight bits may not travel, as base64.
fn part<'a>(kind: &str, content: Cow<'a, [u8]>, form: Form) -> MimePart<'a> {
    let (content, encoding) = match form {
        _ if content.is_ascii() => (content, "7bit"),
        Form::Utf8 => (content, "8bit"),
        Form::Ascii | Form::Encoded => (Cow::Owned(base64_lines(&content)), "base64"),
    };
    MimePart {
        contents: BodyPart::Binary(content),
        headers: vec![("Content-Type".into(), Raw::new(kind.to_owned()).into())],
    }
    .transfer_encoding(encoding)
}

fn base64_lines(content: &[u8]) -> Vec<u8> {
    // RFC 2045 §6.8: lines of at most 76; 57 bytes make one.
    let lines = content.chunks(57).map(|line| STANDARD.encode(line));
    let lines: Vec<String> = lines.collect();
    (lines.join("\r\n") + "\r\n").into_bytes()
}

/// RFC 5322 §3.3.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// The Message-ID of the message, if it is one that can stand in a field of ours.
fn message_id(content: &[u8]) -> Option<String> {
    let id = header::message_id(content);
    let inner = id.strip_prefix('<')?.strip_suffix('>')?;
    let sound = |b: u8| b.is_ascii_graphic() && !matches!(b, b'<' | b'>');
    inner.bytes().all(sound).then_some(id)
}
