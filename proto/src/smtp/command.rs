//! Commands as a server reads them: one line in, one command or one reply out.
//!
//! Strict where a guess could be wrong: an argument that a command does not take, a parameter that contradicts another
//! or is unknown, bytes that are no UTF-8 are refused. What says nothing that matters to the message is forgiven: see
//! [`super::parameters`].
//!
//! # Not here
//! Which command may come when: that is the session's.

use super::parameters;
use super::path::{PathError, forward_path, reverse_path};
use super::reply::ServerReply;
use super::status::Status;
use crate::client::{self, Attribute};
use crate::envelope::{Encoding, Ret};
use crate::path::{ForwardPath, MailboxError, ReversePath};
use crate::unshown::Unshown;

/// A command, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Helo(String),
    Ehlo(String),
    Lhlo(String),
    Mail(Mail),
    Rcpt(Rcpt),
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
    StartTls,
    /// The node as it was asked for: a domain, `@domain`, `#queue` (RFC 1985 §5.2).
    Etrn(String),
    /// RFC 4954 §4; the initial response is as it came, and may hold a password.
    Auth {
        mechanism: String,
        initial: Option<Unshown>,
    },
    /// For the message that comes next.
    XForward(Vec<Attribute>),
    /// For what comes on this connection.
    XClient(Vec<Attribute>),
}

/// MAIL, RFC 5321 §4.1.1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub reverse_path: ReversePath,
    /// Bytes as announced, RFC 1870.
    pub size: Option<u64>,
    /// Whether SMTPUTF8 was asked for; whether the message needs it is seen in the message.
    pub encoding: Encoding,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
}

impl Mail {
    pub fn new(reverse_path: ReversePath) -> Self {
        Self {
            reverse_path,
            size: None,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
        }
    }
}

/// RCPT, RFC 5321 §4.1.1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    pub forward_path: ForwardPath,
    pub notify: Option<String>,
    pub orcpt: Option<String>,
}

/// Why a line is no command; [`reply`](CommandError::reply) says what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("command not recognized")]
    Unknown,
    #[error("command not implemented")]
    NotImplemented,
    #[error("the command is not UTF-8 or holds control characters")]
    Bytes,
    #[error("the address or a parameter is not UTF-8 or holds control characters")]
    AddressBytes,
    #[error("syntax error: expected {0}")]
    Syntax(&'static str),
    #[error("{0}")]
    ReversePath(PathError),
    #[error("{0}")]
    ForwardPath(PathError),
    #[error("bad parameter {0}")]
    Parameter(String),
    #[error("parameter {0} given twice, with different values")]
    Twice(String),
    #[error("parameter {0} not recognized")]
    UnknownParameter(String),
}

impl CommandError {
    /// Whether it is about one message, which somebody else wrote, and not about how the client speaks.
    pub fn is_about_the_message(&self) -> bool {
        match self {
            Self::AddressBytes
            | Self::ReversePath(_)
            | Self::ForwardPath(_)
            | Self::Parameter(_)
            | Self::Twice(_)
            | Self::UnknownParameter(_) => true,
            Self::Unknown | Self::NotImplemented | Self::Bytes | Self::Syntax(_) => false,
        }
    }

    pub fn reply(&self) -> ServerReply {
        use MailboxError as M;
        let (code, status) = match self {
            Self::Unknown | Self::Bytes => (500, Status::new(5, 5, 2)),
            Self::NotImplemented => (502, Status::new(5, 5, 1)),
            Self::AddressBytes | Self::Syntax(_) | Self::Parameter(_) | Self::Twice(_) => {
                (501, Status::new(5, 5, 4))
            }
            Self::ReversePath(PathError::Mailbox(M::Domain)) => (501, Status::new(5, 1, 8)),
            Self::ReversePath(_) => (501, Status::new(5, 1, 7)),
            Self::ForwardPath(PathError::Mailbox(M::Domain)) => (501, Status::new(5, 1, 2)),
            Self::ForwardPath(PathError::BarePostmaster) => (550, Status::new(5, 1, 3)),
            Self::ForwardPath(_) => (501, Status::new(5, 1, 3)),
            // RFC 5321 §4.1.1.11: 555 for parameters that are not recognized.
            Self::UnknownParameter(_) => (555, Status::new(5, 5, 4)),
        };
        ServerReply::new(code, status, self.to_string())
    }
}

