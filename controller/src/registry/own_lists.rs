//! The revocation lists of our own authorities, made from what was issued and revoked.

use std::time::Duration;

use bytes::Bytes;
use dd_proto::name::AuthorityName;
use jiff::Timestamp;

use super::authorities::{Authority, Origin};
use super::issued::serial_text;
use super::own::{OwnError, key_digest};
use super::{Change, ChangeError, lists, record};
use crate::authority::members::{self, Revoked};

/// A list is made anew when this much of it is left.
const LIST_RENEWED: Duration = Duration::from_secs(10 * 86_400);
/// A record is kept this long after its certificate's end.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
const SYSTEM: &str = "controller";

impl Change {
    /// What time does: lists are made anew before they are old, and records of certificates that ended long ago go. What
    /// keeps one list from being made keeps no other.
    ///
    /// Returns the lists that could not be made: of which authority, and why.
    ///
    /// # Errors
    /// A change cannot be made durable.
    pub async fn keep_authorities(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(AuthorityName, OwnError)>, ChangeError> {
        let mut lacking = Vec::new();
        for authority in self.registry.authorities() {
            if authority.origin != Origin::Imported {
                let lacks = self.renew_what_can_be(&authority, SYSTEM, now).await?;
                let of = |error| (authority.name.clone(), error);
                lacking.extend(lacks.into_iter().map(of));
            }
        }
        for issued in self.registry.all_issued() {
            let until = issued.not_after.saturating_add(KEPT);
            if until.is_ok_and(|until| until < now) {
                let key = issued.serial_text();
                self.store.put(record::ISSUED, &key, None).await?;
                self.registry.write().issued.remove(&key);
            }
        }
        Ok(lacking)
    }

    /// Each list that lacks a revocation, or is soon old, is made anew.
    ///
    /// # Errors
    /// One cannot be made, whatever becomes of the others; or they cannot be made durable.
    pub(super) async fn renew_lists(
        &self,
        authority: &Authority,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let lacks = self.renew_what_can_be(authority, who, now).await?;
        match lacks.into_iter().next() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn renew_what_can_be(
        &self,
        authority: &Authority,
        who: &str,
        now: Timestamp,
    ) -> Result<Vec<OwnError>, ChangeError> {
        let (due, lacks) = self.due_lists(authority, now);
        if due != authority.revocation_lists {
            let mut changed = authority.clone();
            changed.revocation_lists = due;
            let what = format!("authority {}: new revocation list", authority.name);
            self.put_authority(changed, &what, who, now).await?;
        }
        Ok(lacks)
    }

    /// The same of an authority that comes out of a file, whose keys may not be here: then its lists stay as they are,
    /// and an alarm says which key is missing.
    pub(super) fn lists_where_keys_are(&self, authority: &Authority, now: Timestamp) -> Vec<Bytes> {
        match authority.origin {
            Origin::Imported => authority.revocation_lists.clone(),
            Origin::Own { .. } => self.due_lists(authority, now).0,
        }
    }

    /// The list of each certificate; the present one where no other can be made, and why not.
    fn due_lists(&self, authority: &Authority, now: Timestamp) -> (Vec<Bytes>, Vec<OwnError>) {
        let (mut due, mut lacks) = (Vec::new(), Vec::new());
        for certificate in &authority.certificates {
            match self.due_list(authority, certificate, now) {
                Ok(list) => due.push(list),
                Err(error) => {
                    due.extend(present(authority, certificate).cloned());
                    lacks.push(error);
                }
            }
        }
        (due, lacks)
    }

    /// The list of one certificate: the present one, where it says all that is to be said and for long enough.
    fn due_list(
        &self,
        authority: &Authority,
        certificate: &Bytes,
        now: Timestamp,
    ) -> Result<Bytes, OwnError> {
        let present = present(authority, certificate);
        let revoked = self.revoked_by(authority, certificate, present, now);
        if let Some(present) = present.filter(|it| lists::says(it, &revoked, now, LIST_RENEWED)) {
            return Ok(present.clone());
        }
        let key = self.keys.of(&authority.name, certificate)?;
        Ok(members::revocation_list(certificate, key, &revoked, now)?)
    }

    /// What is on record as revoked, and what the present list says of certificates that are on no record: where the
    /// registry was restored from its file, the list is all that is left of them.
    fn revoked_by(
        &self,
        authority: &Authority,
        certificate: &Bytes,
        present: Option<&Bytes>,
        now: Timestamp,
    ) -> Vec<Revoked> {
        let digest = key_digest(certificate);
        let issued = self.registry.all_issued();
        let signed = issued
            .iter()
            .filter(|it| it.authority == authority.name && it.signed_by == digest);
        let mut revoked: Vec<Revoked> = signed.filter_map(|it| it.revocation(now)).collect();
        let listed = present.map(|it| lists::revoked(it)).unwrap_or_default();
        let unknown = |it: &Revoked| self.registry.issued(&serial_text(&it.serial)).is_none();
        revoked.extend(listed.into_iter().filter(unknown));
        revoked
    }
}

fn present<'a>(authority: &'a Authority, certificate: &Bytes) -> Option<&'a Bytes> {
    let mut lists = authority.revocation_lists.iter();
    lists.find(|der| lists::is_of(der, certificate))
}
