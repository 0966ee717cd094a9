//! Authorities of our own: made, rolled over, and what they issue and revoke.
//!
//! # Invariants
//! - Every certificate of an own authority has a revocation list of its own from the first moment on, so that no agent
//!   ever has to guess.
//! - A certificate is on record before it is given out, and a revocation before the list that tells it: after a stop in
//!   between, [`Change::keep_authorities`] makes the list.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authorities::{Authority, Origin};
use super::issued::{self, Issued};
use super::{Change, ChangeError, lists, record, retire, unknown};
use crate::authority::keys::KeyError;
use crate::authority::members;
use crate::authority::request::{self, RequestError};

/// More certificates at once than any roll-over needs.
const MAX_GENERATIONS: usize = 4;
const MAX_ISSUED: usize = 200_000;
const MAX_DAYS: u32 = 825;
const DEFAULT_DAYS: u32 = 365;
/// Of what agents show to sites' hosts. An agent without the controller hands nothing over, so a short life stops no mail;
/// and neither an agent that was removed nor a key that was rolled over is shown for longer.
const AGENT_LIFE: Duration = Duration::from_secs(86_400);

/// Why nothing was made, issued or revoked.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    #[error(
        "there is an authority `{0}` already: choose another name, or roll it over with `ddadm ca rollover {0}`"
    )]
    Exists(AuthorityName),
    #[error(
        "the authority `{0}` was imported: its key is elsewhere, and so is whoever issues its certificates"
    )]
    Imported(AuthorityName),
    #[error(
        "the site `{0}` does not prove itself by a certificate of a named authority: set that first with `ddadm site set {0} --proof certificate --authority CA --cert-name NAME`"
    )]
    NoCertificate(SiteName),
    #[error(
        "the authority `{authority}` may not certify `{name}`: it was made with --permit {permit}"
    )]
    NotPermitted {
        authority: AuthorityName,
        name: Domain,
        permit: String,
    },
    #[error("--days must be between 1 and 825")]
    Days,
    #[error(
        "the authority `{0}` is being rolled over: end that first with `ddadm ca rollover {0} --finish`"
    )]
    RollingOver(AuthorityName),
    #[error("the authority `{0}` is not being rolled over")]
    NotRollingOver(AuthorityName),
    #[error(
        "the old key is still used, and would be no proof any more, by {0}: have the new certificate of each installed (`ddadm cert issue`) and a mail delivered to it first, or cut these off with --force"
    )]
    StillUsed(String),
    #[error(
        "sites prove themselves by the authority `{authority}`: {sites}; give them another proof with `ddadm site set` first"
    )]
    ReliedOn {
        authority: AuthorityName,
        sites: String,
    },
    #[error(
        "agents show certificates of the authority `{authority}` to the hosts of {sites}: end that with `ddadm site set NAME --clear client-certificate` first"
    )]
    Shown {
        authority: AuthorityName,
        sites: String,
    },
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("it cannot be signed: {0}")]
    Sign(#[from] rcgen::Error),
}

/// What is given out, once.
#[derive(Debug, Clone)]
pub struct Issue {
    pub issued: Arc<Issued>,
    /// DER; its own, then the authority's that signed it.
    pub chain: Vec<Bytes>,
    /// Every certificate of the authority.
    pub anchors: Vec<Bytes>,
    /// PKCS#8; None where a request was signed.
    pub private_key: Option<Vec<u8>>,
}

/// What an agent is given to show. DER.
#[derive(Debug, Clone)]
pub struct Certified {
    pub certificate: Bytes,
    pub signer: Bytes,
}

/// Signed, not yet on record.
struct Made {
    signed: members::Signed,
    public_key: Vec<u8>,
    private_key: Option<Vec<u8>>,
}

/// What becomes of the old certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollover {
    /// They serve beside a new one.
    Begin,
    /// They go.
    Finish(StillUsed),
}

/// What a roll-over does to sites that still use what the old key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillUsed {
    Refuse,
    CutOff,
}

