//! Moves bytes between a socket and a session, and does what the session asks for.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::name::SiteName;
use dd_proto::smtp::reply::ServerReply;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::{AcceptError, Acceptor, Spool, Submission};
use super::auth::Login;
use super::body::{Body, Buffers, Room};
use super::lmtp::Protocol;
use super::member::{AuthAnswer, Gatekeeper};
use super::policy::Trust;
use super::reply;
use super::session::{Letter, MAX_UNWRITTEN, Output, Session, Surroundings};
use crate::limit::seats::made_room;
use crate::limit::{Place, Seat, Who};

/// Of commands as much is read at once as there may be replies to write; of content more.
const READ_COMMANDS: usize = MAX_UNWRITTEN;
const READ_CONTENT: usize = 32 * 1024;

/// What all connections share.
pub struct Parts<A> {
    pub around: Arc<Surroundings>,
    pub acceptor: A,
    pub buffers: Buffers,
    pub gatekeeper: Arc<dyn Gatekeeper>,
}

impl<A> std::fmt::Debug for Parts<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Who connected, and where.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub client: IpAddr,
    pub protocol: Protocol,
    pub trust: Trust,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    command: Duration,
    content: Duration,
    write: Duration,
    handshake: Duration,
}

/// Of a feeder, and of a member who has signed in.
const KNOWN: Patience = Patience {
    // RFC 5321 §4.5.3.2.7: five minutes for the next command.
    command: Duration::from_secs(5 * 60),
    // RFC 5321 §4.5.3.2.5 and .6: a client gives three minutes to a block and ten to the end; we give it the longer one.
    content: Duration::from_secs(10 * 60),
    write: Duration::from_secs(5 * 60),
    handshake: Duration::from_secs(60),
};
/// A stranger hands nothing in: it may wake a site, or sign in.
const STRANGER: Patience = Patience {
    command: Duration::from_secs(30),
    content: Duration::from_secs(30),
    write: Duration::from_secs(30),
    handshake: Duration::from_secs(30),
};
/// In all; RFC 5321 §4.5.3.2.7 is for those who hand in mail.
const STRANGERS_LIFE: Duration = Duration::from_secs(5 * 60);

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// While the handshake has the socket.
    Taken,
}

impl Stream {
    /// As much as there is room for, and at least for `room`. Until something comes, a connection has no room at all.
    async fn read(&mut self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => {
                if buffer.capacity() == 0 {
                    // A socket that was accepted counts as readable until it has been read, so it is looked into.
                    stream.peek(&mut [0]).await?;
                }
                buffer.reserve(room);
                stream.read_buf(buffer).await
            }
            Self::Tls(stream) => {
                buffer.reserve(room);
                stream.read_buf(buffer).await
            }
            Self::Taken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Taken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Where it is taken at once; nobody waits for it.
    fn say_in_passing(&self, reply: &ServerReply) {
        let mut bytes = BytesMut::new();
        reply.write(&mut bytes);
        if let Self::Plain(stream) = self {
            let _ = stream.try_write(&bytes);
        }
    }

    async fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Taken => Ok(()),
        }
    }
}

/// Runs one connection to its end.
///
/// # Errors
/// The socket failed, TLS did not start, or it had to make room. No mail is lost by that: what was not answered with 250 is
/// the client's.
pub(crate) async fn run<A: Acceptor>(
    stream: TcpStream,
    origin: Origin,
    mut seat: Seat,
    parts: Arc<Parts<A>>,
    stop: watch::Receiver<()>,
) -> io::Result<()> {
    let entropy = StdRng::from_seed(rand::random());
    let session = Session::new(
        parts.around.clone(),
        origin.protocol,
        origin.client,
        entropy,
        now(),
    );
    let mut connection = Connection {
        stream: Stream::Plain(stream),
        session,
        origin,
        patience: match origin.trust {
            Trust::Trusted => KNOWN,
            Trust::Stranger => STRANGER,
        },
        life: Box::pin(sleep(STRANGERS_LIFE)),
        is_stranger: origin.trust == Trust::Stranger,
        place: seat.place(),
        parts,
        stop,
        unwritten: BytesMut::new(),
        body: None,
    };
    tokio::select! {
        ended = connection.drive() => return ended,
        () = seat.over() => {}
    }
    let reply = reply::too_many_sessions();
    connection.session.refused(&reply, now());
    connection.stream.say_in_passing(&reply);
    Err(made_room())
}

