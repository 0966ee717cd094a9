//! HTTP/1.1 over TLS, or in clear on loopback, with every connection bounded.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::client::Client;
use super::path;
use crate::wakeup::host;

const MAX_CONNECTIONS: usize = 1024;
const MAX_PER_CLIENT: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request; also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// No connection lives longer; whoever reads nothing of what it asked for is gone then.
const LIFE: Duration = Duration::from_secs(600);
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Where no more sockets can be had, accepting pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped. A connection that fails costs only itself.
pub async fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, router: Router) {
    let tls = tls.map(TlsAcceptor::from);
    let seats = Seats::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(seat) = seats.take(peer.ip()) else {
                        continue;
                    };
                    let (tls, router) = (tls.clone(), router.clone());
                    connections.spawn(async move {
                        let client = peer.ip();
                        let connection = timeout(LIFE, connection(stream, client, tls, router));
                        if let Ok(Err(error)) = connection.await {
                            tracing::debug!(%client, %error, "web connection lost");
                        }
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(
    stream: TcpStream,
    client: IpAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
) -> io::Result<()> {
    // Answers are written whole; waiting for more would only delay them.
    stream.set_nodelay(true)?;
    let router = router.layer(Extension(Client(client)));
    let served = match tls {
        None => http(stream, router).await,
        Some(tls) => {
            let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
            http(stream, router).await
        }
    };
    served.map_err(io::Error::other)
}

async fn http<S>(stream: S, router: Router) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(path::normalised);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // RFC 9110 §5.1 has names without case; what some routers run has not.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
}

/// How many connections there are: in all, and of each client.
#[derive(Debug, Clone, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection's place; given back when dropped.
struct Seat {
    host: IpAddr,
    seats: Seats,
}

const LOCK: &str = "no holder of this lock panics";

impl Seats {
    fn take(&self, client: IpAddr) -> Option<Seat> {
        let host = host(client);
        let mut taken = self.0.lock().expect(LOCK);
        let all: usize = taken.values().sum();
        let own = taken.entry(host).or_default();
        if all >= MAX_CONNECTIONS || *own >= MAX_PER_CLIENT {
            return None;
        }
        *own += 1;
        let seats = self.clone();
        Some(Seat { host, seats })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().expect(LOCK);
        if let Some(own) = taken.get_mut(&self.host) {
            *own = own.saturating_sub(1);
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_only_so_many_places() {
        let seats = Seats::default();
        let stranger: IpAddr = "192.0.2.9".parse().unwrap();
        let taken: Vec<_> = (0..100).filter_map(|_| seats.take(stranger)).collect();
        assert_eq!(taken.len(), MAX_PER_CLIENT);
        assert!(seats.take("192.0.2.1".parse().unwrap()).is_some());
        drop(taken);
        assert!(seats.take(stranger).is_some());
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
