//! Which addresses a site may lie at, so that a DynDNS name cannot be pointed inward.
//!
//! Pure: a table of networks that are not global unicast, minus what the provider forbids, plus what it allows.
//!
//! # Invariants
//! What is embedded in an IPv6 address (IPv4-mapped, NAT64, 6to4) is judged by the IPv4 address it stands for as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Special-purpose networks (IANA registries, RFC 6890) in which no mail server of a member can be reached.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier's NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
];

/// The one IPv6 block from which global unicast is assigned (RFC 4291, IANA), and the NAT64 prefix.
const GLOBAL_V6: &[&str] = &["2000::/3", "64:ff9b::/96"];

/// An address that no connection is made to, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error(
        "{0} is no public address ({1}); if the site really lies there, allow it with --allow-target"
    )]
    Special(IpAddr, &'static str),
    #[error("{0} belongs to the provider itself (network {1})")]
    Own(IpAddr, IpNet),
}

/// The rules of one agent.
#[derive(Debug, Clone, Default)]
pub struct TargetRules {
    /// Networks allowed although a rule forbids them.
    pub allow: Vec<IpNet>,
    /// Networks forbidden besides the built-in ones: configuration and Welcome.
    pub forbid: Vec<IpNet>,
}

impl TargetRules {
    /// # Errors
    /// Why no connection is made to `address`. `site_allows` are the site's own exceptions.
    pub fn check(&self, address: IpAddr, site_allows: &[IpNet]) -> Result<(), Forbidden> {
        for ip in meanings(address) {
            let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&ip));
            if within(site_allows) || within(&self.allow) {
                continue;
            }
            if let Some(why) = special(ip) {
                return Err(Forbidden::Special(address, why));
            }
            if let Some(network) = self.forbid.iter().find(|network| network.contains(&ip)) {
                return Err(Forbidden::Own(address, *network));
            }
        }
        Ok(())
    }
}

/// The addresses that a packet to `address` may end at.
fn meanings(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else {
        return vec![address];
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return vec![v4.into()];
    }
    let mut ips = vec![address];
    ips.extend(embedded(v6).map(IpAddr::from));
    ips
}

/// The one host that is connected to by way of `address`, in the form in which hosts are compared: behind NAT64 an IPv4
/// host is reached at an address that only wraps its own. What 6to4 embeds is a network's router, not the host.
pub fn same_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => nat64(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

/// RFC 6052 §2.1.
fn nat64(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.octets() {
        [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.octets() {
        // RFC 3056 §2.
        [0x20, 0x02, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => nat64(v6),
    }
}

fn special(ip: IpAddr) -> Option<&'static str> {
    let net = |text: &str| -> IpNet {
        text.parse()
            .expect("the tables hold networks; a test parses them")
    };
    if let Some((_, why)) = SPECIAL.iter().find(|(text, _)| net(text).contains(&ip)) {
        return Some(why);
    }
    let outside = ip.is_ipv6() && !GLOBAL_V6.iter().any(|text| net(text).contains(&ip));
    outside.then_some("not global unicast")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &TargetRules, ip: &str, allows: &[&str]) -> &'static str {
        let allows: Vec<IpNet> = allows.iter().map(|n| n.parse().unwrap()).collect();
        match rules.check(ip.parse().unwrap(), &allows) {
            Ok(()) => "allowed",
            Err(Forbidden::Special(..)) => "special",
            Err(Forbidden::Own(..)) => "own",
        }
    }

    #[test]
    fn only_global_unicast_outside_the_provider_is_a_target() {
        let rules = TargetRules {
            allow: vec!["10.9.0.0/16".parse().unwrap()],
            forbid: vec![
                "193.99.144.0/24".parse().unwrap(),
                "2a01:db9::/32".parse().unwrap(),
            ],
        };
        for (ip, verdict) in [
            ("8.8.8.8", "allowed"),
            ("193.99.145.1", "allowed"),
            ("193.99.144.80", "own"),
            ("::ffff:193.99.144.80", "own"),
            ("64:ff9b::c163:9050", "own"),
            ("2a01:db9::1", "own"),
            ("2a00:1450::1", "allowed"),
            ("0.0.0.0", "special"),
            ("10.0.0.1", "special"),
            ("10.9.0.1", "allowed"),
            ("100.64.0.1", "special"),
            ("100.128.0.1", "allowed"),
            ("127.0.0.1", "special"),
            ("127.255.0.1", "special"),
            ("169.254.169.254", "special"),
            ("172.15.0.1", "allowed"),
            ("172.31.255.255", "special"),
            ("192.0.2.1", "special"),
            ("192.168.1.1", "special"),
            ("198.19.0.1", "special"),
            ("224.0.0.1", "special"),
            ("255.255.255.255", "special"),
            ("::", "special"),
            ("::1", "special"),
            ("::127.0.0.1", "special"),
            ("::ffff:127.0.0.1", "special"),
            ("::ffff:8.8.8.8", "allowed"),
            ("64:ff9b::7f00:1", "special"),
            ("64:ff9b::808:808", "allowed"),
            ("64:ff9b:1::1", "special"),
            ("2002:7f00:1::1", "special"),
            ("2002:808:808::1", "allowed"),
            ("2001:db8::1", "special"),
            ("2001::1", "special"),
            ("3fff::1", "special"),
            ("fc00::1", "special"),
            ("fe80::1", "special"),
            ("ff02::1", "special"),
        ] {
            assert_eq!(check(&rules, ip, &[]), verdict, "{ip}");
        }
    }

    #[test]
    fn a_site_may_allow_what_the_rules_forbid_for_itself() {
        let rules = TargetRules::default();
        assert_eq!(check(&rules, "127.0.0.1", &["127.0.0.0/8"]), "allowed");
        assert_eq!(
            check(&rules, "::ffff:127.0.0.1", &["127.0.0.0/8"]),
            "allowed"
        );
        assert_eq!(check(&rules, "::1", &["127.0.0.0/8"]), "special");
    }
}
