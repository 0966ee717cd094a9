//! Text → what it says, each value checked where it stands, so that its line can be named. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::excerpt;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::hold::HoldPeriod;
use dd_proto::name::{AgentName, AuthorityName};
use dd_proto::network::Network;
use dd_proto::path::Mailbox;
use dd_proto::pb;
use dd_proto::pem::{self, Kind};
use dd_proto::site::{HandOver, Hold, HostName, Language};
use dd_proto::units::{OutageNotice, parse_duration, parse_size};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{self, Deserializer, Error as _, SeqAccess, Visitor};
use toml::Spanned;

#[path = "proof.rs"]
mod proof;
#[path = "way.rs"]
mod way;

use super::{AgentEntry, AuthorityEntry, Entry, File, FileError, SiteEntry};
use crate::authority::client::AgentKey;
use crate::dispatch::Drain;
use crate::registry::authorities::Origin;

/// RFC 5321 §4.5.4.2: where SMTP listens.
const SMTP: NonZeroU16 = NonZeroU16::new(25).expect("25 is not 0");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    site: BTreeMap<String, Spanned<SiteTable>>,
    #[serde(default)]
    agent: BTreeMap<String, Spanned<AgentTable>>,
    #[serde(default)]
    authority: BTreeMap<String, Spanned<AuthorityTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SiteTable {
    domain: Option<Many<Domain>>,
    host: Option<Many<HostPort>>,
    port: Option<NonZeroU16>,
    proof: Option<Word>,
    address: Option<Many<IpAddr>>,
    authority: Option<One<AuthorityName>>,
    cert_name: Option<One<Domain>>,
    fingerprint: Option<Many<Fingerprint>>,
    recipient: Option<Many<Mailbox>>,
    connections: Option<u32>,
    retry: Option<Milliseconds>,
    lifetime: Option<Milliseconds>,
    delay_warning: Option<Milliseconds>,
    outage_notice: Option<One<OutageNotice>>,
    max_message: Option<Size>,
    quota_messages: Option<u64>,
    quota_bytes: Option<Size>,
    contact: Option<One<Mailbox>>,
    language: Option<One<Language>>,
    hand_over: Option<One<HandOver>>,
    client_certificate: Option<way::Shown>,
    tls_on_connect: Option<bool>,
    lmtp: Option<bool>,
    family: Option<way::NumberOrWord>,
    allow_target: Option<Many<Network>>,
    agent: Option<Many<AgentName>>,
    password_hash: Option<PasswordHash>,
    wake_secret_hash: Option<Digest>,
    hold: Option<HoldTable>,
    held_before: Option<Many<HoldPeriod>>,
    #[serde(default)]
    take_mail: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldTable {
    by: String,
    since: One<Timestamp>,
    until: Option<One<Timestamp>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AgentTable {
    address: Option<Many<IpAddr>>,
    from: Option<One<Timestamp>>,
    drain: Option<bool>,
    key_hash: Option<Digest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorityTable {
    certificate: Many<Certificates>,
    crl: Option<Many<RevocationLists>>,
    #[serde(default)]
    own: bool,
    #[serde(default)]
    replace: bool,
    permit: Option<Many<Domain>>,
}

/// # Errors
/// The first thing that is not as expected, and its line.
pub fn read(text: &str) -> Result<File, FileError> {
    let at = |offset: usize| line_of(text, offset);
    let tables: Tables = toml::from_str(text).map_err(|error| FileError {
        line: at(error.span().map_or(0, |span| span.start)),
        message: error.message().trim().replace('\n', ", "),
    })?;
    Ok(File {
        sites: entries(tables.site, at, |name: &dd_proto::name::SiteName, table| {
            site(name.as_str(), table)
        })?,
        agents: entries(tables.agent, at, |_, table: AgentTable| {
            Ok(AgentEntry {
                addresses: table.address.map(|it| it.0).unwrap_or_default(),
                from: table.from.map(|it| it.0),
                drain: table.drain.map(|drains| match drains {
                    true => Drain::Drains,
                    false => Drain::Works,
                }),
                key: table.key_hash.map(|it| AgentKey(it.0)),
            })
        })?,
        authorities: entries(tables.authority, at, |_, table: AuthorityTable| {
            let certificates = table.certificate.0.into_iter().flat_map(|it| it.0);
            let lists = table.crl.map(|it| it.0).unwrap_or_default();
            let permit = table.permit.map(|it| it.0).unwrap_or_default();
            if table.own && table.replace {
                return Err("`replace` is for imported authorities: our own are rolled over with `ddadm ca rollover`".to_owned());
            }
            Ok(AuthorityEntry {
                replace: table.replace,
                certificates: certificates.collect(),
                revocation_lists: lists.into_iter().flat_map(|it| it.0).collect(),
                origin: match (table.own, permit.is_empty()) {
                    (true, _) => Origin::Own { permit },
                    (false, true) => Origin::Imported,
                    (false, false) => {
                        return Err("`permit` goes with own = true only: leave it out".to_owned());
                    }
                },
            })
        })?,
    })
}

fn entries<N, T, V>(
    tables: BTreeMap<String, Spanned<T>>,
    line: impl Fn(usize) -> usize,
    value: impl Fn(&N, T) -> Result<V, String>,
) -> Result<BTreeMap<N, Entry<V>>, FileError>
where
    N: FromStr<Err: Display> + Ord,
{
    let mut entries = BTreeMap::new();
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_by_key(|(_, table)| table.span().start);
    for (name, table) in tables {
        let line = line(table.span().start);
        let error = |message| FileError { line, message };
        let name: N = name.parse().map_err(|it: N::Err| error(it.to_string()))?;
        let value = value(&name, table.into_inner()).map_err(error)?;
        // `Home` and `home` are one name.
        if entries.insert(name, Entry { line, value }).is_some() {
            return Err(error(
                "the same name a second time: leave one out".to_owned(),
            ));
        }
    }
    Ok(entries)
}

/// Counts from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn site(name: &str, table: SiteTable) -> Result<SiteEntry, String> {
    let proof = proof::proof(&table)?;
    let port = table.port.unwrap_or(SMTP);
    let hosts = table.host.map(|it| it.0).unwrap_or_default();
    let change = pb::SiteSpec {
        name: name.to_owned(),
        domains: texts(table.domain),
        hosts: hosts.into_iter().map(|host| host.with(port)).collect(),
        proof,
        recipients: table.recipient.map_or_else(Vec::new, |it| {
            it.0.iter().map(|it| it.as_str().to_owned()).collect()
        }),
        connections: table.connections,
        retry_ms: table.retry.map(|it| it.0),
        lifetime_ms: table.lifetime.map(|it| it.0),
        delay_warning_ms: table.delay_warning.map(|it| it.0),
        outage_notice_ms: table.outage_notice.map(|it| it.0.milliseconds()),
        language: table.language.map(|it| it.0.to_string()),
        max_message_bytes: table.max_message.map(|it| it.0),
        quota_messages: table.quota_messages,
        quota_bytes: table.quota_bytes.map(|it| it.0),
        contact: table.contact.map(|it| it.0.as_str().to_owned()),
        hand_over: table
            .hand_over
            .filter(|it| it.0 != HandOver::None)
            .map(|it| it.0.to_string()),
        client_certificate: table.client_certificate.and_then(way::Shown::asked),
        tls_on_connect: table.tls_on_connect,
        lmtp: table.lmtp,
        family: table.family.map(way::NumberOrWord::text),
        allow_targets: texts(table.allow_target),
        agents: texts(table.agent),
        ..pb::SiteSpec::default()
    };
    Ok(SiteEntry {
        change,
        password_hash: table.password_hash.map(|it| it.0),
        wake_hash: table.wake_secret_hash.map(|it| it.0),
        hold: table.hold.map(|hold| Hold {
            by: hold.by,
            since: hold.since.0,
            until: hold.until.map(|it| it.0),
        }),
        held_before: table.held_before.into_iter().flat_map(|it| it.0).collect(),
        take_mail: table.take_mail,
    })
}

fn texts<T: ToString>(many: Option<Many<T>>) -> Vec<String> {
    many.map_or_else(Vec::new, |it| {
        it.0.iter().map(ToString::to_string).collect()
    })
}

/// What a value should have been, for those whose parsers do not say it.
trait Expected {
    const EXPECTED: &'static str;

    /// What is said of the value itself.
    fn value(text: &str) -> String {
        format!("`{}`: ", excerpt::of(text))
    }

    /// What is said of one that is refused.
    fn refused(text: &str) -> String {
        format!("{}expected {}", Self::value(text), Self::EXPECTED)
    }
}

impl Expected for Network {
    const EXPECTED: &'static str = "a network such as 192.0.2.0/24";

    fn refused(text: &str) -> String {
        match text.parse::<Self>() {
            Err(error) => Self::value(text) + &error.to_string(),
            Ok(_) => String::new(),
        }
    }
}

macro_rules! expected {
    ($($type:ty: $text:literal;)*) => {$(
        impl Expected for $type {
            const EXPECTED: &'static str = $text;
        }
    )*};
}

expected! {
    Domain: "a domain such as home.example";
    HostPort: "HOST or HOST:PORT, an IPv6 address with a port in brackets";
    IpAddr: "an IP address such as 192.0.2.1";
    AuthorityName: "the name of an authority";
    AgentName: "the name of an agent";
    OutageNotice: "a duration such as 6h, or never";
    Language: "en or de";
    HandOver: "none, xforward or xclient";
    Fingerprint: "a SHA-256 of 64 hexadecimal digits";
    Mailbox: "a full address such as user@example.net";
    HoldPeriod: "two times such as 2026-01-31T08:00:00Z/2026-02-01T08:00:00Z";
    Timestamp: "a time such as 2026-12-24T18:00:00Z";
    Milliseconds: "a duration such as 90s, 3m, 2h or 14d";
    Size: "bytes, or a size such as 512K, 25M or 1G";
}

macro_rules! expected_secretly {
    ($($type:ty: $text:literal;)*) => {$(
        impl Expected for $type {
            const EXPECTED: &'static str = $text;

            fn value(_: &str) -> String {
                String::new()
            }
        }
    )*};
}

// Whoever puts a secret where its hash belongs does not want to read it in a log.
expected_secretly! {
    PasswordHash: "an argon2id hash that begins with $argon2id$";
    Digest: "the 64 hexadecimal digits of a SHA-256";
}

macro_rules! expected_in_pem {
    ($($type:ty: $kind:expr, $text:literal;)*) => {$(
        impl Expected for $type {
            const EXPECTED: &'static str = $text;

            // The text may hold what nobody should read in a log, so only the place in it is named.
            fn value(text: &str) -> String {
                public(text, $kind).err().map_or_else(String::new, |why| format!("{why}; "))
            }
        }
    )*};
}

expected_in_pem! {
    Certificates: Kind::Certificate, "PEM certificates, and nothing secret";
    RevocationLists: Kind::RevocationList, "PEM revocation lists, and nothing secret";
}

fn parse<T: FromStr + Expected, E: de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(|_| E::custom(T::refused(text)))
}

/// A string.
#[derive(Debug)]
struct One<T>(T);

impl<'de, T: FromStr + Expected> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(deserializer)?).map(Self)
    }
}

