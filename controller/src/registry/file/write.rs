//! Records → text. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::pem;
use dd_proto::site::{
    Certified, Family, HandOver, Hold, KnownRecipients, Proof, Site, Speaks, TlsBegins,
};
use dd_proto::units::{OutageNotice, format_duration, format_size};

use crate::registry::agents::AgentRecord;
use crate::registry::authorities::{Authority, Origin};

const HEAD: &str = "\
# The registry of a dd-controller, without private keys. `ddadm registry apply FILE` takes it in again: it adds and
# changes, and never removes. Keys are the long flags of the `add` commands. As this file may be older than what is there,
# it replaces no newer revocation list, and no certificate of an authority that is there: with `replace = true` in the
# table of an imported authority its certificates take the place of those.
";

/// Keys and values of one table, in the order in which they are written; values as TOML.
type Keys = Vec<(&'static str, String)>;

/// The whole file.
pub fn write(
    sites: &[Arc<Site>],
    agents: &[Arc<AgentRecord>],
    authorities: &[Arc<Authority>],
) -> String {
    let mut text = HEAD.to_owned();
    for authority in authorities {
        table(
            &mut text,
            "authority",
            authority.name.as_str(),
            &authority_keys(authority),
        );
    }
    for agent in agents {
        table(&mut text, "agent", agent.name.as_str(), &agent_keys(agent));
    }
    for site in sites {
        let keys = all_site_keys(site);
        table(&mut text, "site", site.name.as_str(), &keys);
    }
    text
}

/// What a site's table says, by key.
pub fn site_keys(site: &Site) -> BTreeMap<&'static str, String> {
    all_site_keys(site).into_iter().collect()
}

/// What an agent's table says, by key.
pub fn agent_fields(agent: &AgentRecord) -> BTreeMap<&'static str, String> {
    agent_keys(agent).into_iter().collect()
}

fn table(to: &mut String, family: &str, name: &str, keys: &Keys) {
    // A dot in a bare key would begin another table.
    let name = match name.contains('.') {
        true => text(name),
        false => name.to_owned(),
    };
    let _ = writeln!(to, "\n[{family}.{name}]");
    for (key, value) in keys {
        let _ = writeln!(to, "{key} = {value}");
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| text(&item)).collect();
    format!("[{}]", texts.join(", "))
}

/// A basic string in which nothing is invisible, whoever chose the text.
fn text(value: &(impl ToString + ?Sized)) -> String {
    let mut quoted = String::from("\"");
    for c in value.to_string().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

fn all_site_keys(site: &Site) -> Keys {
    let duration = |duration: Duration| text(&format_duration(duration));
    let mut keys: Keys = vec![("domain", list(&site.domains)), ("host", list(&site.hosts))];
    keys.extend(proof_keys(&site.proof));
    if let KnownRecipients::Only(known) = &site.known {
        keys.push((
            "recipient",
            list(known.iter().map(dd_proto::path::Mailbox::as_str)),
        ));
    }
    keys.push(("connections", site.limits.connections.to_string()));
    keys.push(("retry", duration(site.schedule.retry_interval)));
    keys.push(("lifetime", duration(site.schedule.lifetime)));
    keys.push(("delay-warning", duration(site.schedule.delay_warning)));
    let notice = OutageNotice(site.schedule.outage_notice);
    keys.push(("outage-notice", text(&notice)));
    let optional = [
        (
            "max-message",
            site.limits
                .max_message_bytes
                .map(|it| text(&format_size(it))),
        ),
        (
            "quota-messages",
            site.limits.quota_messages.map(|it| it.to_string()),
        ),
        (
            "quota-bytes",
            site.limits.quota_bytes.map(|it| text(&format_size(it))),
        ),
        ("contact", site.contact.as_ref().map(|it| text(it.as_str()))),
        ("language", site.language.as_ref().map(text)),
        (
            "hand-over",
            (site.way.hand_over != HandOver::None).then(|| text(&site.way.hand_over)),
        ),
        (
            "client-certificate",
            site.way.client_certificate.as_ref().map(text),
        ),
        (
            "tls-on-connect",
            (site.way.tls == TlsBegins::OnConnect).then(|| true.to_string()),
        ),
        (
            "lmtp",
            (site.way.speaks == Speaks::Lmtp).then(|| true.to_string()),
        ),
        (
            "family",
            (site.way.family != Family::Any).then(|| text(&site.way.family)),
        ),
        (
            "allow-target",
            (!site.allow_targets.is_empty()).then(|| list(&site.allow_targets)),
        ),
        (
            "agent",
            (!site.agents.is_empty()).then(|| list(&site.agents)),
        ),
        ("password-hash", site.password_hash.as_ref().map(text)),
        (
            "wake-secret-hash",
            site.wake_hash.as_ref().map(|it| text(&hex(it))),
        ),
        ("hold", site.hold.as_ref().map(hold)),
        (
            "held-before",
            (!site.held_before.is_empty()).then(|| list(site.held_before.iter())),
        ),
    ];
    let given = optional.into_iter();
    keys.extend(given.filter_map(|(key, value)| Some((key, value?))));
    keys
}

fn proof_keys(proof: &Proof) -> Keys {
    let kind = ("proof", text(proof.kind()));
    let certified = |it: &Certified| {
        [
            ("authority", text(&it.authority)),
            ("cert-name", text(&it.name)),
        ]
    };
    match proof {
        Proof::StaticIp {
            addresses,
            certificate,
        } => {
            let mut keys = vec![kind, ("address", list(addresses))];
            keys.extend(certificate.iter().flat_map(certified));
            keys
        }
        Proof::Certificate(it) => std::iter::once(kind).chain(certified(it)).collect(),
        Proof::Fingerprint { listed } => vec![kind, ("fingerprint", list(listed))],
        Proof::Public { name } => vec![kind, ("cert-name", text(name))],
        Proof::Port | Proof::Configured => vec![kind],
    }
}

fn hold(hold: &Hold) -> String {
    let until = hold
        .until
        .map(|until| format!(", until = {}", text(&until)));
    format!(
        "{{ by = {}, since = {}{} }}",
        text(&hold.by),
        text(&hold.since),
        until.unwrap_or_default()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn agent_keys(agent: &AgentRecord) -> Keys {
    let mut keys = vec![("address", list(&agent.addresses))];
    if let Some(from) = agent.from {
        keys.push(("from", text(&from)));
    }
    if agent.drain.is_wanted() {
        keys.push(("drain", "true".to_owned()));
    }
    if let Some(key) = agent.key {
        keys.push(("key-hash", text(&hex(&key.0))));
    }
    keys
}

/// Certificates and lists as people know them.
fn authority_keys(authority: &Authority) -> Keys {
    let pems = |all: &[Bytes], pem: fn(&[u8]) -> String| {
        let all = all
            .iter()
            .map(|der| format!("\"\"\"\n{}\"\"\",\n", pem(der)));
        format!("[\n{}]", all.collect::<String>())
    };
    let mut keys = vec![(
        "certificate",
        pems(&authority.certificates, pem::certificate),
    )];
    if !authority.revocation_lists.is_empty() {
        keys.push((
            "crl",
            pems(&authority.revocation_lists, pem::revocation_list),
        ));
    }
    if let Origin::Own { permit } = &authority.origin {
        keys.push(("own", "true".to_owned()));
        if !permit.is_empty() {
            keys.push(("permit", list(permit)));
        }
    }
    keys
}
