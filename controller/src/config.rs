//! `controller.toml`: text in, a checked configuration out. Every key and every default stands here.
//!
//! # Invariants
//! Unknown keys, bad values and unreadable files are refused with file, line and what is expected. What was read once
//! needs no second check.

pub mod effective;
mod notify;
#[cfg(test)]
mod reference;
mod value;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::path::Mailbox;
use dd_proto::site::Schedule;
use dd_proto::smtp::data::StrayCrLf;
use ipnet::IpNet;
use serde::Deserialize;

pub use value::{Listen, MinFree, Origin, Smarthost};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Says its cause itself, once.
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

/// What a controller is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Our name in greetings, `Received` and notifications.
    #[serde(deserialize_with = "value::hostname")]
    pub hostname: Domain,
    pub state_dir: PathBuf,
    #[serde(default)]
    pub intake: Intake,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub control: Control,
    pub web: Option<Web>,
    pub metrics: Option<Metrics>,
    #[serde(default)]
    pub notify: Notify,
    #[serde(default)]
    pub site_defaults: SiteDefaults,
    #[serde(default)]
    pub history: History,
}

/// Who may hand us mail, and how much of it at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// One address or a list, as every `listen`; an empty list is off.
    #[serde(deserialize_with = "value::listeners")]
    pub smtp: Vec<SocketAddr>,
    #[serde(deserialize_with = "value::listeners")]
    pub lmtp: Vec<SocketAddr>,
    #[serde(deserialize_with = "value::networks")]
    pub trusted: Vec<IpNet>,
    #[serde(deserialize_with = "value::message_bytes")]
    pub max_message_bytes: u64,
    #[serde(deserialize_with = "value::sessions")]
    pub max_sessions: usize,
    #[serde(deserialize_with = "value::sessions")]
    pub max_sessions_per_client: usize,
    #[serde(deserialize_with = "value::buffer_bytes")]
    pub buffer_bytes: usize,
    #[serde(deserialize_with = "value::stray_cr_lf")]
    pub stray_cr_lf: StrayCrLf,
    /// By which the feeder names itself in `Authentication-Results`.
    #[serde(deserialize_with = "value::names")]
    pub authserv_ids: Vec<String>,
    pub tls: Option<Tls>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            smtp: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 25))],
            lmtp: Vec::new(),
            trusted: vec![
                IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
                IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
            ],
            max_message_bytes: 52_428_800,
            max_sessions: 1000,
            max_sessions_per_client: 100,
            buffer_bytes: 256 << 20,
            stray_cr_lf: StrayCrLf::Refuse,
            authserv_ids: Vec::new(),
            tls: None,
        }
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The log and what it leaves free.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    #[serde(deserialize_with = "value::segment_bytes")]
    pub segment_bytes: u64,
    pub min_free: MinFree,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            min_free: MinFree::Percent(1),
        }
    }
}

/// Where agents and administrators connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// One address or a list, as every `listen`.
    #[serde(deserialize_with = "value::listen")]
    pub listen: Vec<SocketAddr>,
    /// None: `admin.sock` in the state directory.
    pub socket: Option<PathBuf>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7443))],
            socket: None,
        }
    }
}

/// The portal and the wake-up URLs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Without `tls` on loopback only.
    pub listen: toml::Spanned<Listen>,
    pub tls: Option<Tls>,
    /// Where members find it, if that is another port or name than ours.
    #[serde(default, deserialize_with = "value::optional")]
    pub origin: Option<Origin>,
    /// From these networks each connection begins with a PROXY header, version 1 or 2.
    #[serde(default, deserialize_with = "value::networks")]
    pub proxy_protocol: Vec<IpNet>,
    /// Published for members' firewalls, and forbidden as targets of sites.
    #[serde(default, deserialize_with = "value::networks")]
    pub outbound_networks: Vec<IpNet>,
}

/// Prometheus text and health.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    #[serde(deserialize_with = "value::listen")]
    pub listen: Vec<SocketAddr>,
}

