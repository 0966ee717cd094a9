//! The registry: sites, agents, authorities and administrators, in memory, over the records of the store.
//!
//! [`Registry`] is what everybody reads; a [`Change`] is the only writer, and an [`Editor`] the only way to one. A change
//! is checked ([`check`]), made durable, shown to readers, told to dispatch and written to the audit, in this order, one
//! change at a time, and to its end whoever waits for it.
//!
//! # Invariants
//! - What a reader sees is durable.
//! - A domain belongs to one site at most ([`claims`]).
//! - A record whose key is lost holds everybody ([`damage`]).
//! - A damaged record fails closed: it serves nobody, is named in [`Registry::alarms`], and while a *site's* record is
//!   damaged no domain is called unknown, for it may be that site's.
//!
//! # Not here
//! How records are kept: [`crate::store`].

pub mod admins;
pub mod agents;
pub mod apply;
pub mod audit;
pub mod authorities;
mod below;
mod changed;
pub mod check;
mod claims;
pub mod copy;
mod damage;
mod editor;
pub mod ends;
pub mod file;
mod greeted;
pub mod issued;
pub mod lists;
pub mod losses;
#[cfg(test)]
mod made_by_tools;
pub mod moving;
pub mod own;
mod own_lists;
pub mod record;
mod retire;
mod revoked;
pub mod shown;
pub mod sites;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::name::{AdminName, AgentName, AuthorityName, SiteName};
use dd_proto::site::{Certified, Site};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::authority::client::AgentKey;
use crate::credentials::wake_digest;
use crate::store::{LogFailed, Record, Store, StoreError};
use admins::{AdminError, AdminRecord};
use agents::{AgentError, AgentRecord, JoinError};
use authorities::{Authority, AuthorityError, Origin};
use check::SiteError;
use claims::Claims;
use damage::Keys;
pub use editor::{Change, Changes, Editor};
use ends::Told;
use issued::Issued;
use own::OwnError;
use record::Damaged;
use shown::Shown;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no {kind} `{name}`")]
    Unknown { kind: &'static str, name: String },
    #[error(
        "`{0}` is the built-in site through which notifications leave: it is changed in [notify] of the configuration, and no other site can have its name"
    )]
    BuiltIn(SiteName),
    #[error("the site `{0}` exists already: change it with `ddadm site set {0}`")]
    Exists(SiteName),
    #[error(
        "mail waits under the name `{0}` since an earlier site was removed: add the site with --take-mail, or choose another name"
    )]
    HeldMail(SiteName),
    #[error(
        "not all known yet: whether mail waits under the name `{0}` is still being read, try again in a moment"
    )]
    NotAllKnown(SiteName),
    #[error(
        "the site `{0}` was opened again while it was being removed: remove it again if that is still meant"
    )]
    NotClosed(SiteName),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Move(#[from] moving::MoveError),
    #[error(
        "the site `{site}` is pinned to the agent `{agent}`: name others with `ddadm site set {site} --agent NAME`, or any with `--clear agent`, first"
    )]
    Pinned { agent: AgentName, site: SiteName },
    #[error("at most {most} {kind} are possible")]
    TooMany { kind: &'static str, most: usize },
    #[error("the change could not be made durable")]
    LogFailed(#[from] LogFailed),
}

/// What everybody reads.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    snapshot: RwLock<Snapshot>,
    changes: watch::Sender<()>,
    seen: admins::Seen,
}

