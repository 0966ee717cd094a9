//! The services of a scripted controller, over TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::delivery_server::{Delivery, DeliveryServer};
use dd_proto::pb::enrollment_server::{Enrollment, EnrollmentServer};
use dd_proto::pb::order::Order;
use rcgen::CertificateSigningRequestParams;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::{Beats, Ends, Renewal, SECRET, Shared, Stream, locked};
use crate::loopback;

/// So often an agent beats.
const BEAT_MS: u64 = 500;
/// Content in a message of FetchContent.
const CHUNK: usize = 32 << 10;

/// Returns where it listens.
pub(super) async fn serve(shared: &Arc<Shared>) -> SocketAddr {
    let listener = TcpListener::bind((loopback::fresh(), 0))
        .await
        .expect("a fresh loopback address has a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let (certificate, key) = shared.authority.server();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(&shared.authority.pem))
        .client_auth_optional(true);
    let serving = Server::builder()
        .tls_config(tls)
        .expect("a certificate of our own with its key")
        .add_service(EnrollmentServer::new(Scripted(Arc::clone(shared))))
        .add_service(DeliveryServer::new(Scripted(Arc::clone(shared))))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    address
}

struct Scripted(Arc<Shared>);

impl Scripted {
    fn sign(&self, csr: &[u8]) -> Result<Response<pb::Credentials>, Status> {
        let malformed = |error: rcgen::Error| Status::invalid_argument(error.to_string());
        let mut request =
            CertificateSigningRequestParams::from_der(&csr.into()).map_err(malformed)?;
        let age = locked(&self.0.manner).certificate_age;
        let now = time::OffsetDateTime::now_utc();
        request.params.not_before = now - age - time::Duration::MINUTE;
        request.params.not_after = now + time::Duration::DAY;
        let authority = &self.0.authority;
        let signed = request.signed_by(&authority.issuer).map_err(malformed)?;
        Ok(Response::new(pb::Credentials {
            chain: vec![signed.der().to_vec().into()],
            authority: authority.der.clone().into(),
        }))
    }

    fn welcome(&self, hello: &pb::Hello) -> Order {
        let manner = locked(&self.0.manner);
        let lease_ms = u64::try_from(manner.lease.as_millis()).unwrap_or(u64::MAX);
        // What goes on, goes on: but for a lease that is over, as far as this controller is concerned.
        let going_on = match manner.beats {
            Beats::Answered => hello.work_in_hand.clone(),
            Beats::Unanswered => Vec::new(),
        };
        Order::Welcome(pb::Welcome {
            going_on,
            forbidden_networks: manner.forbidden_networks.clone(),
            lease_ms,
            beat_ms: BEAT_MS,
        })
    }

    fn answer(&self, event: &Event) -> Option<Order> {
        match event {
            Event::Hello(hello) => Some(self.welcome(hello)),
            Event::Beat(beat) if locked(&self.0.manner).beats == Beats::Answered => {
                let number = beat.number;
                Some(Order::BeatAnswer(pb::BeatAnswer { number }))
            }
            _ => None,
        }
    }

    /// Reads the stream to its end.
    async fn listen(self, mut events: Streaming<pb::AgentEvent>, stream: Arc<Stream>) {
        let mut welcome = None;
        while let Ok(Some(event)) = events.message().await {
            let Some(event) = event.event else { continue };
            let answer = self.answer(&event);
            let answer = match event {
                Event::Hello(_) => {
                    welcome = answer;
                    None
                }
                Event::HelloEnd(_) => welcome.take(),
                _ => answer,
            };
            if let (Some(down), Some(order)) = (&*locked(&stream.down), answer) {
                // The agent may be gone; its stream ends then.
                let _ = down.send(Ok(pb::Order { order: Some(order) }));
            }
            locked(&stream.up).push(event);
        }
        stream.half_closed.store(true, Ordering::Relaxed);
        // Its own half ends when all is read.
        locked(&stream.down).take();
    }
}

/// A call that is not answered, for as long as the caller waits.
struct Kept<'a>(&'a AtomicUsize);

impl<'a> Kept<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Orders<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Delivery for Scripted {
    type AttachStream = Orders<pb::Order>;
    type FetchContentStream = Orders<pb::ContentChunk>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (down, orders) = mpsc::unbounded_channel();
        let stream = Arc::new(Stream {
            down: Some(down).into(),
            up: Vec::new().into(),
            half_closed: AtomicBool::new(false),
        });
        locked(&self.0.streams).push(Arc::clone(&stream));
        let listening = Self(Arc::clone(&self.0)).listen(request.into_inner(), stream);
        tokio::spawn(listening);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            orders,
        ))))
    }

    async fn fetch_content(
        &self,
        _: Request<pb::FetchContentRequest>,
    ) -> Result<Response<Self::FetchContentStream>, Status> {
        let (content, ends) = locked(&self.0.manner).content.clone();
        let chunk = |data: &[u8]| {
            let data = data.to_vec().into();
            Ok(pb::ContentChunk { data })
        };
        let mut items: Vec<_> = content.chunks(CHUNK).map(chunk).collect();
        if ends == Ends::Broken {
            items.push(Err(Status::unavailable("the disk is gone")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }
}

#[tonic::async_trait]
impl Enrollment for Scripted {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let request = request.into_inner();
        match request.secret == SECRET {
            true => self.sign(&request.csr),
            false => Err(Status::unauthenticated("another token")),
        }
    }

    async fn certify(
        &self,
        _: Request<pb::CertifyRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        Err(Status::not_found("no site asks for one"))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        self.0.renewals.fetch_add(1, Ordering::Relaxed);
        let manner = locked(&self.0.manner).renewal;
        match manner {
            Renewal::Signs => self.sign(&request.into_inner().csr),
            Renewal::Refuses => Err(Status::permission_denied("no more certificates")),
            Renewal::Keeps => {
                let _kept = Kept::new(&self.0.kept);
                std::future::pending().await
            }
        }
    }
}
