//! SMTP as both ends read it, and a content that must leave as it came.

use bytes::{Bytes, BytesMut};
use dd_controller::intake::auth::{Exchange, Next};
use dd_controller::intake::content::Incoming;
use dd_proto::client::Attributes;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::RecipientNumber;
use dd_proto::pb;
use dd_proto::report::Reply;
use dd_proto::smtp::auth::Mechanisms;
use dd_proto::smtp::command::{Command, Mail, Rcpt};
use dd_proto::smtp::compose;
use dd_proto::smtp::data::{Fault, Progress, StrayCrLf, Stuffer, Unstuffer};
use dd_proto::smtp::extensions::{Extensions, SizeOffer};
use dd_proto::smtp::line::{COMMAND_LIMIT, LineBuffer, LineError};
use dd_proto::smtp::reply::{ReplyParser, ServerReply};

/// A home that offers all that there is.
const ALL: Extensions = Extensions {
    starttls: false,
    pipelining: true,
    eight_bit_mime: true,
    smtputf8: true,
    dsn: true,
    size: SizeOffer::Unlimited,
    xforward: Attributes::NONE,
    xclient: Attributes::NONE,
    auth: Mechanisms {
        plain: true,
        login: true,
    },
};

/// What a client says before its content: however it is cut, it is the same; each line is a command or has its reply; and
/// what is taken of MAIL and RCPT reaches the agent and the home as the same.
pub fn commands(input: &[u8]) {
    let lines = lines(std::iter::once(input));
    assert_eq!(lines, self::lines(input.chunks(1)), "cut otherwise");
    for line in lines.into_iter().flatten() {
        assert!(line.len() <= COMMAND_LIMIT, "{} bytes", line.len());
        match Command::parse(&line) {
            Ok(Command::Mail(mail)) => of_mail(&mail),
            Ok(Command::Rcpt(rcpt)) => of_rcpt(&rcpt),
            Ok(Command::Auth { mechanism, initial }) => auth(&mechanism, initial.as_deref()),
            Ok(_) => {}
            Err(error) => is_writable(&error.reply()),
        }
    }
}

fn lines<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Bytes, LineError>> {
    let mut buffer = LineBuffer::new(COMMAND_LIMIT);
    let mut lines = Vec::new();
    for part in parts {
        buffer.push(part);
        while let Some(line) = buffer.next_line() {
            lines.push(line);
        }
    }
    lines
}

fn of_mail(mail: &Mail) {
    let envelope = Envelope {
        reverse_path: mail.reverse_path.clone(),
        body: Body::EightBitMime,
        encoding: mail.encoding,
        ret: mail.ret,
        envid: mail.envid.clone(),
        recipients: Vec::new(),
        client: None,
    };
    let at_agent = through(&envelope);
    let line = compose::mail(&at_agent, 7, &ALL);
    let Command::Mail(again) = read_back(&line) else {
        panic!("not MAIL: {line}");
    };
    assert_eq!(again.reverse_path.written(), mail.reverse_path.written());
    assert_eq!((again.ret, again.envid), (mail.ret, mail.envid.clone()));
    assert_eq!(again.encoding == Encoding::Utf8, envelope.wants_utf8());
    assert_eq!(again.size, Some(7));
}

fn of_rcpt(rcpt: &Rcpt) {
    let envelope = Envelope {
        reverse_path: dd_proto::path::ReversePath::Null,
        body: Body::SevenBit,
        encoding: Encoding::Utf8,
        ret: None,
        envid: None,
        recipients: vec![Recipient {
            number: RecipientNumber(3),
            path: rcpt.forward_path.clone(),
            notify: rcpt.notify.clone(),
            orcpt: rcpt.orcpt.clone(),
        }],
        client: None,
    };
    let at_agent = through(&envelope);
    let recipient = &at_agent.recipients[0];
    assert!(recipient.path.0.same_mailbox(&rcpt.forward_path.0));
    let line = compose::rcpt(recipient, true, &ALL);
    let Command::Rcpt(again) = read_back(&line) else {
        panic!("not RCPT: {line}");
    };
    assert!(again.forward_path.0.same_mailbox(&rcpt.forward_path.0));
    assert_eq!(again.notify, rcpt.notify);
    assert_eq!(again.orcpt, rcpt.orcpt);
    // A home without any extension is told the address in ASCII or not at all.
    let bare = compose::rcpt(recipient, false, &Extensions::default());
    if compose::is_writable(&recipient.path.0, &Extensions::default()) {
        assert!(bare.is_ascii(), "{bare}");
    }
}

/// As an assignment carries it from the controller to the agent.
fn through(envelope: &Envelope) -> Envelope {
    let sent = pb::Envelope::from(envelope.clone());
    Envelope::try_from(sent).expect("what intake takes, an agent can read")
}

fn read_back(line: &str) -> Command {
    let text = line.strip_suffix("\r\n").expect("a line ends in CRLF");
    assert!(!text.contains(['\r', '\n']), "{line:?}");
    Command::parse(text.as_bytes()).expect("what we write, we can read")
}

fn auth(mechanism: &str, initial: Option<&str>) {
    let mut next = Exchange::begin(mechanism, initial);
    for line in ["dXNlcg==", "*"] {
        match next {
            Next::Ask(exchange, _) => next = exchange.take(line),
            Next::Login(_) => return,
            Next::Refuse(reply) => return is_writable(&reply),
        }
    }
}

