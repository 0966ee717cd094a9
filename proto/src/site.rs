//! A site: whom the mail is for, where it goes, and how the far end proves to be the right machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::domain::Domain;
use crate::fingerprint::Fingerprint;
use crate::hold::{HoldPeriods, life_ends};
use crate::id::SiteVersion;
use crate::name::{AgentName, AuthorityName, SiteName};
use crate::path::Mailbox;
use crate::smtp::auth::Login;

/// A site as the registry has it, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    pub name: SiteName,
    pub version: SiteVersion,
    pub domains: BTreeSet<Domain>,
    pub known: KnownRecipients,
    /// In order of preference; never empty.
    pub hosts: Vec<Host>,
    pub proof: Proof,
    pub way: Way,
    pub limits: Limits,
    pub schedule: Schedule,
    pub hold: Option<Hold>,
    pub held_before: HoldPeriods,
    /// Closed for removal: takes no new mail.
    pub closing: bool,
    pub contact: Option<Mailbox>,
    /// What the contact reads; None: nobody has said.
    pub language: Option<Language>,
    /// Networks its hosts may lie in although the built-in rules forbid them.
    pub allow_targets: Vec<IpNet>,
    /// Only these carry its mail; empty: any agent does.
    pub agents: BTreeSet<AgentName>,
    /// argon2id (PHC string) of the wake-up password.
    pub password_hash: Option<String>,
    /// SHA-256 of the secret in its wake-up URL.
    pub wake_hash: Option<[u8; 32]>,
}

impl Site {
    /// When a life is over that began at `from`: time on hold does not count.
    pub fn life_ends(&self, from: Timestamp, life: Duration) -> Timestamp {
        life_ends(&self.held_before, self.hold.as_ref(), from, life)
    }

    /// Whether its mail may go through this agent.
    pub fn may_go_through(&self, agent: &AgentName) -> bool {
        self.agents.is_empty() || self.agents.contains(agent)
    }
}

/// Which recipients a site has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownRecipients {
    /// Not told: anybody at the site's domains.
    Any,
    Only(BTreeSet<Mailbox>),
}

/// A host and port a site can be reached at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    pub name: HostName,
    pub port: NonZeroU16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            HostName::Dns(name) => write!(f, "{name}:{}", self.port),
            HostName::Address(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            HostName::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

/// A name to resolve, or an address to take as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    Dns(Domain),
    Address(IpAddr),
}

/// How the far end proves to be the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The connected address is one of these.
    StaticIp {
        addresses: BTreeSet<IpAddr>,
        /// Asked for beside the address.
        certificate: Option<Certified>,
    },
    /// A chain to the authority, and this name in the certificate.
    Certificate(Certified),
    /// The certificate or its key is one of these.
    Fingerprint { listed: BTreeSet<Fingerprint> },
    /// A chain to the roots of the web PKI, and this name in the certificate.
    Public { name: Domain },
    /// An agreed host and a port other than 25.
    Port,
    /// The provider's own smarthost, from the configuration.
    Configured,
}

/// What a certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    pub authority: AuthorityName,
    /// The DNS name it must carry; it need not be the name of a host.
    pub name: Domain,
}

impl Proof {
    /// The certificate that a named authority has to have issued, where one is asked for.
    pub fn certified(&self) -> Option<&Certified> {
        match self {
            Self::Certificate(it) => Some(it),
            Self::StaticIp { certificate, .. } => certificate.as_ref(),
            Self::Fingerprint { .. } | Self::Public { .. } | Self::Port | Self::Configured => None,
        }
    }

    /// The DNS name a certificate has to carry, where one is asked for.
    pub fn certificate_name(&self) -> Option<&Domain> {
        match self {
            Self::Public { name } => Some(name),
            other => other.certified().map(|it| &it.name),
        }
    }

