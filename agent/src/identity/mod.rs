//! The agent's certificate for the control plane: joined once, kept, renewed.
//!
//! # Invariants
//! - Credentials are one file, replaced whole: there is never a certificate beside another one's authority, nor beside
//!   a key that is not its own.
//! - The controller is verified against exactly one authority: the token's, then the one the credentials name.
//!
//! # Not here
//! The files and keys ([`files`]); when to join and when to renew ([`enroll`](crate::enroll)).

mod files;
pub mod life;

use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_proto::name::{AgentName, AuthorityName};
use dd_proto::pb::enrollment_client::EnrollmentClient;
use dd_proto::token::JoinToken;
use dd_proto::{pb, pem};
use jiff::Timestamp;
use prost::Message as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use files::Keys;
use life::Life;

/// The name in the controller's certificate, whatever host it runs on.
pub const SERVER_NAME: &str = "dd-controller.control.invalid";
/// For so long after its end the controller takes a certificate to renew it.
const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// Why the agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} cannot be {what}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{path} is damaged; run `ddadm agent token NAME` for a new token and start with --join-file", path = path.display())]
    Damaged { path: PathBuf },
    #[error(
        "this agent has no valid certificate; run `ddadm agent token {0}` (or `ddadm agent add {0}`, where it is not registered) and start with --join-file"
    )]
    NotJoined(AgentName),
    #[error("the token is for the agent {token}, but this one is named {config}")]
    OtherName { token: AgentName, config: AgentName },
    #[error("a key or request cannot be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the controller {url} cannot be reached: {source}")]
    Unreachable {
        url: String,
        source: Box<tonic::transport::Error>,
    },
    #[error("the controller refused: {0}")]
    Refused(String),
    #[error("the controller does not answer: {0}")]
    Unanswered(String),
    #[error("the controller's answer holds no usable certificate")]
    BadAnswer,
}

