//! Every reply that intake gives, in one list.
//!
//! # Not here
//! Replies to lines that are no command: [`dd_proto::smtp::command::CommandError`].

use dd_proto::domain::Domain;
use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::path::Mailbox;
use dd_proto::smtp::data::Fault;
use dd_proto::smtp::line::LineError;
use dd_proto::smtp::reply::ServerReply;
use dd_proto::smtp::status::Status;

use super::accept::AcceptError;
use super::lmtp::Protocol;
use super::member::EtrnAnswer;

fn say(
    code: u16,
    (class, subject, detail): (u8, u16, u16),
    text: impl Into<String>,
) -> ServerReply {
    ServerReply::new(code, Status::new(class, subject, detail), text.into())
}

pub fn greeting(hostname: &Domain, protocol: Protocol) -> ServerReply {
    ServerReply::plain(220, format!("{hostname} {}", protocol.in_greeting()))
}

/// RFC 5321 §4.1.1.1: the answer to HELO is one line.
pub fn helo(hostname: &Domain) -> ServerReply {
    ServerReply::plain(250, hostname.to_string())
}

/// To EHLO and LHLO; STARTTLS only where it can be used now.
pub fn ehlo(hostname: &Domain, max_message_bytes: u64, offer: &[&'static str]) -> ServerReply {
    let mut reply = ServerReply::plain(250, hostname.to_string());
    reply.lines.push(format!("SIZE {max_message_bytes}").into());
    reply
        .lines
        .extend(offer.iter().map(|&keyword| keyword.into()));
    reply
}

pub fn done() -> ServerReply {
    say(250, (2, 0, 0), "OK")
}

pub fn sender() -> ServerReply {
    say(250, (2, 1, 0), "sender OK")
}

pub fn recipient() -> ServerReply {
    say(250, (2, 1, 5), "recipient OK")
}

pub fn start_content() -> ServerReply {
    ServerReply::plain(354, "end the content with <CRLF>.<CRLF>")
}

pub fn queued(id: MessageId) -> ServerReply {
    say(250, (2, 0, 0), format!("queued as {id}"))
}

pub fn bye() -> ServerReply {
    say(221, (2, 0, 0), "bye")
}

pub fn start_tls() -> ServerReply {
    say(220, (2, 0, 0), "ready to start TLS")
}

/// RFC 5321 §3.5.3: neither confirmed nor denied.
pub fn vrfy() -> ServerReply {
    say(
        252,
        (2, 5, 0),
        "cannot verify, but will take mail for its sites",
    )
}

pub fn help() -> ServerReply {
    say(
        214,
        (2, 0, 0),
        "see RFC 5321; mail is taken for registered sites only",
    )
}

/// RFC 1985 §5.3. A stranger is always told the first, so that it tells nothing.
pub fn etrn(answer: &EtrnAnswer, node: &str) -> ServerReply {
    // Replies are ASCII to those who did not ask for anything else.
    let node = node.escape_default();
    let ok = (2, 0, 0);
    match answer {
        EtrnAnswer::Started => say(250, ok, format!("OK, queuing for node {node} started")),
        EtrnAnswer::NothingWaiting => say(251, ok, format!("OK, no messages waiting for {node}")),
        EtrnAnswer::Pending(None) => {
            say(252, ok, format!("OK, pending messages for {node} started"))
        }
        EtrnAnswer::Pending(Some(count)) => say(
            253,
            ok,
            format!("{count} pending messages for {node} started"),
        ),
        EtrnAnswer::CannotNow(why) => say(
            458,
            (4, 3, 0),
            format!("unable to queue messages for {node}: {why}"),
        ),
        EtrnAnswer::NotAllowed => say(
            459,
            (4, 7, 0),
            format!("node {node} not allowed: you have signed in as another site"),
        ),
    }
}

/// RFC 4954 §4: what a server asks next, in base64.
pub fn challenge(text: &'static str) -> ServerReply {
    ServerReply::plain(334, text)
}

pub fn signed_in() -> ServerReply {
    say(235, (2, 7, 0), "signed in")
}

/// The same whether or not the site exists.
pub fn wrong_credentials() -> ServerReply {
    say(535, (5, 7, 8), "no such site and password")
}

pub fn auth_not_now() -> ServerReply {
    say(
        454,
        (4, 7, 0),
        "too many attempts, try again in a few minutes",
    )
}

pub fn auth_needs_tls() -> ServerReply {
    say(538, (5, 7, 11), "AUTH needs encryption: STARTTLS first")
}

/// XFORWARD and XCLIENT of a stranger.
pub fn may_not_tell() -> ServerReply {
    say(
        550,
        (5, 7, 0),
        "your address is not in a network that may say for whom it hands in mail",
    )
}

pub fn no_such_mechanism() -> ServerReply {
    say(504, (5, 5, 4), "AUTH takes PLAIN or LOGIN")
}

pub fn auth_cancelled() -> ServerReply {
    say(501, (5, 7, 0), "AUTH cancelled")
}

pub fn auth_malformed() -> ServerReply {
    say(
        501,
        (5, 5, 2),
        "AUTH cannot be read: expected base64 of what the mechanism asks for",
    )
}

pub fn bad_line(error: LineError) -> ServerReply {
    match error {
        LineError::TooLong => say(500, (5, 5, 2), "line too long"),
        LineError::BareLf | LineError::BareCr => say(
            500,
            (5, 5, 2),
            "a line must end in CR LF, and hold neither alone",
        ),
    }
}

pub fn out_of_order(what_first: &'static str) -> ServerReply {
    say(503, (5, 5, 1), what_first)
}

pub fn no_recipients(protocol: Protocol) -> ServerReply {
    match protocol {
        // RFC 5321 §3.3: 503 or 554 where every recipient was refused.
        Protocol::Smtp => say(554, (5, 5, 1), "no valid recipients"),
        // RFC 2033 §4.2: here 503 is required.
        Protocol::Lmtp => say(503, (5, 5, 1), "no valid recipients"),
    }
}

pub fn wrong_hello(protocol: Protocol) -> ServerReply {
    match protocol {
        Protocol::Smtp => say(500, (5, 5, 1), "this is SMTP: say EHLO"),
        // RFC 2033 §4.1: HELO and EHLO are answered 500.
        Protocol::Lmtp => say(500, (5, 5, 1), "this is LMTP: say LHLO"),
    }
}

pub fn tls_not_offered() -> ServerReply {
    say(502, (5, 5, 1), "STARTTLS is not offered here")
}

/// Whoever speaks LMTP is a feeder whose network is not configured yet, and shall keep what it has accepted until it is.
pub fn not_trusted(protocol: Protocol) -> ServerReply {
    let text = "your address is not in a network that may hand in mail here";
    match protocol {
        Protocol::Lmtp => say(
            450,
            (4, 7, 1),
            format!("{text}; `trusted` in [intake] of the controller names these networks"),
        ),
        Protocol::Smtp => say(
            554,
            (5, 7, 1),
            format!("{text}; mail for our sites goes to their MX"),
        ),
    }
}

pub fn unknown_domain(recipient: &Mailbox) -> ServerReply {
    say(
        550,
        (5, 1, 2),
        format!("<{recipient}>: this domain belongs to no site here"),
    )
}

pub fn unknown_recipient(recipient: &Mailbox) -> ServerReply {
    say(
        550,
        (5, 1, 1),
        format!("<{recipient}>: the site has no such recipient"),
    )
}

pub fn closing() -> ServerReply {
    say(
        450,
        (4, 2, 1),
        "the site takes no new mail: it is being removed, or its record is damaged",
    )
}

pub fn too_big(limit: u64) -> ServerReply {
    say(
        552,
        (5, 3, 4),
        format!("too big: at most {limit} bytes are taken"),
    )
}

pub fn over_quota(site: &SiteName) -> ServerReply {
    say(
        452,
        (4, 2, 2),
        format!("the queue of {site} is full, try again later"),
    )
}

pub fn no_space() -> ServerReply {
    say(452, (4, 3, 1), "not enough space, try again later")
}

/// RFC 5321 §4.5.3.1.10: the client goes on with the rest in a transaction of its own.
pub fn too_many_recipients() -> ServerReply {
    say(
        452,
        (4, 5, 3),
        "too many recipients, send the rest separately",
    )
}

/// The same code: the client goes on with this one in a transaction of its own.
pub fn not_together() -> ServerReply {
    say(
        452,
        (4, 5, 3),
        "too many recipients: the site has a limit of its own, send this one separately",
    )
}

pub fn fault(fault: Fault) -> ServerReply {
    say(
        550,
        (5, 6, 0),
        format!("the message holds {fault}, send it with CR LF line ends and without NUL"),
    )
}

pub fn mail_loop(hops: u32) -> ServerReply {
    say(
        554,
        (5, 4, 6),
        format!("mail loop: the message has been through {hops} servers"),
    )
}

pub fn not_accepted(error: AcceptError) -> ServerReply {
    match error {
        AcceptError::Full => no_space(),
        AcceptError::LogFailed => say(
            451,
            (4, 3, 0),
            "the message could not be stored, try again later",
        ),
    }
}

pub fn too_many_errors() -> ServerReply {
    say(421, (4, 7, 0), "too many errors, closing")
}

pub fn too_many_sessions() -> ServerReply {
    say(421, (4, 3, 2), "too many sessions, try again later")
}

pub fn shutting_down() -> ServerReply {
    say(421, (4, 3, 2), "shutting down, try again later")
}

pub fn timed_out() -> ServerReply {
    say(421, (4, 4, 2), "timed out waiting, closing")
}
