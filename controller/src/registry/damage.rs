//! A record of the registry cannot be read, not even whose it is: nothing is delivered to anybody.
//!
//! It may have been a hold, another proof, another host, of any site. So dispatch sees every site as held, whatever its
//! record says, and no domain is called unknown, until the whole registry has been applied once more.
//!
//! When the damage was first found is remembered over starts: until a site can be read again its mail is held, and time on
//! hold does not count towards its lifetime. docs/decisions/0106-time-held-by-damage.md
//!
//! # Not here
//! How the store finds out, and remembers that it is over: [`crate::store`].

use std::sync::Arc;

use dd_proto::name::{AdminName, AgentName, SiteName};
use dd_proto::site::{Hold, Site};
use jiff::Timestamp;

use super::{Change, ChangeError, Registry, record};
use crate::store::{Store, StoreError};

/// Who holds everybody.
const DAMAGE: &str = "damage in the registry";

/// The family of the one record that says since when something cannot be read, in milliseconds of Unix time.
const FAMILY: &str = "damage";
const SINCE: &str = "since";

/// None: nothing was damaged at the last start, as far as that was written.
pub(super) fn known_since(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let records = store.records(FAMILY)?;
    let since = records.into_iter().find(|record| record.key == SINCE);
    // One that cannot be read is written anew.
    let since = since.and_then(|record| <[u8; 8]>::try_from(&record.value[..]).ok());
    Ok(since.and_then(|ms| Timestamp::from_millisecond(i64::from_be_bytes(ms)).ok()))
}

/// Whether the key of every record could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Keys {
    #[default]
    Read,
    Lost,
}

impl Registry {
    /// A site as dispatch has to treat it. Its version is that of its plan: the newer one of its record and of its
    /// authority's, which are numbers of one sequence.
    pub fn as_dispatched(&self, site: &Arc<Site>) -> Arc<Site> {
        let read = self.read();
        let certified = site.proof.certified();
        let authority = certified.and_then(|it| read.authorities.get(&it.authority));
        let of_authority = authority.map_or(0, |authority| authority.version);
        if read.keys == Keys::Read && of_authority <= site.version.0 {
            return Arc::clone(site);
        }
        let mut dispatched = (**site).clone();
        dispatched.version.0 = dispatched.version.0.max(of_authority);
        if read.keys == Keys::Lost {
            dispatched.hold = Some(Hold {
                by: DAMAGE.to_owned(),
                until: None,
                since: Timestamp::UNIX_EPOCH,
            });
        }
        Arc::new(dispatched)
    }

    /// Whether a site of this name may have been there, and its record be among what cannot be read.
    pub(super) fn may_be_damaged(&self, name: &SiteName) -> bool {
        self.read().keys == Keys::Lost || self.is_damaged_site(name)
    }

    /// Whether this agent's record is, or may be, among what cannot be read.
    pub(super) fn agent_may_be_damaged(&self, name: &AgentName) -> bool {
        let read = self.read();
        read.keys == Keys::Lost
            || read
                .damaged
                .contains_key(&(record::AGENT, name.to_string()))
    }

    /// Whether this administrator's record is, or may be, among what cannot be read.
    pub(crate) fn admin_may_be_damaged(&self, name: &AdminName) -> bool {
        let read = self.read();
        read.keys == Keys::Lost
            || read
                .damaged
                .contains_key(&(record::ADMIN, name.to_string()))
    }

    /// All sites as dispatch has to treat them.
    pub fn dispatched_sites(&self) -> Vec<Arc<Site>> {
        let sites = self.sites();
        sites.iter().map(|site| self.as_dispatched(site)).collect()
    }
}

impl Registry {
    /// How long this site's mail has been held because its record, or some record, cannot be read.
    fn held_by_damage(&self, name: &SiteName) -> Option<Hold> {
        let since = self.read().damaged_since?;
        self.may_be_damaged(name).then(|| Hold {
            by: DAMAGE.to_owned(),
            until: None,
            since,
        })
    }
}

impl Change {
    /// At each start: since when something cannot be read, where that is so.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn note_damage(&self, now: Timestamp) -> Result<(), ChangeError> {
        let since = self.registry.read().damaged_since;
        match (self.registry.is_damaged(), since) {
            (true, None) => {
                let value = now.as_millisecond().to_be_bytes().to_vec();
                self.store.put(FAMILY, SINCE, Some(value.into())).await?;
                self.registry.write().damaged_since = Some(now);
            }
            (false, Some(_)) => {
                self.store.put(FAMILY, SINCE, None).await?;
                self.registry.write().damaged_since = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Its record is whole again: the time that its mail was held for the damage does not count.
    pub(super) fn damage_ends_for(&self, site: &mut Site, now: Timestamp) {
        if let Some(hold) = self.registry.held_by_damage(&site.name) {
            site.held_before.ended(&hold, now);
        }
    }

    /// The whole registry was applied: what was lost is there again. A stop before leaves everybody held.
    pub(super) async fn end_damage_hold(
        &self,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        if self.registry.read().keys == Keys::Read {
            return Ok(());
        }
        for site in self.registry.sites() {
            let what = format!(
                "site {} is no longer held for damage in the registry",
                site.name
            );
            self.put_site((*site).clone(), who, &what, now).await?;
        }
        self.store.registry_repaired().await?;
        self.registry.write().keys = Keys::Read;
        for site in self.registry.dispatched_sites() {
            self.dispatch.site_changed(site).await;
        }
        let what = "the hold of all sites for damage in the registry ended";
        self.audit.record(now, who, what);
        Ok(())
    }
}
