//! Authorities: the CAs whose certificates prove members' mail servers. Public material only: the keys of our own lie
//! with [`crate::authority`].

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::name::AuthorityName;
use dd_proto::site::Site;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

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
    /// What is wrong with it, one sentence each.
    pub fn alarms(&self, now: Timestamp) -> Vec<String> {
        let name = &self.name;
        let mut alarms = Vec::new();
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
        let ends = |der: &Bytes| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
        };
        let last = self.certificates.iter().filter_map(ends).max();
        if let Some(last) = last.filter(|last| *last < soon) {
            alarms.push(format!(
                "the authority `{name}` is valid until {last}: after that nothing it certified is proof; roll it over with `ddadm ca rollover {name}`, or import its successor beside it"
            ));
        }
        alarms
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
        "certificate {0} is no CA certificate: import the certificate that signs the members' ones"
    )]
    NoCa(usize),
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
            return Err(AuthorityError::NoCa(number));
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
            true => old.to_vec(),
            false => certificates,
        };
        check(&certificates)?;
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
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn certificate(is_ca: IsCa) -> Bytes {
        let mut params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec().into()
    }

    #[test]
    fn only_ca_certificates_are_an_authority() {
        let ca = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
        let leaf = certificate(IsCa::NoCa);
        let mut longer = ca.to_vec();
        longer.push(0);
        for (certificates, expected) in [
            (vec![ca.clone()], Ok(())),
            (vec![ca.clone(); 2], Ok(())),
            (vec![], Err(AuthorityError::Count)),
            (vec![ca.clone(); 11], Err(AuthorityError::Count)),
            (vec![ca, leaf], Err(AuthorityError::NoCa(2))),
            (vec![longer.into()], Err(AuthorityError::Unreadable(1))),
            (
                vec![Bytes::from_static(b"-----BEGIN")],
                Err(AuthorityError::Unreadable(1)),
            ),
        ] {
            assert_eq!(check(&certificates), expected);
        }
    }
}