/// Where notifications come from and leave.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    #[serde(deserialize_with = "value::optional")]
    pub postmaster: Option<Mailbox>,
    #[serde(deserialize_with = "value::optional")]
    pub smarthost: Option<Smarthost>,
    pub smarthost_user: Option<String>,
    pub smarthost_password_file: Option<PathBuf>,
    /// None: verified where a user is named, else where it works.
    pub smarthost_tls: Option<SmarthostTls>,
    /// PEM. None: the roots of the web PKI.
    pub smarthost_ca: Option<PathBuf>,
    /// None: on port 465.
    pub smarthost_tls_on_connect: Option<bool>,
}

/// What the way to the smarthost has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmarthostTls {
    /// TLS, and a certificate for its name.
    Verify,
    /// TLS where it works, with whatever certificate.
    Opportunistic,
    Never,
}

/// What a site has that was not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteDefaults {
    #[serde(deserialize_with = "value::duration")]
    pub retry_interval: Duration,
    #[serde(deserialize_with = "value::duration")]
    pub lifetime: Duration,
    #[serde(deserialize_with = "value::duration")]
    pub delay_warning: Duration,
    /// None: never.
    #[serde(deserialize_with = "value::outage_notice")]
    pub outage_notice: Option<Duration>,
    #[serde(deserialize_with = "value::connections")]
    pub connections: u8,
}

impl Default for SiteDefaults {
    fn default() -> Self {
        Self {
            retry_interval: Duration::from_secs(3 * 60),
            lifetime: Duration::from_secs(14 * 86_400),
            delay_warning: Duration::from_secs(86_400),
            outage_notice: Some(Schedule::OUTAGE_NOTICE),
            connections: 2,
        }
    }
}

/// What is remembered of messages that are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    #[serde(deserialize_with = "value::keep")]
    pub keep: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(14 * 86_400),
        }
    }
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
        let invalid = |offset, message| ConfigError::Invalid {
            path: path.to_owned(),
            line: line_of(text, offset),
            message,
        };
        let config: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            invalid(offset, error.message().trim().replace('\n', ", "))
        })?;
        if let Some(web) = &config.web
            && web.tls.is_none()
            && !web
                .listen
                .get_ref()
                .0
                .iter()
                .all(|it| it.ip().is_loopback())
        {
            return Err(invalid(
                web.listen.span().start,
                "`listen` of [web] is not a loopback address: expected `tls` beside it, or an address such as 127.0.0.1:8443"
                    .to_owned(),
            ));
        }
        if let Some(notify::Contradiction { key, says }) = config.notify.contradiction() {
            let offset = effective::offset_of(text, &format!("notify.{key}"));
            return Err(invalid(offset, format!("`{key}` of [notify]: {says}")));
        }
        Ok(config)
    }

    /// Where local administration connects.
    pub fn socket(&self) -> PathBuf {
        let default = || self.state_dir.join("admin.sock");
        self.control.socket.clone().unwrap_or_else(default)
    }

    /// What the URLs of `[web]` begin with: what the configuration says, else our name and the port that was bound first
    /// (`bound` is empty before it is), or on loopback without TLS the address.
    pub fn web_origin(&self, bound: &[SocketAddr]) -> Option<String> {
        let web = self.web.as_ref()?;
        if let Some(Origin(origin)) = &web.origin {
            return Some(origin.clone());
        }
        let address = bound.first().or(web.listen.get_ref().0.first())?;
        Some(match (&web.tls, address.port()) {
            (None, _) => format!("http://{address}"),
            (Some(_), 443) => format!("https://{}", self.hostname),
            (Some(_), port) => format!("https://{}:{port}", self.hostname),
        })
    }

    /// Published networks, besides the agents' own addresses.
    pub fn outbound_networks(&self) -> Vec<IpNet> {
        let networks = self.web.as_ref().map(|web| web.outbound_networks.clone());
        networks.unwrap_or_default()
    }
}

/// Counts from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