impl Command {
    /// From a line without its CRLF.
    ///
    /// # Errors
    /// The line is not exactly one known command with the arguments it takes.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(line).ok();
        let text = text.filter(|text| !text.contains(char::is_control));
        let text = text.ok_or_else(|| unreadable(line))?;
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        // RFC 5321 §4.1.1: white space before the end of the line is tolerated.
        let argument = argument.trim_end_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "HELO" => name(argument).map(Self::Helo),
            "EHLO" => name(argument).map(Self::Ehlo),
            "LHLO" => name(argument).map(Self::Lhlo),
            "MAIL" => mail(argument).map(Self::Mail),
            "RCPT" => rcpt(argument).map(Self::Rcpt),
            "DATA" => bare(argument, Self::Data),
            "RSET" => bare(argument, Self::Rset),
            "QUIT" => bare(argument, Self::Quit),
            // RFC 3207 §4: STARTTLS with an argument is answered 501.
            "STARTTLS" => bare(argument, Self::StartTls),
            "ETRN" => etrn(argument).map(Self::Etrn),
            "AUTH" => auth(argument),
            "XFORWARD" => client::attributes(argument).map(Self::XForward),
            "XCLIENT" => client::attributes(argument).map(Self::XClient),
            "NOOP" => Ok(Self::Noop),
            "VRFY" => Ok(Self::Vrfy),
            "HELP" => Ok(Self::Help),
            "BDAT" | "EXPN" | "TURN" | "ATRN" => Err(CommandError::NotImplemented),
            _ => Err(CommandError::Unknown),
        }
    }
}

/// What MAIL and RCPT carry was written by others.
fn unreadable(line: &[u8]) -> CommandError {
    let carries = |verb: &[u8]| {
        let start = line.get(..verb.len());
        start.is_some_and(|it| it.eq_ignore_ascii_case(verb))
    };
    match carries(b"MAIL FROM:") || carries(b"RCPT TO:") {
        true => CommandError::AddressBytes,
        false => CommandError::Bytes,
    }
}

fn bare(argument: &str, command: Command) -> Result<Command, CommandError> {
    match argument {
        "" => Ok(command),
        _ => Err(CommandError::Syntax("no argument")),
    }
}

/// The client's name: checked only for being one word, for what it says proves nothing.
fn name(argument: &str) -> Result<String, CommandError> {
    match argument {
        "" => Err(CommandError::Syntax("the client's host name")),
        _ if argument.len() > 255 || argument.contains(' ') => {
            Err(CommandError::Syntax("one host name"))
        }
        _ => Ok(argument.to_owned()),
    }
}

fn etrn(argument: &str) -> Result<String, CommandError> {
    // RFC 1985 §5.3: no parameter, or more than one, is a syntax error.
    match argument {
        "" => Err(CommandError::Syntax("ETRN and a node name")),
        _ if argument.contains(' ') || argument.len() > 255 => {
            Err(CommandError::Syntax("ETRN and one node name"))
        }
        _ => Ok(argument.to_owned()),
    }
}

fn auth(argument: &str) -> Result<Command, CommandError> {
    let (mechanism, initial) = match argument.split_once(' ') {
        None => (argument, None),
        Some((mechanism, initial)) => (mechanism, Some(Unshown(initial.to_owned()))),
    };
    if mechanism.is_empty() || initial.as_ref().is_some_and(|it| it.contains(' ')) {
        return Err(CommandError::Syntax("AUTH and a mechanism"));
    }
    Ok(Command::Auth {
        mechanism: mechanism.to_owned(),
        initial,
    })
}

fn mail(argument: &str) -> Result<Mail, CommandError> {
    let text = behind(argument, "FROM:").ok_or(CommandError::Syntax("MAIL FROM:<address>"))?;
    let (path, rest) = reverse_path(text).map_err(CommandError::ReversePath)?;
    parameters::mail(path, rest)
}

fn rcpt(argument: &str) -> Result<Rcpt, CommandError> {
    let text = behind(argument, "TO:").ok_or(CommandError::Syntax("RCPT TO:<address>"))?;
    let (path, rest) = forward_path(text).map_err(CommandError::ForwardPath)?;
    parameters::rcpt(path, rest)
}

