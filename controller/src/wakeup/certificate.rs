//! Whether the certificate a client presented is that of a site: the same chain and name, or the same fingerprint, that
//! prove its mail server to an agent.
//!
//! # Invariants
//! - Where an authority is asked for, the agents' own verifier over exactly that authority and its revocation lists says yes,
//!   with the site's defined name, and what agents rule on beside it; nothing else does.
//! - What a client presents is looked at before anything is verified: only a certificate that carries the site's name is
//!   judged. A verifier is made once for each authority.
//!
//! # Not here
//! The proof `public`: its certificate is anybody's who has the name for a day; such a site uses its password.
//! docs/decisions/0037-certificates-in-the-portal.md

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dd_pki::anchored::Anchored;
use dd_pki::{judge, key};
use dd_proto::fingerprint::Fingerprint;
use dd_proto::name::AuthorityName;
use dd_proto::site::{Certified, Proof, Site};
use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::registry::Registry;
use crate::registry::authorities::Authority;

/// At most this many authorities' verifiers are kept; beyond it the cache starts anew.
const MOST: usize = 1024;

/// What a certificate proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proves {
    Site,
    Nothing,
}

/// What a look at a chain says of a site, before anything is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Is,
    /// It has to be judged.
    CouldBe,
    IsNot,
}

/// A look that costs nothing. That the client holds the key, the handshake has shown.
pub(super) fn look(site: &Site, chain: &[CertificateDer<'static>]) -> Look {
    let Some(leaf) = chain.first() else {
        return Look::IsNot;
    };
    match (&site.proof, site.proof.certified()) {
        (Proof::Fingerprint { listed }, _) => match is_listed(leaf, |it| listed.contains(it)) {
            true => Look::Is,
            false => Look::IsNot,
        },
        (_, Some(certified)) if judge::carries(leaf, certified.name.as_str()) => Look::CouldBe,
        _ => Look::IsNot,
    }
}

/// The certificate, or its key.
fn is_listed(der: &[u8], listed: impl Fn(&Fingerprint) -> bool) -> bool {
    let print = |bytes: &[u8]| Fingerprint(Sha256::digest(bytes).into());
    key::of_certificate(der).is_some_and(|key| [print(der), print(key)].iter().any(listed))
}

/// Judges certificates, and keeps what that takes.
#[derive(Debug)]
pub(super) struct Judge {
    provider: Arc<CryptoProvider>,
    kept: Mutex<HashMap<AuthorityName, Kept>>,
}

/// An authority as it was when its verifier was made.
#[derive(Debug, Clone)]
struct Kept {
    of: Arc<Authority>,
    verifier: Arc<Anchored>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            provider: dd_pki::provider(),
            kept: Mutex::default(),
        }
    }
}

impl Judge {
    /// Whether the chain speaks for a site for which it could be.
    pub(super) fn rule(
        &self,
        site: &Site,
        chain: &[CertificateDer<'static>],
        registry: &Registry,
        now: Timestamp,
    ) -> Proves {
        let certified = site.proof.certified();
        let authority = certified.and_then(|it| registry.authority(&it.authority));
        let (Some(certified), Some(authority)) = (certified, authority) else {
            return Proves::Nothing;
        };
        match self.verify(certified, &authority, chain, now) {
            Some(()) => Proves::Site,
            None => Proves::Nothing,
        }
    }

    fn verify(
        &self,
        certified: &Certified,
        authority: &Arc<Authority>,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Option<()> {
        let (end_entity, intermediates) = chain.split_first()?;
        let verifier = self.verifier(authority)?;
        let name = ServerName::try_from(certified.name.as_str()).ok()?;
        let seconds = u64::try_from(now.as_second()).ok()?;
        let unix = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let anchors = verifier
            .verify(end_entity, intermediates, &name, unix)
            .ok()?;
        judge::chain(chain, &anchors, now).ok()
    }

    fn verifier(&self, authority: &Arc<Authority>) -> Option<Arc<Anchored>> {
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        if let Some(it) = kept.get(&authority.name)
            && Arc::ptr_eq(&it.of, authority)
        {
            return Some(it.verifier.clone());
        }
        let der = |der: &bytes::Bytes| der.to_vec();
        let anchors = authority.certificates.iter().map(|it| der(it).into());
        let lists = authority.revocation_lists.iter().map(|it| der(it).into());
        let (anchors, lists): (Vec<_>, Vec<_>) = (anchors.collect(), lists.collect());
        let verifier = Arc::new(Anchored::new(&anchors, &lists, &self.provider).ok()?);
        if kept.len() >= MOST {
            kept.clear();
        }
        let made = Kept {
            of: authority.clone(),
            verifier: verifier.clone(),
        };
        kept.insert(authority.name.clone(), made);
        Some(verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::authorities::Origin;
    use dd_proto::pem;
    use dd_tests::ca::Ca;

    fn ders(text: &str) -> Vec<Vec<u8>> {
        pem::read(text.as_bytes(), pem::Kind::Certificate).unwrap()
    }

    fn authority(ca: &Ca, version: u64) -> Arc<Authority> {
        Arc::new(Authority {
            name: "member-ca".parse().unwrap(),
            version,
            certificates: ders(ca.root_pem()).into_iter().map(Into::into).collect(),
            revocation_lists: Vec::new(),
            origin: Origin::Imported,
        })
    }

    #[test]
    fn a_verifier_is_made_once_until_the_authority_changes() {
        let judge = Judge::default();
        let ca = Ca::new("Members");
        let (old, new) = (authority(&ca, 1), authority(&ca, 2));
        let first = judge.verifier(&old).unwrap();
        assert!(Arc::ptr_eq(&first, &judge.verifier(&old).unwrap()));
        assert!(!Arc::ptr_eq(&first, &judge.verifier(&new).unwrap()));
        assert_eq!(judge.kept.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_certificate_is_judged_by_name_chain_and_anchor() {
        let judge = Judge::default();
        let (ca, other) = (Ca::new("Members"), Ca::new("Members"));
        let certified = Certified {
            authority: "member-ca".parse().unwrap(),
            name: "home.example".parse().unwrap(),
        };
        let now =
            Timestamp::from_second(i64::try_from(UnixTime::now().as_secs()).unwrap()).unwrap();
        let late = now + std::time::Duration::from_secs(200 * 365 * 86_400);
        let own = authority(&ca, 1);
        let shows = |ca: &Ca, name: &str, at| {
            let chain = ders(ca.identity(&[name]).chain_pem());
            let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
            judge.verify(&certified, &own, &chain, at).is_some()
        };
        assert!(shows(&ca, "home.example", now));
        assert!(!shows(&ca, "other.example", now));
        assert!(!shows(&other, "home.example", now));
        assert!(!shows(&ca, "home.example", late));
    }
}