/// One string, or an array of them, as a flag may be given once or several times.
#[derive(Debug)]
struct Many<T>(Vec<T>);

impl<'de, T: FromStr + Expected> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings<T>(std::marker::PhantomData<T>);
        impl<'de, T: FromStr + Expected> Visitor<'de> for Strings<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}, or an array of such", T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                parse(text).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(One(item)) = items.next_element()? {
                    all.push(item);
                }
                Ok(all)
            }
        }
        let strings = Strings(std::marker::PhantomData);
        deserializer.deserialize_any(strings).map(Self)
    }
}

/// Taken as it is, and judged beside the other keys.
#[derive(Debug, Deserialize)]
struct Word(String);

#[derive(Debug)]
struct HostPort {
    name: HostName,
    port: Option<NonZeroU16>,
}

impl HostPort {
    fn with(self, port: NonZeroU16) -> pb::Host {
        pb::Host {
            host: match self.name {
                HostName::Dns(name) => name.to_string(),
                HostName::Address(ip) => ip.to_string(),
            },
            port: self.port.unwrap_or(port).get().into(),
        }
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let whole = |name, port| Self { name, port };
        if let Ok(ip) = text.parse() {
            return Ok(whole(HostName::Address(ip), None));
        }
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            let port = address.port().try_into().map_err(drop)?;
            return Ok(whole(HostName::Address(address.ip()), Some(port)));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(drop)?)),
            None => (text, None),
        };
        Ok(whole(HostName::Dns(name.parse().map_err(drop)?), port))
    }
}