#[derive(Debug, Default)]
struct Snapshot {
    sites: BTreeMap<SiteName, Arc<Site>>,
    domains: Claims,
    /// By the digest of the secret in its wake-up URL.
    wakes: HashMap<[u8; 32], SiteName>,
    agents: BTreeMap<AgentName, Arc<AgentRecord>>,
    admins: BTreeMap<AdminName, Arc<AdminRecord>>,
    authorities: BTreeMap<AuthorityName, Arc<Authority>>,
    /// By serial.
    issued: BTreeMap<String, Arc<Issued>>,
    /// What each site showed when it had proved itself.
    shown: BTreeMap<SiteName, Arc<Shown>>,
    /// Whose contact was told of the end of which certificate.
    told_of_end: HashMap<SiteName, Told>,
    keys: Keys,
    /// The built-in site: no record, but from the configuration.
    smarthost: Option<Arc<Site>>,
    /// By which its certificate is judged, where the configuration names a file of them. DER.
    smarthost_anchors: Vec<Bytes>,
    /// Records that cannot be used, and why.
    damaged: BTreeMap<(&'static str, String), Damaged>,
    /// When it was first found that something cannot be read.
    damaged_since: Option<Timestamp>,
}

const LOCK: &str = "no holder of this lock panics";

impl Registry {
    /// # Errors
    /// The store cannot be read; a record that cannot be used is no error.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut snapshot = Snapshot {
            keys: match store.holds_all_sites() {
                true => Keys::Lost,
                false => Keys::Read,
            },
            damaged_since: damage::known_since(store)?,
            ..Snapshot::default()
        };
        for record in store.records(record::AUTHORITY)? {
            if let Some(it) = snapshot.usable(record::AUTHORITY, &record, record::decode_authority)
            {
                snapshot.authorities.insert(it.name.clone(), Arc::new(it));
            }
        }
        for record in store.records(record::ISSUED)? {
            if let Some(it) = snapshot.usable(record::ISSUED, &record, issued::decode) {
                snapshot.issued.insert(record.key.clone(), Arc::new(it));
            }
        }
        for record in store.records(record::SHOWN)? {
            let shown = snapshot.usable(record::SHOWN, &record, shown::decode);
            if let (Some(it), Ok(site)) = (shown, record.key.parse()) {
                snapshot.shown.insert(site, Arc::new(it));
            }
        }
        for record in store.records(record::TOLD)? {
            // Without it somebody is told once more.
            if let (Ok(told), Ok(site)) = (ends::decode(&record), record.key.parse()) {
                snapshot.told_of_end.insert(site, told);
            }
        }
        for record in store.records(record::AGENT)? {
            if let Some(it) = snapshot.usable(record::AGENT, &record, record::decode_agent) {
                snapshot.agents.insert(it.name.clone(), Arc::new(it));
            }
        }
        for record in store.records(record::ADMIN)? {
            if let Some(it) = snapshot.usable(record::ADMIN, &record, admins::decode) {
                snapshot.admins.insert(it.name.clone(), Arc::new(it));
            }
        }
        let mut sites = store.records(record::SITE)?;
        // The newer record has a domain that two of them list.
        sites.sort_by_key(|record| record.version);
        for record in sites {
            if let Some(it) = snapshot.usable(record::SITE, &record, record::decode_site) {
                snapshot.insert_site(Arc::new(it));
            }
        }
        Ok(Self(Arc::new(Shared {
            snapshot: RwLock::new(snapshot),
            changes: watch::Sender::default(),
            seen: admins::Seen::default(),
        })))
    }

    fn read(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.0.snapshot.read().expect(LOCK)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Snapshot> {
        let snapshot = self.0.snapshot.write().expect(LOCK);
        // Whoever looks now waits for the lock, and sees the change.
        self.0.changes.send_replace(());
        snapshot
    }

    /// Changes whenever a record does.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Whether records are known to be unusable.
    fn is_damaged(&self) -> bool {
        let read = self.read();
        read.keys == Keys::Lost || !read.damaged.is_empty()
    }

    fn is_damaged_site(&self, name: &SiteName) -> bool {
        let key = (record::SITE, name.to_string());
        self.read().damaged.contains_key(&key)
    }

    /// All of it as a file, without private keys.
    pub fn export(&self) -> String {
        let sites: Vec<Arc<Site>> = {
            let read = self.read();
            // A file in which two sites have one domain could not be applied.
            let sites = read.sites.values().map(|site| read.domains.owned(site));
            sites.collect()
        };
        file::write(&sites, &self.agents(), &self.authorities())
    }

    pub fn site(&self, name: &SiteName) -> Option<Arc<Site>> {
        self.read().sites.get(name).cloned()
    }

    /// The built-in site through which notifications leave. It is not among the members' sites.
    pub fn smarthost(&self) -> Option<Arc<Site>> {
        self.read().smarthost.clone()
    }

    /// Called once, at the start.
    pub fn build_in(&self, smarthost: Site, anchors: Vec<Bytes>) {
        let mut snapshot = self.write();
        snapshot.smarthost = Some(Arc::new(smarthost));
        snapshot.smarthost_anchors = anchors;
    }

    /// The certificates of the authority by which a site proves itself, and its revocation lists; none where its proof names no
    /// authority, or one that is not there.
    pub fn anchors(&self, site: &Site) -> (Vec<Bytes>, Vec<Bytes>) {
        let read = self.read();
        if read
            .smarthost
            .as_ref()
            .is_some_and(|it| it.name == site.name)
        {
            return (read.smarthost_anchors.clone(), Vec::new());
        }
        let certified = site.proof.certified();
        let authority = certified.and_then(|it| read.authorities.get(&it.authority));
        authority
            .map(|it| (it.certificates.clone(), it.revocation_lists.clone()))
            .unwrap_or_default()
    }

    pub fn sites(&self) -> Vec<Arc<Site>> {
        self.read().sites.values().cloned().collect()
    }

    pub fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        self.read().domains.owner(domain).cloned()
    }

    /// The site whose wake-up URL holds this secret.
    pub fn site_by_wake_secret(&self, secret: &str) -> Option<Arc<Site>> {
        let read = self.read();
        let name = read.wakes.get(&wake_digest(secret))?;
        read.sites.get(name).cloned()
    }

    /// Sites with a domain that is this one or lies below it, at most so many.
    pub fn sites_below(&self, domain: &Domain, most: usize) -> Vec<Arc<Site>> {
        let read = self.read();
        let mut found: BTreeMap<SiteName, Arc<Site>> = BTreeMap::new();
        for site in read.domains.below(domain) {
            if found.len() >= most {
                break;
            }
            found.insert(site.name.clone(), site.clone());
        }
        found.into_values().collect()
    }

    pub fn agent(&self, name: &AgentName) -> Option<Arc<AgentRecord>> {
        self.read().agents.get(name).cloned()
    }

    /// Whether this key is the one that joined last under this name.
    pub fn recognizes(&self, name: &AgentName, key: AgentKey) -> bool {
        let read = self.read();
        read.agents.get(name).is_some_and(|it| it.key == Some(key))
    }

    pub fn agents(&self) -> Vec<Arc<AgentRecord>> {
        self.read().agents.values().cloned().collect()
    }

    pub fn authority(&self, name: &AuthorityName) -> Option<Arc<Authority>> {
        self.read().authorities.get(name).cloned()
    }

    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        self.read().authorities.values().cloned().collect()
    }

    /// Those whose keys are ours.
    pub fn own_authorities(&self) -> BTreeSet<AuthorityName> {
        let inner = self.read();
        let own = inner.authorities.values();
        let own = own.filter(|it| it.origin != Origin::Imported);
        own.map(|it| it.name.clone()).collect()
    }

    /// By serial, as it is shown.
    pub fn issued(&self, serial: &str) -> Option<Arc<Issued>> {
        self.read().issued.get(serial).cloned()
    }

    /// The newest certificate of a site for this name that it can be given again.
    pub fn issued_to(
        &self,
        site: &SiteName,
        certified: &Certified,
        now: Timestamp,
    ) -> Option<Arc<Issued>> {
        let snapshot = self.read();
        let its = snapshot.issued.values().filter(|it| {
            it.site == *site
                && it.name == certified.name
                && it.authority == certified.authority
                && it.is_at_hand(now)
        });
        its.max_by_key(|it| it.not_before).cloned()
    }

    pub fn all_issued(&self) -> Vec<Arc<Issued>> {
        self.read().issued.values().cloned().collect()
    }

    /// Every agent's outbound addresses, in order, each once.
    pub fn agent_addresses(&self) -> Vec<IpAddr> {
        let read = self.read();
        let all = read.agents.values().flat_map(|it| it.addresses.iter());
        let mut all: Vec<IpAddr> = all.copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The key of each agent that has joined, by the agents' names.
    pub fn agent_keys(&self) -> Vec<(AgentName, AgentKey)> {
        let read = self.read();
        let joined = |it: &Arc<AgentRecord>| Some((it.name.clone(), it.key?));
        let mut keys: Vec<_> = read.agents.values().filter_map(joined).collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys
    }

    /// Whether a domain that no site has may be that of a site whose record is damaged.
    pub fn completeness(&self) -> Completeness {
        let read = self.read();
        let is_site = |(family, _): &(&'static str, String)| *family == record::SITE;
        match read.keys == Keys::Lost || read.damaged.keys().any(is_site) {
            true => Completeness::SitesAreMissing,
            false => Completeness::Complete,
        }
    }

    /// What is wrong and what to do, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let sentence = |((family, name), damage): (&(&'static str, String), &Damaged)| match *family
        {
            record::SHOWN => format!(
                "what the site `{name}` showed before cannot be read ({damage}), so it gets nothing without TLS: say `ddadm site set {name} --clear shown` if that is meant"
            ),
            family => {
                format!("the record of the {family} `{name}` is damaged ({damage}): add it again")
            }
        };
        let read = self.read();
        let damaged = read.damaged.iter().map(sentence);
        damaged.chain(read.domains.alarms()).collect()
    }
}

