//! Changes of sites.

use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::id::SiteVersion;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::pb;
use dd_proto::site::{Hold, Site};
use jiff::Timestamp;

use super::authorities::Origin;
use super::check::{self, SiteError, Surroundings};
use super::own::{self, OwnError};
use super::{Change, ChangeError, changed, record, unknown};

pub(super) const MAX_SITES: usize = 100_000;

/// Whether a new site takes over mail that is held under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldMail {
    Refuse,
    Take,
}

impl Change {
    /// # Errors
    /// The site exists, cannot be used, or mail is held under its name.
    pub async fn add_site(
        &self,
        spec: &pb::SiteSpec,
        password_hash: Option<String>,
        held: HeldMail,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let mut site = self.check(spec)?;
        not_built_in(&site.name)?;
        self.may_prove_itself(&site)?;
        if self.registry.site(&site.name).is_some() {
            return Err(ChangeError::Exists(site.name));
        }
        if self.registry.read().sites.len() >= MAX_SITES {
            return Err(ChangeError::TooMany {
                kind: "sites",
                most: MAX_SITES,
            });
        }
        if held == HeldMail::Refuse {
            let all_known = *self.store.all_known().borrow();
            match self.store.count(&site.name).messages {
                0 if all_known => {}
                0 => return Err(ChangeError::NotAllKnown(site.name)),
                _ => return Err(ChangeError::HeldMail(site.name)),
            }
        }
        // Of a site that had the name before; but where records are damaged it may be this one.
        if !self.registry.is_damaged() {
            self.forget_all_of(&site.name).await?;
        }
        site.password_hash = password_hash;
        let what = format!("site {} added: {}", site.name, changed::whole(&site));
        self.put_site(site, who, &what, now).await
    }

    /// # Errors
    /// There is no such site, or it could not be used after the change.
    pub async fn set_site(
        &self,
        change: &pb::SiteSpec,
        password_hash: Option<String>,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let old = self.existing(&change.name)?;
        let merged = check::merge(pb::SiteSpec::from(&*old), change)?;
        let site = Site {
            hold: old.hold.clone(),
            held_before: old.held_before.clone(),
            closing: old.closing,
            password_hash: match change.clear.iter().any(|flag| flag == "password") {
                true => password_hash,
                false => password_hash.or_else(|| old.password_hash.clone()),
            },
            wake_hash: old.wake_hash,
            ..self.check(&merged)?
        };
        if site.proof != old.proof {
            self.may_prove_itself(&site)?;
        }
        let mut what = match changed::site(&old, &site) {
            same if same.is_empty() => format!("site {} set to what it was", site.name),
            changes => format!("site {} set: {changes}", site.name),
        };
        if change.clear.iter().any(|flag| flag == "shown") {
            self.forget_shown(&site.name).await?;
            what.push_str("; what it has shown is forgotten");
        }
        self.put_site(site, who, &what, now).await
    }

    /// Holds a site, or changes until when; None resumes it.
    ///
    /// # Errors
    /// There is no such site.
    pub async fn hold_site(
        &self,
        name: &str,
        hold: Option<Hold>,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let old = self.existing(name)?;
        let before = match &old.hold {
            None => String::new(),
            Some(before) => format!("; it was held by {} since {}", before.by, before.since),
        };
        let what = match &hold {
            None => format!("site {} resumed", old.name),
            Some(Hold { until: None, .. }) => format!("site {} held", old.name),
            Some(Hold {
                until: Some(until), ..
            }) => format!("site {} held until {until}", old.name),
        };
        let mut held_before = old.held_before.clone();
        if let Some(before) = &old.hold {
            held_before.ended(before, now);
        }
        let site = Site {
            hold,
            held_before,
            ..(*old).clone()
        };
        self.put_site(site, who, &(what + &before), now).await
    }

    /// Sets what a member proves itself with to the wake-up doors.
    ///
    /// # Errors
    /// There is no such site.
    pub async fn set_credential(
        &self,
        name: &str,
        credential: Credential,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let mut site = (*self.existing(name)?).clone();
        let done = match credential {
            Credential::Password(hash) => {
                site.password_hash = Some(hash);
                "has a new password"
            }
            Credential::WakeSecret(hash) => {
                site.wake_hash = Some(hash);
                "has a new wake-up secret"
            }
            Credential::NoWakeSecret => {
                site.wake_hash = None;
                "has no wake-up secret any more"
            }
        };
        let what = format!("site {} {done}", site.name);
        self.put_site(site, who, &what, now).await
    }

    /// The first step of a removal: no new mail. A stop after it leaves a closed site, which can be removed again.
    ///
    /// # Errors
    /// There is no such site.
    pub async fn close_site(
        &self,
        name: &str,
        closing: Closing,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let old = self.existing(name)?;
        let (closing, what) = match closing {
            Closing::Close => (true, format!("site {} closed for removal", old.name)),
            Closing::Reopen => (false, format!("site {} opened again", old.name)),
        };
        let site = Site {
            closing,
            ..(*old).clone()
        };
        self.put_site(site, who, &what, now).await
    }

