//! ETRN by clients that have not proved themselves: which of their requests take effect.
//!
//! # Invariants
//! A client's node takes effect at most once a second, and at least once a second. The table is bounded, and one
//! client fills only its own part of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;

const INTERVAL: Duration = Duration::from_secs(1);
const MAX_CLIENTS: usize = 10_000;
const MAX_NODES_PER_CLIENT: usize = 32;

/// What an anonymous ETRN asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// As it was asked for: a domain, `@domain`, `#queue` or a site's name.
    pub node: String,
    pub client: IpAddr,
}

/// What requests took effect within the last second.
#[derive(Debug, Default)]
pub struct ReleaseGate {
    clients: HashMap<IpAddr, HashMap<String, Timestamp>>,
}

/// Whether a request takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Release,
    /// Another one just did.
    Coalesced,
}

impl ReleaseGate {
    pub fn ask(&mut self, request: &ReleaseRequest, now: Timestamp) -> Effect {
        let client = network(request.client);
        if !self.clients.contains_key(&client) && self.clients.len() >= MAX_CLIENTS {
            self.forget(now);
            if self.clients.len() >= MAX_CLIENTS {
                return Effect::Coalesced;
            }
        }
        let nodes = self.clients.entry(client).or_default();
        nodes.retain(|_, at| is_recent(*at, now));
        let node = request.node.to_ascii_lowercase();
        if nodes.contains_key(&node) || nodes.len() >= MAX_NODES_PER_CLIENT {
            return Effect::Coalesced;
        }
        nodes.insert(node, now);
        Effect::Release
    }

    fn forget(&mut self, now: Timestamp) {
        self.clients.retain(|_, nodes| {
            nodes.retain(|_, at| is_recent(*at, now));
            !nodes.is_empty()
        });
    }
}

/// A wall clock that was set back must not make a request recent for ever.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.duration_since(at).unsigned_abs() < INTERVAL
}

/// A client has an IPv4 address, or a whole IPv6 /64.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: &str, node: &str) -> ReleaseRequest {
        ReleaseRequest {
            node: node.to_owned(),
            client: client.parse().unwrap(),
        }
    }

    #[test]
    fn one_a_second_takes_effect_for_each_client_and_node() {
        let mut gate = ReleaseGate::default();
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        for (client, node, ms, effect) in [
            ("192.0.2.1", "a.example", 0, Effect::Release),
            ("192.0.2.1", "A.example", 999, Effect::Coalesced),
            ("192.0.2.1", "b.example", 999, Effect::Release),
            ("192.0.2.2", "a.example", 999, Effect::Release),
            ("192.0.2.1", "a.example", 1000, Effect::Release),
            ("2001:db8::1", "a.example", 1000, Effect::Release),
            ("2001:db8::2", "a.example", 1000, Effect::Coalesced),
            ("192.0.2.1", "a.example", 500, Effect::Release),
        ] {
            assert_eq!(
                gate.ask(&request(client, node), at(ms)),
                effect,
                "{client} {node} {ms}"
            );
        }
    }

    #[test]
    fn a_client_with_many_names_uses_up_only_its_own() {
        let mut gate = ReleaseGate::default();
        let now = Timestamp::UNIX_EPOCH;
        let effects = (0..100).map(|n| gate.ask(&request("192.0.2.1", &format!("n{n}")), now));
        assert_eq!(effects.filter(|e| *e == Effect::Release).count(), 32);
        assert_eq!(gate.ask(&request("192.0.2.2", "n99"), now), Effect::Release);
    }
}