macro_rules! from_a_string {
    ($($(#[$doc:meta])* $name:ident($inner:ty) by $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        struct $name($inner);

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let parse: fn(&str) -> Option<$inner> = $parse;
                parse(text).map(Self).ok_or(())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                One::deserialize(deserializer).map(|One(value)| value)
            }
        }
    )*};
}

from_a_string! {
    Milliseconds(u64) by |text| u64::try_from(parse_duration(text).ok()?.as_millis()).ok();
    PasswordHash(String) by |text| {
        let hash = argon2::password_hash::phc::PasswordHash::new(text).ok()?;
        (hash.algorithm.as_str() == "argon2id").then(|| text.to_owned())
    };
    Digest([u8; 32]) by digest;
    /// All that a PEM text holds.
    Certificates(Vec<Bytes>) by |text| public(text, Kind::Certificate).ok();
    RevocationLists(Vec<Bytes>) by |text| public(text, Kind::RevocationList).ok();
}

/// PEM, or why not; a key in it would not belong here.
fn public(text: &str, kind: Kind) -> Result<Vec<Bytes>, String> {
    if text.contains("PRIVATE KEY") {
        return Err("it holds a private key".to_owned());
    }
    let all = pem::read(text.as_bytes(), kind).map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(Bytes::from).collect())
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A size as text, or bytes as a number.
#[derive(Debug)]
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = || D::Error::custom(format!("expected {}", Self::EXPECTED));
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Integer(bytes) => u64::try_from(bytes).map(Self).map_err(|_| expected()),
            toml::Value::String(text) => parse_size(&text).map(Self).map_err(D::Error::custom),
            _ => Err(expected()),
        }
    }
}
