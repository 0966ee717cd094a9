//! The addresses that a DynDNS client reports: one of each family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// At most one address of each family; shown, never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Reported {
    /// From values as clients send them: lists with commas, prefixes behind a slash, brackets, a second URL behind a
    /// blank. Of each family the first counts; what is no address is passed over.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut reported = Self::default();
        for value in values {
            let value = value.split_whitespace().next().unwrap_or_default();
            for part in value.split(',') {
                let part = part.split('/').next().unwrap_or_default();
                let part = part.trim_start_matches('[').trim_end_matches(']');
                if let Some(address) = address(part) {
                    reported.add(address);
                }
            }
        }
        reported
    }

    /// What is reported by whoever reports nothing: where the call came from.
    pub(super) fn or(self, client: IpAddr) -> Self {
        let mut reported = self;
        if reported == Self::default() {
            reported.add(client);
        }
        reported
    }

    fn add(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(address) => _ = self.v4.get_or_insert(address),
            IpAddr::V6(address) => _ = self.v6.get_or_insert(address),
        }
    }
}

/// An address as routers write it: numbers of IPv4 may be filled up with zeros, and are decimal all the same.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let numbers: Option<Vec<&str>> = text.split('.').map(without_zeros).collect();
        numbers?.join(".").parse().map(IpAddr::V4).ok()
    })
}

fn without_zeros(number: &str) -> Option<&str> {
    let last = number.len().checked_sub(1)?;
    let zeros = number.bytes().take(last).take_while(|it| *it == b'0');
    number.get(zeros.count()..)
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4},{v6}"),
            (Some(v4), None) => v4.fmt(f),
            (None, Some(v6)) => v6.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_clients_write_them() {
        let client: IpAddr = "192.0.2.99".parse().unwrap();
        for (values, expected) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            (&["192.0.2.7,2001:db8::1"], "192.0.2.7,2001:db8::1"),
            (&["2001:db8::1,192.0.2.7"], "192.0.2.7,2001:db8::1"),
            (&["192.0.2.7,"], "192.0.2.7"),
            (&["192.0.2.7", "2001:db8::1/64"], "192.0.2.7,2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (
                &["192.0.2.7 https://dyn.example/?ip=192.0.2.8"],
                "192.0.2.7",
            ),
            (&["192.0.2.7", "192.0.2.8"], "192.0.2.7"),
            (&["198.51.100.007"], "198.51.100.7"),
            (&["198.051.000.010"], "198.51.0.10"),
            (&["198.51.100..7"], "192.0.2.99"),
            (&["198.51.100.0777"], "192.0.2.99"),
            (&["<b>"], "192.0.2.99"),
            (&[""], "192.0.2.99"),
            (&[], "192.0.2.99"),
        ] {
            let reported = Reported::parse(values.iter().copied()).or(client);
            assert_eq!(reported.to_string(), expected, "{values:?}");
        }
    }
}
