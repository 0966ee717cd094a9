//! Authorities: the CAs whose certificates prove members' mail servers. Public material only: the keys of our own lie
//! with [`crate::authority`].

use std::sync::Arc;

use bytes::Bytes;
use dd_pki::key::{self, KeyFault};
use dd_pki::names;
use dd_pki::time::instant;
use dd_proto::domain::Domain;
use dd_proto::name::AuthorityName;
use dd_proto::site::Site;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use super::lists::{self, ListError};
use super::{Change, ChangeError, record};

const MAX_CERTIFICATES: usize = 10;
pub(super) const MAX_AUTHORITIES: usize = 1000;
/// Sites that dispatch hears of at once; in between it does other things.
const PLANS_AT_ONCE: usize = 1000;
/// Long enough to certify every member anew.
const EXPIRES_SOON: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);

/// An authority by name, and the certificates it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub name: AuthorityName,
    pub version: u64,
    /// DER; never empty. The first is the one that issues.
    pub certificates: Vec<Bytes>,
    /// DER; each of one of the certificates.
    pub revocation_lists: Vec<Bytes>,
    pub origin: Origin,
}

/// Whether a site relies on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    OfSites,
    None,
}

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Somebody else's.
    Imported,
    /// Its key lies here.
    Own {
        /// Only names at or below these can be certified; empty: any.
        permit: Vec<Domain>,
    },
}

impl Authority {
    /// What is wrong with it, one sentence each. Of one by which no site is proved it matters only what cannot be used at
    /// all.
    pub fn alarms(&self, now: Timestamp, usage: Usage) -> Vec<String> {
        let name = &self.name;
        let mut alarms = Vec::new();
        alarms.extend(self.unusable());
        if usage == Usage::None {
            return alarms;
        }
        for list in self
            .revocation_lists
            .iter()
            .filter_map(|der| lists::summary(der))
        {
            if let Some(next) = list.next_update.filter(|next| *next < now) {
                alarms.push(format!(
                    "the revocation list of `{}` (authority `{name}`) should have been replaced on {next}; it still applies: take in a newer one with `ddadm ca crl {name} --import FILE`",
                    list.issuer
                ));
            }
        }
        let soon = now.saturating_add(EXPIRES_SOON).unwrap_or(Timestamp::MAX);
        if let Some(last) = self.end().filter(|last| *last < soon) {
            let what_to_do = match self.origin {
                Origin::Own { .. } => format!("roll it over with `ddadm ca rollover {name}`"),
                // Its key is elsewhere.
                Origin::Imported => {
                    format!("import its successor with `ddadm ca import {name}`")
                }
            };
            alarms.push(format!(
                "the authority `{name}` is valid until {last}: after that nothing it certified is proof; {what_to_do}"
            ));
        }
        alarms
    }

    /// Whether an old key of ours counts beside the one that issues.
    pub fn is_rolling_over(&self) -> bool {
        self.origin != Origin::Imported && self.certificates.len() > 1
    }

    /// When the last of its certificates ends.
    pub fn end(&self) -> Option<Timestamp> {
        let end = |der: &Bytes| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            Some(instant(parsed.validity().not_after))
        };
        self.certificates.iter().filter_map(end).max()
    }

    /// What agents cannot use of it, although it is here: taken in by an earlier version, or used no more by this one.
    fn unusable(&self) -> Vec<String> {
        let name = &self.name;
        let keys = self.certificates.iter().filter_map(|der| {
            let fault = key_fault(der)?;
            Some(format!(
                "the certificate `{}` of the authority `{name}` cannot be used, and what it certified is no proof: {fault}",
                subject(der)
            ))
        });
        let lists = self.revocation_lists.iter().filter_map(|der| {
            let fault = lists::fault(der, &self.certificates)?;
            let issuer = lists::summary(der)?.issuer;
            Some(format!(
                "the revocation list of `{issuer}` (authority `{name}`) cannot be used, and mail for the authority's sites waits: {fault}; take in another one with `ddadm ca crl {name} --import FILE`"
            ))
        });
        let directories = self
            .certificates
            .iter()
            .filter(|der| limits_directories(der));
        let directories = directories.map(|der| {
            format!(
                "the certificate `{}` of the authority `{name}` limits its members by directory names, which agents cannot judge: what it certified is no proof",
                subject(der)
            )
        });
        keys.chain(directories).chain(lists).collect()
    }
}

