//! A domain goes from one site to another.
//!
//! # Invariants
//! At no moment is the domain nobody's, or that of two sites: both records are written in one commit, the site that gets it
//! first. Only where that reaches into another segment of the log can a crash leave the first alone: then the newer record
//! has the domain ([`super::claims`]), and the same move again does the rest.
//!
//! # Not here
//! What waits: it stays with the site that it came for.

use std::collections::BTreeSet;
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::path::Mailbox;
use dd_proto::site::{KnownRecipients, Site};
use jiff::Timestamp;

use super::check::SiteError;
use super::{Change, ChangeError, changed};

/// Why a domain stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error(
        "no site has the domain {0}: add it with `ddadm site set {1} --domain …`, naming all domains that the site is to have"
    )]
    Nobodys(Domain, SiteName),
    #[error("the domain {0} belongs to the site {1} already")]
    There(Domain, SiteName),
    #[error(
        "the domain {domain} is all that the site {from} has: give that another one first, or move what else it has and remove it with `ddadm site remove {from}`"
    )]
    Last { domain: Domain, from: SiteName },
    #[error(
        "the site {to} lists its recipients, and the site {from} takes anybody at {domain}: mail for {domain} would be refused there; end the list first with `ddadm site set {to} --clear recipient`, or apply a file with both sites (`ddadm registry apply`)"
    )]
    Unlisted {
        domain: Domain,
        from: SiteName,
        to: SiteName,
    },
    #[error(
        "all recipients that the site {from} lists are at {domain}, and a site without a list takes anybody: list others first with `ddadm site set {from} --recipient …`, or end the list with `--clear recipient`"
    )]
    ListEnds { domain: Domain, from: SiteName },
    #[error(
        "the site {from} lists its recipients, and the site {to} takes anybody: anybody at {domain} would be taken there; list those of {to} first with `ddadm site set {to} --recipient …`, or end the list with `ddadm site set {from} --clear recipient`"
    )]
    ListLost {
        domain: Domain,
        from: SiteName,
        to: SiteName,
    },
    #[error(
        "the site {to} is being removed and takes no new mail: mail for {domain} would wait outside and then be refused; move the domain to another site"
    )]
    Closing { domain: Domain, to: SiteName },
}

/// From which site a domain went, and to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainMove {
    pub from: SiteName,
    pub to: SiteName,
}

impl Change {
    /// # Errors
    /// One of the sites could not be used afterwards, or mail would be refused; nothing was changed then.
    pub async fn move_domain(
        &self,
        domain: &str,
        to: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<DomainMove, ChangeError> {
        let target = self.existing(to)?;
        let domain = domain.parse::<Domain>();
        let domain = domain.map_err(|error| SiteError::Value(error.to_string()))?;
        let source = self.owner_beside(&domain, &target)?;
        let (from, to) = (source.name.clone(), target.name.clone());
        let (gives, takes) = moved(&domain, &source, &target)?;
        let told = |old: &Site, new: Site, what: String| {
            let changes = changed::site(old, &new);
            let what = format!("site {} set: {what}: {changes}", new.name);
            (new, what)
        };
        let came = format!("domain {domain} came from the site {from}");
        let went = format!("domain {domain} went to the site {to}");
        let both = vec![told(&target, takes, came), told(&source, gives, went)];
        self.put_sites(both, who, now).await?;
        Ok(DomainMove { from, to })
    }

    /// The site that loses the domain.
    fn owner_beside(&self, domain: &Domain, target: &Site) -> Result<Arc<Site>, MoveError> {
        let sites = self.registry.sites();
        let mut others = sites.into_iter().filter(|site| site.name != target.name);
        match others.find(|site| site.domains.contains(domain)) {
            Some(site) => Ok(site),
            None if target.domains.contains(domain) => {
                Err(MoveError::There(domain.clone(), target.name.clone()))
            }
            None => Err(MoveError::Nobodys(domain.clone(), target.name.clone())),
        }
    }
}

/// Both sites as they are afterwards: the one that gives, and the one that takes. Pure.
fn moved(domain: &Domain, from: &Site, to: &Site) -> Result<(Site, Site), MoveError> {
    if to.closing {
        return Err(MoveError::Closing {
            domain: domain.clone(),
            to: to.name.clone(),
        });
    }
    let (mut gives, mut takes) = (from.clone(), to.clone());
    gives.domains.remove(domain);
    takes.domains.insert(domain.clone());
    if gives.domains.is_empty() {
        return Err(MoveError::Last {
            domain: domain.clone(),
            from: from.name.clone(),
        });
    }
    let going = match &mut gives.known {
        KnownRecipients::Any => None,
        KnownRecipients::Only(known) => {
            let is_there = |mailbox: &Mailbox| mailbox.domain() == Some(domain);
            let going: BTreeSet<Mailbox> =
                known.iter().filter(|it| is_there(it)).cloned().collect();
            known.retain(|it| !is_there(it));
            if known.is_empty() {
                return Err(MoveError::ListEnds {
                    domain: domain.clone(),
                    from: from.name.clone(),
                });
            }
            Some(going)
        }
    };
    match (&mut takes.known, going) {
        // Anybody at its domains, before and after.
        (KnownRecipients::Any, None) => {}
        (KnownRecipients::Any, Some(_)) => {
            return Err(MoveError::ListLost {
                domain: domain.clone(),
                from: from.name.clone(),
                to: to.name.clone(),
            });
        }
        (KnownRecipients::Only(known), Some(going)) => known.extend(going),
        // Those that a move of which half was done has listed there already are no reason to refuse the rest.
        (KnownRecipients::Only(_), None) => {
            return Err(MoveError::Unlisted {
                domain: domain.clone(),
                from: from.name.clone(),
                to: to.name.clone(),
            });
        }
    }
    Ok((gives, takes))
}