struct Connection<A: Acceptor> {
    stream: Stream,
    session: Session,
    origin: Origin,
    patience: Patience,
    /// Of a stranger.
    life: Pin<Box<Sleep>>,
    is_stranger: bool,
    place: Place,
    parts: Arc<Parts<A>>,
    stop: watch::Receiver<()>,
    /// Replies not yet written: those to a pipelined group go out together.
    unwritten: BytesMut,
    body: Option<Body<A::Spool>>,
}

#[derive(PartialEq)]
enum Then {
    GoOn,
    End,
}

impl<A: Acceptor> Connection<A> {
    async fn drive(&mut self) -> io::Result<()> {
        let mut input = BytesMut::new();
        loop {
            while let Some(output) = self.session.next_output() {
                if self.perform(output).await? == Then::End {
                    return Ok(());
                }
            }
            self.flush().await?;
            // What is unread at the other end holds up the commands behind it, not this process's memory.
            if self.session.written() {
                continue;
            }
            input.clear();
            if self.read(&mut input).await? == Then::End {
                return Ok(());
            }
        }
    }

    /// Reads once, or tells the session why not.
    async fn read(&mut self, input: &mut BytesMut) -> io::Result<Then> {
        let (patience, room) = match self.session.is_in_content() {
            true => (self.patience.content, READ_CONTENT),
            false => (self.patience.command, READ_COMMANDS),
        };
        let idle = self.session.is_idle();
        tokio::select! {
            biased;
            _ = self.stop.changed(), if idle => self.session.shut_down(),
            () = &mut self.life, if self.is_stranger => self.session.time_out(),
            read = timeout(patience, self.stream.read(input, room)) => match read {
                Err(_) => self.session.time_out(),
                Ok(read) => match read? {
                    0 => return Ok(Then::End),
                    _ => self.session.receive(input, now()),
                },
            },
        }
        Ok(Then::GoOn)
    }

    async fn perform(&mut self, output: Output) -> io::Result<Then> {
        match output {
            Output::Write(bytes) => self.unwritten.extend_from_slice(&bytes),
            Output::Reserve { announced_bytes } => self.reserve(announced_bytes).await?,
            Output::Content(chunk) => {
                if let Some(body) = &mut self.body {
                    body.add(chunk, &self.parts.acceptor).await;
                }
            }
            Output::Discard => self.body = None,
            // In boxes: a connection would always be as large as the largest of these.
            Output::Accept(letter) => Box::pin(self.accept(letter)).await,
            Output::StartTls => Box::pin(self.start_tls()).await?,
            Output::Etrn { node, shown } => {
                self.flush().await?;
                let answer = self.parts.gatekeeper.etrn(&node, &shown).await;
                self.session.etrn_answered(&answer);
            }
            Output::SignIn { login, client } => {
                let Login { user, password } = login;
                let answering = self.parts.gatekeeper.sign_in(&user, password, client);
                let answer = answering.await;
                if let AuthAnswer::As(site) = &answer {
                    self.is_known_as(site);
                }
                self.session.signed_in(answer);
            }
            Output::Close => {
                self.flush().await?;
                // The other end may be gone already; there is nothing left to tell it.
                let _ = timeout(self.patience.handshake, self.stream.shut_down()).await;
                return Ok(Then::End);
            }
        }
        Ok(Then::GoOn)
    }

