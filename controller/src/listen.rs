//! Opens what is listened on, and accepts on several at once.
//!
//! # Invariants
//! `[::]` is IPv6 alone, whatever the system's default is: `0.0.0.0:P` and `[::]:P` may stand together, and an address
//! says all that is listened on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use dd_service::sockets::Passed;
use jiff::Timestamp;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::limit::line::Sparing;

/// Connections that may wait to be accepted. The system's own limit may be lower.
const BACKLOG: i32 = 1024;
/// Where no more sockets can be had, accepting pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener could not be opened. It says its cause itself, once.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}{}", advice(.cause))]
pub struct ListenError {
    pub address: SocketAddr,
    pub cause: io::Error,
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "; stop what listens there, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; expected an address of this machine",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (in systemd AmbientCapabilities=)"
        }
        _ => "",
    }
}

/// Several listeners that are served alike.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<TcpListener>,
    bound: Vec<SocketAddr>,
    /// Which is looked at first: none waits for ever behind another.
    next: AtomicUsize,
}

impl Listeners {
    /// Opens those that were not `passed`.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn bind(addresses: &[SocketAddr], passed: &mut Passed) -> Result<Self, ListenError> {
        // It served both families before.
        if let Some(address) = without_ipv4(addresses) {
            tracing::warn!(%address, "only IPv6 is listened on: add 0.0.0.0 with the same port to serve IPv4");
        }
        let all: Vec<TcpListener> = addresses
            .iter()
            .map(|it| open(*it, passed))
            .collect::<Result<_, _>>()?;
        let bound = all.iter().zip(addresses).map(|(listener, &address)| {
            let bound = listener.local_addr();
            bound.map_err(|cause| ListenError { address, cause })
        });
        Ok(Self {
            bound: bound.collect::<Result<_, _>>()?,
            all,
            next: AtomicUsize::new(0),
        })
    }

    /// In the order of the configuration.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// The next connection on any of them.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.accepted().await {
                Ok(accepted) => return accepted,
                Err(error) => cannot_accept(&error).await,
            }
        }
    }

    async fn accepted(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|context| {
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            for place in 0..self.all.len() {
                let listener = &self.all[first.wrapping_add(place) % self.all.len()];
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Says so, and waits a moment for sockets to become free.
pub(crate) async fn cannot_accept(error: &io::Error) {
    static LINES: Sparing = Sparing::one_a_second();
    if let Some(unsaid) = LINES.due(now()) {
        tracing::warn!(%error, unsaid, "cannot accept a connection");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The socket that was passed for this address, or a new one.
/// An address that means every address of the machine, where none is of IPv4.
fn without_ipv4(addresses: &[SocketAddr]) -> Option<&SocketAddr> {
    let has_ipv4 = addresses.iter().any(SocketAddr::is_ipv4);
    let all = addresses.iter().find(|it| it.ip().is_unspecified());
    all.filter(|_| !has_ipv4)
}

fn open(address: SocketAddr, passed: &mut Passed) -> Result<TcpListener, ListenError> {
    match passed.take(address) {
        Some(socket) => {
            TcpListener::from_std(socket).map_err(|cause| ListenError { address, cause })
        }
        None => bind(address),
    }
}

/// # Errors
/// It cannot be opened.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A start does not wait for the connections of the one before to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|cause| ListenError { address, cause })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the loop reads the clock; what it calls takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn open(addresses: &[SocketAddr]) -> Result<Listeners, ListenError> {
        Listeners::bind(addresses, &mut Passed::default())
    }

    #[tokio::test]
    async fn both_families_share_a_port_and_both_are_served() {
        let four = open(&["0.0.0.0:0".parse().unwrap()]).unwrap();
        let port = four.bound()[0].port();
        let six = open(&[format!("[::]:{port}").parse().unwrap()]).unwrap();
        drop((four, six));
        let both = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        let both = both.map(|it| it.parse().unwrap());
        let listeners = open(&both).unwrap();
        for address in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            let mut client = TcpStream::connect(to).await.unwrap();
            let (stream, peer) = listeners.accept().await;
            assert_eq!(peer.ip(), to.ip(), "an IPv4 client is not mapped into IPv6");
            drop(stream);
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[test]
    fn that_ipv4_is_left_out_is_seen() {
        for (addresses, seen) in [
            (&["[::]:25"][..], true),
            (&["[::]:25", "0.0.0.0:25"], false),
            (&["[::]:25", "127.0.0.1:25"], false),
            (&["[::1]:25"], false),
            (&["0.0.0.0:25"], false),
        ] {
            let parsed: Vec<SocketAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
            assert_eq!(without_ipv4(&parsed).is_some(), seen, "{addresses:?}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_once() {
        let taken = open(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let error = open(taken.bound()).unwrap_err();
        let text = error.to_string();
        assert_eq!(text.matches("Address already in use").count(), 1, "{text}");
        assert!(std::error::Error::source(&error).is_none());
    }
}
