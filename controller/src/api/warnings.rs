//! What was taken for a site and is probably not meant. Pure.

use std::net::IpAddr;
use std::time::Duration;

use dd_proto::site::{HostName, Schedule, Site};
use dd_proto::targets::TargetRules;
use dd_proto::units::format_duration;
use ipnet::IpNet;

use super::Context;
use super::order::forbidden_to_sites;
use crate::dsn::notice::can_be_told;

/// An interval shorter than this is worth a warning.
const OFTEN: Duration = Duration::from_secs(30);

/// One sentence each, after the site was added or changed from `before`.
pub(super) fn of(context: &Context, site: &Site, before: Option<&Site>) -> Vec<String> {
    let mut warnings = hosts(site, forbidden_to_sites(context));
    warnings.extend(contact(site));
    warnings.extend(schedule(&site.schedule));
    let others = context.registry.sites();
    warnings.extend(shared_certificate(site, others.iter().map(|it| &**it)));
    let old = before.and_then(|before| before.proof.certified());
    if let Some(old) = old.filter(|old| Some(*old) != site.proof.certified()) {
        let issued = context.registry.all_issued();
        let valid = issued.iter().filter(|it| {
            it.site == site.name
                && it.authority == old.authority
                && it.name == old.name
                && it.revoked.is_none()
                && !context.registry.is_retired(it)
        });
        warnings.extend(valid.map(|it| {
            format!(
                "the certificate {serial} for {} stays valid, for whoever gets that name next: `ddadm cert revoke {serial}` ends that",
                it.name,
                serial = it.serial_text(),
            )
        }));
    }
    warnings
}

/// A contact who can be told of nothing while the site is away.
fn contact(site: &Site) -> Option<String> {
    let contact = site.contact.as_ref()?;
    let wanted = site.schedule.outage_notice.is_some();
    (wanted && !can_be_told(site)).then(|| {
        format!("{contact} is at the site itself, and cannot be told when it is away: name a contact elsewhere with --contact")
    })
}

/// Times at which mail is tried more often than helps, or not often enough to get there.
fn schedule(schedule: &Schedule) -> Vec<String> {
    let (retry, lifetime) = (schedule.retry_interval, schedule.lifetime);
    let (every, ends) = (format_duration(retry), format_duration(lifetime));
    let often = (retry < OFTEN).then(|| {
        format!("while it is away it is tried every {every}: routers and mail servers may take that for an attack; the default is enough, and a wake-up is quicker than any interval")
    });
    let short = (lifetime <= retry).then(|| {
        format!("its mail goes back to the sender after {ends}, before it is tried a second time after {every}: choose a longer --lifetime, or a shorter --retry")
    });
    often.into_iter().chain(short).collect()
}

/// Hosts that are addresses to which agents connect only where they are told to.
fn hosts(site: &Site, forbid: Vec<IpNet>) -> Vec<String> {
    let rules = TargetRules {
        allow: Vec::new(),
        forbid,
    };
    let literal = |name: &HostName| -> Option<IpAddr> {
        match name {
            HostName::Address(address) => Some(*address),
            HostName::Dns(_) => None,
        }
    };
    let addresses = site.hosts.iter().filter_map(|host| literal(&host.name));
    addresses
        .filter_map(|address| rules.check(address, &site.allow_targets).err())
        .map(|why| {
            format!("no agent connects there unless [targets] of its agent.toml allows it: {why}")
        })
        .collect()
}

/// Another site whose certificate proves to be this one as well.
fn shared_certificate<'a>(site: &Site, others: impl Iterator<Item = &'a Site>) -> Option<String> {
    let certified = site.proof.certified()?;
    let mut others = others.filter(|other| other.name != site.name);
    let other = others.find(|other| other.proof.certified() == Some(certified))?;
    Some(format!(
        "the site `{}` proves itself by the same certificate name {} of the same authority: each of the two can stand in for the other",
        other.name, certified.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow;
    use dd_proto::site::{Certified, Host, Proof};

    fn site(name: &str, host: &str) -> Site {
        Site {
            hosts: vec![Host {
                name: HostName::Address(host.parse().unwrap()),
                port: 2525.try_into().unwrap(),
            }],
            ..inflow::closed(&format!("{name}.example").parse().unwrap())
        }
    }

    #[test]
    fn a_host_that_agents_refuse_is_warned_of() {
        let own: Vec<IpNet> = vec!["45.80.1.0/24".parse().unwrap()];
        for (host, says) in [
            ("87.100.1.2", None),
            ("10.0.0.1", Some("private")),
            ("45.80.1.10", Some("belongs to the provider itself")),
        ] {
            let warnings = hosts(&site("home", host), own.clone());
            match says {
                None => assert!(warnings.is_empty(), "{warnings:?}"),
                Some(says) => assert!(warnings[0].contains(says), "{warnings:?}"),
            }
        }
        let mut allowed = site("home", "10.0.0.1");
        allowed.allow_targets = vec!["10.0.0.0/8".parse().unwrap()];
        assert!(hosts(&allowed, own).is_empty());
    }

    #[test]
    fn times_that_cannot_be_meant_are_warned_of() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (retry, lifetime, says) in [
            (minutes(3), minutes(7200), None),
            (OFTEN, minutes(7200), None),
            (Duration::from_secs(29), minutes(7200), Some("every 29s")),
            (minutes(60), minutes(60), Some("after 1h, before")),
        ] {
            let mut site = site("home", "87.100.1.2");
            site.schedule.retry_interval = retry;
            site.schedule.lifetime = lifetime;
            let warnings = schedule(&site.schedule);
            assert_eq!(warnings.len(), says.iter().count(), "{warnings:?}");
            assert!(warnings.iter().all(|it| it.contains(says.unwrap())));
        }
    }

    #[test]
    fn a_certificate_that_two_sites_share_is_warned_of() {
        let with = |name: &str, certified: &str| {
            let mut site = site(name, "87.100.1.2");
            site.name = name.parse().unwrap();
            site.proof = Proof::Certificate(Certified {
                authority: "members".parse().unwrap(),
                name: certified.parse().unwrap(),
            });
            site
        };
        let (home, same, other) = (
            with("home", "home.example"),
            with("copy", "home.example"),
            with("other", "other.example"),
        );
        let all = [home.clone(), same, other.clone()];
        let warned = shared_certificate(&home, all.iter()).unwrap();
        assert!(warned.contains("`copy`"), "{warned}");
        assert_eq!(shared_certificate(&other, all.iter()), None);
    }
}
