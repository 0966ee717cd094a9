//! Sign-ins that failed, for each site: its member is told at the next sign-in to the portal.
//!
//! # Invariants
//! One entry for each site that exists, whoever fails how often: guesses at other names leave nothing here. It is in
//! memory only, and the page says so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dd_proto::name::SiteName;
use ipnet::IpNet;

use super::Door;
use crate::limit::origin::network;

/// More sites than a controller has.
const MOST: usize = 200_000;

/// What failed, and who failed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    pub count: u64,
    /// Of the newest, on the clock of the doors.
    pub last: Duration,
    /// Around the address from which it came.
    pub network: IpNet,
}

impl Failures {
    fn one(client: IpAddr, now: Duration) -> Self {
        let length = if client.to_canonical().is_ipv4() {
            24
        } else {
            48
        };
        let network = network(client);
        Self {
            count: 1,
            last: now,
            network: IpNet::new(network, length).unwrap_or_else(|_| network.into()),
        }
    }

    /// Together with what came after them.
    pub fn and(self, later: Option<Self>) -> Self {
        later.map_or(self, |later| Self {
            count: self.count.saturating_add(later.count),
            ..later
        })
    }
}

/// Whoever's they were: what all copies of it count together, since the start.
#[derive(Debug, Clone, Default)]
pub struct FailuresByDoor(Arc<[AtomicU64; Self::DOORS.len()]>);

impl FailuresByDoor {
    /// Where one signs in.
    const DOORS: [Door; 4] = [Door::Smtp, Door::Url, Door::DynDns, Door::Portal];

    pub(super) fn add(&self, door: Door) {
        let counts = Self::DOORS.iter().zip(&*self.0);
        for (_, count) in counts.filter(|(it, _)| **it == door) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each door's word, with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Self::DOORS.iter().zip(&*self.0);
        counts.map(|(door, count)| (door.word(), count.load(Ordering::Relaxed)))
    }
}

/// For each site since its member last signed in to the portal, at most since the start.
#[derive(Debug, Default)]
pub(super) struct FailedSignIns(HashMap<SiteName, Failures>);

impl FailedSignIns {
    /// `site` exists.
    pub(super) fn add(&mut self, site: &SiteName, client: IpAddr, now: Duration) {
        let one = Failures::one(client, now);
        if let Some(known) = self.0.get_mut(site) {
            *known = known.and(Some(one));
        } else if self.0.len() < MOST {
            self.0.insert(site.clone(), one);
        }
    }

    pub(super) fn of(&self, site: &SiteName) -> Option<Failures> {
        self.0.get(site).copied()
    }

    /// The member has signed in, and is told of these; counting begins anew.
    pub(super) fn take(&mut self, site: &SiteName) -> Option<Failures> {
        self.0.remove(site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_until_the_member_signs_in_with_the_network_of_the_last() {
        let (home, other): (SiteName, SiteName) =
            ("home".parse().unwrap(), "other".parse().unwrap());
        let mut failed = FailedSignIns::default();
        let at = Duration::from_secs;
        for (client, seconds) in [
            ("192.0.2.7", 1),
            ("::ffff:198.51.100.9", 2),
            ("2001:db8:1:2::3", 3),
        ] {
            failed.add(&home, client.parse().unwrap(), at(seconds));
        }
        let expected = Failures {
            count: 3,
            last: at(3),
            network: "2001:db8:1::/48".parse().unwrap(),
        };
        assert_eq!(failed.of(&home), Some(expected));
        assert_eq!(failed.of(&other), None);
        let told = failed.take(&home).unwrap();
        assert_eq!((told, failed.of(&home)), (expected, None));
        failed.add(&home, "198.51.100.9".parse().unwrap(), at(4));
        let both = told.and(failed.of(&home));
        assert_eq!(
            (both.count, both.network.to_string().as_str()),
            (4, "198.51.100.0/24")
        );
    }
}