/// A certificate, its key, and the authority both ends trust.
#[derive(Clone)]
pub struct Identity {
    key_pem: String,
    credentials: pb::Credentials,
    life: Life,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("not_after", &self.life.ends)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// What is kept; None where there is nothing yet.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged.
    pub fn load(directory: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = files::credentials(directory)? else {
            return Ok(None);
        };
        let damaged = || IdentityError::Damaged {
            path: directory.join(files::CREDENTIALS),
        };
        let credentials = pb::Credentials::decode(&*bytes).map_err(|_| damaged())?;
        let leaf = credentials.chain.first().ok_or_else(damaged)?;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| damaged())?;
        let key_pem = Keys(directory)
            .of_certificate(certificate.public_key().raw)?
            .ok_or_else(damaged)?;
        Self::new(key_pem, credentials)
            .map(Some)
            .map_err(|_| damaged())
    }

    fn new(key_pem: String, credentials: pb::Credentials) -> Result<Self, IdentityError> {
        let leaf = credentials.chain.first().ok_or(IdentityError::BadAnswer)?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|_| IdentityError::BadAnswer)?;
        let life = Life::of(&certificate).ok_or(IdentityError::BadAnswer)?;
        Ok(Self {
            key_pem,
            credentials,
            life,
        })
    }

    /// By which the controller is verified; DER.
    pub fn authority(&self) -> &[u8] {
        &self.credentials.authority
    }

    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.life.has_ended(now)
    }

    /// Whether the controller takes it for a renewal, ended or not.
    pub fn is_renewable(&self, now: Timestamp) -> bool {
        let last = self.life.ends.saturating_add(GRACE);
        last.is_ok_and(|last| now <= last)
    }

    /// Two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.life.due
    }

    /// How long from `now` until it should be renewed.
    pub fn renew_in(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.renew_at().duration_since(now)).unwrap_or_default()
    }

    /// Joins with a token and keeps what it brings. Each join has a key of its own.
    ///
    /// # Errors
    /// The token is for another name, or the controller is away or refuses; the key is kept for the next try.
    pub async fn join(
        directory: &Path,
        controller: &str,
        name: &AgentName,
        token: &JoinToken,
    ) -> Result<Self, IdentityError> {
        if token.name != *name {
            return Err(IdentityError::OtherName {
                token: token.name.clone(),
                config: name.clone(),
            });
        }
        let keys = Keys(directory);
        let key_pem = keys.to_join_with()?;
        let tls = tls(&token.authority, None);
        let channel = connect(controller, tls).await?;
        let request = pb::JoinRequest {
            name: name.to_string(),
            secret: token.secret.clone().into(),
            csr: files::request(&key_pem)?.into(),
        };
        let answer = EnrollmentClient::new(channel).join(request).await;
        let identity = Self::keep(directory, key_pem, answer)?;
        keys.joined()?;
        Ok(identity)
    }

    /// Renews over a channel that this certificate opened, and keeps what it brings.
    ///
    /// # Errors
    /// The controller is away or refuses.
    pub async fn renew(&self, directory: &Path, channel: Channel) -> Result<Self, IdentityError> {
        let csr = files::request(&self.key_pem)?.into();
        let answer = EnrollmentClient::new(channel)
            .renew(pb::RenewRequest { csr })
            .await;
        Self::keep(directory, self.key_pem.clone(), answer)
    }

    /// A certificate of a members' authority for this key, and what it chains to.
    ///
    /// # Errors
    /// The controller is away or refuses.
    pub async fn certify(
        &self,
        authority: &AuthorityName,
        channel: Channel,
    ) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let request = pb::CertifyRequest {
            authority: authority.to_string(),
            csr: files::request(&self.key_pem)?.into(),
        };
        let answer = EnrollmentClient::new(channel).certify(request).await;
        let credentials = answer.map_err(|status| refusal(&status))?.into_inner();
        let chain = credentials.chain.into_iter();
        Ok(chain
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect())
    }

    /// # Errors
    /// There is no key in what is kept.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        key.map_err(|_| IdentityError::BadAnswer)
    }

    /// Whether it is the same agent, perhaps with another certificate.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.key_pem == other.key_pem
    }

    /// One of a key that was just made; its certificate is its own authority.
    #[cfg(test)]
    pub(crate) fn of_a_test() -> std::sync::Arc<Self> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::default();
        let certificate = params.self_signed(&key).expect("a certificate");
        let der = bytes::Bytes::from(certificate.der().to_vec());
        let credentials = pb::Credentials {
            chain: vec![der.clone()],
            authority: der,
        };
        let identity = Self::new(key.serialize_pem(), credentials);
        std::sync::Arc::new(identity.expect("an identity"))
    }

    fn keep(
        directory: &Path,
        key_pem: String,
        answer: Result<tonic::Response<pb::Credentials>, tonic::Status>,
    ) -> Result<Self, IdentityError> {
        let credentials = answer.map_err(|status| refusal(&status))?.into_inner();
        let bytes = credentials.encode_to_vec();
        let identity = Self::new(key_pem, credentials)?;
        files::keep_credentials(directory, &bytes)?;
        Ok(identity)
    }

    /// A channel to the controller.
    ///
    /// # Errors
    /// It is away, or does not prove to be the controller.
    pub async fn connect(&self, controller: &str) -> Result<Channel, IdentityError> {
        let chain: String = self
            .credentials
            .chain
            .iter()
            .map(|der| pem::certificate(der))
            .collect();
        let identity = TlsIdentity::from_pem(chain, &self.key_pem);
        connect(controller, tls(&self.credentials.authority, Some(identity))).await
    }
}

/// What the controller has decided is final; what went wrong is not.
fn refusal(status: &tonic::Status) -> IdentityError {
    let message = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::NotFound
        | Code::Unimplemented => IdentityError::Refused(message),
        _ => IdentityError::Unanswered(message),
    }
}

fn tls(authority: &[u8], identity: Option<TlsIdentity>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem::certificate(authority)))
        .domain_name(SERVER_NAME);
    match identity {
        Some(identity) => config.identity(identity),
        None => config,
    }
}

/// What the controller may send on one stream before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// More streams than this the controller does not open. RFC 9113 §6.9.1: a connection has a window of its own, and what lies
/// unread on any stream takes from it; so it is as large as all of them. Else a few sites that read nothing of long messages
/// keep assignments, and the answers to beats, from everybody.
const STREAMS: u32 = 256;

async fn connect(controller: &str, tls: ClientTlsConfig) -> Result<Channel, IdentityError> {
    let unreachable = |source| IdentityError::Unreachable {
        url: controller.to_owned(),
        source: Box::new(source),
    };
    Endpoint::from_shared(controller.to_owned())
        .map_err(unreachable)?
        .tls_config(tls)
        .map_err(unreachable)?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(STREAMS * STREAM_WINDOW))
        .connect()
        .await
        .map_err(unreachable)
}
