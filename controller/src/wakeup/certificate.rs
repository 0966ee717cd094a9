//! Whether the certificate a client presented is that of a site: the same chain and name, or the same fingerprint, that
//! prove its mail server to an agent.
//!
//! # Invariants
//! Where an authority is asked for, the agents' own verifier over exactly that authority and its revocation lists says yes,
//! with the site's defined name; nothing else does.
//!
//! # Not here
//! The proof `public`: its certificate is anybody's who has the name for a day; such a site uses its password.
//! docs/decisions/0037-certificates-in-the-portal.md

use dd_pki::anchored::Anchored;
use dd_pki::key;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::site::{Certified, Proof, Site};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::registry::Registry;

/// What a certificate proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proves {
    Site,
    Nothing,
}

/// Whether the chain speaks for the site. That the client holds the key, the handshake has shown.
pub(super) fn is_of(
    site: &Site,
    chain: &[CertificateDer<'static>],
    registry: &Registry,
    now: UnixTime,
) -> Proves {
    let proved = match (&site.proof, site.proof.certified()) {
        (Proof::Fingerprint { listed }, _) => {
            let listed = |it: &Fingerprint| listed.contains(it);
            prints(chain).is_some_and(|both| both.iter().any(listed))
        }
        (_, Some(certified)) => verify(certified, chain, registry, now).is_some(),
        (_, None) => false,
    };
    match proved {
        true => Proves::Site,
        false => Proves::Nothing,
    }
}

/// Of the certificate, and of its key.
fn prints(chain: &[CertificateDer<'static>]) -> Option<[Fingerprint; 2]> {
    let der = chain.first()?;
    let print = |bytes: &[u8]| Fingerprint(Sha256::digest(bytes).into());
    Some([print(der), print(key::of_certificate(der)?)])
}

fn verify(
    certified: &Certified,
    chain: &[CertificateDer<'static>],
    registry: &Registry,
    now: UnixTime,
) -> Option<()> {
    let (end_entity, intermediates) = chain.split_first()?;
    let authority = registry.authority(&certified.authority)?;
    let der = |der: &bytes::Bytes| der.to_vec();
    let anchors = authority.certificates.iter().map(|it| der(it).into());
    let lists = authority.revocation_lists.iter().map(|it| der(it).into());
    let (anchors, lists): (Vec<CertificateDer<'_>>, Vec<_>) = (anchors.collect(), lists.collect());
    let verifier = Anchored::new(&anchors, &lists, &dd_pki::provider()).ok()?;
    let name = ServerName::try_from(certified.name.as_str()).ok()?;
    let verified = verifier.verify(end_entity, intermediates, &name, now);
    verified.ok().map(drop)
}
