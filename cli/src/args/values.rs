//! Values that have no type of their own in the domain: a host whose port may be missing, and times as people write
//! them.

use std::net::IpAddr;
use std::num::NonZeroU16;

use dd_proto::id::MessageId;
use dd_proto::network::{Network, NetworkError};
use dd_proto::path::Mailbox;
use dd_proto::site::HostName;
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A host as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostArg {
    pub(crate) name: HostName,
    pub(crate) port: Option<NonZeroU16>,
}

/// Messages as they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdArg {
    Id(MessageId),
    /// More of them are on standard input.
    Stdin,
}

/// Why a value is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("expected a DNS name or an IP address, with :PORT where it is not --port")]
    Host,
    #[error(
        "expected a port from 1 to 65535 behind the colon, and brackets around an IPv6 address"
    )]
    Port,
    #[error("expected a full address such as user@example.net")]
    Mailbox,
    #[error(
        "expected the ID that `queued as` or `ddadm queue list` says, 32 hexadecimal digits, or `-`"
    )]
    Id,
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(
        "expected 2026-12-24, 2026-12-24T18:00 (local time) or RFC 3339 such as 2026-12-24T18:00:00Z"
    )]
    Time,
}

pub(crate) fn host(text: &str) -> Result<HostArg, ValueError> {
    // A bare IPv6 address is full of colons, none of which begins a port.
    if let Ok(address) = text.parse() {
        return Ok(HostArg {
            name: HostName::Address(address),
            port: None,
        });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(ValueError::Host)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| ValueError::Host)?;
        return Ok(HostArg {
            name: HostName::Address(address.into()),
            port: match rest {
                "" => None,
                rest => Some(port(rest.strip_prefix(':').ok_or(ValueError::Host)?)?),
            },
        });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, text)) => (name, Some(port(text)?)),
        None => (text, None),
    };
    let name = match name.parse::<IpAddr>() {
        Ok(address) => HostName::Address(address),
        Err(_) => HostName::Dns(name.parse().map_err(|_| ValueError::Host)?),
    };
    Ok(HostArg { name, port })
}

fn port(text: &str) -> Result<NonZeroU16, ValueError> {
    // `NonZeroU16::from_str` would take a sign.
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().map_err(|_| ValueError::Port),
        false => Err(ValueError::Port),
    }
}

pub(crate) fn id(text: &str) -> Result<IdArg, ValueError> {
    match text {
        "-" => Ok(IdArg::Stdin),
        text => text.parse().map(IdArg::Id).map_err(|_| ValueError::Id),
    }
}

pub(crate) fn mailbox(text: &str) -> Result<Mailbox, ValueError> {
    let mailbox: Mailbox = text.parse().map_err(|_| ValueError::Mailbox)?;
    match mailbox.domain() {
        Some(_) => Ok(mailbox),
        None => Err(ValueError::Mailbox),
    }
}

pub(crate) fn network(text: &str) -> Result<IpNet, ValueError> {
    let network: Network = text.parse()?;
    Ok(network.0)
}

/// A time that says its offset, or one (or the beginning of a day) in this machine's time zone.
pub(crate) fn time(text: &str) -> Result<Timestamp, ValueError> {
    time_in(text, &TimeZone::system())
}

fn time_in(text: &str, zone: &TimeZone) -> Result<Timestamp, ValueError> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let local = match text.parse::<Date>() {
        Ok(date) if !text.contains(['T', 't', ' ']) => date.at(0, 0, 0, 0),
        _ => text.parse::<DateTime>().map_err(|_| ValueError::Time)?,
    };
    zone.to_timestamp(local).map_err(|_| ValueError::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        for (text, name, port) in [
            ("home.dyndns.example", "home.dyndns.example", None),
            (
                "home.dyndns.example:2525",
                "home.dyndns.example",
                Some(2525),
            ),
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:26", "192.0.2.1", Some(26)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:26", "2001:db8::1", Some(26)),
        ] {
            let host = host(text).unwrap();
            let shown = match &host.name {
                HostName::Dns(name) => name.to_string(),
                HostName::Address(ip) => ip.to_string(),
            };
            assert_eq!(
                (shown.as_str(), host.port.map(NonZeroU16::get)),
                (name, port),
                "{text}"
            );
        }
        for bad in [
            "",
            ":25",
            "h:",
            "h:0",
            "h:65536",
            "h:+25",
            "h:25:26",
            "[2001:db8::1",
            "[192.0.2.1]:25",
            "[2001:db8::1]25",
            "a b",
            "h/25",
        ] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, utc) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+02:00", "2026-12-24T16:00:00Z"),
            ("2026-12-24T18:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24 18:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24", "2026-12-23T23:00:00Z"),
        ] {
            assert_eq!(time_in(text, &zone).unwrap().to_string(), utc, "{text}");
        }
        for bad in ["", "soon", "18:00", "2026-13-24", "24.12.2026"] {
            assert_eq!(time_in(bad, &zone), Err(ValueError::Time), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("127.0.0.1").unwrap().to_string(), "127.0.0.1/32");
        assert_eq!(network("fd00::/8").unwrap().to_string(), "fd00::/8");
        assert_eq!(
            network("localhost"),
            Err(ValueError::Network(NetworkError::Unreadable))
        );
        let refused = network("192.168.1.7/24").unwrap_err().to_string();
        assert!(refused.contains("write 192.168.1.0/24"), "{refused}");
    }
}
