//! What a caller asks a site to be → a site that can be used, or one sentence that says what to do. Pure.
//!
//! # Invariants
//! A [`Site`] that comes out of [`check`] can be delivered to: it has a domain, a host, and a proof with all that the
//! proof needs. No domain belongs to two sites.
//!
//! # Not here
//! Versions, holds and passwords: those belong to the record, see [`super::sites`].

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::excerpt;
use dd_proto::hold::HoldPeriods;
use dd_proto::id::SiteVersion;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::network::Network;
use dd_proto::path::Mailbox;
use dd_proto::pb;
use dd_proto::site::{Family, Host, HostName, KnownRecipients, Language, Limits, Schedule, Site};

use crate::config::SiteDefaults;

const DAY_MS: u64 = 86_400_000;

/// Why a site cannot be what it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    #[error("{0}")]
    Value(String),
    #[error("the site needs a domain: add --domain DOMAIN")]
    NoDomain,
    #[error("the site needs a host: add --host HOST[:PORT]")]
    NoHost,
    #[error("`{0}` is no port: use one between 1 and 65535")]
    HostPort(u32),
    #[error(
        "the site needs a proof: add --proof certificate with --authority and --cert-name, --proof public with --cert-name, --proof fingerprint with --fingerprint, --proof static-ip with --address, or --proof port"
    )]
    NoProof,
    #[error(
        "--proof static-ip needs the site's addresses: add --address IP (a host given as an address lists itself)"
    )]
    NoAddress,
    #[error("--proof port needs a port other than 25 on every host, but {0} has 25: use --port N")]
    CommonPort(Host),
    #[error("--proof certificate needs an authority: add --authority CA")]
    NoAuthority,
    #[error("--proof {0} needs the name the certificate carries: add --cert-name NAME")]
    NoCertificateName(&'static str),
    #[error(
        "`{0}` is an address, and no certificate carries one as a DNS name: choose a name, which need not be in the DNS"
    )]
    CertificateNameAddress(Domain),
    #[error(
        "--proof fingerprint needs one: add --fingerprint SHA256, of the certificate or its key"
    )]
    NoFingerprint,
    #[error(
        "there is no authority `{0}`: take one in with `ddadm ca import {0} --certificate FILE`, or make your own with `ddadm ca create {0}`"
    )]
    UnknownAuthority(AuthorityName),
    #[error(
        "--client-certificate needs an authority of your own, of which agents get their certificates: make one with `ddadm ca create NAME`"
    )]
    NoOwnAuthority,
    #[error(
        "the authority `{0}` is none of your own (`ddadm ca list`), so agents get no certificate of it: name one that is with --client-certificate=CA"
    )]
    NotOwnAuthority(AuthorityName),
    #[error(
        "there are several authorities of your own: name the one of which agents show a certificate with --client-certificate=CA"
    )]
    WhichAuthority,
    #[error(
        "--lmtp needs a port other than 25 on every host (RFC 2033 §5), but {0} has 25: use --host HOST:PORT, often 24"
    )]
    LmtpPort(Host),
    #[error(
        "--family {family} leaves the host {host} out, whose address is of the other family: remove it, or use --family any"
    )]
    OtherFamily { family: Family, host: Host },
    #[error(
        "there is no agent `{0}`: `ddadm agent list` shows them, `ddadm agent add` announces one"
    )]
    UnknownAgent(AgentName),
    #[error(
        "the proof `configured` is the smarthost's own: choose certificate, public, fingerprint, static-ip or port"
    )]
    Configured,
    #[error(
        "the domain {domain} belongs to the site {owner}: `ddadm site move-domain {domain} --to SITE` moves it to a site that there is"
    )]
    DomainTaken { domain: Domain, owner: SiteName },
    #[error(
        "the recipient {0} is in none of the site's domains: add its --domain, or leave it out"
    )]
    ForeignRecipient(Mailbox),
    #[error("{what} must be between {least} and {most}")]
    Range {
        what: &'static str,
        least: &'static str,
        most: &'static str,
    },
    #[error("at most {most} of {what} are possible")]
    TooMany { what: &'static str, most: usize },
    #[error("`{0}` cannot be removed: name a flag such as recipient, quota-bytes or contact")]
    Clear(String),
}

/// What a site is checked against.
pub struct Surroundings<'a> {
    pub defaults: SiteDefaults,
    pub has_authority: &'a dyn Fn(&AuthorityName) -> bool,
    /// The authorities whose keys are ours.
    pub own_authorities: &'a dyn Fn() -> BTreeSet<AuthorityName>,
    pub has_agent: &'a dyn Fn(&AgentName) -> bool,
    /// The site a domain belongs to now.
    pub owner: &'a dyn Fn(&Domain) -> Option<SiteName>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}

