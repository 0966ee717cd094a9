//! Where the agent's key and certificate lie.
//!
//! | file | what |
//! | --- | --- |
//! | `credentials` | `dd.v1.Credentials`: the certificate, what it chains to, the authority |
//! | `agent.key` | its key |
//! | `joining.key` | the key of a join under way: renamed to `agent.key` once its credentials are kept |
//!
//! # Invariants
//! - A key lies here (0600) before it is first used, so a join that is cut off works again with the same key.
//! - Each join has a key of its own: who removes an agent and adds it again is rid of whatever was done with the old one.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

use super::IdentityError;
use crate::journal::sync_directory;

const KEY: &str = "agent.key";
const JOINING: &str = "joining.key";
pub(super) const CREDENTIALS: &str = "credentials";

pub(super) fn credentials(directory: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    read(&directory.join(CREDENTIALS))
}

pub(super) fn keep_credentials(directory: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    write(directory, CREDENTIALS, bytes)
}

/// The keys of a state directory.
pub(super) struct Keys<'a>(pub(super) &'a Path);

impl Keys<'_> {
    /// The key to join with: the same again until a join has succeeded, then another.
    pub(super) fn to_join_with(&self) -> Result<String, IdentityError> {
        if let Some(key) = self.kept(JOINING)? {
            return Ok(key);
        }
        let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
        write(self.0, JOINING, pem.as_bytes())?;
        Ok(pem)
    }

    /// The credentials of a join are kept: its key is the agent's from now on.
    pub(super) fn joined(&self) -> Result<(), IdentityError> {
        let path = self.0.join(JOINING);
        std::fs::rename(&path, self.0.join(KEY))
            .and_then(|()| sync_directory(self.0))
            .map_err(|source| IdentityError::Io {
                path,
                what: "renamed",
                source,
            })
    }

    /// The key of a certificate, by its public half. A join that was stopped behind its credentials ends here.
    pub(super) fn of_certificate(&self, public: &[u8]) -> Result<Option<String>, IdentityError> {
        let belongs = |pem: &String| {
            KeyPair::from_pem(pem).is_ok_and(|key| key.subject_public_key_info() == public)
        };
        if let Some(key) = self.kept(KEY)?.filter(belongs) {
            return Ok(Some(key));
        }
        let joining = self.kept(JOINING)?.filter(belongs);
        if joining.is_some() {
            self.joined()?;
        }
        Ok(joining)
    }

    fn kept(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.0.join(name);
        match read(&path)? {
            Some(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| IdentityError::Damaged { path }),
            None => Ok(None),
        }
    }
}

pub(super) fn request(key_pem: &str) -> Result<Vec<u8>, IdentityError> {
    let key = KeyPair::from_pem(key_pem)?;
    let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    Ok(request.der().to_vec())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io {
            path: path.to_owned(),
            what: "read",
            source,
        }),
    }
}

/// Whole or not at all: a temporary file, synced, renamed, and the directory synced.
fn write(directory: &Path, name: &str, content: &[u8]) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.new"));
    let steps = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        sync_directory(directory)
    };
    steps().map_err(|source| IdentityError::Io {
        path: path.clone(),
        what: "written",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_keeps_its_key_until_it_has_succeeded_and_the_next_has_another() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys(directory.path());
        let first = keys.to_join_with().unwrap();
        assert_eq!(keys.to_join_with().unwrap(), first);
        assert!(!request(&first).unwrap().is_empty());
        let mode = std::fs::metadata(directory.path().join(JOINING)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        keys.joined().unwrap();
        assert_ne!(keys.to_join_with().unwrap(), first);
    }

    #[test]
    fn a_certificate_finds_its_key_wherever_a_join_was_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys(directory.path());
        let public = |pem: &str| KeyPair::from_pem(pem).unwrap().subject_public_key_info();
        let first = keys.to_join_with().unwrap();
        // Stopped behind the credentials, before the key was renamed.
        let found = keys.of_certificate(&public(&first)).unwrap();
        assert_eq!(found.as_deref(), Some(first.as_str()));
        assert!(!directory.path().join(JOINING).exists());
        // Stopped before the credentials: the old ones still have their key.
        let second = keys.to_join_with().unwrap();
        let found = keys.of_certificate(&public(&first)).unwrap();
        assert_eq!(found.as_deref(), Some(first.as_str()));
        let found = keys.of_certificate(&public(&second)).unwrap();
        assert_eq!(found.as_deref(), Some(second.as_str()));
        assert_eq!(keys.of_certificate(&public(&first)).unwrap(), None);
    }
}
