//! Who we are to a controller elsewhere: a directory with `admin.pem`, `admin.key` and `authority.pem`.
//!
//! # Invariants
//! - The key is made here, and never leaves the machine.
//! - A certificate is renewed for the same key, and put in the place of the old one whole: a stop in between leaves one
//!   that is good until its own end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_proto::{pb, pem};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::failure::Failure;
use crate::files;

pub(crate) const CERTIFICATE: &str = "admin.pem";
pub(crate) const KEY: &str = "admin.key";
pub(crate) const AUTHORITY: &str = "authority.pem";

/// A certificate that lasts longer than that is of the first version, which knew no end; it is renewed all the same.
const LIFE: Duration = Duration::from_secs(90 * 86_400);

/// An identity, read.
pub(crate) struct Identity {
    directory: PathBuf,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) authority: Vec<u8>,
}

/// When a certificate begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    begin: Timestamp,
    pub(crate) end: Timestamp,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// Two thirds of its life are over.
    Renewable,
    Ended,
}

impl Life {
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let der = pem::read(certificate, pem::Kind::Certificate).ok()?;
        let (_, parsed) = X509Certificate::from_der(der.first()?).ok()?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Self {
            begin: at(parsed.validity().not_before)?,
            end: at(parsed.validity().not_after)?,
        })
    }

    pub(crate) fn standing(self, now: Timestamp) -> Standing {
        let life = self.end.duration_since(self.begin).unsigned_abs().min(LIFE);
        let renewable = self.begin.saturating_add(life / 3 * 2);
        match (now > self.end, renewable.is_ok_and(|from| from <= now)) {
            (true, _) => Standing::Ended,
            (false, true) => Standing::Renewable,
            (false, false) => Standing::Good,
        }
    }
}

impl Identity {
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).map_err(|error| {
                Failure::Refused(format!(
                    "{} cannot be read: {error}; --identity takes a directory with {CERTIFICATE}, {KEY} and {AUTHORITY}, as `ddadm admin add` makes one",
                    path.display()
                ))
            })
        };
        Ok(Self {
            certificate: read(CERTIFICATE)?,
            key: read(KEY)?,
            authority: read(AUTHORITY)?,
            directory: directory.to_owned(),
        })
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn standing(&self, now: Timestamp) -> Result<Standing, Failure> {
        // One that cannot be read is refused with a better word by whoever uses it.
        let life = Life::of(&self.certificate);
        match life.map(|life| (life.standing(now), life.end)) {
            Some((Standing::Ended, end)) => Err(Failure::Refused(format!(
                "the identity in {} was valid until {end}: have it removed and added again (`ddadm admin remove NAME`, `ddadm admin add NAME --out DIR`) by another administrator, or on the controller's machine",
                self.directory.display()
            ))),
            Some((standing, _)) => Ok(standing),
            None => Ok(Standing::Good),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Before a certificate is asked for: whether it could be kept.
    pub(crate) fn is_writable(&self) -> Result<(), Failure> {
        let probe = self.directory.join(".renewing");
        let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
        written.map_err(|error| {
            Failure::Refused(format!(
                "{} cannot be written to: {error}",
                self.directory.display()
            ))
        })
    }

    /// What a renewal asks with.
    pub(crate) fn request(&self) -> Result<Vec<u8>, Failure> {
        let unusable = || {
            Failure::Refused(format!(
                "{} holds no private key that a certificate can be asked for with: expected PKCS#8 in PEM",
                self.directory.join(KEY).display()
            ))
        };
        let text = std::str::from_utf8(&self.key).map_err(|_| unusable())?;
        let key = KeyPair::from_pem(text).map_err(|_| unusable())?;
        request(&key)
    }

    /// Puts a renewed certificate in the place of the present one, and says until when it is valid.
    pub(crate) fn renewed(
        &self,
        credentials: &pb::Credentials,
    ) -> Result<Option<Timestamp>, Failure> {
        let certificate = chain(credentials);
        files::write(&self.directory.join(CERTIFICATE), &certificate, 0o600)?;
        Ok(Life::of(certificate.as_bytes()).map(|life| life.end))
    }
}

/// A new key, as PEM, and the request for its certificate.
pub(crate) fn make() -> Result<(String, Vec<u8>), Failure> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Failure::Refused(format!("no key can be made: {error}")))?;
    Ok((key.serialize_pem(), request(&key)?))
}

fn request(key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let params = CertificateParams::new(Vec::new());
    let request = params.and_then(|params| params.serialize_request(key));
    request
        .map(|request| request.der().to_vec())
        .map_err(|error| Failure::Refused(format!("no certificate can be asked for: {error}")))
}

/// The certificate, and what it chains to.
pub(crate) fn chain(credentials: &pb::Credentials) -> String {
    let chain = credentials.chain.iter();
    chain.map(|der| pem::certificate(der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let begin = Timestamp::from_second(1_800_000_000).unwrap();
        let after = |days: u64| begin + Duration::from_secs(days * 86_400);
        let (quarter, decade) = (after(90), after(3650));
        for (end, days, expected) in [
            (quarter, 0, Standing::Good),
            (quarter, 59, Standing::Good),
            (quarter, 60, Standing::Renewable),
            (quarter, 90, Standing::Renewable),
            (quarter, 91, Standing::Ended),
            // Of the first version.
            (decade, 59, Standing::Good),
            (decade, 60, Standing::Renewable),
            (decade, 3651, Standing::Ended),
        ] {
            let life = Life { begin, end };
            assert_eq!(life.standing(after(days)), expected, "{days} of {end}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_life() {
        assert_eq!(Life::of(b"nothing"), None);
    }
}
