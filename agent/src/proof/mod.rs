//! Proofs: how the far end shows that it is the site, before one byte of an envelope is sent.
//!
//! A proof gathers nothing. It rules, purely, on what was [`Seen`] and on the site's [`Terms`], and either makes a
//! [`Verified`] or says by a [`Refusal`] why not. One file each, one line each in [`PROOFS`].
//!
//! # Invariants
//! - [`Verified`] is made in this folder only. Nothing else in the program can begin a mail transaction.
//! - A proof that needs TLS refuses a connection without it: there is no second try in the clear.
//!
//! # Not here
//! The handshake and the chain check itself: [`crate::tls`].

mod certificate;
mod configured;
mod diagnosis;
mod evidence;
mod fingerprint;
pub(crate) mod handshake;
pub mod observed;
mod port;
mod public;
mod refusal;
mod static_ip;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

pub(crate) use diagnosis::diagnose;
pub(crate) use evidence::reason_for;
pub use observed::{Asked, Checked, Seen, TlsSeen, TlsUp};
pub use refusal::Refusal;
pub(crate) use static_ip::may_be_proved;

/// Every proof there is.
pub static PROOFS: &[&dyn Proof] = &[
    &certificate::Certificate,
    &public::Public,
    &fingerprint::Fingerprint,
    &static_ip::StaticIp,
    &port::Port,
    &configured::Configured,
];

/// The far end has proved to be the site. Only a proof can make one; a transaction borrows it.
#[derive(Debug)]
#[must_use]
pub struct Verified {
    by: &'static str,
}

impl Verified {
    /// Private to this folder.
    fn by(kind: &'static str) -> Self {
        Self { by: kind }
    }

    /// The kind of the proof that ruled.
    pub fn proof(&self) -> &'static str {
        self.by
    }
}

/// What the site's record asks of the far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub proof: dd_proto::site::Proof,
    /// The authority's certificates; empty except for proofs by certificate.
    pub anchors: Vec<CertificateDer<'static>>,
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

/// Whether a proof rests on TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsUse {
    /// Without TLS there is no proof.
    Needed,
    /// Used where it works; it proves nothing.
    WhereOffered,
}

/// One way of proving.
pub trait Proof: Sync + std::fmt::Debug {
    /// The word operators use for it.
    fn kind(&self) -> &'static str;

    fn tls(&self, terms: &Terms) -> TlsUse;

    /// # Errors
    /// A refusal: what was seen does not prove that the far end is the site.
    fn rule(&self, terms: &Terms, seen: &Seen, now: Timestamp) -> Result<Verified, Refusal>;
}

/// The proof that a site's record names.
pub fn proof_for(terms: &Terms) -> &'static dyn Proof {
    let kind = terms.proof.kind();
    *PROOFS
        .iter()
        .find(|proof| proof.kind() == kind)
        .expect("PROOFS has every kind that a site record can name; a test walks them")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dd_proto::site::{Certified, Host, HostName, Proof as Kind};
    use std::num::NonZeroU16;

    pub(crate) fn seen_at(peer: &str, port: u16, tls: TlsSeen) -> Seen {
        let host = Host {
            name: HostName::Dns("home.example".parse().unwrap()),
            port: NonZeroU16::new(port).unwrap(),
        };
        let peer = std::net::SocketAddr::new(peer.parse().unwrap(), port);
        let mut seen = Seen::new(host, peer, "192.0.2.1".parse().unwrap());
        seen.tls = tls;
        seen
    }

    pub(crate) fn terms(proof: Kind) -> Terms {
        Terms {
            proof,
            anchors: Vec::new(),
            revocation_lists: Vec::new(),
        }
    }

    pub(crate) fn certified() -> Certified {
        Certified {
            authority: "ca".parse().unwrap(),
            name: "home.example".parse().unwrap(),
        }
    }

    /// One of each kind that a record can name, with and without what is optional.
    fn kinds() -> Vec<Kind> {
        let listed = |certificate| Kind::StaticIp {
            addresses: ["192.0.2.9".parse().unwrap()].into(),
            certificate,
        };
        vec![
            listed(None),
            listed(Some(certified())),
            Kind::Certificate(certified()),
            Kind::Fingerprint {
                listed: [dd_proto::fingerprint::Fingerprint([0; 32])].into(),
            },
            Kind::Public {
                name: "home.example".parse().unwrap(),
            },
            Kind::Port,
            Kind::Configured,
        ]
    }

    #[test]
    fn every_kind_a_record_can_name_has_its_proof() {
        for kind in kinds() {
            let word = kind.kind();
            assert_eq!(proof_for(&terms(kind)).kind(), word);
        }
        for proof in PROOFS {
            let named = kinds().iter().any(|kind| kind.kind() == proof.kind());
            assert!(named, "{proof:?} is asked for by no record");
        }
    }

    #[test]
    fn every_proof_has_a_section_in_the_manual() {
        let manual = include_str!("../../../docs/verification.md");
        for proof in PROOFS {
            let heading = format!("\n## {}\n", proof.kind());
            assert!(manual.contains(&heading), "{heading}");
        }
    }

    #[test]
    fn a_proof_that_needs_tls_refuses_every_connection_without_it() {
        let mut need = 0;
        for terms in kinds().into_iter().map(terms) {
            let proof = proof_for(&terms);
            if proof.tls(&terms) != TlsUse::Needed {
                continue;
            }
            need += 1;
            for tls in [
                TlsSeen::NotAsked,
                TlsSeen::NotOffered,
                TlsSeen::Refused("454".into()),
                TlsSeen::Failed {
                    refusal: Refusal::Expired,
                    chain: Vec::new(),
                },
            ] {
                let seen = seen_at("192.0.2.9", 25, tls);
                assert!(proof.rule(&terms, &seen, Timestamp::UNIX_EPOCH).is_err());
            }
        }
        assert_eq!(need, 4);
    }

    #[test]
    fn a_proof_by_certificate_takes_no_chain_that_was_only_recorded_and_no_other_name() {
        let up = |checked| {
            TlsSeen::Up(TlsUp {
                version: "TLSv1.3".into(),
                cipher: String::new(),
                chain: Vec::new(),
                checked,
                asked: Asked::No,
            })
        };
        let named = |name: &str| Checked::AgainstPublicRoots {
            name: name.parse().unwrap(),
        };
        let mut asked = 0;
        for terms in kinds().into_iter().map(terms) {
            if terms.proof.certificate_name().is_none() {
                continue;
            }
            asked += 1;
            for checked in [
                Checked::OnlyRecorded,
                named("other.example"),
                Checked::AgainstAnchors {
                    name: "other.example".parse().unwrap(),
                    anchors: Vec::new(),
                },
            ] {
                let seen = seen_at("192.0.2.9", 25, up(checked));
                let proof = proof_for(&terms);
                assert!(proof.rule(&terms, &seen, Timestamp::UNIX_EPOCH).is_err());
            }
        }
        assert_eq!(asked, 3);
    }
}
