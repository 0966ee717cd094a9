//! How often a site may be woken, and by whom.
//!
//! # Invariants
//! Those who proved themselves and strangers share no bucket: whatever a stranger does, a member's own request takes
//! effect. A stranger's request for one site is passed on once a second at least, and at most; whoever asks, dispatch
//! makes the site due by strangers once in ten seconds, and forgets none.

use std::net::IpAddr;
use std::time::Duration;

use dd_proto::name::SiteName;

use crate::limit::bucket::{Buckets, Empty, Rate};
use crate::limit::origin::host;

const MOST_CLIENTS: usize = 20_000;
const MOST_PAIRS: usize = 100_000;

const STRANGER: Rate = rate(64, 16);
const STRANGER_AT_SITE: Rate = rate(1, 1000);
/// Certificates that are judged for one client; a member's script shows one each time.
const JUDGED: Rate = rate(10, 1000);
const MEMBER: Rate = rate(400, 50);
const MEMBER_AT_SITE: Rate = rate(100, 200);
/// What is issued stays on record for as long as it is valid.
const CERTIFIED: Rate = rate(10, 6 * 3600 * 1000);

const fn rate(burst: u32, refill_ms: u64) -> Rate {
    Rate {
        burst,
        refill: Duration::from_millis(refill_ms),
    }
}

/// What is left for whom.
#[derive(Debug)]
pub(super) struct Limits {
    strangers: Buckets<IpAddr>,
    strangers_at_sites: Buckets<(IpAddr, SiteName)>,
    judged: Buckets<IpAddr>,
    members: Buckets<IpAddr>,
    members_at_sites: Buckets<SiteName>,
    certified: Buckets<SiteName>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: Buckets::new(STRANGER, MOST_CLIENTS),
            strangers_at_sites: Buckets::new(STRANGER_AT_SITE, MOST_PAIRS),
            judged: Buckets::new(JUDGED, MOST_CLIENTS),
            members: Buckets::new(MEMBER, MOST_CLIENTS),
            members_at_sites: Buckets::new(MEMBER_AT_SITE, MOST_PAIRS),
            certified: Buckets::new(CERTIFIED, MOST_PAIRS),
        }
    }
}

impl Limits {
    /// Before anything is looked up for a stranger.
    pub(super) fn stranger(&mut self, client: IpAddr, now: Duration) -> Result<(), Empty> {
        self.strangers.take(host(client), now)
    }

    /// Before a certificate is judged for somebody.
    pub(super) fn judged(&mut self, client: IpAddr, now: Duration) -> Result<(), Empty> {
        self.judged.take(host(client), now)
    }

    pub(super) fn stranger_at(
        &mut self,
        client: IpAddr,
        site: &SiteName,
        now: Duration,
    ) -> Result<(), Empty> {
        let key = (host(client), site.clone());
        self.strangers_at_sites.take(key, now)
    }

    pub(super) fn member_at(
        &mut self,
        client: IpAddr,
        site: &SiteName,
        now: Duration,
    ) -> Result<(), Empty> {
        self.members.take(host(client), now)?;
        self.members_at_sites.take(site.clone(), now)
    }

    /// A member asks for a certificate.
    pub(super) fn certified(
        &mut self,
        client: IpAddr,
        site: &SiteName,
        now: Duration,
    ) -> Result<(), Empty> {
        self.member_at(client, site, now)?;
        self.certified.take(site.clone(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_a_second_of_a_stranger_is_passed_on_for_each_site() {
        let mut limits = Limits::default();
        let (home, other) = ("home".parse().unwrap(), "other".parse().unwrap());
        for (client, site, ms, effect) in [
            ("192.0.2.1", &home, 0, true),
            ("192.0.2.1", &home, 999, false),
            ("192.0.2.1", &other, 999, true),
            ("192.0.2.2", &home, 999, true),
            ("192.0.2.1", &home, 1000, true),
            ("2001:db8::1", &home, 1000, true),
            ("2001:db8::2", &home, 1000, false),
        ] {
            let taken = limits.stranger_at(ip(client), site, at(ms)).is_ok();
            assert_eq!(taken, effect, "{client} {site} {ms}");
        }
    }

    #[test]
    fn a_stranger_uses_up_nothing_of_a_members() {
        let mut limits = Limits::default();
        let home = "home".parse().unwrap();
        let client = ip("192.0.2.1");
        let asked = (0..1000).filter(|_| limits.stranger(client, at(0)).is_ok());
        assert_eq!(asked.count(), 64);
        let burst = (0..1000).filter(|_| limits.member_at(client, &home, at(0)).is_ok());
        assert_eq!(burst.count(), 100);
    }
}
