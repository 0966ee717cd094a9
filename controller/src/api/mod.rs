//! The control plane: gRPC for agents and administrators, over a local socket and over mutual TLS.
//!
//! One service per file, each method: convert, call, convert. [`roles`] says who may call what, [`listener`] and
//! [`caller`] who calls, [`status`] what an error is called on the wire.
//!
//! # Invariants
//! No method is reached that [`roles`] does not allow its caller. Messages, streams and connections are bounded.
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
pub mod delivery;
pub mod enrollment;
pub mod listener;
pub(crate) mod order;
pub mod produced;
pub mod queue;
pub mod registry;
pub mod removals;
pub mod roles;
mod seats;
pub mod sites;
mod standing;
mod status;
mod turns;
mod warnings;
pub mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::pb;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::authority::ControlAuthority;
use crate::credentials::Passwords;
use crate::dispatch::Handle;
use crate::registry::{Editor, Registry};
use crate::sights::Sights;
use crate::store::Store;
use crate::tls;
use crate::wakeup::Wakeup;
use caller::Caller;

/// An authority's certificates are the largest thing a caller sends.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// A report has a reply of 2,000 bytes for each of at most 1,000 recipients.
const MAX_EVENT_BYTES: usize = 4 << 20;
const MAX_STREAMS: u32 = 256;
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Streams opened and reset before they were served: one more ends the connection.
const RESET_STREAMS: usize = 32;

/// What the services call.
#[derive(Debug)]
pub struct Context {
    pub registry: Registry,
    pub editor: Editor,
    pub store: Store,
    pub dispatch: Handle,
    pub authority: ControlAuthority,
    pub attached: attached::Attached,
    pub passwords: Arc<Passwords>,
    pub wakeup: Wakeup,
    pub sights: Sights,
    pub removals: removals::Removals,
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
    /// Where the controller itself is reached, if it is one address; forbidden to sites.
    pub control: Option<IpAddr>,
    /// Where the wake-up URLs begin, such as `https://mail.example.net:8443`; None: `[web]` is not configured.
    pub web: Option<String>,
    /// Published beside the agents' own addresses, and forbidden to sites.
    pub outbound_networks: Vec<IpNet>,
    /// What the configuration asks for and this version does not do.
    pub alarms: Vec<String>,
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

/// Serves until dropped.
///
/// # Errors
/// The server itself fails; a connection that does costs only itself.
pub async fn serve(
    context: Arc<Context>,
    socket: UnixListener,
    tcp: TcpListener,
    tls: rustls::ServerConfig,
) -> Result<(), tonic::transport::Error> {
    let (admitted, connections) = mpsc::channel(16);
    let connections = ReceiverStream::new(connections).map(Ok::<_, std::io::Error>);
    let router = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .layer(roles::Guarded {
            registry: context.registry.clone(),
            editor: context.editor.clone(),
        })
        .add_routes(services(context));
    let accepting = listener::accept(socket, tcp, Arc::new(tls), admitted);
    tokio::select! {
        served = router.serve_with_incoming(connections) => served,
        () = accepting => Ok(()),
    }
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
    let caller = request.extensions().get::<Caller>();
    caller.cloned().unwrap_or(Caller::Nobody)
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
