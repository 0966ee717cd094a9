//! The certificates that the agent shows to hosts which ask for one in the handshake, so that a member's server can know it.
//!
//! One for each authority that a route plan names, for the key that the agent has: the controller signs, and the key stays
//! here. They are kept in memory only; after a start they are asked for again.
//!
//! # Invariants
//! - A site whose plan names an authority is not connected to without a certificate of it: its server might refuse for good
//!   what it takes from whom it knows.
//! - Nobody waits for the controller while there is a certificate that can be shown: it is renewed beside the deliveries.
//!
//! # Not here
//! The handshake ([`crate::tls`]), and the certificate by which the controller knows the agent ([`crate::identity`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::name::AuthorityName;
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::agent::{self, Work};
use crate::control::chain;
use crate::identity::life::Life;
use crate::identity::{Identity, IdentityError};
use crate::proof::Asked;

/// How long the controller may think about it. Where there is none to show, a site's mail waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// After it was asked for, whatever came of it, a certificate is asked for again after this time at the earliest: a third of
/// its life is left for that, and one whose authority is about to end is due as soon as it is there.
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
    kept: Mutex<BTreeMap<AuthorityName, Arc<Kept>>>,
}

/// What there is of one authority.
#[derive(Debug, Default)]
struct Kept {
    held: Mutex<Held>,
    /// Whoever needs one, and there is none, asks for it in turn. Each authority has its own, so that nobody waits for one of
    /// which the controller has nothing to say.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    certificate: Option<Certificate>,
    /// When the controller was last asked in vain, and why.
    refused: Option<(Instant, String)>,
}

/// Whether a certificate at hand is to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    NotYet,
    /// Whoever is told so asks for the next one; nobody else is told for a while.
    Now,
}

impl Held {
    /// One that can be shown.
    fn at_hand(&mut self, of: &Identity, now: Timestamp) -> Option<(Arc<CertifiedKey>, Due)> {
        let known = self.certificate.as_mut()?;
        if !known.of.has_key_of(of) || known.life.has_ended(now) {
            return None;
        }
        let due = match known.life.is_due(now) {
            true => Due::Now,
            false => Due::NotYet,
        };
        if due == Due::Now {
            known.life.put_off(now, AGAIN);
        }
        Some((Arc::clone(&known.shown), due))
    }

    /// Why there was none for whoever has waited since he came. Sites that wait together are told together: each asking may
    /// take as long as [`PATIENCE`].
    fn refused_since(&self, came: Instant) -> Option<String> {
        let refused = self.refused.as_ref().filter(|(at, _)| *at >= came);
        refused.map(|(_, why)| why.clone())
    }

    /// What the controller has just given. It gives no better one for a while, even where its authority is about to end or the
    /// clocks differ.
    fn keep(&mut self, mut certificate: Certificate, now: Timestamp) -> Arc<CertifiedKey> {
        certificate.life.lasts_at_least(now, AGAIN);
        let shown = Arc::clone(&certificate.shown);
        self.certificate = Some(certificate);
        shown
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

    /// A certificate of the authority: the one at hand, or where there is none, one that the controller is asked for. Where the
    /// one at hand is due, `start` gets the work of renewing it.
    ///
    /// # Errors
    /// There is none, and the controller gives none.
    pub async fn of(
        &self,
        authority: &AuthorityName,
        controller: Option<Channel>,
        now: Timestamp,
        start: impl FnOnce(Work),
    ) -> Result<Arc<CertifiedKey>, NoCertificate> {
        let identity = self.identity().ok_or_else(|| NoCertificate {
            authority: authority.clone(),
            why: "it has not joined".to_owned(),
        })?;
        let asking = Asking {
            authority: authority.clone(),
            kept: self.kept(authority),
            identity,
            controller,
        };
        match asking.at_hand(now) {
            Some((shown, Due::NotYet)) => Ok(shown),
            Some((shown, Due::Now)) => {
                start(Box::pin(asking.renews()));
                Ok(shown)
            }
            None => asking.waits(now).await,
        }
    }

    fn kept(&self, authority: &AuthorityName) -> Arc<Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.entry(authority.clone()).or_default())
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        let known = self.identity.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All that it takes to ask the controller for one.
struct Asking {
    authority: AuthorityName,
    kept: Arc<Kept>,
    identity: Arc<Identity>,
    controller: Option<Channel>,
}

impl Asking {
    fn held(&self) -> MutexGuard<'_, Held> {
        let held = self.kept.held.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    fn at_hand(&self, now: Timestamp) -> Option<(Arc<CertifiedKey>, Due)> {
        self.held().at_hand(&self.identity, now)
    }

    /// Nobody waits for this.
    async fn renews(self) {
        if let Err(error) = self.asks().await {
            let (authority, error) = (&self.authority, chain(&error));
            tracing::warn!(%authority, error, "the certificate for sites is not renewed");
        }
    }

    async fn waits(&self, now: Timestamp) -> Result<Arc<CertifiedKey>, NoCertificate> {
        let came = agent::now();
        // Whoever comes next finds what this one brings.
        let _turn = self.kept.asking.lock().await;
        if let Some((shown, _)) = self.at_hand(now) {
            return Ok(shown);
        }
        let why_not = |why| NoCertificate {
            authority: self.authority.clone(),
            why,
        };
        if let Some(why) = self.held().refused_since(came) {
            return Err(why_not(why));
        }
        self.asks().await.map_err(|error| {
            let why = chain(&error);
            self.held().refused = Some((agent::now(), why.clone()));
            why_not(why)
        })
    }

