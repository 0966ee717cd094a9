//! What a caller asks a site to be → a site that can be used, or one sentence that says what to do. Pure.
//!
//! # Invariants
//! A [`Site`] that comes out of [`check`] can be delivered to: it has a domain, a host, and a proof with all that the
//! proof needs. No domain belongs to two sites.
//!
//! # Not here
//! Versions, holds and passwords: those belong to the record, see [`super::sites`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use dd_proto::domain::Domain;
use dd_proto::id::SiteVersion;
use dd_proto::name::{AuthorityName, SiteName};
use dd_proto::path::Mailbox;
use dd_proto::pb;
use dd_proto::site::{Host, HostName, KnownRecipients, Limits, Proof, Schedule, Site};

use crate::config::SiteDefaults;

/// The SMTP port everybody uses, so that answering on it proves nothing.
const SMTP_PORT: u16 = 25;
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
        "the site needs a proof: add --proof certificate with --authority and --cert-name, or --proof static-ip with --address, or --proof port"
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
    #[error("--proof certificate needs the name the certificate carries: add --cert-name NAME")]
    NoCertificateName,
    #[error(
        "there is no authority `{0}`: import it first with `ddadm ca import {0} --certificate FILE`"
    )]
    UnknownAuthority(AuthorityName),
    #[error("the proof `configured` is the smarthost's own: choose certificate, static-ip or port")]
    Configured,
    #[error("the domain {domain} belongs to the site {owner}: remove it there first")]
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
    Ok(Site {
        version: SiteVersion::default(),
        known: known(spec, &domains)?,
        proof: proof(spec, &hosts, around)?,
        limits: limits(spec, around.defaults)?,
        schedule: schedule(spec, around.defaults)?,
        hold: None,
        closing: false,
        contact: spec.contact.as_deref().map(parse).transpose()?,
        allow_targets: each("--allow-target", &spec.allow_targets, 100, |text| {
            text.parse().map_err(|_| {
                format!(
                    "`{}` is no network: expected one such as 192.0.2.0/24",
                    shown(text)
                )
            })
        })?,
        password_hash: None,
        name,
        domains,
        hosts,
    })
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
    if !change.hosts.is_empty() {
        base.hosts.clone_from(&change.hosts);
    }
    if change.proof.is_some() {
        base.proof.clone_from(&change.proof);
    }
    if change.contact.is_some() {
        base.contact.clone_from(&change.contact);
    }
    base.connections = change.connections.or(base.connections);
    for (old, new) in [
        (&mut base.retry_ms, change.retry_ms),
        (&mut base.lifetime_ms, change.lifetime_ms),
        (&mut base.delay_warning_ms, change.delay_warning_ms),
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
        // It is no part of a specification; the record's hash goes with it.
        "password" => {}
        other => return Err(SiteError::Clear(shown(other))),
    }
    Ok(())
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, SiteError> {
    text.parse()
        .map_err(|error: T::Err| SiteError::Value(error.to_string()))
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
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
                shown(&host.host)
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
            .map_err(|error| format!("`{}`: {error}", shown(text)))
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

fn proof(
    spec: &pb::SiteSpec,
    hosts: &[Host],
    around: &Surroundings<'_>,
) -> Result<Proof, SiteError> {
    use pb::proof::Kind;
    let kind = spec.proof.as_ref().and_then(|proof| proof.kind.as_ref());
    match kind.ok_or(SiteError::NoProof)? {
        Kind::StaticIp(it) => static_ip(&it.addresses, hosts),
        Kind::Certificate(it) => certificate(it, around),
        Kind::Port(_) => match hosts.iter().find(|host| host.port.get() == SMTP_PORT) {
            Some(host) => Err(SiteError::CommonPort(host.clone())),
            None => Ok(Proof::Port),
        },
        Kind::Configured(_) => Err(SiteError::Configured),
    }
}

fn static_ip(addresses: &[String], hosts: &[Host]) -> Result<Proof, SiteError> {
    let mut addresses: BTreeSet<IpAddr> = each("--address", addresses, 100, |text| {
        text.parse().map_err(|_| {
            format!(
                "`{}` is no IP address: expected one such as 192.0.2.1",
                shown(text)
            )
        })
    })?;
    addresses.extend(hosts.iter().filter_map(|host| match host.name {
        HostName::Address(ip) => Some(ip),
        HostName::Dns(_) => None,
    }));
    match addresses.is_empty() {
        true => Err(SiteError::NoAddress),
        false => Ok(Proof::StaticIp { addresses }),
    }
}

fn certificate(
    proof: &pb::proof::Certificate,
    around: &Surroundings<'_>,
) -> Result<Proof, SiteError> {
    if proof.authority.is_empty() {
        return Err(SiteError::NoAuthority);
    }
    if proof.name.is_empty() {
        return Err(SiteError::NoCertificateName);
    }
    let authority: AuthorityName = parse(&proof.authority)?;
    if !(around.has_authority)(&authority) {
        return Err(SiteError::UnknownAuthority(authority));
    }
    let name = parse(&proof.name)?;
    Ok(Proof::Certificate { authority, name })
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: u32) -> pb::Host {
        pb::Host {
            host: host.to_owned(),
            port,
        }
    }

    fn by_port() -> Option<pb::Proof> {
        Some(Proof::Port.into())
    }

    fn by_address(addresses: &[&str]) -> Option<pb::Proof> {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        let kind = pb::proof::Kind::StaticIp(pb::proof::StaticIp { addresses });
        Some(pb::Proof { kind: Some(kind) })
    }

    fn by_certificate(authority: &str, name: &str) -> Option<pb::Proof> {
        let (authority, name) = (authority.to_owned(), name.to_owned());
        let kind = pb::proof::Kind::Certificate(pb::proof::Certificate { authority, name });
        Some(pb::Proof { kind: Some(kind) })
    }

    fn spec() -> pb::SiteSpec {
        pb::SiteSpec {
            name: "home".to_owned(),
            domains: vec!["Home.example".to_owned()],
            hosts: vec![host("dyn.example", 2525)],
            proof: by_certificate("member-ca", "home.example"),
            ..pb::SiteSpec::default()
        }
    }

    fn checked(spec: &pb::SiteSpec) -> Result<Site, SiteError> {
        let owner = |domain: &Domain| {
            (domain.as_str() == "taken.example").then(|| "other".parse().unwrap())
        };
        check(
            spec,
            &Surroundings {
                defaults: SiteDefaults::default(),
                has_authority: &|name| name.as_str() == "member-ca",
                owner: &owner,
            },
        )
    }

    #[test]
    fn what_is_absent_takes_its_default() {
        let site = checked(&spec()).unwrap();
        assert_eq!(site.limits.connections, 2);
        assert_eq!(site.schedule.retry_interval, Duration::from_secs(180));
        assert_eq!(site.limits.quota_bytes, None);
        assert_eq!(site.known, KnownRecipients::Any);
    }

    #[test]
    fn a_host_given_as_an_address_lists_itself() {
        let mut asked = spec();
        asked.hosts = vec![host("192.0.2.1", 25), host("2001:db8::1", 25)];
        asked.proof = by_address(&["192.0.2.9"]);
        let Proof::StaticIp { addresses } = checked(&asked).unwrap().proof else {
            panic!("another proof");
        };
        assert_eq!(addresses.len(), 3);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_to_do() {
        let refused: [(fn(&mut pb::SiteSpec), &str); 22] = [
            (|s| s.name = "a b".to_owned(), "is no name"),
            (|s| s.domains.clear(), "add --domain"),
            (|s| s.domains.push("a..b".to_owned()), "is no mail domain"),
            (
                |s| s.domains.push("taken.example".to_owned()),
                "belongs to the site other",
            ),
            (|s| s.hosts.clear(), "add --host"),
            (|s| s.hosts.push(host("a b", 25)), "is no host"),
            (
                |s| s.hosts.push(host("b.example", 0)),
                "use one between 1 and 65535",
            ),
            (
                |s| s.hosts.push(host("b.example", 65536)),
                "use one between 1 and 65535",
            ),
            (|s| s.proof = None, "needs a proof"),
            (|s| s.proof = by_address(&[]), "add --address"),
            (|s| s.proof = by_address(&["home"]), "is no IP address"),
            (
                |s| s.proof = by_certificate("", "a.example"),
                "add --authority",
            ),
            (
                |s| s.proof = by_certificate("member-ca", ""),
                "add --cert-name",
            ),
            (
                |s| s.proof = by_certificate("nobody", "a.example"),
                "ddadm ca import nobody",
            ),
            (
                |s| {
                    s.hosts.push(host("b.example", 25));
                    s.proof = by_port();
                },
                "b.example:25 has 25: use --port",
            ),
            (
                |s| s.proof = Some(Proof::Configured.into()),
                "choose certificate",
            ),
            (
                |s| s.recipients.push("a@else.example".to_owned()),
                "none of the site's domains",
            ),
            (
                |s| s.connections = Some(0),
                "--connections must be between 1 and 20",
            ),
            (
                |s| s.connections = Some(21),
                "--connections must be between 1 and 20",
            ),
            (|s| s.retry_ms = Some(999), "--retry must be between 1s"),
            (
                |s| s.contact = Some("owner".to_owned()),
                "expected local-part@domain",
            ),
            (
                |s| s.allow_targets.push("192.0.2".to_owned()),
                "is no network",
            ),
        ];
        for (spoil, says) in refused {
            let mut asked = spec();
            spoil(&mut asked);
            let error = checked(&asked).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let mut base = spec();
        base.recipients = vec!["a@home.example".to_owned()];
        base.quota_bytes = Some(5);
        let change = pb::SiteSpec {
            name: "home".to_owned(),
            connections: Some(4),
            clear: vec!["recipient".to_owned(), "quota-bytes".to_owned()],
            quota_messages: Some(9),
            ..pb::SiteSpec::default()
        };
        let merged = merge(base.clone(), &change).unwrap();
        let expected = pb::SiteSpec {
            recipients: Vec::new(),
            quota_bytes: None,
            connections: Some(4),
            quota_messages: Some(9),
            ..base.clone()
        };
        assert_eq!(merged, expected);
        let unknown = pb::SiteSpec {
            clear: vec!["colour".to_owned()],
            ..pb::SiteSpec::default()
        };
        assert!(matches!(merge(base, &unknown), Err(SiteError::Clear(_))));
    }
}
