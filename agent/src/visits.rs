//! What the last visits to a site's addresses came to, and the order and the time that follow from it.
//!
//! An address at which nobody answered, or somebody else, comes behind the host's others the next time; a host that
//! cost its whole time for nothing comes behind the site's other hosts for a while. Nothing is left out for it: what is
//! remembered decides about the order alone.
//!
//! Pure but for the lock: `now` comes in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::site::Host;

/// An address that was no good is put behind the others for so long.
const ADDRESS_REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// A silent host lets the next one go first for so long: the order of the hosts is the administrator's.
const HOST_REMEMBERED: Duration = Duration::from_secs(600);
/// Bounds; beyond them what is oldest, or everything, is forgotten.
const MAX_ADDRESSES: usize = 64;
const MAX_HOSTS: usize = 4096;

/// How a visit ended that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vain {
    /// Somebody answered and was not the site, or turned us away; or nobody listens.
    Answered,
    /// It cost all the time it was given.
    Silent,
}

/// Of every host that was visited in vain.
#[derive(Debug, Default)]
pub struct Visits {
    pub patience: Patience,
    known: Mutex<HashMap<Host, Past>>,
}

/// How the time for one host is shared out between its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// RFC 5321 §4.5.3.2.1 gives a greeting five minutes. All addresses of a host share them.
    pub host: Duration,
    /// No wait is longer while another address or host is left.
    pub while_others_are_left: Duration,
    /// And none is shorter: so long a server may look a client's name up before it greets.
    pub at_least: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            host: Duration::from_secs(300),
            while_others_are_left: Duration::from_secs(30),
            at_least: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// How long each answer of an address is waited for, when the host's other addresses have cost `spent` and so many
    /// `others` are left.
    pub fn share(&self, spent: Duration, others: usize) -> Duration {
        let left = self.host.saturating_sub(spent);
        let share = match u32::try_from(others).unwrap_or(u32::MAX) {
            0 => left,
            others => (left / others.saturating_add(1)).min(self.while_others_are_left),
        };
        share.max(self.at_least)
    }
}

#[derive(Debug, Default)]
struct Past {
    addresses: Vec<(IpAddr, Vain, Instant)>,
    /// The whole host, when it was last left without having been reached.
    silent: Option<Instant>,
}

impl Visits {
    pub fn with(patience: Patience) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// The site's hosts, silent ones last.
    pub fn order_hosts(&self, hosts: &[Host], now: Instant) -> Vec<Host> {
        let known = self.lock();
        let is_silent = |host: &Host| {
            let silent = known.get(host).and_then(|past| past.silent);
            silent.is_some_and(|at| now < at + HOST_REMEMBERED)
        };
        let mut hosts = hosts.to_vec();
        hosts.sort_by_cached_key(is_silent);
        hosts
    }

    /// A host's addresses: the ones without a bad name first, then who was not the site, then who was silent.
    pub fn order(&self, host: &Host, addresses: &mut [IpAddr], now: Instant) {
        let known = self.lock();
        let Some(past) = known.get(host) else { return };
        addresses.sort_by_key(|address| {
            let mut known = past.addresses.iter();
            let known = known.find(|(it, _, at)| it == address && now < *at + ADDRESS_REMEMBERED);
            known.map(|(_, vain, _)| *vain)
        });
    }

    pub fn in_vain(&self, host: &Host, address: IpAddr, vain: Vain, now: Instant) {
        let mut known = self.lock();
        if known.len() >= MAX_HOSTS && !known.contains_key(host) {
            known.clear();
        }
        let past = known.entry(host.clone()).or_default();
        past.addresses.retain(|(it, _, _)| *it != address);
        if past.addresses.len() >= MAX_ADDRESSES {
            past.addresses.remove(0);
        }
        past.addresses.push((address, vain, now));
    }

    /// None of the host's addresses was the site.
    pub fn host_in_vain(&self, host: &Host, vain: Vain, now: Instant) {
        let mut known = self.lock();
        if vain == Vain::Silent {
            if known.len() >= MAX_HOSTS && !known.contains_key(host) {
                known.clear();
            }
            known.entry(host.clone()).or_default().silent = Some(now);
        } else if let Some(past) = known.get_mut(host) {
            past.silent = None;
        }
    }

    /// The site was there.
    pub fn proved(&self, host: &Host, address: IpAddr) {
        let mut known = self.lock();
        let Some(past) = known.get_mut(host) else {
            return;
        };
        past.silent = None;
        past.addresses.retain(|(it, _, _)| *it != address);
        if past.addresses.is_empty() {
            known.remove(host);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Host, Past>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to begin with"
)]
mod tests {
    use super::*;
    use dd_proto::site::HostName;

    fn host(name: &str) -> Host {
        Host {
            name: HostName::Dns(name.parse().unwrap()),
            port: 25.try_into().unwrap(),
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn what_was_no_good_comes_behind_the_others_until_it_is_forgotten() {
        let (visits, now, home) = (Visits::default(), Instant::now(), host("home.example"));
        let order = |now| {
            let mut addresses = [1, 2, 3, 4].map(ip);
            visits.order(&home, &mut addresses, now);
            addresses
        };
        assert_eq!(order(now), [1, 2, 3, 4].map(ip));
        visits.in_vain(&home, ip(1), Vain::Silent, now);
        visits.in_vain(&home, ip(2), Vain::Answered, now);
        assert_eq!(order(now), [3, 4, 2, 1].map(ip));
        visits.in_vain(&home, ip(2), Vain::Silent, now);
        visits.proved(&home, ip(1));
        assert_eq!(order(now), [1, 3, 4, 2].map(ip));
        assert_eq!(order(now + ADDRESS_REMEMBERED), [1, 2, 3, 4].map(ip));
    }

    #[test]
    fn a_silent_host_lets_the_others_go_first_for_a_while() {
        let (visits, now) = (Visits::default(), Instant::now());
        let hosts = ["a.example", "b.example"].map(host);
        let [a, b] = &hosts;
        let first = |now| visits.order_hosts(&hosts, now)[0].clone();
        visits.host_in_vain(a, Vain::Answered, now);
        assert_eq!(first(now), *a);
        visits.host_in_vain(a, Vain::Silent, now);
        assert_eq!(first(now), *b);
        assert_eq!(first(now + HOST_REMEMBERED), *a);
        visits.proved(a, ip(1));
        assert_eq!(first(now), *a);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (visits, now) = (Visits::default(), Instant::now());
        for number in 0..2 * MAX_HOSTS {
            let host = host(&format!("h{number}.example"));
            visits.in_vain(&host, ip(1), Vain::Silent, now);
        }
        for last in 0..=255 {
            visits.in_vain(&host("h.example"), ip(last), Vain::Silent, now);
        }
        let known = visits.lock();
        assert!(known.len() <= MAX_HOSTS);
        assert_eq!(known[&host("h.example")].addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn the_greeting_s_five_minutes_are_shared_out() {
        for (spent, others, expected) in [
            (0, 0, 300),
            (0, 1, 30),
            (30, 0, 270),
            (0, 14, 20),
            (0, 63, 5),
            (295, 1, 5),
            (900, 0, 5),
        ] {
            let got = Patience::default().share(Duration::from_secs(spent), others);
            assert_eq!(got, Duration::from_secs(expected), "{spent} {others}");
        }
    }
}
