//! Listens, counts sessions, and runs each connection in a task of its own until intake ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use dd_proto::smtp::reply::ServerReply;
use dd_service::sockets::Passed;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept::Acceptor;
use super::body::Buffers;
use super::connection::{self, Origin, Parts};
use super::lmtp::Protocol;
use super::member::Gatekeeper;
use super::policy::{self, Directory, Trust};
use super::refusals::Refusals;
use super::session::Surroundings;
use super::{Settings, reply};
use crate::limit::{Full, Room, Rooms, Seats, Who};
use crate::listen::{ListenError, Listeners};

/// Strangers of one address, and of its network: a member's scripts need one or two.
const OF_AN_ADDRESS: usize = 32;
const OF_A_NETWORK: usize = 128;

/// Feeders are told to come back, and do; a session of theirs is never ended for another. Beside them there is as much room
/// for strangers, who may want to wake their sites, and for members.
fn rooms(settings: &Settings) -> Rooms {
    let Settings {
        max_sessions: all,
        max_sessions_per_client: each,
        ..
    } = *settings;
    Rooms {
        strangers: Room {
            host: OF_AN_ADDRESS.min(each),
            network: OF_A_NETWORK.min(all),
            all,
            full: Full::OldestEnds,
        },
        trusted: Room {
            host: each,
            network: each,
            all,
            full: Full::NewestIsTurnedAway,
        },
        known: Room {
            host: OF_AN_ADDRESS.min(each),
            network: OF_AN_ADDRESS.min(each),
            all,
            full: Full::OldestEnds,
        },
    }
}

/// Intake with its listeners open, before the first client is served.
#[derive(Debug)]
pub struct Intake {
    settings: Arc<Settings>,
    listeners: Vec<(Protocol, Listeners)>,
    bound: Bound,
    refusals: Arc<Refusals>,
    seats: Seats,
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
    pub fn bind(settings: Settings, passed: &mut Passed) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        let mut bound = Bound::default();
        for (protocol, addresses, found) in [
            (Protocol::Smtp, &settings.smtp, &mut bound.smtp),
            (Protocol::Lmtp, &settings.lmtp, &mut bound.lmtp),
        ] {
            if !addresses.is_empty() {
                let opened = Listeners::bind(addresses, passed)?;
                *found = opened.bound().to_vec();
                listeners.push((protocol, opened));
            }
        }
        Ok(Self {
            seats: Seats::new("intake", rooms(&settings)),
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

    pub(crate) fn seats(&self) -> Seats {
        self.seats.clone()
    }

    /// Serves until `stop` changes or its sender is gone; then no one is accepted any more, sessions end at their next
    /// pause, and this returns when the last has ended. Dropped, it ends them all.
    pub async fn serve<A: Acceptor>(
        self,
        directory: Arc<dyn Directory>,
        acceptor: A,
        gatekeeper: Arc<dyn Gatekeeper>,
        mut stop: watch::Receiver<()>,
    ) {
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
        for (protocol, listeners) in self.listeners {
            let door = Door {
                protocol,
                listeners,
                parts: parts.clone(),
                seats: self.seats.clone(),
            };
            doors.spawn(door.serve(stop.clone()));
        }
        if doors.is_empty() {
            // Intake is off, which ends nothing. An error says that it is to stop, as well.
            let _ = stop.changed().await;
        }
        while let Some(ended) = doors.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// The listeners of one protocol, and their connections.
struct Door<A> {
    protocol: Protocol,
    listeners: Listeners,
    parts: Arc<Parts<A>>,
    seats: Seats,
}

impl<A: Acceptor> Door<A> {
    async fn serve(self, stop: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        let mut stopped = stop.clone();
        loop {
            tokio::select! {
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                (stream, peer) = self.listeners.accept() => {
                    self.admit(stream, peer.ip(), &stop, &mut connections);
                }
            }
        }
        drop(self.listeners);
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        client: IpAddr,
        stop: &watch::Receiver<()>,
        connections: &mut JoinSet<()>,
    ) {
        let client = client.to_canonical();
        let trust = policy::trust(&self.parts.around.settings.trusted, client);
        let who = match trust {
            Trust::Trusted => Who::Trusted(client),
            Trust::Stranger => Who::Stranger(client),
        };
        let Ok(seat) = self.seats.take(who) else {
            let reply = reply::too_many_sessions();
            self.parts
                .around
                .refusals
                .at_the_door(client, trust, &reply, now());
            return turn_away(stream, &reply);
        };
        // Replies are written in whole groups; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let origin = Origin {
            client,
            protocol: self.protocol,
            trust,
        };
        let (parts, stop) = (self.parts.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = connection::run(stream, origin, seat, parts, stop).await {
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

#[expect(
    clippy::disallowed_methods,
    reason = "read only where a client is turned away, for the line that says so"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
