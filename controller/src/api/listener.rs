//! The two doors of the control plane: a local socket, and TCP with mutual TLS.
//!
//! # Invariants
//! - Connections, and handshakes at once, are bounded for each caller and together ([`crate::limit`]), and a handshake has
//!   ten seconds. One that fails costs only itself, and accepting never waits for any of them.
//! - A stranger's connection lives for half a minute, which is enough to join. While it does not read what it is told,
//!   nothing more is read from it: what is waiting to be written takes no more memory than one read may ask for.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::caller::{Caller, OtherEnd};
use super::now;
use super::roles::Role;
use crate::limit::seats::made_room;
use crate::limit::{Full, Room, Rooms, Seat, Seats, Who};
use crate::listen::{self, Listeners};
use crate::registry::Registry;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A stranger says no more than this: it joins with one message of at most 16 KiB, and a few calls may go wrong before.
const STRANGERS_BYTES: usize = 64 << 10;
/// For whoever is not known: to join takes one call.
const STRANGERS_LIFE: Duration = Duration::from_secs(30);

/// An honest agent needs a few milliseconds to show its certificate, and is then out of reach of strangers; so a flood,
/// even from the agent's own address, pushes out mostly itself. A name is an agent's or an administrator's.
pub(crate) const ROOMS: Rooms = Rooms {
    strangers: Room {
        host: 128,
        network: 256,
        all: 512,
        full: Full::OldestEnds,
    },
    trusted: NAMED,
    known: NAMED,
};
const NAMED: Room = Room {
    host: 64,
    network: 64,
    all: 4096,
    full: Full::OldestEnds,
};

/// Why the socket could not be made. It says its cause itself, once.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the socket {path}: {cause}", path = path.display())]
pub struct SocketError {
    path: PathBuf,
    cause: String,
}

/// unix(7): `sun_path` has 108 bytes, of which the last is NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Whether the kernel can name a socket by this path.
///
/// # Errors
/// It is too long.
pub fn socket_path_fits(path: &Path) -> Result<(), SocketError> {
    let bytes = path.as_os_str().len();
    if bytes <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(SocketError {
        path: path.to_owned(),
        cause: format!(
            "its path is {bytes} bytes long, at most {MAX_SOCKET_PATH}: set `[control] socket` to a shorter one"
        ),
    })
}

/// The name of the socket until its mode is right: it must not be longer than the path, which may be the longest there is.
fn before_its_mode_is_right(path: &Path) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = if *last == b'~' { b'-' } else { b'~' };
    }
    OsString::from_vec(bytes).into()
}

/// Makes the socket, in place of one that an earlier start left, and its directory where that is missing: `/run` is
/// empty after each boot.
///
/// # Errors
/// Something else lies there, or it cannot be made.
pub fn bind_socket(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |cause| SocketError {
        path: path.to_owned(),
        cause,
    };
    socket_path_fits(path)?;
    nothing_else_lies_at(path)?;
    if let Some(parent) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o750).create(parent);
        made.map_err(|cause| error(no_directory(parent, &cause)))?;
    }
    let steps = || {
        // Under another name until its mode is right, so that nobody connects too early.
        let temporary = before_its_mode_is_right(path);
        let _ = std::fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&temporary, path)?;
        Ok(listener)
    };
    steps().map_err(|cause: io::Error| error(cause.to_string()))
}

/// Whether the socket could be made, without making it.
///
/// # Errors
/// As [`bind_socket`].
pub fn could_bind_socket(path: &Path) -> Result<(), SocketError> {
    socket_path_fits(path)?;
    nothing_else_lies_at(path)?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    dd_proto::writable::directory(parent).map_err(|cause| SocketError {
        path: path.to_owned(),
        cause: no_directory(parent, &cause),
    })
}

fn no_directory(directory: &Path, cause: &io::Error) -> String {
    let directory = directory.display();
    format!(
        "its directory {directory} cannot be used: {cause}; make it for the controller's user (in systemd RuntimeDirectory=), or set `socket` in [control]"
    )
}

fn nothing_else_lies_at(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(SocketError {
            path: path.to_owned(),
            cause: "something that is no socket lies there".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Where admitted connections go.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) known: mpsc::Sender<Connection>,
    pub(super) strangers: mpsc::Sender<Connection>,
}

/// Accepts on both doors for ever. Whoever is let in goes to the server for those who are known, or the one for strangers.
pub(super) async fn accept(
    socket: UnixListener,
    tcp: Listeners,
    tls: Arc<rustls::ServerConfig>,
    seats: Seats,
    registry: Registry,
    admitted: Admitted,
) {
    let tls = TlsAcceptor::from(tls);
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handshakes.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => {
                    let uid = stream.peer_cred().map(|peer| peer.uid());
                    let caller = uid.map_or(Caller::Nobody, Caller::of_user);
                    let who = Who::Known(caller.who().into());
                    let Ok(seat) = seats.take(who) else { continue };
                    let from = "the socket".to_owned();
                    let connection = Connection::new(Box::pin(stream), caller, from, seat, None);
                    let admitted = admitted.clone();
                    handshakes.spawn(async move { let _ = admitted.known.send(connection).await; });
                }
                Err(error) => listen::cannot_accept(&error).await,
            },
            (stream, peer) = tcp.accept() => {
                let Ok(seat) = seats.take(Who::Stranger(peer.ip())) else { continue };
                let (tls, registry, admitted) = (tls.clone(), registry.clone(), admitted.clone());
                handshakes.spawn(async move {
                    if let Err(error) = shake_hands(tls, stream, peer, seat, &registry, admitted).await {
                        tracing::debug!(%peer, %error, "TLS handshake failed");
                    }
                });
            },
        }
    }
}

