//! Which site has a domain.
//!
//! # Invariants
//! Where the records of two sites list one domain, the newer record has it; when that one no longer lists it, it goes back
//! to the other. Records that are written at once cannot come to that, but those of a crash between two of them can.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::site::{KnownRecipients, Site};

use super::below::Below;

/// The domains of all sites.
#[derive(Debug, Default)]
pub(super) struct Claims {
    owners: HashMap<Domain, Arc<Site>>,
    /// Who lists a domain too, and does not have it; the newest record last. Mostly empty.
    others: BTreeMap<Domain, Vec<Arc<Site>>>,
    below: Below,
}

impl Claims {
    /// A record that is newer than all there are.
    pub(super) fn insert(&mut self, site: &Arc<Site>) {
        for domain in &site.domains {
            if let Some(before) = self.owners.insert(domain.clone(), Arc::clone(site)) {
                self.others.entry(domain.clone()).or_default().push(before);
            }
            self.below.insert(domain);
        }
    }

    pub(super) fn remove(&mut self, site: &Site) {
        for domain in &site.domains {
            let others = self.others.remove(domain).unwrap_or_default();
            let others = others.into_iter().filter(|it| it.name != site.name);
            let mut others: Vec<Arc<Site>> = others.collect();
            if self
                .owner(domain)
                .is_some_and(|owner| owner.name == site.name)
            {
                match others.pop() {
                    Some(other) => {
                        self.owners.insert(domain.clone(), other);
                    }
                    None => {
                        self.owners.remove(domain);
                        self.below.remove(domain);
                    }
                }
            }
            if !others.is_empty() {
                self.others.insert(domain.clone(), others);
            }
        }
    }

    pub(super) fn owner(&self, domain: &Domain) -> Option<&Arc<Site>> {
        self.owners.get(domain)
    }

    /// The sites of this domain and of those below it.
    pub(super) fn below<'a>(&'a self, domain: &Domain) -> impl Iterator<Item = &'a Arc<Site>> {
        let below = self.below.of(domain);
        below.filter_map(|it| self.owner(it))
    }

    /// What is wrong and what to do, one sentence for each domain that two records list.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> {
        self.others.iter().filter_map(|(domain, others)| {
            let owner = &self.owner(domain)?.name;
            let others: Vec<&str> = others.iter().map(|it| it.name.as_str()).collect();
            let others = others.join(", ");
            Some(format!(
                "the domain {domain} is in the records of the sites {owner} and {others}: its mail goes to {owner}, whose record is the newer one; take it from the other with `ddadm site move-domain {domain} --to {owner}`"
            ))
        })
    }

    /// A site without the domains that another one has. One that would be left without any domain, or without the list of its
    /// recipients, stays as it is: that would be another site.
    pub(super) fn owned(&self, site: &Arc<Site>) -> Arc<Site> {
        let has = |domain: &Domain| {
            let owner = self.owner(domain);
            owner.is_none_or(|owner| owner.name == site.name)
        };
        if site.domains.iter().all(has) {
            return Arc::clone(site);
        }
        let mut owned = (**site).clone();
        owned.domains.retain(has);
        let is_listed = match &mut owned.known {
            KnownRecipients::Any => true,
            KnownRecipients::Only(known) => {
                known.retain(|it| it.domain().is_some_and(has));
                !known.is_empty()
            }
        };
        match is_listed && !owned.domains.is_empty() {
            true => Arc::new(owned),
            false => Arc::clone(site),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow;

    #[test]
    fn a_domain_that_two_records_list_is_the_newer_ones_and_goes_back() {
        let domain: Domain = "shed.example".parse().unwrap();
        let site = |name: &str, more: &[&str]| {
            let mut site = inflow::closed(&"own.example".parse().unwrap());
            site.name = name.parse().unwrap();
            site.domains = more.iter().map(|it| it.parse().unwrap()).collect();
            Arc::new(site)
        };
        let mut claims = Claims::default();
        let owner = |claims: &Claims| claims.owner(&domain).map(|it| it.name.to_string());
        let (bbb, aaa) = (
            site("bbb", &["bbb.example", "shed.example"]),
            site("aaa", &["shed.example"]),
        );
        claims.insert(&bbb);
        claims.insert(&aaa);
        assert_eq!(owner(&claims).as_deref(), Some("aaa"));
        assert_eq!(claims.alarms().count(), 1);
        assert_eq!(claims.owned(&bbb).domains.len(), 1);
        claims.remove(&aaa);
        assert_eq!(owner(&claims).as_deref(), Some("bbb"));
        assert_eq!(claims.alarms().count(), 0);
        claims.insert(&aaa);
        claims.remove(&bbb);
        assert_eq!(owner(&claims).as_deref(), Some("aaa"));
        assert_eq!(claims.alarms().count(), 0);
        claims.remove(&aaa);
        assert_eq!(owner(&claims), None);
        assert_eq!(claims.below(&"example".parse().unwrap()).count(), 0);
    }
}
