//! The control plane: gRPC for agents and administrators, over a local socket and over mutual TLS.
//!
//! One service per file, each method: convert, call, convert. [`roles`] says who may call what, [`listener`] and
//! [`caller`] who calls, [`status`] what an error is called on the wire.
//!
//! # Invariants
//! No method is reached that [`roles`] does not allow its caller. Messages, streams, connections and the time of a call are
//! bounded; before a caller is known they are short and small.
//!
//! # Not here
//! Any decision about mail or sites: [`crate::dispatch`], [`crate::registry`].

pub mod admins;
pub mod agents;
pub mod attached;
pub mod authorities;
pub mod caller;
pub mod certificates;
pub mod check;
pub mod clock;
pub mod conduct;
pub mod delivery;
mod details;
mod door;
pub mod enrollment;
pub(crate) mod fuzzing;
pub mod listener;
mod old_agents;
pub(crate) mod order;
pub mod produced;
pub mod queue;
pub mod registry;
pub mod removals;
pub mod roles;
mod search;
mod site_list;
pub mod sites;
mod standing;
mod status;
mod turns;
mod warnings;
pub mod watch;
mod withdrawable;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::pb;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Status};
use tower::layer::util::{Identity, Stack};

use crate::authority::ControlAuthority;
use crate::config::effective::Effective;
use crate::credentials::Passwords;
use crate::dispatch::Handle;
use crate::limit::DoorSeats;
use crate::listen::Listeners;
use crate::registry::{Editor, Registry};
use crate::sights::Sights;
use crate::store::Store;
use crate::tls;
use crate::wakeup::Wakeup;
use caller::{Caller, OtherEnd};

/// An authority's certificates are the largest thing a caller sends.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// A report has a reply of 2,000 bytes for each of at most 1,000 recipients.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// A stranger sends a request for a certificate, and no more.
const MAX_STRANGERS_BYTES: usize = 16 << 10;
/// `ddadm etrn --wait` takes ten minutes at most; whatever takes longer has gone wrong.
const CALL: Duration = Duration::from_secs(15 * 60);
const STRANGERS_CALL: Duration = Duration::from_secs(10);

/// How much HTTP/2 may take of one connection.
#[derive(Debug)]
struct Allowance {
    call: Duration,
    streams: u32,
    header_bytes: u32,
    /// Streams opened and reset before they were served: one more ends the connection.
    reset_streams: usize,
    stream_window: u32,
    connection_window: u32,
}

const KNOWN: Allowance = Allowance {
    call: CALL,
    streams: 256,
    header_bytes: 16 << 10,
    reset_streams: 32,
    stream_window: 1 << 20,
    connection_window: 8 << 20,
};
const STRANGER: Allowance = Allowance {
    call: STRANGERS_CALL,
    streams: 4,
    header_bytes: 4 << 10,
    reset_streams: 4,
    stream_window: 32 << 10,
    connection_window: 64 << 10,
};

