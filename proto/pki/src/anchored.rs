//! The verifier over a site's own authority: rustls's, once for each anchor.
//!
//! One for each, so that it is known which anchors a chain led to (webpki does not look at their validity), and so that
//! each is held to its own revocation list: while an authority rolls over it has two anchors, and one without a list
//! must neither be refused for that nor excuse the other.
//!
//! # Invariants
//! - A chain is accepted only where rustls's verifier over one anchor accepts it; nothing here says yes by itself.
//! - Revoked by one is revoked, whatever another says.
//! - An anchor that has a list needs one for every certificate of a chain that leads to it. Where lists were given and
//!   none is of any anchor, that holds for all of them: somebody meant to revoke, and must not be ignored.
//! - A list applies beyond its own next update; that it is old is the controller's to warn of.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::server::VerifierBuilderError;
use rustls::{CertRevocationListError, CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::list::List;

/// Why there is no verifier.
#[derive(Debug, Clone, PartialEq)]
pub enum Unusable {
    /// No certificate of the authority can be an anchor.
    NoAnchor,
    UnreadableList,
    List(CertRevocationListError),
}

/// One verifier for each anchor that can be used.
#[derive(Debug)]
pub struct Anchored {
    anchors: Vec<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    der: CertificateDer<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Anchored {
    /// # Errors
    /// No anchor can be used, or a revocation list cannot be.
    pub fn new(
        anchors: &[CertificateDer<'static>],
        lists: &[CertificateRevocationListDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Unusable> {
        let lists: Vec<_> = lists
            .iter()
            .map(|der| Some((der, List::parse(der)?)))
            .collect::<Option<_>>()
            .ok_or(Unusable::UnreadableList)?;
        let usable: Vec<_> = anchors
            .iter()
            .filter_map(|der| Some((der, X509Certificate::from_der(der).ok()?.1)))
            .collect();
        let nobodys = !lists.is_empty()
            && !usable
                .iter()
                .any(|(_, anchor)| lists.iter().any(|(_, list)| list.is_of(anchor, provider)));
        let anchors: Vec<Anchor> = usable
            .iter()
            .filter_map(|(der, anchor)| {
                let (own, other): (Vec<_>, Vec<_>) = lists
                    .iter()
                    .filter(|(_, list)| {
                        nobodys || !list.is_named(anchor) || list.is_of(anchor, provider)
                    })
                    .partition(|(_, list)| list.is_named(anchor));
                // Nobody's lists are handed on whole: with none at all, webpki would not ask for any.
                let strict = nobodys || !own.is_empty();
                let lists = own.into_iter().chain(other).map(|(der, _)| (*der).clone());
                let mut roots = RootCertStore::empty();
                roots.add((*der).clone()).ok()?;
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider),
                )
                .with_crls(lists);
                let builder = match strict {
                    true => builder,
                    false => builder.allow_unknown_revocation_status(),
                };
                Some(builder.build().map(|verifier| Anchor {
                    der: (*der).clone(),
                    verifier,
                }))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| match error {
                VerifierBuilderError::InvalidCrl(error) => Unusable::List(error),
                _ => Unusable::NoAnchor,
            })?;
        match anchors.is_empty() {
            true => Err(Unusable::NoAnchor),
            false => Ok(Self { anchors }),
        }
    }

    /// The anchors that the chain leads to.
    ///
    /// # Errors
    /// It leads to none; the most telling of what each verifier said.
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        let mut led_to = Vec::new();
        let mut refused: Option<rustls::Error> = None;
        for anchor in &self.anchors {
            let verifier = &anchor.verifier;
            match verifier.verify_server_cert(end_entity, intermediates, name, &[], now) {
                Ok(_) => led_to.push(anchor.der.clone()),
                Err(error) => {
                    let telling = refused
                        .as_ref()
                        .is_none_or(|before| rank(&error) > rank(before));
                    if telling {
                        refused = Some(error);
                    }
                }
            }
        }
        match refused {
            Some(error) if led_to.is_empty() || rank(&error) == Rank::Revoked => Err(error),
            _ => Ok(led_to),
        }
    }

    /// What they all share: signatures of the handshake do not depend on anchors.
    pub fn any(&self) -> &WebPkiServerVerifier {
        &self.anchors[0].verifier
    }
}

/// How much an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A chain to somebody else.
    Elsewhere,
    /// A chain to this anchor, with something wrong.
    Wrong,
    Revoked,
}

fn rank(error: &rustls::Error) -> Rank {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => Rank::Revoked,
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Rank::Elsewhere,
        _ => Rank::Wrong,
    }
}

#[cfg(test)]
#[path = "anchored_tests.rs"]
mod tests;
