//! A record of the registry cannot be read, not even whose it is: nothing is delivered to anybody.
//!
//! It may have been a hold, another proof, another host, of any site. So dispatch sees every site as held, whatever its
//! record says, and no domain is called unknown, until the whole registry has been applied once more.
//!
//! # Not here
//! How the store finds out, and remembers that it is over: [`crate::store`].

use std::sync::Arc;

use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::{Hold, Site};
use jiff::Timestamp;

use super::{ChangeError, Editor, Registry, record};

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
    /// A site as dispatch has to treat it.
    pub fn as_dispatched(&self, site: &Arc<Site>) -> Arc<Site> {
        match self.read().keys {
            Keys::Read => Arc::clone(site),
            Keys::Lost => Arc::new(Site {
                hold: Some(Hold {
                    by: DAMAGE.to_owned(),
                    until: None,
                    since: Timestamp::UNIX_EPOCH,
                }),
                ..(**site).clone()
            }),
        }
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

    /// All sites as dispatch has to treat them.
    pub fn dispatched_sites(&self) -> Vec<Arc<Site>> {
        let sites = self.sites();
        sites.iter().map(|site| self.as_dispatched(site)).collect()
    }
}

impl Editor {
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
        for site in self.registry.sites() {
            self.dispatch.site_changed(site).await;
        }
        let what = "the hold of all sites for damage in the registry ended";
        self.audit.record(now, who, what);
        Ok(())
    }
}
