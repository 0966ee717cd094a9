//! The end of an authority's key: who still stands on it, and what is left of what it signed.
//!
//! # Not here
//! The roll-over itself: [`super::own`].

use std::collections::{BTreeMap, BTreeSet};

use dd_proto::name::{AuthorityName, SiteName};
use dd_proto::site::Site;
use jiff::Timestamp;

use super::authorities::{Authority, Origin, subject};
use super::issued::Issued;
use super::own::{OwnError, key_digest};
use super::shown::Shown;
use super::{Change, ChangeError, Registry, record, unknown};

/// Names in one sentence.
const MOST: usize = 20;

impl Registry {
    /// Whether the key that signed a certificate is gone, so that it proves nothing any more.
    pub fn is_retired(&self, issued: &Issued) -> bool {
        let signed = |der: &bytes::Bytes| key_digest(der) == issued.signed_by;
        let authority = self.authority(&issued.authority);
        !authority.is_some_and(|it| it.certificates.iter().any(signed))
    }

    /// Sites that would prove nothing any more without the old keys of an authority that rolls over: the newest
    /// certificate they were given is of an old key, or a host of theirs has last shown one.
    pub(super) fn on_old_key(&self, authority: &Authority, now: Timestamp) -> OldUse {
        let issued = self.all_issued();
        let issued: Vec<&Issued> = issued.iter().map(|it| &**it).collect();
        let relying = self.sites();
        let relying = relying
            .iter()
            .filter(|site| relies_on(site, &authority.name));
        let given = given_old_only(authority, &issued, now);
        let mut used: OldUse = given.into_iter().map(|site| (site, None)).collect();
        used.extend(relying.filter_map(|site| {
            let shown = self.shown(&site.name)?;
            let last = shows_old(&shown, authority, &issued)?;
            Some((site.name.clone(), Some(last)))
        }));
        used
    }
}

/// Sites on an old key, and when each last showed it; None: it was given no certificate of the new one.
type OldUse = BTreeMap<SiteName, Option<Timestamp>>;

fn relies_on(site: &Site, authority: &AuthorityName) -> bool {
    let certified = site.proof.certified();
    certified.is_some_and(|it| it.authority == *authority)
}

/// Whether agents show the site's hosts a certificate of the authority.
pub(super) fn is_shown(site: &Site, authority: &AuthorityName) -> bool {
    site.way.client_certificate.as_ref() == Some(authority)
}

/// Which of two certificates is the newer says their key and no date: since the roll-over began only the new key signs,
/// and dates have whole seconds.
fn given_old_only(authority: &Authority, issued: &[&Issued], now: Timestamp) -> BTreeSet<SiteName> {
    let new_key = key_digest(&authority.certificates[0]);
    let valid = issued
        .iter()
        .filter(|it| it.authority == authority.name && it.revoked.is_none() && it.not_after >= now);
    let (new, old): (Vec<&Issued>, Vec<&Issued>) = valid.partition(|it| it.signed_by == new_key);
    let mut of_old: BTreeSet<SiteName> = old.iter().map(|it| it.site.clone()).collect();
    for issued in new {
        of_old.remove(&issued.site);
    }
    of_old
}

/// When a host last showed a certificate of an old key, if it shows that now: one that is on record, or else one whose
/// issuer is an old one.
fn shows_old(shown: &Shown, authority: &Authority, issued: &[&Issued]) -> Option<Timestamp> {
    let new_key = key_digest(&authority.certificates[0]);
    let old_subjects: Vec<String> = authority.certificates[1..]
        .iter()
        .map(|it| subject(it))
        .collect();
    let mut hosts = BTreeSet::new();
    // The first sight of a host is what it shows now.
    let now = shown
        .sights
        .iter()
        .filter(|sight| hosts.insert(&sight.host));
    let of_old = now.filter(|sight| {
        let Some(certificate) = &sight.certificate else {
            return false;
        };
        let on_record = issued
            .iter()
            .find(|it| it.sha256_text() == certificate.sha256);
        match on_record {
            Some(issued) => issued.signed_by != new_key,
            None => old_subjects.contains(&certificate.issuer),
        }
    });
    of_old.map(|sight| sight.last).max()
}

/// Each with the day on which it last showed the old key: sights are kept no finer.
pub(super) fn listed_with_days(used: &OldUse) -> String {
    let site = |(site, last): (&SiteName, &Option<Timestamp>)| match last {
        Some(last) => format!(
            "{site} (last seen at {} with the old key)",
            last.strftime("%Y-%m-%d")
        ),
        None => format!("{site} (has no certificate of the new key)"),
    };
    joined(used.iter().map(site), used.len())
}

/// `a, b and 3 more`.
fn listed(sites: &BTreeSet<SiteName>) -> String {
    joined(sites.iter().map(SiteName::to_string), sites.len())
}

fn joined(names: impl Iterator<Item = String>, count: usize) -> String {
    let shown: Vec<String> = names.take(MOST).collect();
    match count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Change {
    /// Removes an authority that no site relies on, and its keys. A stop in between leaves keys that nobody asks for.
    ///
    /// # Errors
    /// There is no such authority, or a site relies on it.
    pub async fn remove_authority(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let parsed: Option<AuthorityName> = name.parse().ok();
        let authority = parsed.and_then(|name| self.registry.authority(&name));
        let authority = authority.ok_or_else(|| unknown("authority", name))?;
        let sites = self.registry.sites();
        let those = |are: fn(&Site, &AuthorityName) -> bool| -> BTreeSet<SiteName> {
            let those = sites.iter().filter(|site| are(site, &authority.name));
            those.map(|site| site.name.clone()).collect()
        };
        let relying = those(relies_on);
        if !relying.is_empty() {
            return Err(OwnError::ReliedOn {
                authority: authority.name.clone(),
                sites: listed(&relying),
            }
            .into());
        }
        let shown = those(is_shown);
        if !shown.is_empty() {
            return Err(OwnError::Shown {
                authority: authority.name.clone(),
                sites: listed(&shown),
            }
            .into());
        }
        self.store
            .put(record::AUTHORITY, authority.name.as_str(), None)
            .await?;
        self.registry.write().authorities.remove(&authority.name);
        self.audit
            .record(now, who, &format!("authority {} removed", authority.name));
        if authority.origin != Origin::Imported {
            for certificate in &authority.certificates {
                let removed = self.keys.remove(&authority.name, certificate);
                removed.map_err(OwnError::Key)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_some_and_a_number() {
        let sites = |count| -> BTreeSet<SiteName> {
            (0..count)
                .map(|n| format!("s{n:02}").parse().unwrap())
                .collect()
        };
        assert_eq!(listed(&sites(2)), "s00, s01");
        assert!(listed(&sites(23)).ends_with("s19 and 3 more"));
    }

    #[test]
    fn whoever_is_on_the_old_key_is_named_with_the_day_on_which_it_was_seen() {
        let seen = Timestamp::from_second(1_800_000_000).unwrap();
        let used: OldUse = [("home", Some(seen)), ("office", None)]
            .map(|(name, last)| (name.parse().unwrap(), last))
            .into();
        assert_eq!(
            listed_with_days(&used),
            "home (last seen at 2027-01-15 with the old key), office (has no certificate of the new key)"
        );
    }
}