/// # Errors
/// The first thing that is wrong.
pub fn check(spec: &pb::SiteSpec, around: &Surroundings<'_>) -> Result<Site, SiteError> {
    let name: SiteName = parse(&spec.name)?;
    let domains = domains(spec, &name, around)?;
    let hosts = hosts(spec)?;
    let proof = proof::proof(spec, &hosts, around)?;
    Ok(Site {
        version: SiteVersion::default(),
        known: known(spec, &domains)?,
        way: way::way(spec, &proof, &hosts, around)?,
        proof,
        limits: limits(spec, around.defaults)?,
        schedule: schedule(spec, around.defaults)?,
        hold: None,
        held_before: HoldPeriods::default(),
        closing: false,
        contact: spec.contact.as_deref().map(parse).transpose()?,
        language: spec.language.as_deref().map(language).transpose()?,
        allow_targets: each("--allow-target", &spec.allow_targets, 100, |text| {
            let network: Result<Network, _> = text.parse();
            let network = network.map(|network| network.0);
            network.map_err(|error| format!("`{}`: {error}", excerpt::of(text)))
        })?,
        agents: agents(spec, around)?,
        password_hash: None,
        wake_hash: None,
        name,
        domains,
        hosts,
    })
}

/// Those that carry its mail, where not every agent does.
fn agents(
    spec: &pb::SiteSpec,
    around: &Surroundings<'_>,
) -> Result<BTreeSet<AgentName>, SiteError> {
    let agents: BTreeSet<AgentName> = each("--agent", &spec.agents, 100, |text| {
        text.parse().map_err(|error| format!("{error}"))
    })?;
    match agents.iter().find(|name| !(around.has_agent)(name)) {
        Some(unknown) => Err(SiteError::UnknownAgent(unknown.clone())),
        None => Ok(agents),
    }
}

/// What a site was, with what `change` clears and sets.
///
/// # Errors
/// `clear` names something that no site has.
pub fn merge(mut base: pb::SiteSpec, change: &pb::SiteSpec) -> Result<pb::SiteSpec, SiteError> {
    for flag in &change.clear {
        clear(&mut base, flag)?;
    }
    let list = |old: &mut Vec<String>, new: &Vec<String>| {
        if !new.is_empty() {
            old.clone_from(new);
        }
    };
    list(&mut base.domains, &change.domains);
    list(&mut base.recipients, &change.recipients);
    list(&mut base.allow_targets, &change.allow_targets);
    list(&mut base.agents, &change.agents);
    if !change.hosts.is_empty() {
        base.hosts.clone_from(&change.hosts);
    }
    if change.proof.is_some() {
        base.proof.clone_from(&change.proof);
    }
    if change.contact.is_some() {
        base.contact.clone_from(&change.contact);
    }
    if change.language.is_some() {
        base.language.clone_from(&change.language);
    }
    if change.hand_over.is_some() {
        base.hand_over.clone_from(&change.hand_over);
    }
    if change.client_certificate.is_some() {
        base.client_certificate
            .clone_from(&change.client_certificate);
    }
    base.tls_on_connect = change.tls_on_connect.or(base.tls_on_connect);
    base.lmtp = change.lmtp.or(base.lmtp);
    if change.family.is_some() {
        base.family.clone_from(&change.family);
    }
    base.connections = change.connections.or(base.connections);
    for (old, new) in [
        (&mut base.retry_ms, change.retry_ms),
        (&mut base.lifetime_ms, change.lifetime_ms),
        (&mut base.delay_warning_ms, change.delay_warning_ms),
        (&mut base.outage_notice_ms, change.outage_notice_ms),
        (&mut base.max_message_bytes, change.max_message_bytes),
        (&mut base.quota_messages, change.quota_messages),
        (&mut base.quota_bytes, change.quota_bytes),
    ] {
        *old = new.or(*old);
    }
    Ok(base)
}

