//! `agent.toml`: text in, a checked configuration out. Every key and every default stands here.
//!
//! # Invariants
//! Unknown keys, bad values and unreadable files are refused with file, line and what is expected.

#[cfg(test)]
mod reference;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::name::AgentName;
use dd_proto::units::parse_duration;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The toml error names line and column and shows the line.
    #[error("{path}: {source}", path = path.display())]
    Invalid {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{path}: `{key}` {expected}", path = path.display())]
    Value {
        path: PathBuf,
        key: &'static str,
        expected: &'static str,
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
    pub controller: String,
    /// The outbound addresses it binds; members open their firewalls to them.
    pub addresses: Vec<IpAddr>,
    #[serde(deserialize_with = "parsed")]
    pub helo: Domain,
    /// Handoffs that move at once.
    #[serde(default = "default_slots")]
    pub slots: u32,
    /// Connects, openings and silent handoffs that may hang at once.
    #[serde(default = "default_probes")]
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
    pub allow: Vec<IpNet>,
    pub forbid: Vec<IpNet>,
}

/// How names are resolved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Empty: the system's.
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
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let value = |key, expected| ConfigError::Value {
            path: path.to_owned(),
            key,
            expected,
        };
        if config.addresses.is_empty() {
            return Err(value("addresses", "needs at least one outbound address"));
        }
        if !config.controller.starts_with("https://") {
            return Err(value(
                "controller",
                "must be a URL such as \"https://controller.example.net:7443\"",
            ));
        }
        if config.slots == 0 || config.slots > 65_536 {
            return Err(value("slots", "must be between 1 and 65536"));
        }
        if config.probes == 0 || config.probes > 1_000_000 {
            return Err(value("probes", "must be between 1 and 1000000"));
        }
        Ok(config)
    }
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
            ("probes ", "prubes ", "line 8"),
            ("slots      = 64", "slots      = \"x\"", "line 7"),
            ("\"1m\"", "\"1 minute\"", "expected one such as"),
            (
                "\"192.0.2.10\", \"2001:db8::10\"",
                "",
                "at least one outbound address",
            ),
            ("https://", "http://", "must be a URL"),
            ("\"out1\"", "\"out 1\"", "is no name"),
            ("= 4096", "= 0", "between 1 and"),
        ] {
            let text = WHOLE.replace(from, to);
            assert_ne!(text, WHOLE, "{from}");
            let error = Config::parse(&text, Path::new("agent.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("agent.toml: ") && error.contains(says),
                "{error}"
            );
        }
    }
}
