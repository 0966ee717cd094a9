//! The receiving end of an SMTP or LMTP session, as a value: bytes and `now` in, outputs out.
//!
//! ```text
//! Commands ──DATA──→ AwaitBuffer ──buffer_ready──→ Content ──the dot──→ AwaitAccept ──accepted──→ Commands
//!     │ ├─STARTTLS─→ AwaitTls ──started_tls──→ Commands, everything forgotten
//!     │ ├─ETRN─→ AwaitEtrn ──etrn_answered──→ Commands
//!     │ └─AUTH─→ Auth ──the client's lines──→ AwaitSignIn ──signed_in──→ Commands
//!     └─QUIT, too many errors, bytes behind STARTTLS─→ Closed
//! ```
//!
//! # Invariants
//! While the session awaits something it takes no bytes; its loop does not read. A 250 to a message is written only by
//! [`Session::accepted`]. Nothing learnt before TLS is known after it. While [`MAX_UNWRITTEN`] bytes of replies wait to be
//! written, no more commands are obeyed: what a client does not read takes no more memory than that.
//!
//! # Not here
//! Timers: the loop's, which calls [`Session::time_out`]. Whether a client is a member: the gatekeeper's.

mod client;
mod content;
mod envelope;
mod member;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::smtp::command::{Command, CommandError};
use dd_proto::smtp::line::{COMMAND_LIMIT, LineBuffer};
use dd_proto::smtp::reply::ServerReply;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rustls_pki_types::CertificateDer;

use super::accept::AcceptError;
use super::auth::{Exchange, Login};
use super::content::Incoming;
use super::lmtp::{Greeted, Protocol, Tls};
use super::member::Shown;
use super::policy::{self, Directory, Trust};
use super::quota::{Kept, Quotas};
use super::refusals::{Refusals, Refused};
use super::transaction::{Sorted, Transaction};
use super::{Settings, reply};

/// So many lines that are no commands, and the session ends.
const MAX_ERRORS: u32 = 20;

/// Bytes of replies that may wait to be written. A group of commands that a client pipelines has shorter ones.
pub const MAX_UNWRITTEN: usize = 4096;

/// What every session works with.
pub struct Surroundings {
    pub settings: Arc<Settings>,
    pub directory: Arc<dyn Directory>,
    pub refusals: Arc<Refusals>,
    pub quotas: Arc<Quotas>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// What the loop is to do, in this order.
#[derive(Debug)]
pub enum Output {
    Write(Bytes),
    /// Find room for a content of about that many bytes, then call [`Session::buffer_ready`].
    Reserve {
        announced_bytes: Option<u64>,
    },
    /// The next part of the content.
    Content(Bytes),
    /// The content was refused.
    Discard,
    /// The content is complete: make it durable, then call [`Session::accepted`].
    Accept(Box<Letter>),
    /// Start TLS on the connection, then call [`Session::started_tls`].
    StartTls,
    /// Ask the gatekeeper, then call [`Session::etrn_answered`].
    Etrn {
        node: String,
        shown: Shown,
    },
    /// Ask the gatekeeper, then call [`Session::signed_in`].
    SignIn {
        login: Login,
        client: IpAddr,
    },
    Close,
}

/// A message, complete but for its content.
#[derive(Debug)]
pub struct Letter {
    pub id: MessageId,
    pub sorted: Sorted,
    /// Printable and bounded; empty if there is none.
    pub message_id: Arc<str>,
    pub arrived: Timestamp,
}

/// One session with one client.
#[derive(Debug)]
pub struct Session {
    around: Arc<Surroundings>,
    client: IpAddr,
    trust: Trust,
    protocol: Protocol,
    tls: Tls,
    hello: Option<(Greeted, String)>,
    /// By AUTH.
    signed_in: Option<SiteName>,
    /// What the client presented in the TLS handshake.
    certificates: Arc<[CertificateDer<'static>]>,
    told: client::Told,
    transaction: Option<Transaction>,
    /// For the log: whom the transaction is from, and whom a refusal is about.
    sender: String,
    recipient: String,
    lines: LineBuffer,
    state: State,
    errors: u32,
    /// Bytes of replies since [`Session::written`].
    unwritten: usize,
    entropy: StdRng,
    now: Timestamp,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    Commands,
    AwaitBuffer,
    Content(Box<Receiving>),
    AwaitAccept {
        id: MessageId,
        refused: Vec<Option<ServerReply>>,
        /// For the log: whom each answer is about.
        about: Vec<String>,
        /// Until it is in the queues.
        _room: Kept,
    },
    AwaitTls,
    AwaitEtrn {
        node: String,
    },
    /// The client's next line belongs to AUTH.
    Auth(Exchange),
    AwaitSignIn,
    Closed,
}

#[derive(Debug)]
struct Receiving {
    id: MessageId,
    incoming: Incoming,
}

impl Session {
    /// Greets. `entropy` gives the random part of message ids.
    pub fn new(
        around: Arc<Surroundings>,
        protocol: Protocol,
        client: IpAddr,
        entropy: StdRng,
        now: Timestamp,
    ) -> Self {
        let settings = &around.settings;
        let mut session = Self {
            client,
            trust: policy::trust(&settings.trusted, client),
            protocol,
            tls: match settings.tls {
                Some(_) => Tls::Offered,
                None => Tls::NotOffered,
            },
            hello: None,
            signed_in: None,
            certificates: Arc::new([]),
            told: client::Told::default(),
            transaction: None,
            sender: String::new(),
            recipient: String::new(),
            lines: LineBuffer::new(COMMAND_LIMIT),
            state: State::Commands,
            errors: 0,
            unwritten: 0,
            entropy,
            now,
            outputs: VecDeque::new(),
            around,
        };
        session.say(&reply::greeting(&session.settings().hostname, protocol));
        session
    }

