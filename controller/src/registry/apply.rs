//! A whole file of sites, agents and authorities beside what there is: checked to the end before the first write.
//!
//! # Invariants
//! A file that is refused changes nothing. Nothing is ever removed: what the file does not say stays as it is, and is
//! named. A stop half-way leaves some records written; the same file applied again does the rest. Sites between which a
//! domain goes are written at once: it is at no moment nobody's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::hold::HoldPeriods;
use dd_proto::name::{AuthorityName, SiteName};
use dd_proto::pb;
use dd_proto::site::Site;
use jiff::Timestamp;

use super::agents::{AgentRecord, MAX_AGENTS, own_addresses};
use super::authorities::{Authority, Origin};
use super::check::{self, Surroundings};
use super::file::{self, Entry, File, FileError, SiteEntry};
use super::moving::MoveError;
use super::sites::MAX_SITES;
use super::{Change, ChangeError, Registry, changed};
use crate::dispatch::Drain;

mod authorities;

/// What a file came to, each by family and name, such as `site home`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub unchanged: u64,
    /// What there is and the file does not say; it stays.
    pub lacks: Vec<String>,
    /// What the file says and an older file must not decide, each with the reason; it was left out.
    pub not_taken: Vec<String>,
}

/// Why a file was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Whether a file is applied, or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Apply,
    Try,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Plan {
    /// Each with what is new about it.
    authorities: Vec<(Authority, String)>,
    agents: Vec<AgentRecord>,
    sites: Vec<Site>,
    applied: Applied,
}

impl Change {
    /// Takes in a file that was exported or written by hand.
    ///
    /// # Errors
    /// It cannot be used, and nothing was changed; or the log failed.
    pub async fn apply(
        &self,
        text: &str,
        how: How,
        who: &str,
        now: Timestamp,
    ) -> Result<Applied, ApplyError> {
        let file = file::read(text)?;
        let plan = self.plan(&file, now)?;
        if how == How::Try {
            return Ok(plan.applied);
        }
        for (authority, news) in plan.authorities {
            let what = format!("authority {} {news}", authority.name);
            self.put_authority(authority, &what, who, now).await?;
        }
        for agent in plan.agents {
            let (name, terms) = (agent.name.clone(), agent.terms());
            let old = self.registry.agent(&name);
            let changes = changed::agent(old.as_deref(), &agent);
            self.put_agent(agent).await?;
            self.dispatch.agent_registered(name.clone(), terms).await;
            let what = format!("agent {name} applied from a file: {changes}");
            self.audit.record(now, who, &what);
        }
        let exchanging = exchanging(&plan.sites, &self.registry);
        let (together, alone): (Vec<_>, Vec<_>) = plan
            .sites
            .into_iter()
            .map(|site| self.told(site))
            .partition(|(site, _)| exchanging.contains(&site.name));
        // Between the site that gives a domain and the one that takes it, its mail would be refused.
        if !together.is_empty() {
            self.put_sites(together, who, now).await?;
        }
        for (site, what) in alone {
            self.put_site(site, who, &what, now).await?;
        }
        self.end_damage_hold(who, now).await?;
        Ok(plan.applied)
    }

    /// With what the audit says of it.
    fn told(&self, site: Site) -> (Site, String) {
        let changes = match self.registry.site(&site.name) {
            Some(old) => changed::site(&old, &site),
            None => changed::whole(&site),
        };
        let what = format!("site {} applied from a file: {changes}", site.name);
        (site, what)
    }

    fn plan(&self, file: &File, now: Timestamp) -> Result<Plan, FileError> {
        let mut plan = Plan::default();
        self.plan_authorities(file, now, &mut plan)?;
        plan_agents(file, &self.registry, &mut plan)?;
        self.plan_sites(file, &mut plan)?;
        Ok(plan)
    }

