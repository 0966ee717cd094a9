//! Name service as a literal: a map from names to addresses that a test may change at any time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;

use crate::loopback;

/// A name server on UDP and TCP.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    names: Names,
    /// Drives the server; it ends with this value.
    _runtime: Runtime,
}

type Names = Arc<Mutex<HashMap<String, Entry>>>;

/// What a name means, and for how many seconds that may be kept.
#[derive(Debug)]
struct Entry {
    addresses: Vec<IpAddr>,
    ttl: u32,
}

/// Answers from the map. A name that is not there does not exist.
struct Literal(Names);

impl Dns {
    /// # Panics
    /// No socket can be bound.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let names = Names::default();
        let address = runtime.block_on(serve(Literal(Arc::clone(&names))));
        Self {
            address,
            names,
            _runtime: runtime,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `name` now means `addresses`, and only those; none at all makes it a name without addresses.
    /// It is a dynamic name: nobody may keep the answer.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.set_for(name, addresses, 0);
    }

    /// The same, and whoever asks may keep the answer for `ttl` seconds.
    pub fn set_for(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let addresses = addresses.to_vec();
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_ascii_lowercase(), Entry { addresses, ttl });
    }
}

async fn serve(handler: Literal) -> SocketAddr {
    let udp = UdpSocket::bind((loopback::fresh(), 0))
        .await
        .expect("a fresh loopback address has a free port");
    let address = udp.local_addr().expect("a bound socket has an address");
    let tcp = TcpListener::bind(address)
        .await
        .expect("nobody else uses the address");
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, Duration::from_secs(5), 4096);
    tokio::spawn(async move { server.block_until_done().await });
    address
}

impl Literal {
    fn answers(&self, name: &Name, kind: RecordType) -> Option<Vec<Record>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = name.to_ascii();
        let entry = names.get(text.trim_end_matches('.').to_ascii_lowercase().as_str())?;
        Some(
            entry
                .addresses
                .iter()
                .filter_map(|address| match (address, kind) {
                    (IpAddr::V4(ip), RecordType::A) => Some(RData::A((*ip).into())),
                    (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA((*ip).into())),
                    _ => None,
                })
                .map(|data| Record::from_rdata(name.clone(), entry.ttl, data))
                .collect(),
        )
    }
}

#[async_trait::async_trait]
impl RequestHandler for Literal {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let answers = request.request_info().ok().and_then(|asked| {
            let name = Name::from(asked.query.name());
            self.answers(&name, asked.query.query_type())
        });
        if answers.is_none() {
            metadata.response_code = ResponseCode::NXDomain;
        }
        let answers = answers.unwrap_or_default();
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answers,
            &[],
            &[],
            &[],
        );
        response_handle
            .send_response(response)
            .await
            .expect("a client on loopback takes its answer")
    }
}