    /// The last step of a removal: its mail was settled while it was closed.
    ///
    /// # Errors
    /// There is no such site, or it is not closed any more.
    pub async fn remove_site(
        &self,
        name: &SiteName,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let old = self.registry.site(name);
        if old.is_none() && !self.registry.is_damaged_site(name) {
            return Err(unknown("site", name));
        }
        if old.as_ref().is_some_and(|old| !old.closing) {
            return Err(ChangeError::NotClosed(name.clone()));
        }
        self.revoke_all_of(name, who, now).await?;
        self.store.put(record::SITE, name.as_str(), None).await?;
        // What is durable is in force, whatever becomes of the rest.
        self.registry.write().remove_site(name);
        self.dispatch.site_removed(name.clone()).await;
        let was = old.map(|old| format!("; it was: {}", changed::whole(&old)));
        let what = format!("site {name} removed{}", was.unwrap_or_default());
        self.audit.record(now, who, &what);
        if let Err(error) = self.forget_all_of(name).await {
            tracing::warn!(%error, site = %name, "the site is removed, and what it showed is not: it is forgotten when a site of that name is added");
        }
        Ok(())
    }

    /// What is remembered of a site beside its record.
    pub(super) async fn forget_all_of(&self, name: &SiteName) -> Result<(), ChangeError> {
        self.forget_shown(name).await?;
        self.forget_told(name).await
    }

    pub(super) fn existing(&self, name: &str) -> Result<Arc<Site>, ChangeError> {
        let parsed: SiteName = name.parse().map_err(|_| unknown("site", name))?;
        not_built_in(&parsed)?;
        self.registry
            .site(&parsed)
            .ok_or_else(|| unknown("site", name))
    }

    /// An authority of ours that may not certify the site's name would leave it without a proof for ever.
    pub(super) fn may_prove_itself(&self, site: &Site) -> Result<(), OwnError> {
        let Some(certified) = site.proof.certified() else {
            return Ok(());
        };
        let authority = self.registry.authority(&certified.authority);
        match authority.map(|it| it.origin.clone()) {
            Some(Origin::Own { permit }) => {
                own::permitted(&certified.authority, &permit, &certified.name)
            }
            _ => Ok(()),
        }
    }

    fn check(&self, spec: &pb::SiteSpec) -> Result<Site, SiteError> {
        let owner = |domain: &Domain| Some(self.registry.site_for(domain)?.name.clone());
        let has_authority = |name: &AuthorityName| self.registry.authority(name).is_some();
        let has_agent = |name: &AgentName| self.registry.agent(name).is_some();
        let around = Surroundings {
            defaults: self.defaults,
            has_authority: &has_authority,
            own_authorities: &|| self.registry.own_authorities(),
            has_agent: &has_agent,
            owner: &owner,
        };
        check::check(spec, &around)
    }

    /// It takes no domain from another site: where two records list one, the older one ceases to.
    pub(super) async fn put_site(
        &self,
        site: Site,
        who: &str,
        what: &str,
        now: Timestamp,
    ) -> Result<Arc<Site>, ChangeError> {
        let site = self.registry.read().domains.owned(&Arc::new(site));
        let site = Arc::unwrap_or_clone(site);
        let mut put = self
            .put_sites(vec![(site, what.to_owned())], who, now)
            .await?;
        Ok(put.pop().expect("one was put"))
    }

    /// Several sites at once, each with what is said of it: all of them or none, for readers and over a crash. So a domain
    /// that goes from one to another is at no moment nobody's.
    pub(super) async fn put_sites(
        &self,
        mut sites: Vec<(Site, String)>,
        who: &str,
        now: Timestamp,
    ) -> Result<Vec<Arc<Site>>, ChangeError> {
        for (site, _) in &mut sites {
            self.damage_ends_for(site, now);
        }
        let records = sites
            .iter()
            .map(|(site, _)| (site.name.to_string(), record::encode_site(site)));
        let versions = self.store.put_all(record::SITE, records.collect()).await?;
        let sites: Vec<(Arc<Site>, String)> = sites
            .into_iter()
            .zip(versions)
            .map(|((mut site, what), version)| {
                site.version = SiteVersion(version);
                (Arc::new(site), what)
            })
            .collect();
        {
            let mut snapshot = self.registry.write();
            for (site, _) in &sites {
                snapshot.insert_site(Arc::clone(site));
            }
        }
        for (site, what) in &sites {
            let dispatched = self.registry.as_dispatched(site);
            self.dispatch.site_changed(dispatched).await;
            self.audit.record(now, who, what);
        }
        Ok(sites.into_iter().map(|(site, _)| site).collect())
    }
}

/// What a member proves itself with, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A PHC string.
    Password(String),
    WakeSecret([u8; 32]),
    NoWakeSecret,
}

/// Whether a site is closed for removal or opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    Close,
    Reopen,
}

/// The built-in site has no record, so nothing of it can be changed.
fn not_built_in(name: &SiteName) -> Result<(), ChangeError> {
    match name.as_str() == crate::dsn::smarthost::NAME {
        true => Err(ChangeError::BuiltIn(name.clone())),
        false => Ok(()),
    }
}