    fn plan_sites(&self, file: &File, plan: &mut Plan) -> Result<(), FileError> {
        let known: BTreeMap<SiteName, Arc<Site>> = self
            .registry
            .sites()
            .into_iter()
            .map(|site| (site.name.clone(), site))
            .collect();
        check_count(&known, &file.sites, "sites", MAX_SITES)?;
        let specs = merged(file, &known)?;
        let owners = owners(&known, &specs, &self.registry);
        let around = Surroundings {
            defaults: self.defaults,
            has_authority: &|name| {
                file.authorities.contains_key(name) || self.registry.authority(name).is_some()
            },
            own_authorities: &|| {
                let added = file.authorities.iter();
                let added = added.filter(|(_, entry)| entry.value.origin != Origin::Imported);
                let mut own: BTreeSet<AuthorityName> =
                    added.map(|(name, _)| name.clone()).collect();
                own.extend(self.registry.own_authorities());
                own
            },
            has_agent: &|name| {
                file.agents.contains_key(name) || self.registry.agent(name).is_some()
            },
            owner: &|domain| owners.get(domain).cloned(),
        };
        for (name, entry) in &file.sites {
            let error = |message: String| FileError {
                line: entry.line,
                message: format!("site {name}: {message}"),
            };
            let old = known.get(name);
            let checked = check::check(&specs[name], &around);
            let checked = checked.map_err(|it| error(it.to_string()))?;
            let site = whole(checked, &entry.value, old.map(|old| &**old));
            let taken = taken(&site, &self.registry).next();
            if let (true, Some((domain, _))) = (site.closing, taken) {
                let (domain, to) = (domain.clone(), name.clone());
                return Err(error(MoveError::Closing { domain, to }.to_string()));
            }
            if old.is_none_or(|old| old.proof != site.proof) {
                let proves = self.may_prove_itself(&site);
                proves.map_err(|it| error(it.to_string()))?;
            }
            let foreign = match old.is_none() && !entry.value.take_mail {
                true => self.foreign_mail(name),
                false => Ok(()),
            };
            foreign.map_err(|it| error(it.to_owned()))?;
            plan.site(site, old.map(|old| &**old));
        }
        let missing = known
            .values()
            .filter(|it| !file.sites.contains_key(&it.name));
        let missing = missing.map(|site| format!("site {}", site.name));
        plan.applied.lacks.extend(missing);
        plan.applied
            .lacks
            .extend(
                self.registry
                    .read()
                    .damaged
                    .keys()
                    .filter_map(|(family, name)| {
                        let is_said = plan.applied.added.contains(&format!("{family} {name}"));
                        (!is_said).then(|| format!("{family} {name}, whose record is damaged"))
                    }),
            );
        Ok(())
    }

    /// Mail that waits under a name is the new site's own where its record was only damaged.
    fn foreign_mail(&self, name: &SiteName) -> Result<(), &'static str> {
        if self.registry.may_be_damaged(name) {
            return Ok(());
        }
        let all_known = *self.store.all_known().borrow();
        match self.store.count(name).messages {
            0 if all_known => Ok(()),
            0 => Err(
                "not all known yet: whether mail waits under this name is still being read, try again in a moment",
            ),
            _ => Err(
                "mail waits under this name since an earlier site was removed: add take-mail = true, or choose another name",
            ),
        }
    }
}

impl Plan {
    fn site(&mut self, site: Site, old: Option<&Site>) {
        let shown = format!("site {}", site.name);
        let Some(old) = old else {
            self.applied.added.push(shown);
            return self.sites.push(site);
        };
        let (now, said) = (file::site_keys(&site), file::site_keys(old));
        if now == said {
            self.applied.unchanged += 1;
            return;
        }
        let changed = now
            .iter()
            .filter(|(key, value)| said.get(*key) != Some(value));
        let changed: Vec<&str> = changed.map(|(key, _)| *key).collect();
        self.applied
            .changed
            .push(format!("{shown}: {}", changed.join(", ")));
        self.sites.push(site);
    }
}

/// What the file says over what there was. What only the registry knows stays.
fn whole(checked: Site, entry: &SiteEntry, old: Option<&Site>) -> Site {
    Site {
        hold: entry.hold.clone().or_else(|| old?.hold.clone()),
        held_before: held_before(entry, old),
        closing: old.is_some_and(|old| old.closing),
        password_hash: entry
            .password_hash
            .clone()
            .or_else(|| old?.password_hash.clone()),
        wake_hash: entry.wake_hash.or_else(|| old?.wake_hash),
        ..checked
    }
}

/// A hold that the file replaces by another one is over when that begins.
fn held_before(entry: &SiteEntry, old: Option<&Site>) -> HoldPeriods {
    let mut periods = entry.held_before.clone();
    if periods.is_empty() {
        periods = old.map(|old| old.held_before.clone()).unwrap_or_default();
    }
    let before = old.and_then(|old| old.hold.as_ref());
    if let (Some(before), Some(hold)) = (before, &entry.hold)
        && before != hold
    {
        periods.ended(before, hold.since);
    }
    periods
}

fn merged(
    file: &File,
    known: &BTreeMap<SiteName, Arc<Site>>,
) -> Result<BTreeMap<SiteName, pb::SiteSpec>, FileError> {
    let merge = |(name, entry): (&SiteName, &Entry<SiteEntry>)| {
        let base = known.get(name).map(|site| pb::SiteSpec::from(&**site));
        let base = base.unwrap_or_else(|| pb::SiteSpec {
            name: name.to_string(),
            ..pb::SiteSpec::default()
        });
        let spec = check::merge(base, &entry.value.change).map_err(|error| FileError {
            line: entry.line,
            message: format!("site {name}: {error}"),
        })?;
        Ok((name.clone(), spec))
    };
    file.sites.iter().map(merge).collect()
}

