//! The proof `static-ip`: the address we are connected to is one of those listed for the site; and, where the record
//! asks for it, the certificate is the site's too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dd_proto::site;
use jiff::Timestamp;

use super::{Proof, Refusal, Seen, Terms, TlsUse, Verified, certificate};
use dd_proto::targets::same_host;

#[derive(Debug)]
pub(super) struct StaticIp;

impl Proof for StaticIp {
    fn kind(&self) -> &'static str {
        "static-ip"
    }

    fn tls(&self, terms: &Terms) -> TlsUse {
        match terms.proof.certified() {
            Some(_) => TlsUse::Needed,
            None => TlsUse::WhereOffered,
        }
    }

    fn rule(&self, terms: &Terms, seen: &Seen, now: Timestamp) -> Result<Verified, Refusal> {
        let address = seen.peer.ip().to_canonical();
        let site::Proof::StaticIp {
            addresses,
            certificate,
        } = &terms.proof
        else {
            return Err(Refusal::AddressNotListed { address });
        };
        if !is_listed(addresses, address) {
            return Err(Refusal::AddressNotListed { address });
        }
        if let Some(certified) = certificate {
            certificate::certified(certified, seen, now)?;
        }
        Ok(Verified::by(self.kind()))
    }
}

/// An IPv4-mapped peer is the IPv4 host, and so is one behind NAT64; the list is written in any form.
fn is_listed(listed: &BTreeSet<IpAddr>, address: IpAddr) -> bool {
    let address = same_host(address);
    listed.iter().any(|listed| same_host(*listed) == address)
}

/// The addresses at which the site can be proved, in the order in which they came. With `static-ip` those are the
/// listed ones; where none is, all are tried, so that people are told who answers there.
pub(crate) fn may_be_proved(terms: &Terms, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let site::Proof::StaticIp {
        addresses: list, ..
    } = &terms.proof
    else {
        return addresses;
    };
    let (listed, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|it| is_listed(list, *it));
    match listed.is_empty() {
        true => others,
        false => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::TlsSeen;
    use super::super::tests::{seen_at, terms};
    use super::*;

    #[test]
    fn only_a_listed_address_is_proved() {
        let terms = terms(site::Proof::StaticIp {
            addresses: ["192.0.2.7", "2001:db8::7"]
                .map(|a| a.parse().unwrap())
                .into(),
            certificate: None,
        });
        for (peer, proved) in [
            ("192.0.2.7", true),
            ("2001:db8::7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::8", false),
            ("::192.0.2.7", false),
            // Behind NAT64 (RFC 6052) it is the listed host; behind 6to4 it is one of many in that host's network.
            ("64:ff9b::c000:207", true),
            ("64:ff9b::c000:208", false),
            ("2002:c000:207::1", false),
        ] {
            let seen = seen_at(peer, 25, TlsSeen::NotOffered);
            let ruling = StaticIp.rule(&terms, &seen, Timestamp::UNIX_EPOCH);
            assert_eq!(ruling.is_ok(), proved, "{peer}");
        }
    }
    #[test]
    fn listed_addresses_are_tried_alone_where_there_are_any() {
        let terms = terms(site::Proof::StaticIp {
            addresses: ["192.0.2.7", "192.0.2.8"]
                .map(|a| a.parse().unwrap())
                .into(),
            certificate: None,
        });
        let of = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>();
        for (found, tried) in [
            (
                &["192.0.2.9", "64:ff9b::c000:208", "192.0.2.7"][..],
                &["64:ff9b::c000:208", "192.0.2.7"][..],
            ),
            (&["192.0.2.9"], &["192.0.2.9"]),
            (&[], &[]),
        ] {
            assert_eq!(may_be_proved(&terms, of(found)), of(tried));
        }
    }
}
