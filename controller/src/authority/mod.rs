//! The control plane's own CA: it says who is the controller, an agent or an administrator.
//!
//! # Invariants
//! - Its key is made once, lies in `<state_dir>/control/` (0700, key 0600) and never leaves it.
//! - Of a certificate request only the key is used: name, purpose and life are the controller's to say.
//! - The controller's own certificate is made anew at each start; its key is never written.
//!
//! # Not here
//! Who a client is, and what TLS lets in: [`client`]. The identity in `<state_dir>/admin/`: [`admin`]. CAs of members' mail servers: [`members`] signs, [`keys`] keeps, [`crate::registry::own`] decides. Who may do what: [`crate::api::roles`].

pub mod admin;
pub mod client;
mod files;
pub mod keys;
pub mod members;
pub mod request;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dd_proto::name::{AdminName, AgentName};
use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, UnixTime};

use client::AgentKey;

/// The name in the controller's certificate, whatever host it runs on.
pub const SERVER_NAME: &str = "dd-controller.control.invalid";
/// What names an agent and an administrator in a certificate's URI.
pub const AGENT_URI: &str = "dd:agent:";
pub const ADMIN_URI: &str = "dd:admin:";

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// Renewed after two thirds of it; after its end it may still be renewed for [`client::GRACE`].
const AGENT_LIFE: Duration = Duration::from_secs(7 * 86_400);
/// Renewed after two thirds of it, by `ddadm` itself; after its end there is a new one only from another administrator.
pub const ADMIN_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// A clock that runs a little behind must not find a new certificate not yet valid.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why there is no authority, or it issued nothing. Each says its cause itself, once.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{path} cannot be used: {cause}", path = path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{path} is damaged ({reason}); restore the directory from a backup, or remove it and join every agent again", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("a certificate cannot be made: {0}")]
    Rcgen(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Rcgen(error.to_string())
    }
}

impl From<rustls::Error> for AuthorityError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error.to_string())
    }
}

impl From<rustls::server::VerifierBuilderError> for AuthorityError {
    fn from(error: rustls::server::VerifierBuilderError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Why a certificate request is refused.
#[derive(Debug, thiserror::Error)]
#[error("the certificate request cannot be used: {0}")]
pub struct RequestError(String);

/// The open authority.
pub struct ControlAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for ControlAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlAuthority").finish_non_exhaustive()
    }
}

/// A certificate request that is signed by its own key.
pub struct Request(CertificateSigningRequestParams);

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Request {
    /// # Errors
    /// It is no PKCS#10 request, or its key did not sign it.
    pub fn parse(der: &[u8]) -> Result<Self, RequestError> {
        let der = CertificateSigningRequestDer::from(der);
        CertificateSigningRequestParams::from_der(&der)
            .map(Self)
            .map_err(|error| RequestError(request::why_not(&der, &error)))
    }

    /// The key it is for.
    pub fn key(&self) -> AgentKey {
        AgentKey::of(&self.0.public_key.subject_public_key_info())
    }

    /// What a certificate for that key is made of.
    pub fn public_key(&self) -> &impl PublicKeyData {
        &self.0.public_key
    }
}

impl ControlAuthority {
    /// Opens the authority in `<state_dir>/control/`, made first where there is none. A stop in between leaves a key
    /// without its certificate, which is then made.
    ///
    /// # Errors
    /// A file cannot be used, or does not hold what it should.
    pub fn open(state_dir: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let directory = state_dir.join("control");
        make_directory(&directory)?;
        let key = kept_key(&directory.join("authority.key"))?;
        let path = directory.join("authority.pem");
        match read(&path)? {
            Some(pem) => Self::load(&pem, key).map_err(|reason| AuthorityError::Damaged {
                path: path.clone(),
                reason,
            }),
            None => {
                let (authority, pem) = Self::make(key, now)?;
                write(&path, &pem)?;
                Ok(authority)
            }
        }
    }

    fn load(pem: &str, key: KeyPair) -> Result<Self, String> {
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|error| error.to_string())?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its key is not the one beside it".to_owned());
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    fn make(key: KeyPair, now: Timestamp) -> Result<(Self, String), AuthorityError> {
        let mut params = params("dd control plane", AUTHORITY_LIFE, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key)?;
        let certificate = made.der().clone();
        let issuer = Issuer::new(params, key);
        let authority = Self {
            issuer,
            certificate,
        };
        Ok((authority, made.pem()))
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// TLS for the control listener: clients may come without a certificate (to join), but not with a foreign one.
    ///
    /// # Errors
    /// A key or certificate cannot be made.
    pub fn server(&self, now: Timestamp) -> Result<rustls::ServerConfig, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(SERVER_NAME, AUTHORITY_LIFE, now)?;
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate, self.certificate.clone()];
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(self.verifier()?)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, AuthorityError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()?;
        Ok(Arc::new(client::Verifier(verifier)))
    }

    /// A certificate for an agent, and what it chains to; DER.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn issue_agent(
        &self,
        request: &Request,
        name: &AgentName,
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let params = client(AGENT_URI, name.as_str(), AGENT_LIFE, now)?;
        let certificate = params.signed_by(&request.0.public_key, &self.issuer)?;
        Ok(vec![certificate.der().to_vec(), self.certificate.to_vec()])
    }

    /// A certificate for an administrator, and what it chains to; DER.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn issue_admin(
        &self,
        request: &Request,
        name: &AdminName,
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let certificate = self.certify_admin(&request.0.public_key, name, now)?;
        Ok(vec![certificate, self.certificate.to_vec()])
    }

    fn certify_admin(
        &self,
        key: &impl PublicKeyData,
        name: &AdminName,
        now: Timestamp,
    ) -> Result<Vec<u8>, AuthorityError> {
        let params = client(ADMIN_URI, name.as_str(), ADMIN_LIFE, now)?;
        Ok(params.signed_by(key, &self.issuer)?.der().to_vec())
    }

    /// Whether this authority made a client's certificate, ended or not: asked as of its first second.
    fn signed(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return false;
        };
        let first = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
        let first = UnixTime::since_unix_epoch(Duration::from_secs(first));
        let verifier = self.verifier().ok();
        verifier.is_some_and(|it| it.verify_client_cert(certificate, &[], first).is_ok())
    }
}

