//! The agent's certificate for the control plane: joined once, kept, renewed.
//!
//! # Invariants
//! - The key lies in the state directory (0600) before it is first used, so a join that is cut off works again with
//!   the same key.
//! - Credentials are one file, replaced whole: there is never a certificate beside another one's authority.
//! - The controller is verified against exactly one authority: the token's, then the one the credentials name.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_proto::name::AgentName;
use dd_proto::pb::enrollment_client::EnrollmentClient;
use dd_proto::token::JoinToken;
use dd_proto::{pb, pem};
use jiff::Timestamp;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::journal::sync_directory;

/// The name in the controller's certificate, whatever host it runs on.
pub const SERVER_NAME: &str = "dd-controller.control.invalid";
const KEY_FILE: &str = "agent.key";
const CREDENTIALS_FILE: &str = "credentials";

/// Why the agent has no place to keep its state.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("the state directory {path} cannot be used: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("another dd-agent uses the state directory {path}; stop it first", path = path.display())]
    InUse { path: PathBuf },
}

/// Why the agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} cannot be {what}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        what: &'static str,
        source: std::io::Error,
    },
    #[error("{path} is damaged; run `ddadm agent add` for a new token and start with --join", path = path.display())]
    Damaged { path: PathBuf },
    #[error(
        "this agent has no valid certificate; run `ddadm agent add {0}` and start with --join TOKEN"
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
    #[error("the controller's answer holds no usable certificate")]
    BadAnswer,
}

/// The state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates it if absent (0700) and locks it.
    ///
    /// # Errors
    /// It cannot be made or written, or another process holds it.
    pub fn lock(path: &Path) -> Result<Self, StateDirError> {
        let error = |source| StateDirError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(error)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StateDirError::InUse {
                path: path.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(error(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A certificate, its key, and the authority both ends trust.
pub struct Identity {
    key_pem: String,
    credentials: pb::Credentials,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// What is kept; None where there is nothing yet.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged.
    pub fn load(directory: &Path) -> Result<Option<Self>, IdentityError> {
        let path = directory.join(CREDENTIALS_FILE);
        let damaged = || IdentityError::Damaged { path: path.clone() };
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let Some(key) = read(&directory.join(KEY_FILE))? else {
            return Ok(None);
        };
        let credentials = pb::Credentials::decode(&*bytes).map_err(|_| damaged())?;
        let key_pem = String::from_utf8(key).map_err(|_| damaged())?;
        Self::new(key_pem, credentials)
            .map(Some)
            .map_err(|_| damaged())
    }

    fn new(key_pem: String, credentials: pb::Credentials) -> Result<Self, IdentityError> {
        let leaf = credentials.chain.first().ok_or(IdentityError::BadAnswer)?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|_| IdentityError::BadAnswer)?;
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| IdentityError::BadAnswer)
        };
        let not_before = at(certificate.validity().not_before)?;
        let not_after = at(certificate.validity().not_after)?;
        Ok(Self {
            key_pem,
            credentials,
            not_before,
            not_after,
        })
    }

    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.not_after
    }

    /// Two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unsigned_abs();
        self.not_before
            .saturating_add(life * 2 / 3)
            .unwrap_or(self.not_after)
    }

    /// How long from `now` until it should be renewed.
    pub fn renew_in(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.renew_at().duration_since(now)).unwrap_or_default()
    }

    /// Joins with a token and keeps what it brings.
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
        let key_pem = key(directory)?;
        let tls = tls(&token.authority, None);
        let channel = connect(controller, tls).await?;
        let request = pb::JoinRequest {
            name: name.to_string(),
            secret: token.secret.clone().into(),
            csr: request(&key_pem)?.into(),
        };
        let answer = EnrollmentClient::new(channel).join(request).await;
        Self::keep(directory, key_pem, answer)
    }

    /// Renews over an attached channel and keeps what it brings.
    ///
    /// # Errors
    /// The controller is away or refuses.
    pub async fn renew(&self, directory: &Path, channel: Channel) -> Result<Self, IdentityError> {
        let csr = request(&self.key_pem)?.into();
        let answer = EnrollmentClient::new(channel)
            .renew(pb::RenewRequest { csr })
            .await;
        Self::keep(directory, self.key_pem.clone(), answer)
    }

    fn keep(
        directory: &Path,
        key_pem: String,
        answer: Result<tonic::Response<pb::Credentials>, tonic::Status>,
    ) -> Result<Self, IdentityError> {
        let credentials = answer
            .map_err(|status| IdentityError::Refused(status.message().to_owned()))?
            .into_inner();
        let bytes = credentials.encode_to_vec();
        let identity = Self::new(key_pem, credentials)?;
        write(directory, CREDENTIALS_FILE, &bytes)?;
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

fn tls(authority: &[u8], identity: Option<TlsIdentity>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem::certificate(authority)))
        .domain_name(SERVER_NAME);
    match identity {
        Some(identity) => config.identity(identity),
        None => config,
    }
}

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
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(8 << 20))
        .connect()
        .await
        .map_err(unreachable)
}

/// The kept key, made first where there is none.
fn key(directory: &Path) -> Result<String, IdentityError> {
    let path = directory.join(KEY_FILE);
    if let Some(bytes) = read(&path)? {
        return String::from_utf8(bytes).map_err(|_| IdentityError::Damaged { path });
    }
    let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
    write(directory, KEY_FILE, pem.as_bytes())?;
    Ok(pem)
}

fn request(key_pem: &str) -> Result<Vec<u8>, IdentityError> {
    let key = KeyPair::from_pem(key_pem)?;
    let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    Ok(request.der().to_vec())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io {
            path: path.to_owned(),
            what: "read",
            source,
        }),
    }
}

/// Whole or not at all: a temporary file, synced, renamed, and the directory synced.
fn write(directory: &Path, name: &str, content: &[u8]) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.new"));
    let steps = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        sync_directory(directory)
    };
    steps().map_err(|source| IdentityError::Io {
        path: path.clone(),
        what: "written",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = StateDir::lock(&path).unwrap();
        assert!(matches!(
            StateDir::lock(&path),
            Err(StateDirError::InUse { .. })
        ));
        drop(first);
        assert!(StateDir::lock(&path).is_ok());
    }

    #[test]
    fn a_key_is_made_once_and_lies_there_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let first = key(directory.path()).unwrap();
        assert_eq!(key(directory.path()).unwrap(), first);
        assert!(!request(&first).unwrap().is_empty());
        let mode = std::fs::metadata(directory.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