    /// The word operators use for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StaticIp { .. } => "static-ip",
            Self::Certificate(_) => "certificate",
            Self::Fingerprint { .. } => "fingerprint",
            Self::Public { .. } => "public",
            Self::Port => "port",
            Self::Configured => "configured",
        }
    }
}

/// What a site takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once, 1 to 20.
    pub connections: u8,
    pub max_message_bytes: Option<u64>,
    pub quota_messages: Option<u64>,
    pub quota_bytes: Option<u64>,
}

/// What is particular about the way to a site's hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    pub hand_over: HandOver,
    /// The authority of which agents show a certificate to a host that asks for one; None: they show none.
    pub client_certificate: Option<AuthorityName>,
    pub tls: TlsBegins,
    pub speaks: Speaks,
    pub family: Family,
    /// What is shown to a host that wants to know by a password who comes. Only the built-in smarthost has one.
    pub login: Option<Login>,
}

/// How a connection becomes a secure one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsBegins {
    /// By STARTTLS, where it is offered or the proof rests on TLS.
    #[default]
    ByStartTls,
    /// With the first byte, without STARTTLS.
    OnConnect,
    /// It stays in the clear, whatever is offered. Only the built-in smarthost may be so.
    Never,
}

impl TlsBegins {
    pub fn of_flag(on_connect: bool) -> Self {
        match on_connect {
            true => Self::OnConnect,
            false => Self::ByStartTls,
        }
    }
}

/// Which addresses of a name are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    #[default]
    Any,
    V4,
    V6,
}

/// Why a text is no [`Family`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 4, 6 or any")]
pub struct FamilyError;

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }

    /// An IPv4 address that is mapped into IPv6 is the IPv4 address.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.to_canonical().is_ipv4(),
            Self::V6 => address.to_canonical().is_ipv6(),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Family {
    type Err = FamilyError;

    fn from_str(text: &str) -> Result<Self, FamilyError> {
        let all = [Self::Any, Self::V4, Self::V6];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or(FamilyError)
    }
}

/// What a site's hosts speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speaks {
    #[default]
    Smtp,
    /// RFC 2033.
    Lmtp,
}

impl Speaks {
    pub fn of_flag(lmtp: bool) -> Self {
        match lmtp {
            true => Self::Lmtp,
            false => Self::Smtp,
        }
    }
}

/// How a proved host is told from whom the feeder had a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandOver {
    #[default]
    None,
    XForward,
    XClient,
}

/// A language that notices are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    German,
}

/// Why a text is no [`Language`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected en or de")]
pub struct LanguageError;

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::English => "en",
            Self::German => "de",
        })
    }
}

impl std::str::FromStr for Language {
    type Err = LanguageError;

    fn from_str(text: &str) -> Result<Self, LanguageError> {
        match text {
            "en" => Ok(Self::English),
            "de" => Ok(Self::German),
            _ => Err(LanguageError),
        }
    }
}

/// Why a text is no [`HandOver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, xforward or xclient")]
pub struct HandOverError;

impl HandOver {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::XForward => "xforward",
            Self::XClient => "xclient",
        }
    }
}

impl std::fmt::Display for HandOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for HandOver {
    type Err = HandOverError;

    fn from_str(text: &str) -> Result<Self, HandOverError> {
        let all = [Self::None, Self::XForward, Self::XClient];
        let found = all.into_iter().find(|it| it.as_str() == text);
        found.ok_or(HandOverError)
    }
}

/// When a site is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub retry_interval: Duration,
    pub lifetime: Duration,
    pub delay_warning: Duration,
    /// The contact is told when mail has waited that long because the site is away; None: never.
    pub outage_notice: Option<Duration>,
}

impl Schedule {
    /// Of sites that were registered before it could be said.
    pub const OUTAGE_NOTICE: Duration = Duration::from_secs(6 * 3600);
}

/// Mail waits, nothing is tried, nothing expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub by: String,
    /// None: until it is resumed.
    pub until: Option<Timestamp>,
    pub since: Timestamp,
}