    /// A member is no stranger any more.
    fn is_known_as(&mut self, site: &SiteName) {
        if self.is_stranger {
            self.is_stranger = false;
            self.patience = KNOWN;
            self.place.belongs_to(Who::Known(site.as_str().into()));
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let bytes = self.unwritten.split();
        timeout(self.patience.write, self.stream.write(&bytes)).await?
    }

    async fn reserve(&mut self, announced_bytes: Option<u64>) -> io::Result<()> {
        let room = match self.parts.buffers.reserve_now(announced_bytes) {
            Some(room) => Ok(room),
            None => {
                // The answers to MAIL and RCPT must not wait for room.
                self.flush().await?;
                self.parts.buffers.reserve(announced_bytes).await
            }
        };
        let result = room.map(|room| self.body = Some(Body::new(room)));
        self.session.buffer_ready(result);
        Ok(())
    }

    async fn accept(&mut self, letter: Box<Letter>) {
        let body = self.body.take().ok_or(AcceptError::Full);
        let client = self.origin.client;
        let result = match body.and_then(|body| submission(*letter, body, client)) {
            // The room is given back when the store has the content.
            Ok((submission, line, _room)) => {
                let accepted = self.parts.acceptor.accept(submission).await;
                accepted.inspect(|()| line.log())
            }
            Err(error) => Err(error),
        };
        self.session.accepted(result);
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        self.flush().await?;
        let config = self.parts.around.settings.tls.clone();
        let (Some(config), Stream::Plain(stream)) =
            (config, std::mem::replace(&mut self.stream, Stream::Taken))
        else {
            unreachable!("a session asks for TLS once, and only where it is configured");
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(self.patience.handshake, handshake).await??;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificates = certificates.unwrap_or_default();
        let shown = certificates.iter().map(|it| it.clone().into_owned());
        let shown = shown.collect();
        self.stream = Stream::Tls(Box::new(stream));
        self.session.started_tls(shown);
        Ok(())
    }
}

/// A complete message, what is logged once it is ours, and the room that its content has.
fn submission<S: Spool>(
    letter: Letter,
    body: Body<S>,
    client: IpAddr,
) -> Result<(Submission<S>, Accepted, Option<Room>), AcceptError> {
    let bytes = body.bytes();
    let (content, room) = body.finish()?;
    let line = Accepted::of(&letter, bytes, client);
    let submission = Submission {
        id: letter.id,
        envelope: letter.sorted.envelope,
        message_id: letter.message_id,
        deliveries: letter.sorted.deliveries,
        content,
        arrived: letter.arrived,
    };
    Ok((submission, line, room))
}

/// The first of the two log lines of a message's life.
struct Accepted {
    id: String,
    message_id: Arc<str>,
    reverse_path: String,
    recipients: String,
    sites: String,
    bytes: u64,
    client: IpAddr,
}

impl Accepted {
    fn of(letter: &Letter, bytes: u64, client: IpAddr) -> Self {
        let envelope = &letter.sorted.envelope;
        let recipients: Vec<_> = envelope
            .recipients
            .iter()
            .map(|r| r.path.as_str())
            .collect();
        let sites: Vec<_> = letter
            .sorted
            .deliveries
            .iter()
            .map(|(s, _)| s.as_str())
            .collect();
        Self {
            id: letter.id.to_string(),
            message_id: letter.message_id.clone(),
            reverse_path: envelope.reverse_path.as_str().to_owned(),
            recipients: recipients.join(","),
            sites: sites.join(","),
            bytes,
            client: client.to_canonical(),
        }
    }

    fn log(&self) {
        tracing::info!(
            target: "mail",
            id = %self.id,
            message_id = &*self.message_id,
            reverse_path = self.reverse_path,
            recipients = self.recipients,
            sites = %self.sites,
            bytes = self.bytes,
            client = %self.client,
            "accepted"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the loop reads the clock, once per event, for the session"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