/// What follows the keyword; a space behind its colon is common, and harmless.
fn behind<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (word, rest) = argument.split_at_checked(keyword.len())?;
    word.eq_ignore_ascii_case(keyword)
        .then(|| rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (line, command) in [
            ("ehlo [127.0.0.1]", Command::Ehlo("[127.0.0.1]".to_owned())),
            ("LHLO a", Command::Lhlo("a".to_owned())),
            ("data", Command::Data),
            ("RSET ", Command::Rset),
            ("NOOP what ever", Command::Noop),
            ("STARTTLS", Command::StartTls),
            ("ETRN @a.example", Command::Etrn("@a.example".to_owned())),
            (
                "auth PLAIN AGEAYg==",
                Command::Auth {
                    mechanism: "PLAIN".to_owned(),
                    initial: Some(Unshown("AGEAYg==".to_owned())),
                },
            ),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_auth_brings_is_in_no_text_for_people() {
        let auth = Command::parse(b"AUTH PLAIN AHRpbQB0YW5zdGFhZg==").unwrap();
        let shown = format!("{auth:?}");
        assert!(
            shown.contains("PLAIN") && !shown.contains("AHRp"),
            "{shown}"
        );
    }

    #[test]
    fn parameters_are_typed() {
        let line =
            "mail from: <a@b.example> size=10 body=8bitmime SMTPUTF8 RET=hdrs ENVID=q+2B AUTH=<>";
        let expected = Mail {
            size: Some(10),
            encoding: Encoding::Utf8,
            ret: Some(Ret::Headers),
            envid: Some("q+2B".to_owned()),
            ..Mail::new("a@b.example".parse().unwrap())
        };
        assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Mail(expected)));
        let line = "RCPT TO:<\"a b\"@c.d> NOTIFY=success,DELAY ORCPT=rfc822;a+40b";
        let expected = Rcpt {
            forward_path: "\"a b\"@c.d".parse().unwrap(),
            notify: Some("success,DELAY".to_owned()),
            orcpt: Some("rfc822;a+40b".to_owned()),
        };
        assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Rcpt(expected)));
    }

    #[test]
    fn every_refusal_has_its_reply() {
        for (line, code, status) in [
            (&b""[..], 500, "5.5.2"),
            (b"FOO", 500, "5.5.2"),
            (b"NOOP \xff", 500, "5.5.2"),
            (b"NOOP \0", 500, "5.5.2"),
            (b"RCPT TO:<j\xf6rg@c.d>", 501, "5.5.4"),
            (b"mail from:<a\x01@c.d>", 501, "5.5.4"),
            (b"AUTH", 501, "5.5.4"),
            (b"AUTH PLAIN a b", 501, "5.5.4"),
            (b"BDAT 3", 502, "5.5.1"),
            (b"EHLO", 501, "5.5.4"),
            (b"EHLO a b", 501, "5.5.4"),
            (b"STARTTLS x", 501, "5.5.4"),
            (b"DATA x", 501, "5.5.4"),
            (b"ETRN", 501, "5.5.4"),
            (b"ETRN a b", 501, "5.5.4"),
            (b"MAIL <a@b.example>", 501, "5.5.4"),
            (b"MAIL FROM:a@b.example", 501, "5.1.7"),
            (b"MAIL FROM:<a@b,c>", 501, "5.1.8"),
            (b"MAIL FROM:<>SIZE=1", 501, "5.5.4"),
            (b"MAIL FROM:<> SIZE=1 size=2", 501, "5.5.4"),
            (b"MAIL FROM:<> S_ZE=1", 501, "5.5.4"),
            (b"MAIL FROM:<> FOO=1", 555, "5.5.4"),
            (b"RCPT TO:<>", 501, "5.1.3"),
            (b"RCPT TO:<postmaster>", 550, "5.1.3"),
            (b"RCPT TO:<a b@c.d>", 501, "5.1.3"),
            (b"RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", 501, "5.5.4"),
            (b"RCPT TO:<a@b.example> SIZE=1", 555, "5.5.4"),
        ] {
            let reply = Command::parse(line).unwrap_err().reply();
            let found = (reply.code, reply.status.unwrap().to_string());
            assert_eq!(found, (code, status.to_owned()), "{}", line.escape_ascii());
        }
    }
}
