//! The keys of our own members' authorities: `<state_dir>/authorities/NAME/SHA256.key`, where SHA256 is that of the
//! public key.
//!
//! # Invariants
//! - Directories are 0700 and keys 0600; a key leaves its file only to sign, and is in no record and no export.
//! - A key is synced before the record that names its certificate is. A stop in between leaves a key that nobody asks
//!   for.

use std::io;
use std::path::{Path, PathBuf};

use dd_proto::name::AuthorityName;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path} cannot be used: {cause}", path = path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{path} is missing: restore it from a backup, or roll the authority over with `ddadm ca rollover`", path = path.display())]
    Missing { path: PathBuf },
    #[error("{path} is damaged: restore it from a backup, or roll the authority over with `ddadm ca rollover`", path = path.display())]
    Damaged { path: PathBuf },
    #[error("a key cannot be made: {0}")]
    Rcgen(#[from] rcgen::Error),
}

/// Where they lie.
#[derive(Debug, Clone)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// Below the state directory; nothing is made until there is a key.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("authorities"),
        }
    }

    /// A new key, on disk when this returns.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn make(&self, authority: &AuthorityName) -> Result<KeyPair, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let directory = self.directory.join(authority.as_str());
        for path in [&self.directory, &directory] {
            files::directory(path).map_err(io_error(path))?;
        }
        let path = directory.join(file_name(&key.subject_public_key_info()));
        files::write(&path, &key.serialize_pem()).map_err(io_error(&path))?;
        Ok(key)
    }

    /// The key of a certificate of the authority.
    ///
    /// # Errors
    /// It is not there, or not that key.
    pub fn of(&self, authority: &AuthorityName, certificate: &[u8]) -> Result<KeyPair, KeyError> {
        let path = self.path(authority, certificate);
        let text = files::read(&path)
            .map_err(io_error(&path))?
            .ok_or_else(|| KeyError::Missing { path: path.clone() })?;
        let key = KeyPair::from_pem(&text).ok();
        let name = |key: &KeyPair| file_name(&key.subject_public_key_info());
        key.filter(|key| path.ends_with(name(key)))
            .ok_or(KeyError::Damaged { path })
    }

    /// Where the file of a certificate's key should be and is not.
    pub fn missing(&self, authority: &AuthorityName, certificate: &[u8]) -> Option<PathBuf> {
        let path = self.path(authority, certificate);
        (!path.exists()).then_some(path)
    }

    /// The authority needs it no more.
    ///
    /// # Errors
    /// It is still there.
    pub fn remove(&self, authority: &AuthorityName, certificate: &[u8]) -> Result<(), KeyError> {
        let path = self.path(authority, certificate);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, authority: &AuthorityName, certificate: &[u8]) -> PathBuf {
        let key = match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => parsed.public_key().raw.to_vec(),
            Err(_) => Vec::new(),
        };
        self.directory
            .join(authority.as_str())
            .join(file_name(&key))
    }
}

fn file_name(public_key: &[u8]) -> String {
    let digest = dd_proto::fingerprint::Fingerprint(Sha256::digest(public_key).into());
    format!("{digest}.key")
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    |cause| KeyError::Io { path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_lies_there_for_its_owner_only_and_is_found_by_its_certificate() {
        let state = tempfile::tempdir().unwrap();
        let keys = Keys::new(state.path());
        let name: AuthorityName = "member-ca".parse().unwrap();
        let key = keys.make(&name).unwrap();
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let der = super::super::members::root(&name, 1, &[], &key, now).unwrap();
        let found = keys.of(&name, &der).unwrap();
        assert_eq!(found.serialize_der(), key.serialize_der());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = keys.path(&name, &der);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&keys.directory), 0o700);
        assert_eq!(keys.missing(&name, &der), None);
        // Another authority's directory does not have it, nor another key's file.
        let other = "other".parse().unwrap();
        assert!(matches!(
            keys.of(&other, &der),
            Err(KeyError::Missing { .. })
        ));
        std::fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(matches!(
            keys.of(&name, &der),
            Err(KeyError::Damaged { .. })
        ));
        keys.remove(&name, &der).unwrap();
        assert_eq!(keys.missing(&name, &der), Some(path));
        keys.remove(&name, &der).unwrap();
        assert!(matches!(
            keys.of(&name, &der),
            Err(KeyError::Missing { .. })
        ));
    }
}