async fn shake_hands(
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    mut seat: Seat,
    registry: &Registry,
    admitted: Admitted,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let shaking = tokio::time::timeout(HANDSHAKE, async {
        // What shakes hands has buffers of its own, and is made for those who say something. (A socket that was accepted
        // counts as readable until it has been read, so it is looked into.)
        stream.peek(&mut [0]).await?;
        Box::pin(tls.accept(stream)).await
    });
    let stream = tokio::select! {
        shaken = shaking => shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = seat.over() => return Err(made_room()),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let caller = chain.and_then(|chain| chain.first());
    let caller = caller.map_or(Caller::Nobody, |leaf| Caller::of_certificate(leaf, now()));
    // A certificate makes nobody known whose key has been replaced, or who was removed.
    let (life, to) = match Role::of(&caller, registry, now()) {
        Role::Nobody => (Some(STRANGERS_LIFE), admitted.strangers),
        _ => {
            // By its key too: whoever bore the name before pushes out nobody.
            seat.belongs_to(Who::Known(format!("{caller:?}").into()));
            (None, admitted.known)
        }
    };
    let _ = to
        .send(Connection::new(
            Box::pin(stream),
            caller,
            peer.to_string(),
            seat,
            life,
        ))
        .await;
    Ok(())
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection about whose other end is known what its handshake showed.
pub(super) struct Connection {
    io: Pin<Box<dyn Io>>,
    caller: Caller,
    from: String,
    seat: Seat,
    stranger: Option<Stranger>,
}

/// What bounds the connection of somebody who is not known.
struct Stranger {
    life: Pin<Box<Sleep>>,
    /// Whether something waits to be written, for the other end does not read.
    is_behind: bool,
    /// Who wants to read when that is over.
    reader: Option<Waker>,
    /// How much more it may send.
    bytes: usize,
}

impl Connection {
    fn new(
        io: Pin<Box<dyn Io>>,
        caller: Caller,
        from: String,
        seat: Seat,
        life: Option<Duration>,
    ) -> Self {
        Self {
            io,
            caller,
            from,
            seat,
            stranger: life.map(|life| Stranger {
                life: Box::pin(sleep(life)),
                is_behind: false,
                reader: None,
                bytes: STRANGERS_BYTES,
            }),
        }
    }

    /// Whether it has to end.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.seat.poll_over(context).is_ready() {
            return Poll::Ready(made_room());
        }
        match &mut self.stranger {
            Some(stranger) => {
                ready!(stranger.life.as_mut().poll(context));
                Poll::Ready(io::ErrorKind::TimedOut.into())
            }
            None => Poll::Pending,
        }
    }

    /// After a try to write. Whoever reads nothing may never be read from again, so its end is looked for here too.
    fn tried<T>(
        &mut self,
        tried: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Some(stranger) = &mut self.stranger {
            stranger.is_behind = tried.is_pending();
            if let (false, Some(reader)) = (stranger.is_behind, stranger.reader.take()) {
                reader.wake();
            }
        }
        match tried {
            Poll::Pending => self.poll_end(context).map(Err),
            done => done,
        }
    }
}

fn said_too_much() -> io::Error {
    io::Error::other("a stranger has said more than it takes to join")
}

impl Connected for Connection {
    type ConnectInfo = OtherEnd;

    fn connect_info(&self) -> OtherEnd {
        OtherEnd {
            caller: self.caller.clone(),
            from: self.from.clone(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.poll_end(context) {
            return Poll::Ready(Err(error));
        }
        if let Some(stranger) = &mut self.stranger
            && stranger.is_behind
        {
            stranger.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.io.as_mut().poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(stranger) = &mut self.stranger {
            let Some(left) = stranger.bytes.checked_sub(read) else {
                return Poll::Ready(Err(said_too_much()));
            };
            stranger.bytes = left;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = self.io.as_mut().poll_write(context, bytes);
        self.tried(tried, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = self.io.as_mut().poll_write_vectored(context, slices);
        self.tried(tried, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = self.io.as_mut().poll_flush(context);
        self.tried(tried, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_path_of_a_socket_is_bound_and_one_byte_more_is_named_with_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let of = |bytes: usize| {
            let name = bytes - directory.path().as_os_str().len() - 1;
            directory.path().join("s".repeat(name))
        };
        could_bind_socket(&of(107)).unwrap();
        bind_socket(&of(107)).unwrap();
        let said =
            "its path is 108 bytes long, at most 107: set `[control] socket` to a shorter one";
        for refused in [could_bind_socket(&of(108)), bind_socket(&of(108)).map(drop)] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.ends_with(said), "{refused}");
        }
    }
}
