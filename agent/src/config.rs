//! `agent.toml`: text in, a checked configuration out. Every key and every default stands here.
//!
//! # Invariants
//! Unknown keys, bad values and unreadable files are refused with file, line and what is expected.

#[cfg(test)]
mod reference;

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::name::AgentName;
use dd_proto::network::Network;
use dd_proto::units::parse_duration;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Unexpected, Visitor};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read: {cause}", path = path.display())]
    Unreadable {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("{path}:{line}: {message}", path = path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        message: String,
    },
}

/// What an agent is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(deserialize_with = "parsed")]
    pub name: AgentName,
    pub state_dir: PathBuf,
    /// `https://host:port`.
    #[serde(deserialize_with = "url")]
    pub controller: String,
    /// The outbound addresses it binds; members open their firewalls to them.
    #[serde(deserialize_with = "addresses")]
    pub addresses: Vec<IpAddr>,
    #[serde(deserialize_with = "parsed")]
    pub helo: Domain,
    /// Handoffs that move at once.
    #[serde(default = "default_slots", deserialize_with = "slots")]
    pub slots: u32,
    /// Connects, openings and silent handoffs that may hang at once.
    #[serde(default = "default_probes", deserialize_with = "probes")]
    pub probes: u32,
    #[serde(default)]
    pub targets: Targets,
    #[serde(default)]
    pub dns: Dns,
}

/// Where sites may lie.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Networks permitted although the built-in rules forbid them.
    #[serde(deserialize_with = "networks")]
    pub allow: Vec<IpNet>,
    #[serde(deserialize_with = "networks")]
    pub forbid: Vec<IpNet>,
}

/// How names are resolved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Empty: the system's.
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<SocketAddr>,
    #[serde(deserialize_with = "duration")]
    pub max_ttl: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            max_ttl: Duration::from_secs(60),
        }
    }
}

fn default_slots() -> u32 {
    64
}

fn default_probes() -> u32 {
    4096
}

impl Config {
    /// # Errors
    /// The file is unreadable, or something in it is not as expected.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let offset = error.span().map_or(0, |span| span.start);
            ConfigError::Invalid {
                path: path.to_owned(),
                line: line_of(text, offset),
                message: error.message().trim().replace('\n', ", "),
            }
        })
    }
}

/// Counts from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

/// Each with what is expected of it, which the parsers of the standard library do not say.
struct Each<T> {
    expected: &'static str,
    of: PhantomData<T>,
}

impl<'de, T: FromStr> Visitor<'de> for Each<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of strings, each {}", self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = texts.next_element::<String>()? {
            all.push(text.parse().map_err(|_| {
                let shown = dd_proto::excerpt::of(&text);
                A::Error::custom(format!("`{shown}`: expected {}", self.expected))
            })?);
        }
        Ok(all)
    }
}

fn each<'de, D, T>(deserializer: D, expected: &'static str) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    deserializer.deserialize_seq(Each {
        expected,
        of: PhantomData,
    })
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let expected = "an IP address such as \"192.0.2.10\"";
    let addresses: Vec<IpAddr> = each(deserializer, expected)?;
    match addresses.is_empty() {
        true => Err(D::Error::custom(
            "expected at least one outbound address such as \"192.0.2.10\"",
        )),
        false => Ok(addresses),
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts: Vec<String> = each(deserializer, "a network such as \"192.0.2.0/24\"")?;
    let read = |text: &String| {
        let network: Result<Network, _> = text.parse();
        network.map(|it| it.0).map_err(|error| {
            let shown = dd_proto::excerpt::of(text);
            D::Error::custom(format!("`{shown}`: {error}"))
        })
    };
    texts.iter().map(read).collect()
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    each(
        deserializer,
        "an address and a port such as \"127.0.0.1:53\"",
    )
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    match is_controller(&url) {
        true => Ok(url),
        false => {
            let shown = dd_proto::excerpt::of(&url);
            Err(D::Error::custom(format!(
                "`{shown}`: expected a URL with the port of the controller's `[control] listen`, such as \"https://controller.example.net:7443\""
            )))
        }
    }
}

/// A name or an address with a port, which has no default: 443 is the port of some other server, which would be asked again
/// and again for nothing.
fn is_controller(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("https://") else {
        return false;
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let in_a_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(in_a_name)
        }
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn slots<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    between(deserializer, 65_536)
}

fn probes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    between(deserializer, 1_000_000)
}

/// A number from 1 to this.
struct UpTo(u32);

impl Visitor<'_> for UpTo {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number between 1 and {}", self.0)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u32, E> {
        let fits = u32::try_from(number).ok();
        let fits = fits.filter(|fits| (1..=self.0).contains(fits));
        fits.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

fn between<'de, D: Deserializer<'de>>(deserializer: D, most: u32) -> Result<u32, D::Error> {
    deserializer.deserialize_i64(UpTo(most))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name       = "out1"
state_dir  = "/var/lib/dd-agent"
controller = "https://controller.example.net:7443"
addresses  = ["192.0.2.10", "2001:db8::10"]
helo       = "out1.example.net"
slots      = 64
probes     = 4096
[targets]
allow  = ["127.0.0.0/8"]
forbid = []
[dns]
servers = ["127.0.0.1:53"]
max_ttl = "1m"
"#;

    #[test]
    fn every_key_of_the_contract_is_read() {
        let config = Config::parse(WHOLE, Path::new("agent.toml")).unwrap();
        assert_eq!(config.addresses.len(), 2);
        assert_eq!(config.targets.allow.len(), 1);
        assert_eq!(config.dns.max_ttl, Duration::from_secs(60));
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_what_is_expected() {
        for (from, to, says) in [
            ("probes ", "prubes ", "agent.toml:8: unknown field `prubes`"),
            ("slots      = 64", "slots      = \"x\"", "agent.toml:7: "),
            ("\"1m\"", "\"1 minute\"", "expected one such as"),
            (
                "\"192.0.2.10\", \"2001:db8::10\"",
                "",
                "at least one outbound address",
            ),
            ("https://", "http://", "expected a URL with the port"),
            (":7443", "", "expected a URL with the port"),
            (":7443", ":7443/etrn", "expected a URL with the port"),
            (
                "\"127.0.0.0/8\"",
                "\"192.168.1.7/24\"",
                "write 192.168.1.0/24 for the network, or 192.168.1.7 for",
            ),
            (
                "\"192.0.2.10\",",
                "\"192.0.2\",",
                "agent.toml:5: `192.0.2`: expected an IP address",
            ),
            (
                "\"127.0.0.0/8\"",
                "\"loopback\"",
                "expected a network such as",
            ),
            (
                "[\"127.0.0.1:53\"]",
                "\"127.0.0.1:53\"",
                "expected a list of strings",
            ),
            ("\"out1\"", "\"out 1\"", "is no name"),
            ("= 4096", "= 0", "between 1 and"),
        ] {
            let text = WHOLE.replace(from, to);
            assert_ne!(text, WHOLE, "{from}");
            let error = Config::parse(&text, Path::new("agent.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("agent.toml:") && error.contains(says),
                "{error}"
            );
        }
    }
}
