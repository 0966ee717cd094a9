//! Listens, counts sessions, and runs each connection in a task of its own until intake ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::smtp::reply::ServerReply;
use dd_service::sockets::Passed;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::accept::Acceptor;
use super::body::Buffers;
use super::connection::{self, Origin, Parts};
use super::lmtp::Protocol;
use super::member::Gatekeeper;
use super::policy::Directory;
use super::refusals::Refusals;
use super::session::Surroundings;
use super::{Settings, reply};
use crate::doors;

/// Where no more sockets can be had, accepting pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Intake with its listeners open, before the first client is served.
#[derive(Debug)]
pub struct Intake {
    settings: Arc<Settings>,
    listeners: Vec<(Protocol, TcpListener)>,
    bound: Bound,
    refusals: Arc<Refusals>,
}

/// The addresses that were bound, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    pub smtp: Vec<SocketAddr>,
    pub lmtp: Vec<SocketAddr>,
}

impl Intake {
    /// Opens every listener that was not `passed`.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub async fn bind(settings: Settings, passed: &mut Passed) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        let mut bound = Bound::default();
        for (protocol, addresses, found) in [
            (Protocol::Smtp, &settings.smtp, &mut bound.smtp),
            (Protocol::Lmtp, &settings.lmtp, &mut bound.lmtp),
        ] {
            for &address in addresses {
                let error = |source| BindError { address, source };
                let listener = doors::open(address, passed).await.map_err(error)?;
                found.push(listener.local_addr().map_err(error)?);
                listeners.push((protocol, listener));
            }
        }
        Ok(Self {
            settings: Arc::new(settings),
            listeners,
            bound,
            refusals: Arc::default(),
        })
    }

    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// What it refuses, counted from its first client on.
    pub fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// Serves until `stop` changes or its sender is gone; then no one is accepted any more, sessions end at their next
    /// pause, and this returns when the last has ended. Dropped, it ends them all.
    pub async fn serve<A: Acceptor>(
        self,
        directory: Arc<dyn Directory>,
        acceptor: A,
        gatekeeper: Arc<dyn Gatekeeper>,
        stop: watch::Receiver<()>,
    ) {
        let sessions = Sessions::new(&self.settings);
        let parts = Arc::new(Parts {
            buffers: Buffers::new(self.settings.buffer_bytes),
            around: Arc::new(Surroundings {
                settings: self.settings,
                directory,
                refusals: self.refusals,
                quotas: Arc::default(),
            }),
            acceptor,
            gatekeeper,
        });
        let mut doors = JoinSet::new();
        for (protocol, listener) in self.listeners {
            let door = Door {
                protocol,
                listener,
                parts: parts.clone(),
                sessions: sessions.clone(),
            };
            doors.spawn(door.serve(stop.clone()));
        }
        while let Some(ended) = doors.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// One listener and its connections.
struct Door<A> {
    protocol: Protocol,
    listener: TcpListener,
    parts: Arc<Parts<A>>,
    sessions: Sessions,
}

impl<A: Acceptor> Door<A> {
    async fn serve(self, stop: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        let mut stopped = stop.clone();
        loop {
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer.ip(), &stop, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        client: IpAddr,
        stop: &watch::Receiver<()>,
        connections: &mut JoinSet<()>,
    ) {
        let Some(seat) = self.sessions.enter(client) else {
            let reply = reply::too_many_sessions();
            self.parts.around.refusals.count(&reply);
            return turn_away(stream, &reply);
        };
        // Replies are written in whole groups; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let origin = Origin {
            client,
            protocol: self.protocol,
        };
        let (parts, stop) = (self.parts.clone(), stop.clone());
        connections.spawn(async move {
            let _seat = seat;
            if let Err(error) = connection::run(stream, origin, parts, stop).await {
                tracing::debug!(%client, %error, "connection lost");
            }
        });
    }
}

/// A fresh socket takes these few bytes at once; if it does not, the client sees a closed connection instead.
fn turn_away(stream: TcpStream, reply: &ServerReply) {
    let mut bytes = BytesMut::new();
    reply.write(&mut bytes);
    if let Ok(mut stream) = stream.into_std() {
        let _ = io::Write::write(&mut stream, &bytes);
    }
}

/// How many sessions there are: in all, and of each client.
#[derive(Debug, Clone)]
struct Sessions {
    all: Arc<Semaphore>,
    of_client: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max_per_client: usize,
}

/// A session's place; given back when dropped.
struct Seat {
    client: IpAddr,
    of_client: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

const LOCK: &str = "no holder of this lock panics";

impl Sessions {
    fn new(settings: &Settings) -> Self {
        Self {
            all: Arc::new(Semaphore::new(
                settings.max_sessions.min(Semaphore::MAX_PERMITS),
            )),
            of_client: Arc::default(),
            max_per_client: settings.max_sessions_per_client,
        }
    }

    fn enter(&self, client: IpAddr) -> Option<Seat> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let mut counts = self.of_client.lock().expect(LOCK);
        let taken = counts.get(&client).copied().unwrap_or(0);
        if taken >= self.max_per_client {
            return None;
        }
        counts.insert(client, taken + 1);
        Some(Seat {
            client,
            of_client: self.of_client.clone(),
            _permit: permit,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.of_client.lock().expect(LOCK);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}