    /// What is to be done next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether nothing would be lost if the session ended now.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Commands) && self.transaction.is_none()
    }

    /// Whether a content is coming in: other timeouts apply.
    pub fn is_in_content(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// Takes what came from the client. Only while nothing is awaited.
    pub fn receive(&mut self, bytes: &[u8], now: Timestamp) {
        self.now = now;
        if matches!(self.state, State::Content(_)) {
            self.content(bytes);
        } else {
            self.lines.push(bytes);
            self.run();
        }
    }

    /// All replies so far are written: the commands behind them have their turn. Says whether anything came of it.
    pub fn written(&mut self) -> bool {
        self.unwritten = 0;
        self.run();
        !self.outputs.is_empty()
    }

    /// Answers [`Output::Reserve`].
    pub fn buffer_ready(&mut self, room: Result<(), AcceptError>) {
        debug_assert!(matches!(self.state, State::AwaitBuffer));
        match room {
            Ok(()) => self.begin_content(),
            Err(error) => {
                self.state = State::Commands;
                self.say(&reply::not_accepted(error));
                self.forget();
                self.run();
            }
        }
    }

    /// Answers [`Output::Accept`].
    pub fn accepted(&mut self, result: Result<(), AcceptError>) {
        let State::AwaitAccept {
            id, refused, about, ..
        } = std::mem::replace(&mut self.state, State::Commands)
        else {
            unreachable!(
                "accepted answers Output::Accept, which leaves the session in AwaitAccept"
            );
        };
        let common = match result {
            Ok(()) => reply::queued(id),
            Err(error) => reply::not_accepted(error),
        };
        self.answer(refused, about, &common);
        self.run();
    }

    /// Answers [`Output::StartTls`]. RFC 3207 §4.2: everything learnt before is forgotten.
    pub fn started_tls(&mut self, certificates: Arc<[CertificateDer<'static>]>) {
        debug_assert!(matches!(self.state, State::AwaitTls));
        self.tls = Tls::Active;
        self.certificates = certificates;
        self.hello = None;
        self.forget();
        self.forget_clients();
        self.state = State::Commands;
    }

    /// The client was silent for too long.
    pub fn time_out(&mut self) {
        self.close_with(&reply::timed_out());
    }

    /// Intake ends.
    pub fn shut_down(&mut self) {
        self.close_with(&reply::shutting_down());
    }

    fn settings(&self) -> &Settings {
        &self.around.settings
    }

    fn say(&mut self, reply: &ServerReply) {
        if reply.code >= 400 {
            self.refused(reply, self.now);
        }
        let mut bytes = BytesMut::new();
        reply.write(&mut bytes);
        self.unwritten += bytes.len();
        self.outputs.push_back(Output::Write(bytes.freeze()));
    }

    /// Counts a refusal, and says it in the log.
    pub(super) fn refused(&self, reply: &ServerReply, now: Timestamp) {
        let refusals = &self.around.refusals;
        refusals.count(reply);
        let refused = Refused {
            client: self.client,
            trust: self.trust,
            helo: self.hello.as_ref().map_or("", |(_, name)| name),
            sender: &self.sender,
            recipient: &self.recipient,
        };
        refusals.say(&refused, reply, now);
    }

    /// No transaction is open any more.
    fn forget(&mut self) {
        self.transaction = None;
        self.told.message = None;
        self.sender.clear();
        self.recipient.clear();
    }

    fn close_with(&mut self, reply: &ServerReply) {
        self.say(reply);
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.outputs.push_back(Output::Close);
    }

    /// A line that is no command: only so many of them.
    fn reject(&mut self, reply: &ServerReply) {
        self.say(reply);
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            self.close_with(&reply::too_many_errors());
        }
    }

    fn run(&mut self) {
        while matches!(self.state, State::Commands | State::Auth(_))
            && self.unwritten < MAX_UNWRITTEN
        {
            match self.lines.next_line() {
                None => return,
                Some(Err(error)) => match self.lines.take_bare_line() {
                    Some(line) if self.is_idle() && hands_over_nothing(&line) => self.line(&line),
                    _ => {
                        self.state = State::Commands;
                        self.reject(&reply::bad_line(error));
                    }
                },
                Some(Ok(line)) => self.line(&line),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        match std::mem::replace(&mut self.state, State::Commands) {
            State::Auth(exchange) => {
                let next = exchange.take(&String::from_utf8_lossy(line));
                self.exchange(next);
            }
            _ => match Command::parse(line) {
                Ok(command) => self.obey(command),
                Err(error) => self.misunderstood(line, &error),
            },
        }
    }

    /// A feeder passes on what others wrote, and its other messages shall not suffer for it.
    fn misunderstood(&mut self, line: &[u8], error: &CommandError) {
        let of_transaction = (self.sender.clone(), self.recipient.clone());
        self.names(&String::from_utf8_lossy(line));
        match self.trust {
            Trust::Trusted if error.is_about_the_message() => self.say(&error.reply()),
            Trust::Trusted | Trust::Stranger => self.reject(&error.reply()),
        }
        (self.sender, self.recipient) = of_transaction;
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Helo(name) => self.greet(Greeted::Helo, name),
            Command::Ehlo(name) => self.greet(Greeted::Ehlo, name),
            Command::Lhlo(name) => self.greet(Greeted::Lhlo, name),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(rcpt) => self.rcpt(rcpt),
            Command::Data => self.data(),
            Command::Etrn(node) => self.etrn(node),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()),
            Command::XForward(told) => self.xforward(told),
            Command::XClient(told) => self.xclient(told),
            Command::StartTls => self.start_tls(),
            Command::Rset => {
                self.forget();
                self.say(&reply::done());
            }
            Command::Noop => self.say(&reply::done()),
            Command::Vrfy => self.say(&reply::vrfy()),
            Command::Help => self.say(&reply::help()),
            Command::Quit => self.close_with(&reply::bye()),
        }
    }

    fn greet(&mut self, greeted: Greeted, name: String) {
        if !self.protocol.allows(greeted) {
            return self.reject(&reply::wrong_hello(self.protocol));
        }
        // RFC 5321 §4.1.4: a second EHLO resets like RSET.
        self.forget();
        self.hello = Some((greeted, name));
        let settings = self.settings();
        let answer = match greeted {
            Greeted::Helo => reply::helo(&settings.hostname),
            Greeted::Ehlo | Greeted::Lhlo => reply::ehlo(
                &settings.hostname,
                settings.max_message_bytes,
                &self.offer(),
            ),
        };
        self.say(&answer);
    }

    fn offer(&self) -> Vec<&'static str> {
        let mut offer = vec![
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
        ];
        if self.trust == Trust::Trusted {
            offer.extend([
                "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
                "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
            ]);
        }
        if self.tls == Tls::Offered {
            offer.push("STARTTLS");
        }
        if self.protocol == Protocol::Smtp {
            offer.push("ETRN");
        }
        // A password is never asked for in clear.
        if self.protocol == Protocol::Smtp && self.tls == Tls::Active {
            offer.push("AUTH PLAIN LOGIN");
        }
        offer
    }

    fn start_tls(&mut self) {
        match self.tls {
            Tls::NotOffered => return self.reject(&reply::tls_not_offered()),
            Tls::Active => return self.say(&reply::out_of_order("TLS is active already")),
            Tls::Offered => {}
        }
        // RFC 3207 §4.2: whoever can put commands behind STARTTLS must not have them obeyed within TLS.
        if !self.lines.is_empty() {
            return self.close();
        }
        self.say(&reply::start_tls());
        self.state = State::AwaitTls;
        self.outputs.push_back(Output::StartTls);
    }
}

/// Commands that old clients end in LF alone: sendmail's `etrn` does. They bring no mail, and no content comes before
/// them whose end somebody else might see elsewhere.
fn hands_over_nothing(line: &[u8]) -> bool {
    let verb = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let verbs: [&[u8]; 4] = [b"EHLO", b"HELO", b"ETRN", b"QUIT"];
    verbs.iter().any(|it| verb.eq_ignore_ascii_case(it))
}
