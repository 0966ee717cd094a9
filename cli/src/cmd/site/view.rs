//! A site as JSON: the shape programs rely on.

use dd_proto::pb;
use dd_proto::pb::proof::Kind;
use dd_proto::units::{OutageNotice, format_duration};
use serde::Serialize;
use std::time::Duration;

use super::evidence::{Peer, Refusal, Shown};
use super::history::History;
use crate::output::{present, time};

#[derive(Debug, Serialize)]
pub(super) struct SiteView {
    name: String,
    version: u64,
    domains: Vec<String>,
    hosts: Vec<Host>,
    proof: Proof,
    state: String,
    why: Option<String>,
    next_attempt: Option<String>,
    queued: Queued,
    last_attempts: Vec<Attempt>,
    answered_for: Vec<AnsweredFor>,
    out: u32,
    sessions: u32,
    hold: Option<Hold>,
    closing: bool,
    recipients: Vec<String>,
    connections: Option<u32>,
    retry: Option<String>,
    lifetime: Option<String>,
    delay_warning: Option<String>,
    /// `never`, or after how long the contact is told that mail waits.
    outage_notice: Option<String>,
    max_message_bytes: Option<u64>,
    quota_messages: Option<u64>,
    quota_bytes: Option<u64>,
    contact: Option<String>,
    language: Option<String>,
    /// How it is told from whom the MX had a message.
    hand_over: Option<String>,
    /// The authority of which agents show its hosts a certificate.
    client_certificate: Option<String>,
    tls_on_connect: bool,
    lmtp: bool,
    /// Null: addresses of both.
    family: Option<String>,
    allow_targets: Vec<String>,
    /// Only these carry its mail; empty: any does.
    agents: Vec<String>,
    /// Why no agent may try it now.
    no_agent: Option<String>,
    /// Whether there is one; neither is ever shown.
    password: bool,
    wake_secret: bool,
    refusal: Option<Refusal>,
    shown: Option<Shown>,
    history: Option<History>,
    /// What each agent found, where one reached it and another did not.
    agents_found: Vec<Found>,
    /// After `add` and `set`: what was taken and is probably not meant.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Found {
    agent: String,
    at: Option<String>,
    found: String,
    detail: Option<String>,
}

impl From<pb::AgentFound> for Found {
    fn from(it: pb::AgentFound) -> Self {
        Self {
            agent: it.agent,
            at: time(it.at_ms),
            found: it.found,
            detail: present(it.detail),
        }
    }
}

#[derive(Debug, Serialize)]
struct AnsweredFor {
    at: Option<String>,
    address: String,
    site: String,
}

impl From<pb::AnsweredFor> for AnsweredFor {
    fn from(it: pb::AnsweredFor) -> Self {
        Self {
            at: time(it.at_ms),
            address: it.address,
            site: it.site,
        }
    }
}

#[derive(Debug, Serialize)]
struct Host {
    host: String,
    port: u32,
}

