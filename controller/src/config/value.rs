//! Single values of the configuration: each is checked where it is read, so that its line can be named.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::network::Network;
use dd_proto::site::HostName;
use dd_proto::smtp::data::StrayCrLf;
use dd_proto::units::{OutageNotice, format_duration, format_size, parse_duration, parse_size};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Below this much free space intake takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// Of the whole file system, 0 to 50; at least 64 MiB.
    Percent(u8),
    Bytes(u64),
}

impl<'de> Deserialize<'de> for MinFree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let percent = |number: &str| number.parse().ok().filter(|p| *p <= 50).map(Self::Percent);
        text.strip_suffix('%')
            .map_or_else(|| parse_size(&text).ok().map(Self::Bytes), percent)
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "`{}`: expected a share such as \"1%\" (at most 50%), or a size such as \"2G\"",
                    text.escape_debug()
                ))
            })
    }
}

/// Where notifications leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smarthost {
    pub host: HostName,
    pub port: NonZeroU16,
}

/// Why a text is no smarthost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT such as smtp.example.net:25")]
pub struct SmarthostError;

impl FromStr for Smarthost {
    type Err = SmarthostError;

    fn from_str(text: &str) -> Result<Self, SmarthostError> {
        let (host, port) = text.rsplit_once(':').ok_or(SmarthostError)?;
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let host = match address.parse::<IpAddr>() {
            Ok(address) => HostName::Address(address),
            Err(_) => HostName::Dns(host.parse().map_err(|_| SmarthostError)?),
        };
        Ok(Self {
            host,
            port: port.parse().map_err(|_| SmarthostError)?,
        })
    }
}

pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

/// RFC 5321 §4.1.2: what stands behind EHLO and in `Received` is letters, digits and hyphens; other servers refuse the rest.
pub(super) fn hostname<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Domain, D::Error> {
    let name: Domain = parsed(deserializer)?;
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        bytes.iter().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    match name.as_str().split('.').all(is_label) {
        true => Ok(name),
        false => Err(D::Error::custom(format!(
            "`{name}`: expected a host name of letters, digits and hyphens such as mail.example.net"
        ))),
    }
}

pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    parsed(deserializer).map(Some)
}

/// One text or a list of them, each with what is expected of it, which the parsers of the standard library do not say.
fn each<'de, D, T>(deserializer: D, expected: &'static str) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    deserializer.deserialize_any(OneOrList {
        expected,
        of: PhantomData::<T>,
    })
}

struct OneOrList<T> {
    expected: &'static str,
    of: PhantomData<T>,
}

impl<T: FromStr> OneOrList<T> {
    fn parse<E: serde::de::Error>(&self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| {
            let shown = text.escape_debug();
            E::custom(format!("`{shown}`: expected {}", self.expected))
        })
    }
}

impl<'de, T: FromStr> Visitor<'de> for OneOrList<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, or a list of them", self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        self.parse(text).map(|it| vec![it])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            all.push(self.parse::<A::Error>(&text)?);
        }
        Ok(all)
    }
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts: Vec<String> = each(deserializer, "a network such as 192.0.2.0/24")?;
    let read = |text: &String| {
        let network: Result<Network, _> = text.parse();
        network.map(|it| it.0).map_err(|error| {
            let shown = text.escape_debug();
            D::Error::custom(format!("`{shown}`: {error}"))
        })
    };
    texts.iter().map(read).collect()
}

/// Names by which a server calls itself: RFC 8601 §2.5 has a domain or any word, and case makes no difference.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Id(String);
    impl FromStr for Id {
        type Err = ();
        fn from_str(text: &str) -> Result<Self, ()> {
            let word = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b);
            let good = !text.is_empty() && text.bytes().all(word);
            good.then(|| Self(text.to_owned())).ok_or(())
        }
    }
    let all = each::<D, Id>(deserializer, "a name such as mx.example.net")?;
    Ok(all.into_iter().map(|it| it.0).collect())
}

/// What is listened on; none where the list is empty.
pub(super) fn listeners<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    each(deserializer, LISTENER)
}

const LISTENER: &str = "an address and a port such as 0.0.0.0:25";

/// What is listened on: one address or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = listeners(deserializer)?;
        match all.is_empty() {
            true => Err(D::Error::custom("expected at least one address")),
            false => Ok(Self(all)),
        }
    }
}