fn clear(spec: &mut pb::SiteSpec, flag: &str) -> Result<(), SiteError> {
    match flag {
        "domain" => spec.domains.clear(),
        "host" => spec.hosts.clear(),
        "recipient" => spec.recipients.clear(),
        "allow-target" => spec.allow_targets.clear(),
        "agent" => spec.agents.clear(),
        // What is remembered of the site's certificate; it is no part of a specification.
        "shown" => {}
        "address" => {
            if let Some(pb::proof::Kind::StaticIp(it)) =
                spec.proof.as_mut().and_then(|proof| proof.kind.as_mut())
            {
                it.addresses.clear();
            }
        }
        "connections" => spec.connections = None,
        "retry" => spec.retry_ms = None,
        "lifetime" => spec.lifetime_ms = None,
        "delay-warning" => spec.delay_warning_ms = None,
        "max-message" => spec.max_message_bytes = None,
        "quota-messages" => spec.quota_messages = None,
        "quota-bytes" => spec.quota_bytes = None,
        "contact" => spec.contact = None,
        "hand-over" => spec.hand_over = None,
        "client-certificate" => spec.client_certificate = None,
        "tls-on-connect" => spec.tls_on_connect = None,
        "lmtp" => spec.lmtp = None,
        "family" => spec.family = None,
        "outage-notice" => spec.outage_notice_ms = None,
        "language" => spec.language = None,
        // It is no part of a specification; the record's hash goes with it.
        "password" => {}
        other => return Err(SiteError::Clear(excerpt::of(other))),
    }
    Ok(())
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, SiteError> {
    text.parse()
        .map_err(|error: T::Err| SiteError::Value(error.to_string()))
}

fn each<T, C: FromIterator<T>>(
    what: &'static str,
    texts: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<C, SiteError> {
    if texts.len() > most {
        return Err(SiteError::TooMany { what, most });
    }
    let parse = |text: &String| parse(text).map_err(SiteError::Value);
    texts.iter().map(parse).collect()
}

fn domains(
    spec: &pb::SiteSpec,
    name: &SiteName,
    around: &Surroundings<'_>,
) -> Result<BTreeSet<Domain>, SiteError> {
    let domains: BTreeSet<Domain> = each("--domain", &spec.domains, 1000, |text| {
        text.parse::<Domain>().map_err(|error| error.to_string())
    })?;
    if domains.is_empty() {
        return Err(SiteError::NoDomain);
    }
    for domain in &domains {
        if let Some(owner) = (around.owner)(domain).filter(|owner| owner != name) {
            let domain = domain.clone();
            return Err(SiteError::DomainTaken { domain, owner });
        }
    }
    Ok(domains)
}

fn hosts(spec: &pb::SiteSpec) -> Result<Vec<Host>, SiteError> {
    if spec.hosts.len() > 20 {
        return Err(SiteError::TooMany {
            what: "--host",
            most: 20,
        });
    }
    let hosts: Vec<Host> = spec.hosts.iter().map(host).collect::<Result<_, _>>()?;
    match hosts.is_empty() {
        true => Err(SiteError::NoHost),
        false => Ok(hosts),
    }
}

fn host(host: &pb::Host) -> Result<Host, SiteError> {
    let name = match host.host.parse() {
        Ok(ip) => HostName::Address(ip),
        Err(_) => HostName::Dns(host.host.parse().map_err(|_| {
            SiteError::Value(format!(
                "`{}` is no host: expected a DNS name or an IP address",
                excerpt::of(&host.host)
            ))
        })?),
    };
    let port = u16::try_from(host.port)
        .ok()
        .and_then(|port| port.try_into().ok());
    let port = port.ok_or(SiteError::HostPort(host.port))?;
    Ok(Host { name, port })
}

fn known(spec: &pb::SiteSpec, domains: &BTreeSet<Domain>) -> Result<KnownRecipients, SiteError> {
    let known: BTreeSet<Mailbox> = each("--recipient", &spec.recipients, 10_000, |text| {
        text.parse()
            .map_err(|error| format!("`{}`: {error}", excerpt::of(text)))
    })?;
    let foreign = |it: &&Mailbox| !it.domain().is_some_and(|domain| domains.contains(domain));
    if let Some(foreign) = known.iter().find(foreign) {
        return Err(SiteError::ForeignRecipient(foreign.clone()));
    }
    Ok(match known.is_empty() {
        true => KnownRecipients::Any,
        false => KnownRecipients::Only(known),
    })
}

fn language(text: &str) -> Result<Language, SiteError> {
    text.parse::<Language>().map_err(|error| {
        SiteError::Value(format!(
            "`{}` behind --language: {error}",
            excerpt::of(text)
        ))
    })
}

fn limits(spec: &pb::SiteSpec, defaults: SiteDefaults) -> Result<Limits, SiteError> {
    let connections = spec.connections.unwrap_or(defaults.connections.into());
    let connections = u8::try_from(connections)
        .ok()
        .filter(|n| (1..=20).contains(n));
    Ok(Limits {
        connections: connections.ok_or(SiteError::Range {
            what: "--connections",
            least: "1",
            most: "20",
        })?,
        max_message_bytes: spec.max_message_bytes,
        quota_messages: spec.quota_messages,
        quota_bytes: spec.quota_bytes,
    })
}

fn schedule(spec: &pb::SiteSpec, defaults: SiteDefaults) -> Result<Schedule, SiteError> {
    let between = |ms: Option<u64>, default, what, most_ms, most| match ms {
        None => Ok(default),
        Some(ms) if (1000..=most_ms).contains(&ms) => Ok(Duration::from_millis(ms)),
        Some(_) => Err(SiteError::Range {
            what,
            least: "1s",
            most,
        }),
    };
    Ok(Schedule {
        retry_interval: between(
            spec.retry_ms,
            defaults.retry_interval,
            "--retry",
            7 * DAY_MS,
            "7d",
        )?,
        lifetime: between(
            spec.lifetime_ms,
            defaults.lifetime,
            "--lifetime",
            365 * DAY_MS,
            "365d",
        )?,
        delay_warning: between(
            spec.delay_warning_ms,
            defaults.delay_warning,
            "the delay warning",
            365 * DAY_MS,
            "365d",
        )?,
        outage_notice: match spec.outage_notice_ms {
            None => defaults.outage_notice,
            Some(0) => None,
            some => Some(between(
                some,
                Schedule::OUTAGE_NOTICE,
                "--outage-notice",
                365 * DAY_MS,
                "365d",
            )?),
        },
    })
}

mod proof;
#[cfg(test)]
mod tests;
mod way;
