//! Authorities: the CAs whose certificates prove members' mail servers.

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::name::AuthorityName;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ChangeError, Editor, record};

const MAX_CERTIFICATES: usize = 10;
pub(super) const MAX_AUTHORITIES: usize = 1000;

/// An authority by name, and the certificates it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub name: AuthorityName,
    pub version: u64,
    /// DER.
    pub certificates: Vec<Bytes>,
}

/// Why certificates are no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("an authority needs 1 to 10 certificates: add --certificate FILE")]
    Count,
    #[error("certificate {0} cannot be read: expected an X.509 certificate")]
    Unreadable(usize),
    #[error(
        "certificate {0} is no CA certificate: import the certificate that signs the members' ones"
    )]
    NoCa(usize),
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

impl Editor {
    /// Imports an authority, or replaces the certificates of an imported one; the sites that rely on it follow at once.
    ///
    /// # Errors
    /// Not every one is a CA certificate.
    pub async fn import_authority(
        &self,
        name: AuthorityName,
        certificates: Vec<Bytes>,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Authority>, ChangeError> {
        check(&certificates)?;
        let _changing = self.changing.lock().await;
        let what = format!("authority {name} imported");
        let authority = Authority {
            name,
            version: 0,
            certificates,
        };
        self.put_authority(authority, &what, who, now).await
    }

    /// Under the lock of a change: stored, shown, and told to the sites that rely on it.
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
        let value = record::encode_authority(&authority.certificates);
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
        self.audit.record(now, who, what);
        self.renew_sites_of(&name, who, now).await?;
        Ok(authority)
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
