//! The connection to a controller: its local socket, or mutual TLS.
//!
//! # Invariants
//! Nothing is connected before a command calls, so what is wrong with the command line is said first. Over TLS the
//! controller proves to be [`SERVER_NAME`] under the control plane's own authority; no public authority counts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::admins_client::AdminsClient;
use dd_proto::pb::agents_client::AgentsClient;
use dd_proto::pb::authorities_client::AuthoritiesClient;
use dd_proto::pb::certificates_client::CertificatesClient;
use dd_proto::pb::clock_client::ClockClient;
use dd_proto::pb::queue_client::QueueClient;
use dd_proto::pb::registry_client::RegistryClient;
use dd_proto::pb::sites_client::SitesClient;
use dd_proto::pb::watch_client::WatchClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Response, Status, Streaming};
use tower::service_fn;

use crate::args::Connection;
use crate::failure::{Failure, root_cause};
use crate::identity::{Identity, Standing};

/// The name in every controller's certificate, whatever host or address it is reached at.
const SERVER_NAME: &str = "dd-controller.control.invalid";

/// A site with as many recipients as it may have must fit.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// unix(7): `sun_path` has 108 bytes, of which the last is NUL.
const MAX_SOCKET_PATH: usize = 107;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A controller whose machine is gone is noticed after this, even while `--wait` waits.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The controller a command talks to.
#[derive(Debug)]
pub(crate) struct Controller {
    way: Way,
    /// What is to be said beside the answer.
    notices: Mutex<Vec<String>>,
}

#[derive(Debug)]
enum Way {
    Socket(PathBuf),
    Remote { url: String, identity: PathBuf },
}

macro_rules! clients {
    ($($name:ident: $client:ident;)*) => {$(
        pub(crate) async fn $name(&self) -> Result<$client<Channel>, Failure> {
            Ok($client::new(self.connect().await?).max_decoding_message_size(MAX_MESSAGE_BYTES))
        }
    )*};
}

impl Controller {
    /// # Errors
    /// `--controller` and `--identity` do not come together, or the URL is not https.
    pub(crate) fn new(connection: Connection) -> Result<Self, Failure> {
        let way = match (connection.controller, connection.identity) {
            (None, None) => Way::Socket(connection.socket),
            (Some(url), Some(identity)) if url.starts_with("https://") => {
                Way::Remote { url, identity }
            }
            (Some(url), Some(_)) => {
                return Err(Failure::Usage(format!(
                    "--controller {url}: expected a URL such as https://controller.example.net:7443"
                )));
            }
            (Some(_), None) => {
                return Err(Failure::Usage(
                    "--controller needs --identity DIR, a directory with admin.pem, admin.key and authority.pem".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(Failure::Usage(
                    "--identity goes with --controller URL; the local socket needs none".into(),
                ));
            }
        };
        Ok(Self {
            way,
            notices: Mutex::default(),
        })
    }

    /// What is to be said beside the answer, once.
    pub(crate) fn notices(&self) -> Vec<String> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *notices)
    }

    /// Another certificate for the identity; until when it is valid.
    ///
    /// # Errors
    /// There is no identity, or the controller does not renew it.
    pub(crate) async fn renew(&self) -> Result<Option<jiff::Timestamp>, Failure> {
        let Way::Remote { url, identity } = &self.way else {
            return Err(Failure::Usage(
                "the local socket needs no certificate: --controller URL and --identity DIR say which one is renewed"
                    .into(),
            ));
        };
        let files = Identity::read(identity)?;
        files.standing(now())?;
        let channel = self.open(url, &files).await?;
        self.renew_over(channel, &files).await
    }

    clients! {
        sites: SitesClient;
        queue: QueueClient;
        admins: AdminsClient;
        agents: AgentsClient;
        authorities: AuthoritiesClient;
        certificates: CertificatesClient;
        clock: ClockClient;
        registry: RegistryClient;
        watch: WatchClient;
    }