/// Whether every record of a site could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    Complete,
    SitesAreMissing,
}

impl Snapshot {
    fn usable<T>(
        &mut self,
        family: &'static str,
        record: &Record,
        decode: impl Fn(&Record) -> Result<T, Damaged>,
    ) -> Option<T> {
        match decode(record) {
            Ok(value) => Some(value),
            Err(damage) => {
                tracing::error!(family, name = record.key, %damage, "a record of the registry is damaged and serves nobody; add it again");
                self.damaged.insert((family, record.key.clone()), damage);
                None
            }
        }
    }

    fn insert_site(&mut self, site: Arc<Site>) {
        self.remove_site(&site.name);
        self.domains.insert(&site);
        if let Some(hash) = site.wake_hash {
            self.wakes.insert(hash, site.name.clone());
        }
        self.sites.insert(site.name.clone(), site);
    }

    fn remove_site(&mut self, name: &SiteName) {
        self.damaged.remove(&(record::SITE, name.to_string()));
        if let Some(old) = self.sites.remove(name) {
            self.domains.remove(&old);
            if let Some(hash) = &old.wake_hash {
                self.wakes.remove(hash);
            }
        }
    }
}

fn unknown(kind: &'static str, name: impl std::fmt::Display) -> ChangeError {
    ChangeError::Unknown {
        kind,
        name: name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SiteDefaults;

    #[test]
    fn a_wake_up_secret_finds_its_site_until_it_is_replaced() {
        let around = check::Surroundings {
            defaults: SiteDefaults::default(),
            has_authority: &|_| true,
            own_authorities: &BTreeSet::new,
            has_agent: &|_| true,
            owner: &|_| None,
        };
        let spec = dd_proto::pb::SiteSpec {
            name: "home".to_owned(),
            domains: vec!["home.example".to_owned()],
            hosts: vec![dd_proto::pb::Host {
                host: "home.dyn.example".to_owned(),
                port: 2525,
            }],
            proof: Some(dd_proto::pb::Proof {
                kind: Some(dd_proto::pb::proof::Kind::Port(
                    dd_proto::pb::proof::Port {},
                )),
            }),
            ..dd_proto::pb::SiteSpec::default()
        };
        let site = check::check(&spec, &around).unwrap();
        let registry = Registry(Arc::<Shared>::default());
        let finds = |secret| registry.site_by_wake_secret(secret).is_some();
        for (kept, one, two) in [
            (Some("one"), true, false),
            (Some("two"), false, true),
            (None, false, false),
        ] {
            let site = Site {
                wake_hash: kept.map(wake_digest),
                ..site.clone()
            };
            registry.write().insert_site(Arc::new(site));
            assert_eq!((finds("one"), finds("two")), (one, two), "{kept:?}");
        }
    }
}
