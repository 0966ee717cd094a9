//! The identity in `<state_dir>/admin/`, with which a remote `ddadm` is first used: the administrator `admin`.
//!
//! # Invariants
//! - Its record is durable before its files are written. A stop in between leaves a key that opens nothing.
//! - One that was removed from the registry is not made or let in again by any later start, also where another
//!   administrator has had its name since, or where the record cannot be read.
//!
//! # Not here
//! What it may do: [`crate::api::roles`]. Other administrators, whose keys are made elsewhere: [`crate::api::admins`].

use std::path::{Path, PathBuf};

use dd_proto::name::AdminName;
use dd_proto::pem;
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::client::{AgentKey, Client, Subject};
use super::{ADMIN_LIFE, AuthorityError, ControlAuthority, make_directory, read, write};
use crate::registry::admins::{AdminRecord, AdminRole, Origin};

const NAME: &str = "admin";

/// What is to be done about the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It stays as it is, or was removed.
    Leave,
    /// It gets a certificate that ends later.
    Certify,
    /// A new key takes its place.
    Make,
}

/// A usable identity in the directory: of this authority, certificate and key belonging together.
struct Found {
    key: KeyPair,
    not_after: Timestamp,
}

/// An identity that is to be registered, and then written.
pub struct Prepared {
    directory: PathBuf,
    key: KeyPair,
    record: AdminRecord,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub fn record(&self) -> &AdminRecord {
        &self.record
    }
}

/// The name under which it is registered.
pub fn name() -> AdminName {
    NAME.parse().expect("it is a name")
}

/// Pure: the record that there is, the key of the files if they can be used, and when their certificate ends.
fn step(
    record: Option<&AdminRecord>,
    found: Option<(AgentKey, Timestamp)>,
    now: Timestamp,
) -> Step {
    match (record, found) {
        // The first start, or the first one of a version that keeps records of administrators.
        (None, None) => Step::Make,
        (None, Some(_)) => Step::Certify,
        (Some(record), _) if record.origin != Origin::Here || record.key.is_none() => Step::Leave,
        // Its files are gone, or of an authority that is gone.
        (Some(_), None) => Step::Make,
        (Some(record), Some((key, not_after))) if record.key == Some(key) => {
            match is_renewed(not_after, now) {
                true => Step::Certify,
                false => Step::Leave,
            }
        }
        // Somebody put an older one there.
        (Some(_), Some(_)) => Step::Leave,
    }
}

/// Two thirds of its life are over; or it is one of the earlier kind, which lasted ten years.
fn is_renewed(not_after: Timestamp, now: Timestamp) -> bool {
    let left = not_after.duration_since(now);
    let third = jiff::SignedDuration::try_from(ADMIN_LIFE / 3).unwrap_or_default();
    let life = jiff::SignedDuration::try_from(ADMIN_LIFE).unwrap_or_default();
    left < third || left > life
}

impl ControlAuthority {
    /// What is to be registered now, if anything is; [`Self::write_admin`] then writes it.
    ///
    /// # Errors
    /// A file cannot be read, or a key not made.
    pub fn prepare_admin(
        &self,
        state_dir: &Path,
        record: Option<&AdminRecord>,
        now: Timestamp,
    ) -> Result<Option<Prepared>, AuthorityError> {
        let directory = state_dir.join(NAME);
        let found = self.found(&directory)?;
        let of = |found: &Found| {
            (
                AgentKey::of(&found.key.subject_public_key_info()),
                found.not_after,
            )
        };
        let key = match (step(record, found.as_ref().map(of), now), found) {
            (Step::Leave, _) => return Ok(None),
            (Step::Certify, Some(found)) => found.key,
            (Step::Certify | Step::Make, _) => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        };
        let record = AdminRecord {
            name: name(),
            role: AdminRole::Admin,
            key: Some(AgentKey::of(&key.subject_public_key_info())),
            until: super::admin_until(now),
            origin: Origin::Here,
            seen: record.and_then(|record| record.seen),
        };
        Ok(Some(Prepared {
            directory,
            key,
            record,
        }))
    }