/// The domains of a site that another one has now, and which that is.
fn taken<'a>(site: &'a Site, registry: &Registry) -> impl Iterator<Item = (&'a Domain, SiteName)> {
    site.domains.iter().filter_map(move |domain| {
        let owner = registry.site_for(domain)?;
        (owner.name != site.name).then(|| (domain, owner.name.clone()))
    })
}

/// Those of the sites between which a domain goes.
fn exchanging(sites: &[Site], registry: &Registry) -> BTreeSet<SiteName> {
    let pairs = sites
        .iter()
        .flat_map(|site| taken(site, registry).map(|(_, from)| [from, site.name.clone()]));
    pairs.flatten().collect()
}

/// To whom each domain belongs afterwards; where two claim one, to the first, and the other is refused.
fn owners(
    known: &BTreeMap<SiteName, Arc<Site>>,
    specs: &BTreeMap<SiteName, pb::SiteSpec>,
    registry: &Registry,
) -> HashMap<Domain, SiteName> {
    let mut owners = HashMap::new();
    for site in known.values().filter(|it| !specs.contains_key(&it.name)) {
        let taken: BTreeSet<&Domain> = taken(site, registry).map(|(domain, _)| domain).collect();
        let its = site.domains.iter().filter(|it| !taken.contains(it));
        owners.extend(its.map(|it| (it.clone(), site.name.clone())));
    }
    for (name, spec) in specs {
        for domain in spec.domains.iter().filter_map(|text| text.parse().ok()) {
            owners.entry(domain).or_insert_with(|| name.clone());
        }
    }
    owners
}

fn check_count<N: Ord, T, V>(
    known: &BTreeMap<N, T>,
    said: &BTreeMap<N, Entry<V>>,
    kind: &str,
    most: usize,
) -> Result<(), FileError> {
    let mut new = said.iter().filter(|(name, _)| !known.contains_key(name));
    match new.nth(most.saturating_sub(known.len())) {
        Some((_, entry)) => Err(FileError {
            line: entry.line,
            message: format!("at most {most} {kind} are possible"),
        }),
        None => Ok(()),
    }
}

fn plan_agents(file: &File, registry: &Registry, plan: &mut Plan) -> Result<(), FileError> {
    let known = registry.agents();
    let known: BTreeMap<_, _> = known.iter().map(|it| (it.name.clone(), it)).collect();
    check_count(&known, &file.agents, "agents", MAX_AGENTS)?;
    for (name, entry) in &file.agents {
        let old = known.get(name).map(|old| (***old).clone());
        let mut agent = old.clone().unwrap_or_else(|| AgentRecord {
            key: entry
                .value
                .key
                .filter(|_| registry.agent_may_be_damaged(name)),
            ..AgentRecord::new(name.clone())
        });
        if !entry.value.addresses.is_empty() {
            agent.addresses.clone_from(&entry.value.addresses);
        }
        agent.from = entry.value.from.or(agent.from);
        agent.drain = match (entry.value.drain, agent.drain) {
            // A file does not say whether it has ended.
            (Some(Drain::Drains), Drain::Ended) => Drain::Ended,
            (said, before) => said.unwrap_or(before),
        };
        if agent.addresses.is_empty() {
            return Err(FileError {
                line: entry.line,
                message: format!(
                    "agent {name}: it needs its outbound addresses: add address = [\"192.0.2.10\"]"
                ),
            });
        }
        let changed = old.as_ref().map(|old| &old.addresses) != Some(&agent.addresses);
        if changed {
            let others = known
                .iter()
                .filter(|(name, _)| !file.agents.contains_key(*name));
            let others = others.map(|(_, agent)| &***agent).chain(&plan.agents);
            own_addresses(name, &agent.addresses, others).map_err(|error| FileError {
                line: entry.line,
                message: format!("agent {name}: {error}"),
            })?;
        }
        let shown = format!("agent {name}");
        match old {
            Some(old) if old == agent => {
                plan.applied.unchanged += 1;
                continue;
            }
            Some(_) => plan.applied.changed.push(shown),
            None => plan.applied.added.push(shown),
        }
        plan.agents.push(agent);
    }
    let missing = known.keys().filter(|it| !file.agents.contains_key(it));
    plan.applied
        .lacks
        .extend(missing.map(|name| format!("agent {name}")));
    Ok(())
}
