//! TLS towards sites: one client configuration per (anchors, name, revocation lists), and what a handshake showed.
//!
//! # Invariants
//! - For a proof by certificate the verifier is rustls's own `WebPkiServerVerifier` over exactly the site's anchors
//!   ([`dd_pki::anchored`]) or the roots of the web PKI, with the *defined* name as server name. [`recorder`] stands in front of
//!   it, notes the presented chain, and passes every question on: it never says yes itself.
//! - No resumption: a resumed session is not verified again.
//! - [`Checked::AgainstAnchors`] and [`Checked::AgainstPublicRoots`] are written here, after such a handshake, and
//!   nowhere else.
//!
//! # Not here
//! What a finished or failed handshake means: [`crate::proof`]. The verifier that takes any chain: [`any_chain`].

pub mod any_chain;
mod recorder;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dd_pki::anchored::{Anchored, Unusable};
use dd_proto::domain::Domain;
use dd_proto::site::{HostName, Proof};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::client_certificate::{Shown, Shows};
use crate::proof::{Asked, Checked, Refusal, Terms, TlsSeen, TlsUp, diagnose, handshake};
use recorder::{Notes, Recorder, Verifier};

/// At most this many authorities' verifiers are kept; beyond it the cache starts anew.
const MAX_CACHED: usize = 4096;

/// Makes connections secure, and caches what that takes.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    public: Arc<WebPkiServerVerifier>,
    anchored: Mutex<HashMap<Key, Arc<Anchored>>>,
}

/// Everything a verifier depends on, except the name, which is passed with each handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    anchors: Vec<CertificateDer<'static>>,
    revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self::with_public_roots(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    }
}

/// Who decides about one handshake, and under which name.
struct Judge {
    verifier: Verifier,
    name: ServerName<'static>,
    defined: Option<Domain>,
}

impl Tls {
    /// With other roots than those of the web PKI for the proof `public`.
    ///
    /// # Panics
    /// There are none.
    pub fn with_public_roots(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let public =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        Self {
            provider,
            public: public.build().expect("there are roots"),
            anchored: Mutex::default(),
        }
    }

    /// One handshake with the site's `host` as its terms ask for. The stream comes back only from a finished one. A host
    /// that asks for a certificate is `shown` one, once the verifier has taken its own.
    pub async fn secure<S>(
        &self,
        stream: S,
        terms: &Terms,
        host: &HostName,
        shown: &Shown,
    ) -> (TlsSeen, Option<Box<TlsStream<S>>>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let judge = match self.judge(terms, host) {
            Ok(judge) => judge,
            Err(refusal) => {
                let chain = Vec::new();
                return (TlsSeen::Failed { refusal, chain }, None);
            }
        };
        let notes = Arc::new(Mutex::new(Notes::default()));
        let shows = Arc::new(Shows::new(shown.clone()));
        let config = self.config(&judge, &notes, &shows);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let result = connector.connect(judge.name.clone(), stream).await;
        let asked = shows.asked();
        let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        match result {
            Ok(stream) => {
                let up = finished(stream.get_ref().1, notes, judge, asked);
                (TlsSeen::Up(up), Some(Box::new(stream)))
            }
            Err(error) => {
                let has_shown = !notes.chain.is_empty();
                let refusal = failed(&error, judge.defined.as_ref(), has_shown, asked);
                let refusal = diagnose(refusal, terms, &notes.chain);
                let chain = notes.chain;
                (TlsSeen::Failed { refusal, chain }, None)
            }
        }
    }

    fn config(&self, judge: &Judge, notes: &Arc<Mutex<Notes>>, shows: &Arc<Shows>) -> ClientConfig {
        let recorder = Recorder::new(judge.verifier.clone(), Arc::clone(notes));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider serves TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(recorder))
            .with_client_cert_resolver(Arc::clone(shows) as _);
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    fn judge(&self, terms: &Terms, host: &HostName) -> Result<Judge, Refusal> {
        let Some(name) = terms.proof.certificate_name() else {
            // A host that has several certificates shows the one for its own name.
            let name = name_sent(terms, host)
                .and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
            return Ok(Judge {
                verifier: Verifier::Any(Arc::new(any_chain::AnyChain::new(
                    &self.provider,
                    any_chain::Unknown::of(&terms.proof),
                ))),
                name: name.unwrap_or_else(any_chain::no_name),
                defined: None,
            });
        };
        let server_name =
            ServerName::try_from(name.as_str().to_owned()).map_err(|_| Refusal::NoAnchor)?;
        let verifier = match &terms.proof {
            Proof::Public { .. } => Verifier::Public(Arc::clone(&self.public)),
            _ => Verifier::Anchored(self.anchored(terms)?),
        };
        Ok(Judge {
            verifier,
            name: server_name,
            defined: Some(name.clone()),
        })
    }

    fn anchored(&self, terms: &Terms) -> Result<Arc<Anchored>, Refusal> {
        let key = Key {
            anchors: terms.anchors.clone(),
            revocation_lists: terms.revocation_lists.clone(),
        };
        let mut cached = self.anchored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(anchored) = cached.get(&key) {
            return Ok(Arc::clone(anchored));
        }
        let anchored = Anchored::new(&key.anchors, &key.revocation_lists, &self.provider);
        let anchored = Arc::new(anchored.map_err(|unusable| match unusable {
            Unusable::NoAnchor => Refusal::NoAnchor,
            Unusable::UnreadableList | Unusable::List(_) => Refusal::BadRevocationList,
        })?);
        if cached.len() >= MAX_CACHED {
            cached.clear();
        }
        cached.insert(key, Arc::clone(&anchored));
        Ok(anchored)
    }
}

/// The name that a host is asked for in the handshake, RFC 6066 §3: the one that its certificate has to carry, else its
/// own. An address is never sent (rustls leaves the extension out).
pub fn name_sent<'a>(terms: &'a Terms, host: &'a HostName) -> Option<&'a Domain> {
    terms.proof.certificate_name().or(match host {
        HostName::Dns(name) => Some(name),
        HostName::Address(_) => None,
    })
}

fn finished(
    connection: &rustls::ClientConnection,
    notes: Notes,
    judge: Judge,
    asked: Asked,
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
    let checked = match (judge.verifier, judge.defined) {
        (Verifier::Anchored(_), Some(name)) => Checked::AgainstAnchors {
            name,
            anchors: notes.anchors,
        },
        (Verifier::Public(_), Some(name)) => Checked::AgainstPublicRoots { name },
        _ => Checked::OnlyRecorded,
    };
    TlsUp {
        version: version.to_owned(),
        cipher: cipher.to_owned(),
        chain: notes.chain,
        checked,
        asked,
    }
}

fn failed(
    error: &std::io::Error,
    expected: Option<&Domain>,
    has_shown: bool,
    asked: Asked,
) -> Refusal {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => handshake::alerted(error, has_shown, asked)
            .unwrap_or_else(|| Refusal::from_tls(error, expected)),
        None => handshake::broken(error, has_shown, asked),
    }
}

#[cfg(test)]
mod shown_tests;
