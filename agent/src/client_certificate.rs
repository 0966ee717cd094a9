//! The certificates that the agent shows to hosts which ask for one in the handshake, so that a member's server can know it.
//!
//! One for each authority that a route plan names, for the key that the agent has: the controller signs, and the key stays
//! here. They are kept in memory only; after a start they are asked for again.
//!
//! # Invariants
//! A site whose plan names an authority is not connected to without a certificate of it: its server might refuse for good
//! what it takes from whom it knows.
//!
//! # Not here
//! The handshake ([`crate::tls`]), and the certificate by which the controller knows the agent ([`crate::identity`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::name::AuthorityName;
use jiff::Timestamp;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto::CryptoProvider};
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::agent;
use crate::control::chain;
use crate::identity::life::Life;
use crate::identity::{Identity, IdentityError};

/// How long the controller may think about it; a site's mail waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was not renewed is asked for again after this time; a third of a certificate's life is left for that.
const AGAIN: Duration = Duration::from_secs(60);

/// What a handshake shows where it is asked for; None: nothing.
pub type Shown = Option<Arc<CertifiedKey>>;

/// Why there is none to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the agent has no certificate of the authority `{authority}` to show: {why}")]
pub struct NoCertificate {
    authority: AuthorityName,
    why: String,
}

/// All that the agent has to show.
#[derive(Debug, Default)]
pub struct ClientCertificates {
    /// By which the controller knows the agent, and whose key is certified.
    identity: Mutex<Option<Arc<Identity>>>,
    /// Each on its own, so that nobody waits for an authority of which the controller has nothing to say.
    kept: Mutex<BTreeMap<AuthorityName, Arc<tokio::sync::Mutex<Kept>>>>,
}

/// What there is of one authority.
#[derive(Debug, Default)]
struct Kept {
    certificate: Option<Certificate>,
    /// When the controller was last asked in vain, and why.
    refused: Option<(Instant, String)>,
}

impl Kept {
    /// Why there was none for whoever has waited since he came. Sites that wait together are told together: each asking may
    /// take as long as [`PATIENCE`].
    fn refused_since(&self, came: Instant) -> Option<String> {
        let refused = self.refused.as_ref().filter(|(at, _)| *at >= came);
        refused.map(|(_, why)| why.clone())
    }
}

#[derive(Debug)]
struct Certificate {
    shown: Arc<CertifiedKey>,
    /// With whose key.
    of: Arc<Identity>,
    life: Life,
}

impl ClientCertificates {
    /// What is certified from now on is this one's key.
    pub fn belong_to(&self, identity: &Arc<Identity>) {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Arc::clone(identity));
    }

    /// A certificate of the authority: the one at hand, or where that is due or missing, another one of the controller's.
    ///
    /// # Errors
    /// There is none, and the controller gives none.
    pub async fn of(
        &self,
        authority: &AuthorityName,
        controller: Option<Channel>,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, NoCertificate> {
        let why_not = |why: String| NoCertificate {
            authority: authority.clone(),
            why,
        };
        let identity = self.identity();
        let identity = identity.ok_or_else(|| why_not("it has not joined".to_owned()))?;
        let is_usable = |it: &Certificate| it.of.has_key_of(&identity) && !it.life.has_ended(now);
        let came = agent::now();
        // Whoever comes next finds what this one brings.
        let kept = self.kept(authority);
        let mut kept = kept.lock().await;
        let known = kept.certificate.as_ref().filter(|it| is_usable(it));
        if let Some(known) = known.filter(|it| !it.life.is_due(now)) {
            return Ok(Arc::clone(&known.shown));
        }
        if let Some(why) = kept.refused_since(came) {
            return Err(why_not(why));
        }
        match certified(&identity, authority, controller).await {
            Ok(certificate) => {
                let ends = certificate.life.ends;
                tracing::info!(%authority, %ends, "has a certificate to show to sites");
                let shown = Arc::clone(&certificate.shown);
                kept.certificate = Some(certificate);
                Ok(shown)
            }
            Err(error) => match kept.certificate.as_mut().filter(|it| is_usable(it)) {
                Some(known) => {
                    tracing::warn!(%authority, error = chain(&error), "the certificate for sites is not renewed");
                    known.life.put_off(now, AGAIN);
                    Ok(Arc::clone(&known.shown))
                }
                None => {
                    let why = chain(&error);
                    kept.refused = Some((agent::now(), why.clone()));
                    Err(why_not(why))
                }
            },
        }
    }

    fn kept(&self, authority: &AuthorityName) -> Arc<tokio::sync::Mutex<Kept>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.entry(authority.clone()).or_default())
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        let known = self.identity.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn certified(
    identity: &Arc<Identity>,
    authority: &AuthorityName,
    controller: Option<Channel>,
) -> Result<Certificate, IdentityError> {
    let away = || IdentityError::Unanswered("it is away".to_owned());
    let asking = identity.certify(authority, controller.ok_or_else(away)?);
    let chain = tokio::time::timeout(PATIENCE, asking)
        .await
        .map_err(|_| IdentityError::Unanswered("it is silent".to_owned()))??;
    let life = life(&chain).ok_or(IdentityError::BadAnswer)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Certificate {
        shown: Arc::new(with_key(chain, identity, &provider)?),
        of: Arc::clone(identity),
        life,
    })
}

fn life(chain: &[CertificateDer<'_>]) -> Option<Life> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    Life::of(&leaf)
}

fn with_key(
    chain: Vec<CertificateDer<'static>>,
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let key = provider
        .key_provider
        .load_private_key(identity.private_key()?);
    let certified = CertifiedKey::new(chain, key.map_err(|_| IdentityError::BadAnswer)?);
    // Not a certificate for somebody else.
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(IdentityError::BadAnswer),
    }
}

/// Shows one certificate, whatever authorities a host says it knows: one that compares fingerprints names none of use.
#[derive(Debug)]
pub struct Shows(pub Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn whoever_waited_while_the_controller_was_asked_in_vain_does_not_ask_again() {
        let asked = agent::now();
        let at = |seconds| asked + Duration::from_secs(seconds);
        let mut kept = Kept::default();
        assert_eq!(kept.refused_since(at(0)), None);
        kept.refused = Some((at(10), "it is silent".to_owned()));
        assert_eq!(kept.refused_since(at(1)).as_deref(), Some("it is silent"));
        assert_eq!(kept.refused_since(at(11)), None);
    }

    #[tokio::test]
    async fn without_a_controller_there_is_none_and_it_says_of_which_authority() {
        let certificates = ClientCertificates::default();
        let authority = "member-ca".parse().unwrap();
        let error = certificates.of(&authority, None, at(0)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the agent has no certificate of the authority `member-ca` to show: it has not joined"
        );
    }
}
