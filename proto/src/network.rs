//! A network as people write it: the one rule for every place that reads one.
//!
//! # Invariants
//! An address with a length, such as `192.168.1.7/24`, is refused and not cut: whoever wrote it may have meant that address
//! alone, or the network, and one of them trusts 255 hosts more than the other.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// One that was written by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// Why a text names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("expected a network such as 192.0.2.0/24, or an IP address")]
    Unreadable,
    #[error(
        "an address within a network: write {network} for the network, or {address} for that address alone"
    )]
    HostBits { network: IpNet, address: IpAddr },
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let read: IpNet = text.parse().map_err(|_| NetworkError::Unreadable)?;
        let network = read.trunc();
        match network == read {
            true => Ok(Self(network)),
            false => Err(NetworkError::HostBits {
                network,
                address: read.addr(),
            }),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_taken_as_it_was_meant_or_refused_with_both_meanings() {
        for (text, expected) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            let read: Network = text.parse().unwrap();
            assert_eq!(read.0.to_string(), expected);
        }
        for (text, said) in [
            (
                "192.168.1.7/24",
                "192.168.1.0/24 for the network, or 192.168.1.7 for",
            ),
            (
                "2001:db8::1/64",
                "2001:db8::/64 for the network, or 2001:db8::1 for",
            ),
            ("192.0.2.0/33", "expected a network such as 192.0.2.0/24"),
            ("home", "expected a network"),
        ] {
            let refused = text.parse::<Network>().unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