/// RFC 5321 §4.5.3.1.5: lines of at most 512 bytes, each with the code; printable ASCII and nothing else.
fn is_writable(reply: &ServerReply) {
    let mut out = BytesMut::new();
    reply.write(&mut out);
    let text = std::str::from_utf8(&out).expect("ASCII");
    let text = text.strip_suffix("\r\n").expect("a reply ends in CRLF");
    for line in text.split("\r\n") {
        assert!(line.len() <= 510, "{line}");
        assert!(line.starts_with(&reply.code.to_string()), "{line}");
        let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        assert!(line.bytes().all(printable), "{line:?}");
    }
}

/// What a home server answers: however it is cut, it is the same; bounded; and as evidence it can be told.
pub fn replies(input: &[u8]) {
    let whole = all_replies(std::iter::once(input));
    assert_eq!(whole, all_replies(input.chunks(1)), "cut otherwise");
    assert_eq!(whole, all_replies(input.chunks(7)), "cut otherwise");
    for reply in whole.into_iter().flatten() {
        assert!((200..600).contains(&reply.code), "{reply:?}");
        assert!(reply.text.len() <= 2000, "{reply:?}");
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!reply.text.contains(steers), "{reply:?}");
        assert!(!reply.to_string().contains('\n'), "{reply:?}");
        let told = pb::Reply::from(reply.clone());
        assert_eq!(Reply::try_from(told).as_ref(), Ok(&reply));
    }
}

/// Up to what is no reply: there the connection is given up.
fn all_replies<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Reply, String>> {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for part in parts {
        parser.push(part);
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => replies.push(Ok(reply)),
                Ok(None) => break,
                Err(error) => {
                    replies.push(Err(error.to_string()));
                    return replies;
                }
            }
        }
    }
    replies
}

/// What came in as a content.
#[derive(Debug, PartialEq)]
struct Received {
    content: Vec<u8>,
    fault: Option<Fault>,
    /// Bytes of the stream up to its end; None: it goes on.
    end: Option<usize>,
}

/// A content: it ends at CRLF.CRLF and nowhere else, and what comes in leaves byte for byte.
pub fn content(input: &[u8]) {
    for stray in [StrayCrLf::Refuse, StrayCrLf::Space] {
        let received = received(stray, std::iter::once(input));
        assert_eq!(
            received,
            self::received(stray, input.chunks(1)),
            "cut otherwise"
        );
        assert_eq!(received.end, end_of(input));
        judged(stray, input);
        let (Some(end), None) = (received.end, received.fault) else {
            continue;
        };
        if stray == StrayCrLf::Refuse {
            assert_eq!(received.content, without_dots(&input[..end - 3]));
        }
        let sent = sent(std::iter::once(&received.content[..]));
        assert_eq!(
            sent,
            self::sent(received.content.chunks(1)),
            "cut otherwise"
        );
        let at_home = self::received(StrayCrLf::Refuse, std::iter::once(&sent[..]));
        assert_eq!(at_home.content, received.content, "it has changed");
        assert_eq!((at_home.fault, at_home.end), (None, Some(sent.len())));
    }
}

fn received<'a>(stray: StrayCrLf, parts: impl Iterator<Item = &'a [u8]>) -> Received {
    let mut unstuffer = Unstuffer::new(stray);
    let (mut content, mut before, mut end) = (BytesMut::new(), 0, None);
    for part in parts {
        if let Progress::End { consumed } = unstuffer.feed(part, &mut content) {
            end = Some(before + consumed);
            break;
        }
        before += part.len();
    }
    Received {
        content: content.to_vec(),
        fault: unstuffer.fault(),
        end,
    }
}

fn end_of(input: &[u8]) -> Option<usize> {
    if input.starts_with(b".\r\n") {
        return Some(3);
    }
    let mut places = input.windows(5);
    places.position(|it| it == b"\r\n.\r\n").map(|at| at + 5)
}

/// RFC 5321 §4.5.2, as slowly as it can be said.
fn without_dots(stream: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (at, byte) in stream.iter().enumerate() {
        let begins = at == 0 || stream[..at].ends_with(b"\r\n");
        if !(begins && *byte == b'.') {
            plain.push(*byte);
        }
    }
    plain
}

fn sent<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stuffer = Stuffer::new();
    let mut stream = BytesMut::new();
    for part in parts {
        stuffer.feed(part, &mut stream);
    }
    stream.extend_from_slice(stuffer.end());
    stream.to_vec()
}

/// The verdict on it does not depend on how it was cut either.
fn judged(stray: StrayCrLf, input: &[u8]) {
    let judge = |size: usize| {
        let mut incoming = Incoming::new(stray, 512);
        for part in input.chunks(size) {
            if let (_, Progress::End { .. }) = incoming.feed(part) {
                break;
            }
        }
        if let Some(reply) = incoming.refusal() {
            is_writable(&reply);
        }
        assert!(incoming.message_id().len() <= 1000);
        (
            incoming.is_doomed(),
            incoming.refusal(),
            incoming.body(),
            incoming.message_id().to_owned(),
        )
    };
    assert_eq!(judge(input.len().max(1)), judge(1), "cut otherwise");
}
