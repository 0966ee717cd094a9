//! A record of the registry cannot be read, not even whose it is: nothing is delivered to anybody.
//!
//! It may have been a hold, another proof, another host, of any site. So dispatch sees every site as held, whatever its
//! record says, and no domain is called unknown, until the whole registry has been applied once more.
//!
//! # Not here
//! How the store finds out, and remembers that it is over: [`crate::store`].

use std::sync::Arc;

use dd_proto::name::{AdminName, AgentName, SiteName};
use dd_proto::site::{Hold, Site};
use jiff::Timestamp;

use super::{Change, ChangeError, Registry, record};

/// Who holds everybody.
const DAMAGE: &str = "damage in the registry";

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

impl Change {
    /// The whole registry was applied: what was lost is there again. A stop before leaves everybody held.
    pub(super) async fn end_damage_hold(
        &self,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        if self.registry.read().keys == Keys::Read {
            return Ok(());
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