    async fn asks(&self) -> Result<Arc<CertifiedKey>, IdentityError> {
        let controller = self.controller.clone();
        let certificate = certified(&self.identity, &self.authority, controller).await?;
        let (authority, ends) = (&self.authority, certificate.life.ends);
        tracing::info!(%authority, %ends, "has a certificate to show to sites");
        Ok(self.held().keep(certificate, agent::wall()))
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

/// Shows one certificate or none, whatever authorities a host says it knows: one that compares fingerprints names none of
/// use. Notes that it was asked.
#[derive(Debug)]
pub struct Shows {
    certificate: Shown,
    asked: AtomicBool,
}

impl Shows {
    pub fn new(certificate: Shown) -> Self {
        Self {
            certificate,
            asked: AtomicBool::new(false),
        }
    }

    /// By now.
    pub fn asked(&self) -> Asked {
        match (self.asked.load(Ordering::Relaxed), &self.certificate) {
            (false, _) => Asked::No,
            (true, None) => Asked::ShownNothing,
            (true, Some(_)) => Asked::Shown,
        }
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn member_ca() -> AuthorityName {
        "member-ca".parse().unwrap()
    }

    /// An agent that has a certificate with this life.
    fn holding(life: Life) -> (ClientCertificates, Arc<CertifiedKey>) {
        let (certificates, of) = (ClientCertificates::default(), Identity::of_a_test());
        // Any that is of its key.
        let leaf = CertificateDer::from(of.authority().to_vec());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let shown = Arc::new(with_key(vec![leaf], &of, &provider).unwrap());
        certificates.belong_to(&of);
        let certificate = Certificate {
            shown: Arc::clone(&shown),
            of,
            life,
        };
        let kept = certificates.kept(&member_ca());
        kept.held.lock().unwrap().certificate = Some(certificate);
        (certificates, shown)
    }

    #[tokio::test]
    async fn a_certificate_that_is_due_is_shown_and_renewed_by_work_that_nobody_waits_for() {
        let (certificates, shown) = holding(Life::between(at(0), at(90_000)));
        let started = RefCell::new(Vec::new());
        let show = async |second| {
            let start = |work| started.borrow_mut().push(work);
            // Whoever asked would get a refusal: there is no controller.
            let authority = member_ca();
            let shown = certificates.of(&authority, None, at(second), start);
            let shown = shown.await.map_err(|error| error.to_string());
            (shown, started.borrow().len())
        };
        for (second, renewals) in [
            (59_999, 0),
            (60_000, 1),
            (60_001, 1),
            (60_059, 1),
            (60_060, 2),
        ] {
            let (now_shown, begun) = show(second).await;
            let now_shown = now_shown.unwrap();
            assert!(Arc::ptr_eq(&now_shown, &shown), "{second}");
            assert_eq!(begun, renewals, "{second}");
        }
        for work in started.take() {
            work.await;
        }
        // In vain, so it is shown still, up to its end.
        assert!(show(89_999).await.0.is_ok());
        let (ended, _) = show(90_000).await;
        let why = "the agent has no certificate of the authority `member-ca` to show: the controller does not answer: it is away";
        assert_eq!(ended.unwrap_err(), why);
    }

    #[test]
    fn one_that_was_just_given_is_not_asked_for_again_however_soon_its_authority_ends() {
        let (certificates, _) = holding(Life::between(at(0), at(5_400)));
        let kept = certificates.kept(&member_ca());
        let mut held = kept.held.lock().unwrap();
        let of = certificates.identity().unwrap();
        for (given, life) in [
            // Made an hour ago, by an authority that ends in half an hour, or has ended.
            (3_600, Life::between(at(0), at(5_400))),
            (3_600, Life::between(at(0), at(3_500))),
        ] {
            let mut certificate = held.certificate.take().unwrap();
            certificate.life = life;
            held.keep(certificate, at(given));
            for (second, due) in [(given, Due::NotYet), (given + 59, Due::NotYet)] {
                let at_hand = held.at_hand(&of, at(second));
                assert_eq!(at_hand.map(|it| it.1), Some(due), "{second}");
            }
        }
    }

    #[test]
    fn whoever_waited_while_the_controller_was_asked_in_vain_does_not_ask_again() {
        let asked = agent::now();
        let at = |seconds| asked + Duration::from_secs(seconds);
        let mut held = Held::default();
        assert_eq!(held.refused_since(at(0)), None);
        held.refused = Some((at(10), "it is silent".to_owned()));
        assert_eq!(held.refused_since(at(1)).as_deref(), Some("it is silent"));
        assert_eq!(held.refused_since(at(11)), None);
    }

    #[tokio::test]
    async fn without_a_controller_there_is_none_and_it_says_of_which_authority() {
        let certificates = ClientCertificates::default();
        let nothing = |_| panic!("there is nothing to renew");
        let error = certificates.of(&member_ca(), None, at(0), nothing).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "the agent has no certificate of the authority `member-ca` to show: it has not joined"
        );
    }
}
