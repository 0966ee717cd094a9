//! A controller that does what a case tells it: what no real one does at will, and may do all the same.
//!
//! # Invariants
//! It gives nothing by itself but a certificate for the token, Welcome, and the answers to beats; and of these a case can take
//! back each.

mod service;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::order::Order;
use dd_proto::token::JoinToken;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::Status;

use crate::wait::{PATIENCE, until};

/// The name in the controller's certificate.
const NAME: &str = "dd-controller.control.invalid";
const SECRET: &[u8] = b"a secret of thirty-two bytes 012";

/// A control plane on loopback.
#[derive(Debug)]
pub struct Controller {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Drives the server; it ends with this value.
    _runtime: Runtime,
}

/// How it behaves.
#[derive(Debug)]
pub struct Manner {
    /// Of every lease.
    pub lease: Duration,
    pub forbidden_networks: Vec<String>,
    pub beats: Beats,
    pub renewal: Renewal,
    /// What FetchContent sends, and whether it ends well.
    pub content: (Vec<u8>, Ends),
    /// How old the certificate is that a join brings; it lives for a day more.
    pub certificate_age: Duration,
}

/// What comes of beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beats {
    Answered,
    Unanswered,
}

/// What comes of a request for another certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Signs,
    /// It does not answer.
    Keeps,
    Refuses,
}

/// How a stream of content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Well,
    /// With a status.
    Broken,
}

#[derive(Debug)]
struct Shared {
    authority: Authority,
    manner: Mutex<Manner>,
    streams: Mutex<Vec<Arc<Stream>>>,
    renewals: AtomicUsize,
    /// Of them those that still wait for an answer.
    kept: AtomicUsize,
}

/// The authority of this control plane.
#[derive(Debug)]
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    pem: String,
}

/// One stream of the agent's: what came up, and what goes down.
#[derive(Debug)]
pub struct Stream {
    down: Mutex<Option<mpsc::UnboundedSender<Result<pb::Order, Status>>>>,
    up: Mutex<Vec<Event>>,
    half_closed: AtomicBool,
}

impl Controller {
    /// # Panics
    /// No socket can be bound.
    pub fn start(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let shared = Arc::new(Shared {
            authority: Authority::new(),
            manner: Mutex::new(manner),
            streams: Mutex::default(),
            renewals: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
        });
        let address = runtime.block_on(service::serve(&shared));
        Self {
            address,
            shared,
            _runtime: runtime,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line that `ddadm agent add` would print.
    ///
    /// # Panics
    /// `name` is none.
    pub fn token(&self, name: &str) -> String {
        JoinToken {
            name: name.parse().expect("a name"),
            secret: SECRET.to_vec(),
            authority: self.shared.authority.der.clone(),
        }
        .encode()
    }

    /// From now on it behaves otherwise.
    pub fn manner(&self) -> MutexGuard<'_, Manner> {
        locked(&self.shared.manner)
    }

    /// How often another certificate was asked for.
    pub fn renewals(&self) -> usize {
        self.shared.renewals.load(Ordering::Relaxed)
    }

    /// Whether the agent waits for another certificate now.
    pub fn keeps_a_renewal(&self) -> bool {
        self.shared.kept.load(Ordering::Relaxed) > 0
    }

    /// The agent's stream of that number, from 0 on, once its Hello is whole.
    ///
    /// # Panics
    /// It does not come.
    pub fn stream(&self, number: usize) -> Arc<Stream> {
        let what = format!("the agent's stream {number}");
        until(&what, PATIENCE, || {
            let stream = locked(&self.shared.streams).get(number).cloned()?;
            let is_whole = stream.all(|event| matches!(event, Event::HelloEnd(_))) == 1;
            is_whole.then_some(stream)
        })
    }
}

impl Stream {
    /// # Panics
    /// It was ended before.
    pub fn order(&self, order: Order) {
        self.send(pb::Order { order: Some(order) });
    }

    /// Of a version that has not been written: to one of today it is an order without any.
    ///
    /// # Panics
    /// It was ended before.
    pub fn unknown_order(&self) {
        self.send(pb::Order { order: None });
    }

    fn send(&self, order: pb::Order) {
        let down = locked(&self.down);
        // The agent may be gone; the case finds out by what does not come.
        let _ = down.as_ref().expect("it has not ended").send(Ok(order));
    }

    pub fn acknowledge(&self, lease: &pb::Lease) {
        self.order(Order::Acknowledged(pb::Acknowledged {
            lease: Some(lease.clone()),
        }));
    }

    /// Ends it behind all that went down, as a controller that stops.
    pub fn end(&self) {
        let down = locked(&self.down).take();
        let ended = Err(Status::unavailable("the controller stops"));
        if let Some(down) = down {
            // The agent may be gone already.
            let _ = down.send(ended);
        }
    }

    /// Waits for an event.
    ///
    /// # Panics
    /// It does not come.
    pub fn saw<T>(&self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        until(what, PATIENCE, || locked(&self.up).iter().find_map(&wanted))
    }

    /// The report of a lease, told or from the journal.
    ///
    /// # Panics
    /// It does not come.
    pub fn report(&self, lease: &pb::Lease) -> pb::Report {
        let what = format!("the report of lease {:?}", lease.generation);
        self.saw(&what, |event| {
            reported(event)
                .filter(|it| it.lease.as_ref() == Some(lease))
                .cloned()
        })
    }

    /// How many reports of a lease came.
    pub fn reports(&self, lease: &pb::Lease) -> usize {
        self.all(|event| reported(event).is_some_and(|it| it.lease.as_ref() == Some(lease)))
    }

    /// How many events are like that.
    pub fn all(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        locked(&self.up)
            .iter()
            .filter(|event| wanted(event))
            .count()
    }

    /// Whether the agent has ended its half.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }
}

fn reported(event: &Event) -> Option<&pb::Report> {
    match event {
        Event::Report(report) => Some(report),
        Event::Journaled(journaled) => match &journaled.entry {
            Some(pb::journaled::Entry::Report(report)) => Some(report),
            _ => None,
        },
        _ => None,
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            forbidden_networks: Vec::new(),
            beats: Beats::Answered,
            renewal: Renewal::Signs,
            content: (Vec::new(), Ends::Well),
            certificate_age: Duration::ZERO,
        }
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "A scripted control plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(400);
        let key = KeyPair::generate().expect("a key can be made");
        let root = params.self_signed(&key).expect("the parameters are valid");
        Self {
            der: root.der().to_vec(),
            pem: root.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key of the server.
    fn server(&self) -> (String, String) {
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a DNS name");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("valid parameters");
        (certificate.pem(), key.serialize_pem())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