pub(super) fn listen<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    Listen::deserialize(deserializer).map(|it| it.0)
}

/// RFC 6454 §4: scheme, host and port, as a URL begins with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub String);

/// Why a text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a URL such as https://mail.example.net or https://mail.example.net:8443, without a path"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (scheme, usual, rest) = [("https", ":443"), ("http", ":80")]
            .into_iter()
            .find_map(|(scheme, port)| {
                let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
                Some((scheme, port, rest))
            })
            .ok_or(OriginError)?;
        let authority = rest.strip_suffix(usual).unwrap_or(rest);
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => {
                let _: NonZeroU16 = port.parse().map_err(|_| OriginError)?;
                host
            }
            _ => authority,
        };
        let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let good = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => host.parse::<Domain>().is_ok() || host.parse::<Ipv4Addr>().is_ok(),
        };
        match good {
            true => Ok(Self(format!(
                "{scheme}://{}",
                authority.to_ascii_lowercase()
            ))),
            false => Err(OriginError),
        }
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn outage_notice<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    parsed::<D, OutageNotice>(deserializer).map(|it| it.0)
}

/// Days are files, so that more of them cost nothing but room; less than an hour answers no question.
pub(super) fn keep<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    const LEAST: Duration = Duration::from_secs(3600);
    const MOST: Duration = Duration::from_secs(366 * 86_400);
    let keep = duration(deserializer)?;
    match (LEAST..=MOST).contains(&keep) {
        true => Ok(keep),
        false => Err(D::Error::custom(format!(
            "{}: expected a time between 1h and 366d",
            format_duration(keep)
        ))),
    }
}

pub(super) fn stray_cr_lf<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<StrayCrLf, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "refuse" => Ok(StrayCrLf::Refuse),
        "space" => Ok(StrayCrLf::Space),
        other => Err(D::Error::custom(format!(
            "`{}`: expected \"refuse\" or \"space\"",
            other.escape_debug()
        ))),
    }
}

pub(super) fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = whole(deserializer, 1, 20)?;
    u8::try_from(number).map_err(D::Error::custom)
}

pub(super) fn sessions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = whole(deserializer, 1, 1_000_000)?;
    usize::try_from(number).map_err(D::Error::custom)
}

fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: i64,
    most: i64,
) -> Result<i64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(D::Error::custom(format!(
        "{number}: expected a number between {least} and {most}"
    )))
}

pub(super) fn message_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    // RFC 5321 §4.5.3.1.7: at least 64K octets.
    size(deserializer, 64 << 10, 4 << 30)
}

pub(super) fn segment_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    size(deserializer, 1 << 20, 1 << 30)
}

pub(super) fn buffer_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = size(deserializer, 1 << 20, 64 << 30)?;
    usize::try_from(bytes).map_err(D::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: u64,
    most: u64,
) -> Result<u64, D::Error> {
    let bytes = deserializer.deserialize_any(SizeVisitor)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    Err(D::Error::custom(format!(
        "{bytes} bytes: expected a size between {} and {}",
        format_size(least),
        format_size(most)
    )))
}

/// Bytes as a number, or a text with a unit.
struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as 52428800 or \"50M\"")
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::custom(format!("{bytes}: a size is not negative")))
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        parse_size(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for (text, expected) in [
            ("https://mail.example.net", Some("https://mail.example.net")),
            (
                "https://mail.example.net/",
                Some("https://mail.example.net"),
            ),
            (
                "https://MAIL.example.net:443",
                Some("https://mail.example.net"),
            ),
            (
                "https://mail.example.net:8443",
                Some("https://mail.example.net:8443"),
            ),
            ("http://192.0.2.1:80", Some("http://192.0.2.1")),
            ("https://[2001:db8::1]", Some("https://[2001:db8::1]")),
            (
                "https://[2001:db8::1]:8443",
                Some("https://[2001:db8::1]:8443"),
            ),
            ("https://[192.0.2.1]", None),
            ("https://mail.example.net/portal", None),
            ("https://mail.example.net:0", None),
            ("https://user@mail.example.net", None),
            ("ftp://mail.example.net", None),
            ("mail.example.net", None),
            ("https://", None),
            ("", None),
        ] {
            let origin = text.parse::<Origin>().ok().map(|it| it.0);
            assert_eq!(origin.as_deref(), expected, "{text}");
        }
    }
}