/// What the services call.
#[derive(Debug)]
pub struct Context {
    pub registry: Registry,
    pub editor: Editor,
    pub store: Store,
    pub dispatch: Handle,
    pub authority: ControlAuthority,
    pub attached: attached::Attached,
    pub conduct: conduct::Conduct,
    pub passwords: Arc<Passwords>,
    pub wakeup: Wakeup,
    pub sights: Sights,
    pub removals: removals::Removals,
    pub checks: check::Checks,
    /// How crowded the doors are.
    pub(crate) doors: DoorSeats,
    /// What the doors show to the world, each with its place in the configuration.
    pub certificates: Vec<(&'static str, Arc<tls::Certificate>)>,
    pub facts: Facts,
}

/// What does not change while the controller runs.
#[derive(Debug, Clone)]
pub struct Facts {
    pub hostname: String,
    pub started: Timestamp,
    pub listeners: pb::Listeners,
    /// Where the controller itself is reached, as far as that is said; forbidden to sites.
    pub control: Vec<IpAddr>,
    /// It is also reached at every address of this machine, which is forbidden to sites too.
    pub listens_everywhere: bool,
    /// Where the wake-up URLs begin, such as `https://mail.example.net:8443`; None: `[web]` is not configured.
    pub web: Option<String>,
    /// Published beside the agents' own addresses, and forbidden to sites.
    pub outbound_networks: Vec<IpNet>,
    /// What the configuration asks for and this version does not do.
    pub alarms: Vec<String>,
    /// As it was read at the start.
    pub configuration: Arc<Effective>,
    pub state_dir: PathBuf,
}

impl Context {
    /// Whether the queue of earlier starts has been read to its end.
    fn knows_all(&self) -> Knowledge {
        match *self.store.all_known().borrow() {
            true => Knowledge::Complete,
            false => Knowledge::Partial,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    Complete,
    Partial,
}

/// Serves until dropped. Whoever is not known has a server of its own, which can do nothing but let it join.
///
/// # Errors
/// A server itself fails; a connection that does costs only itself.
pub async fn serve(
    context: Arc<Context>,
    socket: UnixListener,
    tcp: Listeners,
    tls: rustls::ServerConfig,
) -> Result<(), tonic::transport::Error> {
    let (known, known_connections) = mpsc::channel(16);
    let (strangers, strangers_connections) = mpsc::channel(16);
    let admitted = listener::Admitted { known, strangers };
    let registry = context.registry.clone();
    let seats = context.doors.control.clone();
    let accepting = listener::accept(socket, tcp, Arc::new(tls), seats, registry, admitted);
    let for_strangers = strangers_services(context.clone());
    let for_strangers = server(&STRANGER, &context).add_routes(for_strangers);
    let for_known = server(&KNOWN, &context).add_routes(services(context));
    tokio::select! {
        served = for_known.serve_with_incoming(incoming(known_connections)) => served,
        served = for_strangers.serve_with_incoming(incoming(strangers_connections)) => served,
        () = accepting => Ok(()),
    }
}

fn incoming(
    connections: mpsc::Receiver<listener::Connection>,
) -> impl Stream<Item = Result<listener::Connection, std::io::Error>> {
    ReceiverStream::new(connections).map(Ok)
}

fn server(allowance: &Allowance, context: &Context) -> Server<Stack<roles::Guarded, Identity>> {
    Server::builder()
        .timeout(allowance.call)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(allowance.streams)
        .http2_max_header_list_size(allowance.header_bytes)
        .http2_max_pending_accept_reset_streams(Some(allowance.reset_streams))
        .initial_stream_window_size(allowance.stream_window)
        .initial_connection_window_size(allowance.connection_window)
        .layer(roles::Guarded {
            registry: context.registry.clone(),
            editor: context.editor.clone(),
        })
}

/// To join, and to ask whether anybody is there.
fn strangers_services(context: Arc<Context>) -> tonic::service::Routes {
    use pb::enrollment_server::EnrollmentServer;
    let (_, health) = tonic_health::server::health_reporter();
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(health);
    routes.add_service(
        EnrollmentServer::new(enrollment::Enrollment(context))
            .max_decoding_message_size(MAX_STRANGERS_BYTES),
    );
    routes.routes()
}

fn services(context: Arc<Context>) -> tonic::service::Routes {
    use pb::{
        admins_server::AdminsServer, agents_server::AgentsServer,
        authorities_server::AuthoritiesServer, certificates_server::CertificatesServer,
        clock_server::ClockServer, delivery_server::DeliveryServer,
        enrollment_server::EnrollmentServer, queue_server::QueueServer,
        registry_server::RegistryServer, sites_server::SitesServer, watch_server::WatchServer,
    };
    let (_, health) = tonic_health::server::health_reporter();
    let mut routes = tonic::service::Routes::builder();
    macro_rules! add {
        ($server:ident, $service:expr, $bytes:expr) => {
            routes.add_service($server::new($service).max_decoding_message_size($bytes));
        };
    }
    routes.add_service(health);
    add!(
        SitesServer,
        sites::Sites(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        QueueServer,
        queue::Queue(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        AgentsServer,
        agents::Agents(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        AdminsServer,
        admins::Admins(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        AuthoritiesServer,
        authorities::Authorities(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        RegistryServer,
        registry::Registry(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        CertificatesServer,
        certificates::Certificates(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        ClockServer,
        clock::Clock(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        WatchServer,
        watch::Watch(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(
        EnrollmentServer,
        enrollment::Enrollment(context.clone()),
        MAX_MESSAGE_BYTES
    );
    add!(DeliveryServer, delivery::Delivery(context), MAX_EVENT_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const OURS: &str = "the descriptors are compiled in, and decoded by a test";
    routes.add_service(reflection().build_v1().expect(OURS));
    routes.add_service(reflection().build_v1alpha().expect(OURS));
    routes.routes()
}

/// Who makes this request; the connection said so.
fn caller<T>(request: &Request<T>) -> Caller {
    let end = request.extensions().get::<OtherEnd>();
    end.map_or(Caller::Nobody, |end| end.caller.clone())
}

/// Where a request comes from, for people.
fn from<T>(request: &Request<T>) -> String {
    let end = request.extensions().get::<OtherEnd>();
    end.map(|end| end.from.clone()).unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a request happens now; what it calls takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// 0 is none.
fn at_ms(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_millisecond)
}

/// 0 is none.
fn from_ms(ms: i64) -> Result<Option<Timestamp>, Status> {
    match ms {
        0 => Ok(None),
        ms => Timestamp::from_millisecond(ms).map(Some).map_err(|_| {
            status::invalid(format!("{ms} is no time: expected milliseconds since 1970"))
        }),
    }
}