pub(super) fn subject(der: &[u8]) -> String {
    X509Certificate::from_der(der)
        .map_or_else(|_| String::new(), |(_, it)| it.subject().to_string())
}

fn limits_directories(der: &[u8]) -> bool {
    let parsed = X509Certificate::from_der(der);
    parsed.is_ok_and(|(_, it)| names::limits_directories(&it))
}

/// Why no verifier can use a certificate as an anchor.
fn key_fault(der: &[u8]) -> Option<KeyFault> {
    match key::of_certificate(der) {
        Some(spki) => key::judge(spki, &dd_pki::provider()).err(),
        None => Some(KeyFault::Unreadable),
    }
}

/// Why certificates are no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("an authority needs 1 to 10 certificates: add --certificate FILE")]
    Count,
    #[error("certificate {0} cannot be read: expected an X.509 certificate")]
    Unreadable(usize),
    #[error(
        "certificate {number} (`{subject}`) is no authority's: it has no basicConstraints CA:TRUE. If it signs the members' certificates, make it anew with that (certtool: `ca`; certutil: -2; openssl: `basicConstraints = critical,CA:TRUE`)"
    )]
    NoCa { number: usize, subject: String },
    #[error(
        "certificate {number} (`{subject}`) is a server's own, which it issued to itself: an authority's certificate is not marked so. To go by that very certificate give the site `--proof fingerprint`"
    )]
    OwnOfServer { number: usize, subject: String },
    #[error(
        "certificate {number} (`{subject}`) is of X.509 version 1, which cannot say that it is an authority's: make it anew with `basicConstraints = critical,CA:TRUE`"
    )]
    Version1 { number: usize, subject: String },
    #[error("certificate {number} (`{subject}`) cannot be used: {fault}")]
    Key {
        number: usize,
        subject: String,
        fault: KeyFault,
    },
    #[error(
        "certificate {number} (`{subject}`) limits its members by directory names (nameConstraints with dirName), which agents cannot judge and so refuse, whatever they permit: make it anew with limits of DNS names only, or give the sites `--proof fingerprint`"
    )]
    Directories { number: usize, subject: String },
    #[error(
        "certificate {number} (`{subject}`) was valid until {not_after} only, so that nothing it certified is proof: import its successor"
    )]
    Expired {
        number: usize,
        subject: String,
        not_after: Timestamp,
    },
    #[error(
        "the authority `{0}` is our own: it is changed with `ddadm ca rollover` and `ddadm cert revoke`, or choose another name"
    )]
    Own(AuthorityName),
    #[error(transparent)]
    List(ListError),
}

/// # Errors
/// Not every one is a CA certificate.
pub(super) fn check(certificates: &[Bytes]) -> Result<(), AuthorityError> {
    if certificates.is_empty() || certificates.len() > MAX_CERTIFICATES {
        return Err(AuthorityError::Count);
    }
    for (number, der) in certificates.iter().enumerate() {
        let number = number + 1;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| AuthorityError::Unreadable(number))?;
        if !rest.is_empty() {
            return Err(AuthorityError::Unreadable(number));
        }
        if !certificate.is_ca() {
            return Err(no_ca(number, &certificate));
        }
    }
    Ok(())
}

fn no_ca(number: usize, certificate: &X509Certificate<'_>) -> AuthorityError {
    let subject = certificate.subject().to_string();
    let of_itself = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let names = matches!(certificate.subject_alternative_name(), Ok(Some(_)));
    if certificate.version() == X509Version::V1 {
        AuthorityError::Version1 { number, subject }
    } else if of_itself && names {
        AuthorityError::OwnOfServer { number, subject }
    } else {
        AuthorityError::NoCa { number, subject }
    }
}