    /// The answer of a unary call.
    pub(crate) fn one<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer
            .map(Response::into_inner)
            .map_err(|status| Failure::from_status(&status, self.at()))
    }

    /// Everything a streaming call answers. It is collected, because a table needs its widths before its first line,
    /// and because half a JSON value is none.
    pub(crate) async fn all<T>(
        &self,
        answer: Result<Response<Streaming<T>>, Status>,
    ) -> Result<Vec<T>, Failure> {
        let collected: Result<Vec<T>, Status> = self.one(answer)?.collect().await;
        collected.map_err(|status| Failure::from_status(&status, self.at()))
    }

    /// The next item of a streaming call; none at its end.
    pub(crate) async fn next<T>(&self, items: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        let next = items.message().await;
        next.map_err(|status| Failure::from_status(&status, self.at()))
    }

    fn at(&self) -> &str {
        match &self.way {
            Way::Socket(path) => path.to_str().unwrap_or("its socket"),
            Way::Remote { url, .. } => url,
        }
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        match &self.way {
            Way::Socket(path) => self.connect_socket(path).await,
            Way::Remote { url, identity } => self.connect_remote(url, identity).await,
        }
    }

    async fn connect_socket(&self, path: &Path) -> Result<Channel, Failure> {
        self.path_fits(path)?;
        let path = path.to_owned();
        let connector = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        endpoint(Endpoint::from_static("http://admin-socket.invalid"))
            .connect_with_connector(connector)
            .await
            .map_err(|error| {
                self.unreachable(
                    &error,
                    "is dd-controller running, and may you open the socket? Without `[control] socket` it is admin.sock in the state directory: `ddadm --socket STATE_DIR/admin.sock`, or DDADM_SOCKET",
                )
            })
    }

    /// Said before the system does, which names neither of the two lengths.
    fn path_fits(&self, path: &Path) -> Result<(), Failure> {
        let bytes = path.as_os_str().len();
        if bytes <= MAX_SOCKET_PATH {
            return Ok(());
        }
        Err(Failure::Unreachable {
            at: self.at().to_owned(),
            why: format!("the socket's path is {bytes} bytes long, at most {MAX_SOCKET_PATH}"),
            hint: "set `[control] socket` of the controller to a shorter one, and --socket or DDADM_SOCKET to the same",
        })
    }

    /// An identity of which two thirds are over is renewed on the way. Where that fails it is still good, and the
    /// command goes on.
    async fn connect_remote(&self, url: &str, identity: &Path) -> Result<Channel, Failure> {
        let files = Identity::read(identity)?;
        let standing = files.standing(now())?;
        let channel = self.open(url, &files).await?;
        if standing == Standing::Renewable
            && let Err(failure) = self.renew_over(channel.clone(), &files).await
        {
            let notice = format!(
                "the identity in {} ends soon, and was not renewed: {failure}",
                identity.display()
            );
            let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            notices.push(notice);
        }
        Ok(channel)
    }

    async fn renew_over(
        &self,
        channel: Channel,
        files: &Identity,
    ) -> Result<Option<jiff::Timestamp>, Failure> {
        files.is_writable()?;
        let csr = files.request()?.into();
        let renewed = AdminsClient::new(channel)
            .renew(pb::RenewAdminRequest { csr })
            .await;
        files.renewed(&self.one(renewed)?)
    }

    async fn open(&self, url: &str, files: &Identity) -> Result<Channel, Failure> {
        let tls = ClientTlsConfig::new()
            .domain_name(SERVER_NAME)
            .ca_certificate(Certificate::from_pem(&files.authority))
            .identity(tonic::transport::Identity::from_pem(
                &files.certificate,
                &files.key,
            ));
        let bad_url = |error: tonic::transport::Error| {
            Failure::Usage(format!("--controller {url}: {}", root_cause(&error)))
        };
        let bad_identity = |error: tonic::transport::Error| {
            Failure::Refused(format!(
                "the identity in {} cannot be used: {}; expected PEM files",
                files.directory().display(),
                root_cause(&error)
            ))
        };
        endpoint(Endpoint::from_shared(url.to_owned()).map_err(bad_url)?)
            .tls_config(tls)
            .map_err(bad_identity)?
            .connect()
            .await
            .map_err(|error| {
                self.unreachable(
                    &error,
                    "is it running, and is the identity one of this controller?",
                )
            })
    }

    fn unreachable(&self, error: &tonic::transport::Error, hint: &'static str) -> Failure {
        Failure::Unreachable {
            at: self.at().to_owned(),
            why: root_cause(error),
            hint,
        }
    }
}

fn endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command runs now; what it calls takes the time as an argument"
)]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The name of a site as calls take it.
pub(crate) fn site_name(name: &dd_proto::name::SiteName) -> pb::SiteName {
    pb::SiteName {
        name: name.to_string(),
    }
}