/// The end of an administrator's certificate that is made now.
pub fn admin_until(now: Timestamp) -> Timestamp {
    // A certificate knows whole seconds only.
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    second.saturating_add(ADMIN_LIFE).unwrap_or(Timestamp::MAX)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn params(name: &str, life: Duration, now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds(now));
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    params.use_authority_key_identifier_extension = true;
    let mut serial: [u8; 16] = rand::rng().random();
    // RFC 5280 §4.1.2.2: positive, at most 20 octets.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn client(
    kind: &str,
    name: &str,
    life: Duration,
    now: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, life, now)?;
    params.subject_alt_names = vec![SanType::URI(format!("{kind}{name}").try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn seconds(now: Timestamp) -> u64 {
    // A clock before 1970 or in the first day of it would make no certificate.
    u64::try_from(now.as_second())
        .unwrap_or(0)
        .max(DAY.as_secs())
}

fn kept_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    if let Some(pem) = read(path)? {
        return KeyPair::from_pem(&pem).map_err(|error| AuthorityError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    write(path, &key.serialize_pem())?;
    Ok(key)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    |cause| AuthorityError::Io { path, cause }
}

fn make_directory(path: &Path) -> Result<(), AuthorityError> {
    files::directory(path).map_err(io_error(path))
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    files::read(path).map_err(io_error(path))
}

fn write(path: &Path, content: &str) -> Result<(), AuthorityError> {
    files::write(path, content).map_err(io_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn request(params: &CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_authority_is_made_once_and_its_keys_are_its_owners() {
        let state = tempfile::tempdir().unwrap();
        let first = ControlAuthority::open(state.path(), now()).unwrap();
        let again = ControlAuthority::open(state.path(), now()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        again.server(now()).unwrap();
        for (path, mode) in [("control", 0o700), ("control/authority.key", 0o600)] {
            let found = std::fs::metadata(state.path().join(path)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn a_key_that_lost_its_certificate_gets_a_new_one_and_a_foreign_key_is_refused() {
        let state = tempfile::tempdir().unwrap();
        ControlAuthority::open(state.path(), now()).unwrap();
        std::fs::remove_file(state.path().join("control/authority.pem")).unwrap();
        ControlAuthority::open(state.path(), now()).unwrap();
        let key = KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(state.path().join("control/authority.key"), key).unwrap();
        assert!(matches!(
            ControlAuthority::open(state.path(), now()),
            Err(AuthorityError::Damaged { .. })
        ));
    }

    #[test]
    fn a_request_that_claims_another_name_gets_only_its_own() {
        let state = tempfile::tempdir().unwrap();
        let authority = ControlAuthority::open(state.path(), now()).unwrap();
        let mut asked = CertificateParams::new(Vec::new()).unwrap();
        asked.subject_alt_names = vec![SanType::URI("dd:admin:root".try_into().unwrap())];
        let request = Request::parse(&request(&asked)).unwrap();
        let chain = authority
            .issue_agent(&request, &"out1".parse().unwrap(), now())
            .unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let names = format!("{:?}", names.value.general_names);
        assert_eq!(names, "[URI(\"dd:agent:out1\")]");
        assert!(!certificate.is_ca());
        let mut damaged = request_bytes();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(Request::parse(&damaged).is_err());
        assert!(Request::parse(b"nothing").is_err());
    }

    #[test]
    fn a_key_of_a_kind_that_is_not_supported_is_named() {
        use dd_proto::pem::{Kind, read_one};
        for (pem, expected) in [
            (include_str!("../../tests/data/p521.csr.pem"), "P-521"),
            (
                include_str!("../../tests/data/secp256k1.csr.pem"),
                "secp256k1",
            ),
            (
                include_str!("../../tests/data/rsa1024.csr.pem"),
                "1024 bits",
            ),
        ] {
            let der = read_one(pem.as_bytes(), Kind::Request).unwrap();
            let said = Request::parse(&der).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }

    fn request_bytes() -> Vec<u8> {
        request(&CertificateParams::new(Vec::new()).unwrap())
    }
}