/// The same of certificates that come in: each has a key that the verifier can use, and no limits that it cannot judge.
///
/// # Errors
/// Not every one is a CA certificate that can be used.
pub(super) fn check_usable(certificates: &[Bytes]) -> Result<(), AuthorityError> {
    check(certificates)?;
    for (number, der) in certificates.iter().enumerate() {
        if let Some(fault) = key_fault(der) {
            return Err(AuthorityError::Key {
                number: number + 1,
                subject: subject(der),
                fault,
            });
        }
        if limits_directories(der) {
            return Err(AuthorityError::Directories {
                number: number + 1,
                subject: subject(der),
            });
        }
    }
    Ok(())
}

/// One that has ended proves nothing; one that is yet to begin may come in beside its predecessor.
fn check_not_expired(certificates: &[Bytes], now: Timestamp) -> Result<(), AuthorityError> {
    for (number, der) in certificates.iter().enumerate() {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            continue;
        };
        let not_after = instant(parsed.validity().not_after);
        if not_after < now {
            return Err(AuthorityError::Expired {
                number: number + 1,
                subject: parsed.subject().to_string(),
                not_after,
            });
        }
    }
    Ok(())
}

impl Change {
    /// Imports an authority, or replaces the certificates or lists of an imported one; the sites that rely on it follow
    /// at once. Without certificates those that are known stay; a list takes the place of an earlier one of its issuer.
    ///
    /// # Errors
    /// Not every one is a CA certificate, or a list of one; or the authority is our own.
    pub async fn import_authority(
        &self,
        name: AuthorityName,
        certificates: Vec<Bytes>,
        revocation_lists: Vec<Bytes>,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Authority>, ChangeError> {
        let known = self.registry.authority(&name);
        if known
            .as_ref()
            .is_some_and(|it| it.origin != Origin::Imported)
        {
            return Err(AuthorityError::Own(name).into());
        }
        let (old, lists) = match &known {
            Some(known) => (&known.certificates[..], &known.revocation_lists[..]),
            None => (&[][..], &[][..]),
        };
        let certificates = match certificates.is_empty() {
            // Known ones stay as they are: a list is not refused for what was taken in before.
            true => {
                check(old)?;
                old.to_vec()
            }
            false => {
                check_usable(&certificates)?;
                check_not_expired(&certificates, now)?;
                certificates
            }
        };
        let revocation_lists =
            lists::merge(lists, &revocation_lists, &certificates).map_err(AuthorityError::List)?;
        let what = format!(
            "authority {name} imported: {} certificates, {} revocation lists",
            certificates.len(),
            revocation_lists.len()
        );
        let authority = Authority {
            name,
            version: 0,
            certificates,
            revocation_lists,
            origin: Origin::Imported,
        };
        self.put_authority(authority, &what, who, now).await
    }

    /// Stored, shown, and told to dispatch for the sites that rely on it.
    pub(super) async fn put_authority(
        &self,
        mut authority: Authority,
        what: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Authority>, ChangeError> {
        let name = authority.name.clone();
        let is_new = self.registry.authority(&name).is_none();
        if is_new && self.registry.authorities().len() >= MAX_AUTHORITIES {
            return Err(ChangeError::TooMany {
                kind: "authorities",
                most: MAX_AUTHORITIES,
            });
        }
        let value = record::encode_authority(&authority);
        authority.version = self
            .store
            .put(record::AUTHORITY, name.as_str(), Some(value))
            .await?;
        let authority = Arc::new(authority);
        {
            let mut snapshot = self.registry.write();
            snapshot
                .damaged
                .remove(&(record::AUTHORITY, name.to_string()));
            snapshot.authorities.insert(name.clone(), authority.clone());
        }
        self.plans_changed(&name).await;
        self.audit.record(now, who, what);
        Ok(authority)
    }

    /// What the sites that rely on this authority have to show is another thing now. Their records are what they were,
    /// however many they are: only what is sent to agents gets a newer version.
    async fn plans_changed(&self, authority: &AuthorityName) {
        let relies = |site: &Arc<Site>| {
            let certified = site.proof.certified();
            certified.is_some_and(|it| it.authority == *authority)
        };
        let sites = self.registry.dispatched_sites();
        let sites: Vec<Arc<Site>> = sites.into_iter().filter(relies).collect();
        for some in sites.chunks(PLANS_AT_ONCE) {
            self.dispatch.plans_changed(some.to_vec()).await;
        }
    }
}

#[cfg(test)]
mod tests;