impl Change {
    /// # Errors
    /// There is such an authority, or its key cannot be kept.
    pub async fn create_authority(
        &self,
        name: AuthorityName,
        permit: Vec<Domain>,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Authority>, ChangeError> {
        if self.registry.authority(&name).is_some() {
            return Err(OwnError::Exists(name).into());
        }
        let (certificate, list) = self.new_generation(&name, 1, &permit, now)?;
        let authority = Authority {
            name: name.clone(),
            version: 0,
            certificates: vec![certificate],
            revocation_lists: vec![list],
            origin: Origin::Own { permit },
        };
        let what = format!("authority {name} created");
        self.put_authority(authority, &what, who, now).await
    }

    /// # Errors
    /// The authority is not ours, or not at this point of a roll-over.
    pub async fn roll_over(
        &self,
        name: &str,
        step: Rollover,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Authority>, ChangeError> {
        let (old, permit) = self.own_authority(name)?;
        let mut authority = (*old).clone();
        let what = match step {
            Rollover::Begin => {
                if authority.certificates.len() >= MAX_GENERATIONS {
                    return Err(OwnError::RollingOver(authority.name).into());
                }
                let number = members::number_of(&authority.certificates[0]) + 1;
                let (certificate, list) =
                    self.new_generation(&authority.name, number, &permit, now)?;
                authority.certificates.insert(0, certificate);
                authority.revocation_lists.insert(0, list);
                format!("authority {name} rolls over: a new key issues from now on")
            }
            Rollover::Finish(still_used) => {
                if authority.certificates.len() == 1 {
                    return Err(OwnError::NotRollingOver(authority.name).into());
                }
                let used = self.registry.on_old_key(&authority, now);
                if still_used == StillUsed::Refuse && !used.is_empty() {
                    return Err(OwnError::StillUsed(retire::listed_with_days(&used)).into());
                }
                authority.certificates.truncate(1);
                authority.revocation_lists =
                    lists::merge(&authority.revocation_lists, &[], &authority.certificates)
                        .map_err(super::authorities::AuthorityError::List)?;
                format!("authority {name} rolled over: the old keys prove nothing any more")
            }
        };
        let stored = self.put_authority(authority, &what, who, now).await?;
        if let Rollover::Finish(_) = step {
            for gone in &old.certificates[1..] {
                self.keys.remove(&old.name, gone).map_err(OwnError::Key)?;
            }
        }
        Ok(stored)
    }

    /// A certificate for the site's own name, with the key of a request or with a new one.
    ///
    /// # Errors
    /// The site has no authority of ours, or the request is refused.
    pub async fn issue_certificate(
        &self,
        site: &str,
        csr: Option<&[u8]>,
        days: Option<u32>,
        who: &str,
        now: Timestamp,
    ) -> Result<Issue, ChangeError> {
        let parsed: Option<SiteName> = site.parse().ok();
        let site = parsed
            .and_then(|name| self.registry.site(&name))
            .ok_or_else(|| unknown("site", site))?;
        let certified = site
            .proof
            .certified()
            .ok_or_else(|| OwnError::NoCertificate(site.name.clone()))?;
        let (authority, permit) = self.own_authority(certified.authority.as_str())?;
        permitted(&authority.name, &permit, &certified.name)?;
        let days = days.unwrap_or(DEFAULT_DAYS);
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(OwnError::Days.into());
        }
        if self.registry.read().issued.len() >= MAX_ISSUED {
            return Err(ChangeError::TooMany {
                kind: "certificates",
                most: MAX_ISSUED,
            });
        }
        let until = now
            .saturating_add(Duration::from_secs(u64::from(days) * 86_400))
            .unwrap_or(Timestamp::MAX);
        let made = self.sign(&authority, &certified.name, csr, until, now)?;
        let Made {
            signed,
            public_key,
            private_key,
        } = made;
        let signer = &authority.certificates[0];
        let issued = Issued {
            serial: signed.serial,
            site: site.name.clone(),
            authority: authority.name.clone(),
            signed_by: key_digest(signer),
            name: certified.name.clone(),
            not_before: signed.not_before,
            not_after: signed.not_after,
            revoked: None,
            sha256: Sha256::digest(&signed.der).into(),
            spki_sha256: Sha256::digest(&public_key).into(),
            certificate: signed.der.clone(),
        };
        let what = format!(
            "certificate {} issued to site {} for {} until {}",
            issued.serial_text(),
            issued.site,
            issued.name,
            issued.not_after
        );
        let issued = self.put_issued(issued).await?;
        self.audit.record(now, who, &what);
        Ok(Issue {
            issued,
            chain: vec![signed.der, signer.clone()],
            anchors: authority.certificates.clone(),
            private_key,
        })
    }

    /// A certificate by which an agent's key is known to sites' hosts. It is on no record: it ends within a day.
    ///
    /// # Errors
    /// No site asks for one of that authority, or the authority is not ours.
    pub fn certify_agent(
        &self,
        authority: &str,
        agent: &AgentName,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<Certified, ChangeError> {
        let (authority, _) = self.own_authority(authority)?;
        let sites = self.registry.sites();
        if !sites
            .iter()
            .any(|site| retire::is_shown(site, &authority.name) && site.may_go_through(agent))
        {
            return Err(unknown(
                "site with --client-certificate of",
                &authority.name,
            ));
        }
        let signer = signer_for_homes(&authority.certificates, now);
        let signing = self
            .keys
            .of(&authority.name, signer)
            .map_err(OwnError::Key)?;
        let until = now.saturating_add(AGENT_LIFE).unwrap_or(Timestamp::MAX);
        let until = within(signer, until);
        let certificate = members::agent(signer, signing, agent, key, until, now);
        Ok(Certified {
            certificate: certificate.map_err(OwnError::Sign)?,
            signer: signer.clone(),
        })
    }

    /// # Errors
    /// There is no such certificate.
    pub async fn revoke_certificate(
        &self,
        serial: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Issued>, ChangeError> {
        let known = issued::serial(serial)
            .and_then(|serial| self.registry.issued(&issued::serial_text(&serial)))
            .ok_or_else(|| unknown("certificate", serial))?;
        let revoked = match known.revoked {
            Some(_) => known,
            None => {
                let mut revoked = (*known).clone();
                revoked.revoked = Some(now);
                let what = format!(
                    "certificate {} of site {} revoked",
                    revoked.serial_text(),
                    revoked.site
                );
                let revoked = self.put_issued(revoked).await?;
                self.audit.record(now, who, &what);
                revoked
            }
        };
        // The list may lack one that is on record: its key was missing then, or the process stopped in between.
        if let Some(authority) = self.registry.authority(&revoked.authority) {
            self.renew_lists(&authority, who, now).await?;
        }
        Ok(revoked)
    }

    fn own_authority(&self, name: &str) -> Result<(Arc<Authority>, Vec<Domain>), ChangeError> {
        let parsed: Option<AuthorityName> = name.parse().ok();
        let authority = parsed
            .and_then(|name| self.registry.authority(&name))
            .ok_or_else(|| unknown("authority", name))?;
        match authority.origin.clone() {
            Origin::Own { permit } => Ok((authority, permit)),
            Origin::Imported => Err(OwnError::Imported(authority.name.clone()).into()),
        }
    }

    fn new_generation(
        &self,
        name: &AuthorityName,
        number: u32,
        permit: &[Domain],
        now: Timestamp,
    ) -> Result<(Bytes, Bytes), OwnError> {
        let key = self.keys.make(name)?;
        let certificate = members::root(name, number, permit, &key, now)?;
        let list = members::revocation_list(&certificate, key, &[], now)?;
        Ok((certificate, list))
    }

    fn sign(
        &self,
        authority: &Authority,
        name: &Domain,
        csr: Option<&[u8]>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Made, OwnError> {
        let signer = &authority.certificates[0];
        let signing = self.keys.of(&authority.name, signer)?;
        let until = within(signer, until);
        match csr {
            Some(csr) => {
                let key = request::key_of(csr, name)?;
                let public = key.subject_public_key_info();
                let signed = members::leaf(signer, signing, name, &key, until, now)?;
                Ok(Made {
                    signed,
                    public_key: public,
                    private_key: None,
                })
            }
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                let public = key.subject_public_key_info();
                let signed = members::leaf(signer, signing, name, &key, until, now)?;
                Ok(Made {
                    signed,
                    public_key: public,
                    private_key: Some(key.serialize_der()),
                })
            }
        }
    }

    pub(super) async fn put_issued(&self, issued: Issued) -> Result<Arc<Issued>, ChangeError> {
        let key = issued.serial_text();
        let value = issued::encode(&issued);
        self.store.put(record::ISSUED, &key, Some(value)).await?;
        let issued = Arc::new(issued);
        self.registry.write().issued.insert(key, issued.clone());
        Ok(issued)
    }
}

/// RFC 5280 §4.2.1.10: a name is permitted if it is one of the domains or lies below one.
pub(super) fn permitted(
    authority: &AuthorityName,
    permit: &[Domain],
    name: &Domain,
) -> Result<(), OwnError> {
    let below = |domain: &Domain| {
        name == domain
            || name
                .as_str()
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.'))
    };
    match permit.is_empty() || permit.iter().any(below) {
        true => Ok(()),
        false => Err(OwnError::NotPermitted {
            authority: authority.clone(),
            name: name.clone(),
            permit: permit
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        }),
    }
}

/// A certificate that was issued earlier, then the authority's that signed it, where the authority still has that.
pub fn chain_of(authority: &Authority, issued: &Issued) -> Vec<Bytes> {
    let signed = |it: &&Bytes| key_digest(it) == issued.signed_by;
    let signer = authority.certificates.iter().find(signed);
    std::iter::once(&issued.certificate)
        .chain(signer)
        .cloned()
        .collect()
}

/// Of the public key; nothing has the digest of a certificate that cannot be read.
pub(super) fn key_digest(certificate: &[u8]) -> [u8; 32] {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Sha256::digest(parsed.public_key().raw).into(),
        Err(_) => [0; 32],
    }
}

/// Which generation signs what agents show to homes: the oldest that goes on, for that is the one which every home has. Those
/// that were given the authority's certificates since a newer one began have both.
fn signer_for_homes(generations: &[Bytes], now: Timestamp) -> &Bytes {
    let goes_on = |it: &&Bytes| not_after(it).is_none_or(|end| end > now);
    let oldest = generations.iter().rev().find(goes_on);
    oldest.unwrap_or(&generations[0])
}

/// Nothing outlives the certificate that signed it.
fn within(signer: &[u8], until: Timestamp) -> Timestamp {
    not_after(signer).map_or(until, |end| end.min(until))
}

fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(dd_pki::time::instant(parsed.validity().not_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_shown_what_the_oldest_generation_signed_as_long_as_it_goes_on() {
        let name = "member-ca".parse().unwrap();
        let day = |number: i64| Timestamp::from_second(number * 86_400).unwrap();
        let root = |number, begun| {
            let key = KeyPair::generate().unwrap();
            members::root(&name, number, &[], &key, begun).unwrap()
        };
        let (first, second) = (root(1, day(20_000)), root(2, day(21_000)));
        let ends = not_after(&first).unwrap();
        // The newest comes first.
        let both = [second.clone(), first.clone()];
        assert_eq!(signer_for_homes(&both, day(21_001)), &first);
        assert_eq!(signer_for_homes(&both, ends), &second);
        assert_eq!(signer_for_homes(&both[1..], ends), &first);
    }

    #[test]
    fn only_names_at_or_below_a_permitted_domain_are_certified() {
        let authority = "member-ca".parse().unwrap();
        let permit: Vec<Domain> = vec!["members.example".parse().unwrap()];
        for (name, allowed) in [
            ("members.example", true),
            ("a.members.example", true),
            ("b.a.members.example", true),
            ("amembers.example", false),
            ("members.example.net", false),
            ("example", false),
        ] {
            let name = name.parse().unwrap();
            assert_eq!(
                permitted(&authority, &permit, &name).is_ok(),
                allowed,
                "{name}"
            );
            assert!(permitted(&authority, &[], &name).is_ok());
        }
    }
}