#[derive(Debug, Default, Serialize)]
struct Proof {
    kind: &'static str,
    authority: Option<String>,
    cert_name: Option<String>,
    addresses: Vec<String>,
    fingerprints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Queued {
    messages: u64,
    bytes: u64,
    complete: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Attempt {
    at: Option<String>,
    agent: String,
    address: String,
    outcome: String,
    detail: String,
    peer: Option<Peer>,
}

#[derive(Debug, Serialize)]
struct Hold {
    by: String,
    since: Option<String>,
    until: Option<String>,
}

impl From<pb::SiteStatus> for SiteView {
    fn from(status: pb::SiteStatus) -> Self {
        let site = status.site.unwrap_or_default();
        let spec = site.spec.unwrap_or_default();
        let duration = |ms: Option<u64>| ms.map(|ms| format_duration(Duration::from_millis(ms)));
        Self {
            name: spec.name,
            version: site.version,
            domains: spec.domains,
            hosts: spec.hosts.into_iter().map(Host::from).collect(),
            proof: spec.proof.map(Proof::from).unwrap_or_default(),
            state: status.state,
            why: present(status.why),
            next_attempt: time(status.next_attempt_ms),
            queued: Queued {
                messages: status.queued_messages,
                bytes: status.queued_bytes,
                complete: status.complete,
            },
            last_attempts: status
                .last_attempts
                .into_iter()
                .map(Attempt::from)
                .collect(),
            answered_for: status
                .answered_for
                .into_iter()
                .map(AnsweredFor::from)
                .collect(),
            out: status.out,
            sessions: status.sessions,
            hold: site.hold.map(Hold::from),
            closing: site.closing,
            recipients: spec.recipients,
            connections: spec.connections,
            retry: duration(spec.retry_ms),
            lifetime: duration(spec.lifetime_ms),
            delay_warning: duration(spec.delay_warning_ms),
            outage_notice: spec
                .outage_notice_ms
                .map(|ms| OutageNotice::of_milliseconds(ms).to_string()),
            max_message_bytes: spec.max_message_bytes,
            quota_messages: spec.quota_messages,
            quota_bytes: spec.quota_bytes,
            contact: spec.contact,
            language: spec.language,
            hand_over: spec.hand_over,
            client_certificate: spec.client_certificate,
            tls_on_connect: spec.tls_on_connect.unwrap_or_default(),
            lmtp: spec.lmtp.unwrap_or_default(),
            family: spec.family,
            allow_targets: spec.allow_targets,
            agents: spec.agents,
            no_agent: present(status.no_agent),
            password: status.has_password,
            wake_secret: status.has_wake_secret,
            refusal: status.refusal.map(Refusal::from),
            shown: status.shown.map(Shown::from),
            history: status.history.map(History::from),
            agents_found: status.agents_found.into_iter().map(Found::from).collect(),
            warnings: status.warnings,
        }
    }
}

impl From<pb::Host> for Host {
    fn from(it: pb::Host) -> Self {
        Self {
            host: it.host,
            port: it.port,
        }
    }
}

impl From<pb::Proof> for Proof {
    fn from(proof: pb::Proof) -> Self {
        let Some(kind) = proof.kind else {
            return Self::default();
        };
        let word = kind_word(&kind);
        match kind {
            Kind::StaticIp(it) => {
                let (authority, cert_name) =
                    it.certificate.map(|it| (it.authority, it.name)).unzip();
                Self {
                    kind: word,
                    addresses: it.addresses,
                    authority,
                    cert_name,
                    ..Self::default()
                }
            }
            Kind::Fingerprint(it) => Self {
                kind: word,
                fingerprints: it.sha256,
                ..Self::default()
            },
            Kind::Public(it) => Self {
                kind: word,
                cert_name: Some(it.name),
                ..Self::default()
            },
            Kind::Certificate(it) => Self {
                kind: word,
                authority: Some(it.authority),
                cert_name: Some(it.name),
                ..Self::default()
            },
            Kind::Port(_) | Kind::Configured(_) => Self {
                kind: word,
                ..Self::default()
            },
        }
    }
}

/// The word operators use for a proof.
pub(super) fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::StaticIp(_) => "static-ip",
        Kind::Certificate(_) => "certificate",
        Kind::Fingerprint(_) => "fingerprint",
        Kind::Public(_) => "public",
        Kind::Port(_) => "port",
        Kind::Configured(_) => "configured",
    }
}

impl From<pb::LastAttempt> for Attempt {
    fn from(it: pb::LastAttempt) -> Self {
        Self {
            at: time(it.at_ms),
            agent: it.agent,
            address: it.address,
            outcome: it.outcome,
            detail: it.detail,
            peer: it.peer.map(Peer::from),
        }
    }
}

impl From<pb::Hold> for Hold {
    fn from(it: pb::Hold) -> Self {
        Self {
            by: it.by,
            since: time(it.since_ms),
            until: time(it.until_ms),
        }
    }
}
