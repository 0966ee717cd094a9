//! A TCP connection to one of a host's addresses, from one of the agent's own.
//!
//! Only addresses that [`TargetRules`] permit are tried, [`STAGGER`] apart (RFC 8305 §5), the first that answers wins.
//! The race is about the connection alone: whether who answers is the site, and which address is next if not, is for
//! [`crate::attempt`] to say.
//!
//! # Invariants
//! The socket is bound to a configured address of the same family before it connects: members open their firewalls to
//! exactly these.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpSocket, TcpStream};

use crate::race;
use dd_proto::targets::{Forbidden, TargetRules};

/// Between the starts of two connects to the same host.
pub const STAGGER: Duration = Duration::from_millis(250);
/// How long a host's addresses may keep silent, all together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("this agent has no outbound address of the family of {0}")]
    NoSource(IpAddr),
    /// The agent's own trouble.
    #[error(
        "the outbound address {address} cannot be bound: {source}; is it still configured on this machine?"
    )]
    Bind {
        address: IpAddr,
        source: std::io::Error,
    },
    #[error("{peer} does not answer: {source}")]
    Connect {
        peer: SocketAddr,
        source: std::io::Error,
    },
    #[error("{0} does not answer within {limit} seconds", limit = .1.as_secs())]
    TimedOut(SocketAddr, Duration),
}

impl ConnectError {
    /// Whether the agent, and not the far end, is to blame.
    pub fn is_own_trouble(&self) -> bool {
        matches!(self, Self::Bind { .. })
    }

    /// Whether all of the time was waited for nothing.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::TimedOut(..))
    }
}

/// A connection, with both its ends.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub local: IpAddr,
}

/// What came of connecting to a host's addresses.
#[derive(Debug)]
pub struct Reached {
    /// To the first that answered. Those that neither answered nor failed by then may be tried again.
    pub connection: Option<Connection>,
    /// Addresses as they were given, and why there is no connection to them.
    pub failed: Vec<(IpAddr, ConnectError)>,
}

/// Connects to the first of `addresses` that answers within `limit`.
pub async fn connect(
    sources: &[IpAddr],
    addresses: &[IpAddr],
    port: NonZeroU16,
    rules: &TargetRules,
    site_allows: &[IpNet],
    limit: Duration,
) -> Reached {
    let mut failed = Vec::new();
    let mut targets = Vec::new();
    for &address in addresses {
        match target(sources, address, port, rules, site_allows) {
            Ok((sources, peer)) => targets.push((address, sources, peer)),
            Err(error) => failed.push((address, error)),
        }
    }
    let deadline = tokio::time::Instant::now() + limit;
    let contenders = targets
        .into_iter()
        .map(|(address, sources, peer)| async move {
            let connecting = tokio::time::timeout_at(deadline, one(sources, peer)).await;
            let connected = connecting.unwrap_or(Err(ConnectError::TimedOut(peer, limit)));
            connected.map_err(|error| (address, error))
        });
    let contenders: Vec<_> = contenders.collect();
    let finish = race::first(contenders, STAGGER).await;
    failed.extend(finish.failed);
    Reached {
        connection: finish.winner,
        failed,
    }
}

/// Sources and destination, if the destination is permitted and a source of its family exists.
fn target(
    sources: &[IpAddr],
    address: IpAddr,
    port: NonZeroU16,
    rules: &TargetRules,
    site_allows: &[IpNet],
) -> Result<(Vec<IpAddr>, SocketAddr), ConnectError> {
    let address = address.to_canonical();
    rules.check(address, site_allows)?;
    let of_family = sources.iter().copied();
    let of_family = of_family.filter(|source| source.is_ipv4() == address.is_ipv4());
    let of_family: Vec<IpAddr> = of_family.collect();
    if of_family.is_empty() {
        return Err(ConnectError::NoSource(address));
    }
    Ok((of_family, SocketAddr::new(address, port.get())))
}

/// What the system takes of us beyond what it could send, in bytes. With its default, up to 4 MB, a write says nothing of
/// whether anything moves: it is asked for more only when a third of that is gone, seconds later on a slow line.
const UNSENT: u32 = 64 << 10;

async fn one(sources: Vec<IpAddr>, peer: SocketAddr) -> Result<Connection, ConnectError> {
    let (local, socket) = first_bound(&sources)?;
    let refused = |source| ConnectError::Connect { peer, source };
    let stream = socket.connect(peer).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_notsent_lowat(UNSENT).map_err(refused)?;
    Ok(Connection {
        stream,
        peer,
        local,
    })
}

/// A socket on the first of the sources that can be bound.
///
/// # Errors
/// None can; why the first one cannot.
pub fn first_bound(sources: &[IpAddr]) -> Result<(IpAddr, TcpSocket), ConnectError> {
    let mut failure = None;
    for &source in sources {
        match bound(source) {
            Ok(socket) => return Ok((source, socket)),
            Err(error) => failure = failure.or(Some((source, error))),
        }
    }
    let (address, source) = failure.expect("an agent has at least one address");
    Err(ConnectError::Bind { address, source })
}

fn bound(source: IpAddr) -> std::io::Result<TcpSocket> {
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> (Vec<IpAddr>, TargetRules) {
        let rules = TargetRules {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            forbid: Vec::new(),
        };
        (vec!["127.0.0.1".parse().unwrap()], rules)
    }

    /// Why there is no connection to the only address.
    async fn refused(
        sources: &[IpAddr],
        peer: &[IpAddr],
        port: NonZeroU16,
        rules: &TargetRules,
    ) -> ConnectError {
        let mut reached = connect(sources, peer, port, rules, &[], CONNECT_TIMEOUT).await;
        assert!(reached.connection.is_none() && reached.failed.len() == 1);
        reached.failed.remove(0).1
    }

    #[tokio::test]
    async fn the_own_address_is_what_the_peer_sees() {
        let (_, rules) = loopback();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
        let source: IpAddr = "127.0.0.77".parse().unwrap();
        // Nothing listens on the first address; the second one is tried at once.
        let addresses = ["127.0.0.2", "127.0.0.1"].map(|a| a.parse().unwrap());
        let reached = connect(&[source], &addresses, port, &rules, &[], CONNECT_TIMEOUT).await;
        let (_, seen) = listener.accept().await.unwrap();
        assert_eq!(seen.ip(), source);
        assert_eq!(reached.connection.unwrap().peer.ip(), addresses[1]);
        assert_eq!(reached.failed[0].0, addresses[0]);
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_bound_is_the_agents_own_trouble() {
        let (_, rules) = loopback();
        let port = NonZeroU16::new(9).unwrap();
        let peer = ["127.0.0.1".parse().unwrap()];
        let source = ["198.51.100.1".parse().unwrap()];
        let error = refused(&source, &peer, port, &rules).await;
        assert!(error.is_own_trouble(), "{error}");
    }

    #[tokio::test]
    async fn another_source_of_the_family_stands_in_for_one_that_cannot_be_bound() {
        let sources = ["192.0.2.1", "127.0.0.78"].map(|it| it.parse().unwrap());
        let (source, _socket) = first_bound(&sources).unwrap();
        assert_eq!(source, sources[1]);
        let error = first_bound(&sources[..1]).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    }

    #[tokio::test]
    async fn a_forbidden_address_is_not_connected_to() {
        let (sources, _) = loopback();
        let port = NonZeroU16::new(9).unwrap();
        let rules = TargetRules::default();
        let error = refused(&sources, &sources, port, &rules).await;
        assert!(matches!(error, ConnectError::Forbidden(_)), "{error}");
    }
}
