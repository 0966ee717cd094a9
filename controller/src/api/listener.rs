//! The two doors of the control plane: a local socket, and TCP with mutual TLS.
//!
//! # Invariants
//! Connections, and handshakes at once, are bounded for each caller and together ([`super::seats`]), and a handshake has
//! ten seconds. One that fails costs only itself, and accepting never waits for any of them.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::caller::Caller;
use super::now;
use super::seats::{Seat, Seats, Who};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Where no more sockets can be had, accepting pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the socket {path}: {source}", path = path.display())]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes the socket, in place of one that an earlier start left, and its directory where that is missing: `/run` is
/// empty after each boot.
///
/// # Errors
/// Something else lies there, or it cannot be made.
pub fn bind_socket(path: &Path) -> Result<UnixListener, SocketError> {
    let steps = || {
        if let Ok(found) = std::fs::symlink_metadata(path)
            && !found.file_type().is_socket()
        {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket lies there",
            ));
        }
        if let Some(directory) = path.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o750).create(directory)?;
        }
        // Under another name until its mode is right, so that nobody connects too early.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let _ = std::fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        std::fs::rename(&temporary, path)?;
        Ok(listener)
    };
    steps().map_err(|source| SocketError {
        path: path.to_owned(),
        source,
    })
}

/// Accepts on both doors for ever; whoever is let in goes to `admitted`.
pub(super) async fn accept(
    socket: UnixListener,
    tcp: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    admitted: mpsc::Sender<Connection>,
) {
    let tls = TlsAcceptor::from(tls);
    let seats = Seats::default();
    let mut handshakes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted.map(|(stream, _)| {
                let uid = stream.peer_cred().map(|peer| peer.uid());
                let caller = uid.map_or(Caller::Nobody, Caller::of_user);
                let seat = seats.take(Who::Known(caller.who().to_owned()));
                let connection = Connection { io: Box::pin(stream), caller, seat };
                let admitted = admitted.clone();
                handshakes.spawn(async move { let _ = admitted.send(connection).await; });
            }),
            accepted = tcp.accept() => accepted.map(|(stream, peer)| {
                let (tls, admitted) = (tls.clone(), admitted.clone());
                let seat = seats.take(Who::at(peer.ip()));
                handshakes.spawn(async move {
                    match shake_hands(tls, stream, seat).await {
                        Ok(connection) => { let _ = admitted.send(connection).await; }
                        Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    }
                });
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "cannot accept a control connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        while handshakes.try_join_next().is_some() {}
    }
}

async fn shake_hands(
    tls: TlsAcceptor,
    stream: TcpStream,
    mut seat: Seat,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let shaking = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
    let stream = tokio::select! {
        shaken = shaking => shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = seat.over() => return Err(made_room()),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let caller = chain.and_then(|chain| chain.first());
    let caller = caller.map_or(Caller::Nobody, |leaf| Caller::of_certificate(leaf, now()));
    if caller != Caller::Nobody {
        // By its key too: whoever bore the name before pushes out nobody.
        seat.belongs_to(&format!("{caller:?}"));
    }
    Ok(Connection {
        caller,
        io: Box::pin(stream),
        seat,
    })
}

/// Too many like it: newer ones have taken its place.
fn made_room() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "it had to make room for newer connections",
    )
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection whose other end is known.
pub(super) struct Connection {
    io: Pin<Box<dyn Io>>,
    caller: Caller,
    seat: Seat,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seat.poll_over(context).is_ready() {
            return Poll::Ready(Err(made_room()));
        }
        self.io.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(context)
    }
}
