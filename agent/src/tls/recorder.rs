//! Notes what is presented in a handshake, and leaves every decision to the verifier behind it.
//!
//! # Invariants
//! It never says yes itself: what it hands on is the yes of rustls's own verifier, or, for a proof that does not rest
//! on a chain, of [`AnyChain`].

use std::sync::{Arc, Mutex, PoisonError};

use dd_pki::anchored::Anchored;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::any_chain::AnyChain;

/// Who decides.
#[derive(Debug, Clone)]
pub(super) enum Verifier {
    /// A site's own authority.
    Anchored(Arc<Anchored>),
    /// The roots of the web PKI.
    Public(Arc<WebPkiServerVerifier>),
    Any(Arc<AnyChain>),
}

/// What one handshake showed.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// As presented, the server's own certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The site's anchors that it led to.
    pub(super) anchors: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
pub(super) struct Recorder {
    verifier: Verifier,
    notes: Arc<Mutex<Notes>>,
}

impl Recorder {
    pub(super) fn new(verifier: Verifier, notes: Arc<Mutex<Notes>>) -> Self {
        Self { verifier, notes }
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn inner(&self) -> &dyn ServerCertVerifier {
        match &self.verifier {
            Verifier::Anchored(anchored) => anchored.any(),
            Verifier::Public(public) => public.as_ref(),
            Verifier::Any(any) => any.as_ref(),
        }
    }
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
        self.note(|notes| {
            notes.chain = std::iter::once(end_entity)
                .chain(intermediates)
                .map(|der| der.clone().into_owned())
                .collect();
        });
        match &self.verifier {
            Verifier::Anchored(anchored) => {
                let anchors = anchored.verify(end_entity, intermediates, server_name, now)?;
                self.note(|notes| notes.anchors = anchors);
                Ok(ServerCertVerified::assertion())
            }
            Verifier::Public(_) | Verifier::Any(_) => self.inner().verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner().supported_verify_schemes()
    }
}
