//! Which addresses are one client, and which one network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who a client is to a limit: an IPv4 address, or a whole IPv6 /64, for that is what a home has.
pub(crate) fn host(client: IpAddr) -> IpAddr {
    masked(client, 32, 64)
}

/// The network around it: /24, or /48.
pub(crate) fn network(client: IpAddr) -> IpAddr {
    masked(client, 24, 48)
}

fn masked(client: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4))).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6))).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_hosts() {
        let ip = |text: &str| text.parse().unwrap();
        for (client, as_host, as_network) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            assert_eq!(host(ip(client)), ip(as_host));
            assert_eq!(network(ip(client)), ip(as_network));
        }
    }
}
