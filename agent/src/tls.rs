//! TLS towards sites: one client configuration per (anchors, name, revocation lists), and what a handshake showed.
//!
//! # Invariants
//! - For a proof that needs TLS the verifier is rustls's own `WebPkiServerVerifier` over exactly the site's anchors,
//!   with the *defined* name as server name. [`Recorder`] stands in front of it, notes the presented chain, and passes
//!   every question on: it never says yes itself.
//! - No resumption: a resumed session is not verified again.
//! - [`Checked::AgainstAnchors`] is written here, after such a handshake, and nowhere else.
//!
//! # Not here
//! What a finished or failed handshake means: [`crate::proof`]. The verifier that takes any chain: [`any_chain`].

pub mod any_chain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dd_proto::domain::Domain;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::proof::{Checked, Refusal, Terms, TlsSeen, TlsUp};

/// At most this many sites' verifiers are kept; beyond it the cache starts anew.
const MAX_CACHED: usize = 4096;

/// Makes connections secure, and caches what that takes.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    verifiers: Mutex<HashMap<Key, Arc<WebPkiServerVerifier>>>,
}

/// Everything a verifier depends on, except the name, which is passed with each handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    anchors: Vec<CertificateDer<'static>>,
    revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

/// Notes what is presented, and leaves every decision to the verifier behind it.
#[derive(Debug)]
struct Recorder {
    inner: Arc<dyn ServerCertVerifier>,
    chain: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| der.clone().into_owned())
            .collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = presented;
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            verifiers: Mutex::default(),
        }
    }
}

impl Tls {
    /// One handshake as the site's terms ask for. The stream comes back only from a finished one.
    pub async fn secure<S>(&self, stream: S, terms: &Terms) -> (TlsSeen, Option<Box<TlsStream<S>>>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (verifier, name, checked) = match self.verifier(terms) {
            Ok(parts) => parts,
            Err(refusal) => {
                let chain = Vec::new();
                return (TlsSeen::Failed { refusal, chain }, None);
            }
        };
        let chain = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder {
            inner: verifier,
            chain: Arc::clone(&chain),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config(recorder, &checked)));
        let result = connector.connect(name, stream).await;
        let chain = std::mem::take(&mut *chain.lock().unwrap_or_else(PoisonError::into_inner));
        match result {
            Ok(stream) => {
                let up = finished(stream.get_ref().1, chain, checked);
                (TlsSeen::Up(up), Some(Box::new(stream)))
            }
            Err(error) => {
                let refusal = failed(&error, &checked);
                (TlsSeen::Failed { refusal, chain }, None)
            }
        }
    }

    fn config(&self, recorder: Recorder, checked: &Checked) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider serves TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(recorder))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        // Without a defined name there is none to send.
        config.enable_sni = matches!(checked, Checked::AgainstAnchors { .. });
        config
    }

    fn verifier(
        &self,
        terms: &Terms,
    ) -> Result<(Arc<dyn ServerCertVerifier>, ServerName<'static>, Checked), Refusal> {
        let dd_proto::site::Proof::Certificate { name, .. } = &terms.proof else {
            let verifier = any_chain::AnyChain::new(&self.provider);
            return Ok((
                Arc::new(verifier),
                any_chain::no_name(),
                Checked::OnlyRecorded,
            ));
        };
        // RFC 6066 §3: the defined name, never an address.
        let server_name =
            ServerName::try_from(name.as_str().to_owned()).map_err(|_| Refusal::NoAnchor)?;
        let checked = Checked::AgainstAnchors { name: name.clone() };
        Ok((self.anchored(terms)?, server_name, checked))
    }

    fn anchored(&self, terms: &Terms) -> Result<Arc<WebPkiServerVerifier>, Refusal> {
        let key = Key {
            anchors: terms.anchors.clone(),
            revocation_lists: terms.revocation_lists.clone(),
        };
        let mut verifiers = self
            .verifiers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(verifier) = verifiers.get(&key) {
            return Ok(Arc::clone(verifier));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(key.anchors.iter().cloned());
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .with_crls(key.revocation_lists.iter().cloned())
        .build()
        .map_err(|_| Refusal::NoAnchor)?;
        if verifiers.len() >= MAX_CACHED {
            verifiers.clear();
        }
        verifiers.insert(key, Arc::clone(&verifier));
        Ok(verifier)
    }
}

fn finished(
    connection: &rustls::ClientConnection,
    chain: Vec<CertificateDer<'static>>,
    checked: Checked,
) -> TlsUp {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let cipher = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or_default();
    TlsUp {
        version: version.to_owned(),
        cipher: cipher.to_owned(),
        chain,
        checked,
    }
}

fn failed(error: &std::io::Error, checked: &Checked) -> Refusal {
    let expected: Option<&Domain> = match checked {
        Checked::AgainstAnchors { name } => Some(name),
        Checked::OnlyRecorded => None,
    };
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => Refusal::from_tls(error, expected),
        None => Refusal::HandshakeFailed(crate::proof::printable(&error.to_string())),
    }
}
