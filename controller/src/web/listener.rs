//! HTTP/1.1 over TLS, or in clear on loopback, with every connection bounded.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::client::Client;
use super::{path, proxy};
use crate::limit::seats::made_room;
use crate::limit::{Full, Place, Room, Rooms, Seat, Seats, Who};
use crate::listen::Listeners;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From a connection to its first byte.
const SILENCE: Duration = Duration::from_secs(10);
/// For the head of a request; also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// No connection lives longer; whoever reads nothing of what it asked for is gone then.
const LIFE: Duration = Duration::from_secs(600);
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// So many requests are answered on one connection. A client that wants more connects again, and whoever only writes them one
/// behind the other costs no more than that.
const REQUESTS: u32 = 100;

/// Whoever signs in has seats of its own from then on.
pub(crate) const ROOMS: Rooms = Rooms {
    strangers: Room {
        host: 64,
        network: 256,
        all: 1024,
        full: Full::OldestEnds,
    },
    // Proxies, until they have said for whom they ask.
    trusted: Room {
        host: 1024,
        network: 1024,
        all: 1024,
        full: Full::OldestEnds,
    },
    known: Room {
        host: 64,
        network: 64,
        all: 1024,
        full: Full::OldestEnds,
    },
};

/// A door for HTTP.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listeners: Listeners,
    /// None: in the clear.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// From these networks each connection begins with a PROXY header.
    pub(crate) proxies: Vec<IpNet>,
    pub(crate) seats: Seats,
}

/// Serves until dropped. A connection that fails costs only itself.
pub(crate) async fn serve(door: Door, router: Router) {
    let tls = door.tls.map(TlsAcceptor::from);
    let seats = door.seats;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            (stream, peer) = door.listeners.accept() => {
                let peer = peer.ip().to_canonical();
                let by_proxy = door.proxies.iter().any(|it| it.contains(&peer));
                let who = match by_proxy {
                    true => Who::Trusted(peer),
                    false => Who::Stranger(peer),
                };
                let Ok(seat) = seats.take(who) else { continue };
                let connection = Connection { stream, peer, by_proxy, place: seat.place() };
                connections.spawn(connection.run(seat, tls.clone(), router.clone()));
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    by_proxy: bool,
    place: Place,
}

impl Connection {
    /// Serves it for as long as it may live and has its seat. What serves is in a box: a future that is passed on is counted
    /// once more each time.
    async fn run(self, mut seat: Seat, tls: Option<TlsAcceptor>, router: Router) {
        let peer = self.peer;
        let serving = Box::pin(self.serve(tls, router));
        let served = tokio::select! {
            served = timeout(LIFE, serving) => served.unwrap_or(Ok(())),
            () = seat.over() => Err(made_room()),
        };
        if let Err(error) = served {
            tracing::debug!(client = %peer, %error, "web connection lost");
        }
    }

    async fn serve(mut self, tls: Option<TlsAcceptor>, router: Router) -> io::Result<()> {
        // Answers are written whole; waiting for more would only delay them.
        self.stream.set_nodelay(true)?;
        let client = match self.by_proxy {
            true => self.behind_proxy().await?,
            false => self.peer,
        };
        // Whoever says nothing costs a socket: what reads requests has buffers of its own, and is made for those who ask.
        // (A socket that was accepted counts as readable until it has been read, so it is looked into.)
        timeout(SILENCE, self.stream.peek(&mut [0])).await??;
        Box::pin(self.answer(client, tls, router)).await
    }

    async fn answer(
        self,
        client: IpAddr,
        tls: Option<TlsAcceptor>,
        router: Router,
    ) -> io::Result<()> {
        let peer = Peer {
            client: Client(client),
            place: self.place,
        };
        let served = match tls {
            None => http(self.stream, peer, router).await,
            Some(tls) => {
                let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(self.stream)).await??;
                http(stream, peer, router).await
            }
        };
        served.map_err(io::Error::other)
    }

    /// For whom the proxy asks; it is counted as that client from now on.
    async fn behind_proxy(&mut self) -> io::Result<IpAddr> {
        let header = proxy::read(&mut self.stream);
        let source = timeout(HANDSHAKE_TIMEOUT, header).await??;
        Ok(match source {
            Some(client) => {
                self.place.belongs_to(Who::Stranger(client));
                client
            }
            None => self.peer,
        })
    }
}

/// Who asks on a connection: an extension of each of its requests. (A layer of the router would be a copy of every route.)
#[derive(Clone)]
struct Peer {
    client: Client,
    place: Place,
}

impl Peer {
    fn named_in<B>(&self, mut request: Request<B>) -> Request<B> {
        request.extensions_mut().insert(self.client);
        request.extensions_mut().insert(self.place.clone());
        request
    }
}

/// RFC 9112 §9.6: behind an answer that says `close` nothing more is read.
fn last_closes(mut response: Response, answered: &AtomicU32) -> Response {
    if answered.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn http<S>(stream: S, peer: Peer, router: Router) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answered = Arc::new(AtomicU32::new(0));
    let service = router
        .map_request(move |request| peer.named_in(path::normalised(request)))
        .map_response(move |response: Response| last_closes(response, &answered));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// One that was accepted, its seat, and the client's half.
    async fn connection(seats: &Seats) -> (Connection, Seat, TcpStream) {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, peer) = accepted.unwrap();
        let seat = seats.take(Who::Stranger(peer.ip())).unwrap();
        let connection = Connection {
            stream,
            peer: peer.ip(),
            by_proxy: false,
            place: seat.place(),
        };
        (connection, seat, client.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed_before_anything_is_made_for_it() {
        let (connection, _seat, _client) = connection(&Seats::new("web", ROOMS)).await;
        let began = tokio::time::Instant::now();
        let ended = connection.serve(None, Router::new()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs());
    }

    /// A flood of a thousand that say nothing costs a few MiB.
    #[tokio::test]
    async fn a_connection_that_has_said_nothing_is_small() {
        let seats = Seats::new("web", ROOMS);
        let (one, seat, _client) = connection(&seats).await;
        let task = size_of_val(&one.run(seat, None, Router::new()));
        let (other, _seat, _client) = connection(&seats).await;
        let serving = size_of_val(&other.serve(None, Router::new()));
        assert!(task + serving < 3 << 10, "{task} and {serving} bytes");
    }
}