    /// The certificate is written last: while it is absent, all is made again.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_admin(&self, prepared: &Prepared, now: Timestamp) -> Result<(), AuthorityError> {
        let directory = &prepared.directory;
        make_directory(directory)?;
        let certificate = self.certify_admin(&prepared.key, &prepared.record.name, now)?;
        let authority = pem::certificate(self.certificate());
        write(&directory.join("authority.pem"), &authority)?;
        write(&directory.join("admin.key"), &prepared.key.serialize_pem())?;
        write(
            &directory.join("admin.pem"),
            &pem::certificate(&certificate),
        )
    }

    /// None where there is none, or none that this authority made.
    fn found(&self, directory: &Path) -> Result<Option<Found>, AuthorityError> {
        let texts = (
            read(&directory.join("admin.pem"))?,
            read(&directory.join("admin.key"))?,
        );
        let (Some(certificate), Some(key)) = texts else {
            return Ok(None);
        };
        Ok(self.usable(&certificate, &key))
    }

    fn usable(&self, certificate: &str, key: &str) -> Option<Found> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let client = Client::read(&certificate)?;
        let key = KeyPair::from_pem(key).ok()?;
        let public = AgentKey::of(&key.subject_public_key_info());
        match client.subject {
            Subject::Admin { key, .. } if key == public && self.signed(&certificate) => {}
            _ => return None,
        }
        Some(Found {
            key,
            not_after: client.not_after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn later(days: u64) -> Timestamp {
        now() + Duration::from_secs(days * 86_400)
    }

    #[test]
    fn what_becomes_of_the_identity_at_a_start() {
        let key = AgentKey([1; 32]);
        let record = |key, origin| AdminRecord {
            name: name(),
            role: AdminRole::Admin,
            key,
            until: later(90),
            origin,
            seen: None,
        };
        let (ours, lost) = (record(Some(key), Origin::Here), record(None, Origin::Here));
        let named = record(Some(AgentKey([2; 32])), Origin::Asked);
        for (record, found, expected) in [
            (None, None, Step::Make),
            // One of the earlier kind, and one whose record is lost.
            (None, Some((key, later(3650))), Step::Certify),
            (None, Some((key, later(80))), Step::Certify),
            (Some(&ours), None, Step::Make),
            (Some(&ours), Some((key, later(80))), Step::Leave),
            (Some(&ours), Some((key, later(29))), Step::Certify),
            (Some(&ours), Some((key, later(3000))), Step::Certify),
            (
                Some(&ours),
                Some((AgentKey([9; 32]), later(80))),
                Step::Leave,
            ),
            // Removed: neither made nor let in again.
            (Some(&lost), None, Step::Leave),
            (Some(&lost), Some((key, later(80))), Step::Leave),
            (Some(&lost), Some((key, later(3650))), Step::Leave),
            // Somebody has the name `admin` elsewhere.
            (Some(&named), None, Step::Leave),
            (Some(&named), Some((key, later(80))), Step::Leave),
        ] {
            let found_at = found.map(|(_, at)| at);
            assert_eq!(
                step(record, found, now()),
                expected,
                "{record:?} {found_at:?}"
            );
        }
    }

    #[test]
    fn it_is_made_with_the_authority_and_keeps_its_key_when_it_is_renewed() {
        let state = tempfile::tempdir().unwrap();
        let authority = ControlAuthority::open(state.path(), now()).unwrap();
        let first = authority
            .prepare_admin(state.path(), None, now())
            .unwrap()
            .unwrap();
        authority.write_admin(&first, now()).unwrap();
        let prepared = |authority: &ControlAuthority, at| {
            authority
                .prepare_admin(state.path(), Some(first.record()), at)
                .unwrap()
        };
        assert!(prepared(&authority, later(59)).is_none());
        let renewed = prepared(&authority, later(61)).unwrap();
        assert_eq!(renewed.record().key, first.record().key);
        assert_eq!(renewed.record().until, later(151));

        // With another authority it is another one.
        fs::remove_dir_all(state.path().join("control")).unwrap();
        let another = ControlAuthority::open(state.path(), now()).unwrap();
        let anew = prepared(&another, now()).unwrap();
        assert_ne!(anew.record().key, first.record().key);
        another.write_admin(&anew, now()).unwrap();
        assert!(
            another
                .found(&state.path().join("admin"))
                .unwrap()
                .is_some()
        );
        assert!(
            authority
                .found(&state.path().join("admin"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn its_files_are_their_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = tempfile::tempdir().unwrap();
        let authority = ControlAuthority::open(state.path(), now()).unwrap();
        let made = authority
            .prepare_admin(state.path(), None, now())
            .unwrap()
            .unwrap();
        authority.write_admin(&made, now()).unwrap();
        for (path, mode) in [
            ("admin", 0o700),
            ("admin/admin.key", 0o600),
            ("admin/admin.pem", 0o600),
            ("admin/authority.pem", 0o600),
        ] {
            let found = fs::metadata(state.path().join(path)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
        }
    }
}
