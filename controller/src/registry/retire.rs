//! The end of an authority's key: who still stands on it, and what is left of what it signed.
//!
//! # Not here
//! The roll-over itself: [`super::own`].

use std::collections::BTreeSet;

use dd_proto::name::{AuthorityName, SiteName};
use dd_proto::site::Site;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authorities::{Authority, Origin};
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
    pub(super) fn on_old_key(&self, authority: &Authority, now: Timestamp) -> BTreeSet<SiteName> {
        let issued = self.all_issued();
        let issued: Vec<&Issued> = issued.iter().map(|it| &**it).collect();
        let relying = self.sites();
        let relying = relying
            .iter()
            .filter(|site| relies_on(site, &authority.name));
        let shows_old = relying.filter(|site| {
            let shown = self.shown(&site.name);
            shown.is_some_and(|shown| shows_old(&shown, authority, &issued))
        });
        let mut used: BTreeSet<SiteName> = shows_old.map(|site| site.name.clone()).collect();
        used.extend(given_old_only(authority, &issued, now));
        used
    }
}

fn relies_on(site: &Site, authority: &AuthorityName) -> bool {
    let certified = site.proof.certified();
    certified.is_some_and(|it| it.authority == *authority)
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

/// Whether a host shows a certificate of an old key now: one that is on record, or else one whose issuer is an old one.
fn shows_old(shown: &Shown, authority: &Authority, issued: &[&Issued]) -> bool {
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
    let mut shown = now.filter_map(|sight| sight.certificate.as_ref());
    shown.any(|certificate| {
        let on_record = issued
            .iter()
            .find(|it| it.sha256_text() == certificate.sha256);
        match on_record {
            Some(issued) => issued.signed_by != new_key,
            None => old_subjects.contains(&certificate.issuer),
        }
    })
}

fn subject(der: &[u8]) -> String {
    X509Certificate::from_der(der)
        .map_or_else(|_| String::new(), |(_, it)| it.subject().to_string())
}

/// `a, b and 3 more`.
pub(super) fn listed(sites: &BTreeSet<SiteName>) -> String {
    let shown: Vec<&str> = sites.iter().take(MOST).map(SiteName::as_str).collect();
    match sites.len() - shown.len() {
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
        let relying = sites.iter().filter(|site| relies_on(site, &authority.name));
        let relying: BTreeSet<SiteName> = relying.map(|site| site.name.clone()).collect();
        if !relying.is_empty() {
            return Err(OwnError::ReliedOn {
                authority: authority.name.clone(),
                sites: listed(&relying),
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
}
