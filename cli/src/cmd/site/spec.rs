//! Flags in, a site record (or a change of one) out.
//!
//! # Invariants
//! A proof is always sent whole: a flag that changes part of it is completed from the record the site has now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use clap::ValueEnum as _;
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::proof::Kind;
use dd_proto::site::HostName;
use dd_proto::units::OutageNotice;

use crate::args::site::{Clear, ProofKind, Set, SiteFlags};
use crate::failure::Failure;

/// RFC 5321 §4.5.4.2: where SMTP listens.
const SMTP: NonZeroU16 = NonZeroU16::new(25).expect("25 is not 0");

/// Everything the flags say of a site but proof, password and what is cleared.
pub(super) fn plain(name: &SiteName, flags: &SiteFlags) -> pb::SiteSpec {
    pb::SiteSpec {
        name: name.to_string(),
        ..says(flags)
    }
}

/// The same of any site.
fn says(flags: &SiteFlags) -> pb::SiteSpec {
    pb::SiteSpec {
        domains: texts(&flags.domain),
        hosts: hosts(flags),
        recipients: texts(&flags.recipient),
        connections: flags.connections,
        retry_ms: flags.retry.map(ms),
        lifetime_ms: flags.lifetime.map(ms),
        delay_warning_ms: flags.delay_warning.map(ms),
        outage_notice_ms: flags.outage_notice.map(OutageNotice::milliseconds),
        language: flags.language.map(|it| it.to_string()),
        max_message_bytes: flags.max_message,
        quota_messages: flags.quota_messages,
        quota_bytes: flags.quota_bytes,
        contact: flags.contact.as_ref().map(ToString::to_string),
        hand_over: flags.hand_over.map(|it| it.to_string()),
        client_certificate: flags.client_certificate.clone(),
        tls_on_connect: flags.tls_on_connect.then_some(true),
        lmtp: flags.lmtp.then_some(true),
        family: flags.family.map(|it| it.to_string()),
        allow_targets: texts(&flags.allow_target),
        agents: texts(&flags.agent),
        ..pb::SiteSpec::default()
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hosts(flags: &SiteFlags) -> Vec<pb::Host> {
    flags
        .host
        .iter()
        .map(|host| pb::Host {
            host: match &host.name {
                HostName::Dns(name) => name.to_string(),
                HostName::Address(ip) => ip.to_string(),
            },
            port: host.port.or(flags.port).unwrap_or(SMTP).get().into(),
        })
        .collect()
}

/// The hosts that are addresses: with static-ip they list themselves.
fn literals(hosts: &[pb::Host]) -> BTreeSet<IpAddr> {
    hosts
        .iter()
        .filter_map(|host| host.host.parse().ok())
        .collect()
}

pub(super) fn cleared(clear: &[Clear]) -> Vec<String> {
    clear
        .iter()
        .filter_map(|flag| {
            flag.to_possible_value()
                .map(|value| value.get_name().to_owned())
        })
        .collect()
}

/// The proof of a new site.
///
/// # Errors
/// A flag is missing, or belongs to another proof.
pub(super) fn new_proof(flags: &SiteFlags) -> Result<pb::Proof, Failure> {
    for (missing, flag) in [
        (flags.domain.is_empty(), "--domain D"),
        (flags.host.is_empty(), "--host HOST[:PORT]"),
        (
            flags.proof.is_none(),
            "--proof static-ip|certificate|port|fingerprint|public",
        ),
    ] {
        if missing {
            return Err(Failure::Usage(format!(
                "a new site needs {flag}; see ddadm site add --help"
            )));
        }
    }
    let nothing = pb::SiteSpec::default();
    changed_proof(flags, &nothing)?.ok_or_else(|| Failure::Usage("a new site needs --proof".into()))
}

/// # Errors
/// The command would change nothing.
pub(super) fn check_change(set: &Set) -> Result<(), Failure> {
    let changes = says(&set.flags) != pb::SiteSpec::default()
        || touches_proof(&set.flags)
        || set.flags.password_stdin
        || !set.clear.is_empty();
    match changes {
        true => Ok(()),
        false => Err(Failure::Usage(
            "nothing to change; see ddadm site set --help".into(),
        )),
    }
}

/// Whether the flags may change the proof, so that the present record has to be known.
pub(super) fn touches_proof(flags: &SiteFlags) -> bool {
    flags.proof.is_some()
        || !flags.address.is_empty()
        || flags.authority.is_some()
        || flags.cert_name.is_some()
        || !flags.fingerprint.is_empty()
        || !flags.host.is_empty()
}

/// The proof as it will be, or none where it stays as it is.
///
/// # Errors
/// A flag is missing, or belongs to another proof.
pub(super) fn changed_proof(
    flags: &SiteFlags,
    now: &pb::SiteSpec,
) -> Result<Option<pb::Proof>, Failure> {
    let kind_now = now.proof.as_ref().and_then(|proof| proof.kind.as_ref());
    let kind = match (flags.proof.or_else(|| implied(flags, kind_now)), kind_now) {
        (Some(kind), _) => kind,
        (None, Some(Kind::StaticIp(_))) if !flags.host.is_empty() => ProofKind::StaticIp,
        (None, Some(Kind::Port(_))) if !flags.host.is_empty() => ProofKind::Port,
        (None, _) => return Ok(None),
    };
    check_strangers(kind, flags)?;
    let kind = match kind {
        ProofKind::StaticIp => static_ip(flags, now, kind_now)?,
        ProofKind::Certificate => Kind::Certificate(certificate(
            flags,
            match kind_now {
                Some(Kind::Certificate(it)) => Some(it),
                _ => None,
            },
            "certificate",
        )?),
        ProofKind::Port => Kind::Port(pb::proof::Port {}),
        ProofKind::Fingerprint => fingerprint(flags, kind_now)?,
        ProofKind::Public => public(flags, kind_now)?,
    };
    Ok(Some(pb::Proof { kind: Some(kind) }))
}

/// The proof whose parameters are given.
fn implied(flags: &SiteFlags, now: Option<&Kind>) -> Option<ProofKind> {
    if !flags.fingerprint.is_empty() {
        Some(ProofKind::Fingerprint)
    } else if flags.authority.is_some() {
        Some(ProofKind::Certificate)
    } else if flags.cert_name.is_some() {
        match now {
            Some(Kind::Public(_)) => Some(ProofKind::Public),
            _ => Some(ProofKind::Certificate),
        }
    } else if !flags.address.is_empty() {
        Some(ProofKind::StaticIp)
    } else {
        None
    }
}

/// A parameter of another proof would be ignored, and its author would believe it counts.
fn check_strangers(kind: ProofKind, flags: &SiteFlags) -> Result<(), Failure> {
    use ProofKind as P;
    for (given, flag, kinds) in [
        (!flags.address.is_empty(), "--address", &[P::StaticIp][..]),
        (
            flags.authority.is_some(),
            "--authority",
            &[P::Certificate, P::StaticIp],
        ),
        (
            flags.cert_name.is_some(),
            "--cert-name",
            &[P::Certificate, P::Public, P::StaticIp],
        ),
        (
            !flags.fingerprint.is_empty(),
            "--fingerprint",
            &[P::Fingerprint],
        ),
    ] {
        if given && !kinds.contains(&kind) {
            let words: Vec<String> = kinds
                .iter()
                .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
                .collect();
            return Err(Failure::Usage(format!(
                "{flag} goes with --proof {} only",
                words.join(" or ")
            )));
        }
    }
    Ok(())
}

fn fingerprint(flags: &SiteFlags, kind_now: Option<&Kind>) -> Result<Kind, Failure> {
    let sha256 = match kind_now {
        Some(Kind::Fingerprint(it)) if flags.fingerprint.is_empty() => it.sha256.clone(),
        _ => texts(&flags.fingerprint),
    };
    match sha256.is_empty() {
        true => Err(Failure::Usage(
            "--proof fingerprint needs --fingerprint SHA256".into(),
        )),
        false => Ok(Kind::Fingerprint(pb::proof::Fingerprint { sha256 })),
    }
}

fn public(flags: &SiteFlags, kind_now: Option<&Kind>) -> Result<Kind, Failure> {
    let name = match (&flags.cert_name, kind_now) {
        (Some(name), _) => name.to_string(),
        (None, Some(Kind::Public(it))) => it.name.clone(),
        (None, _) => {
            return Err(Failure::Usage(
                "--proof public needs --cert-name NAME".into(),
            ));
        }
    };
    Ok(Kind::Public(pb::proof::Public { name }))
}

/// The addresses given, else those listed now without the hosts that are replaced; and every host that is an address.
fn static_ip(
    flags: &SiteFlags,
    now: &pb::SiteSpec,
    kind_now: Option<&Kind>,
) -> Result<Kind, Failure> {
    let mut listed: BTreeSet<IpAddr> = flags.address.iter().copied().collect();
    if let (true, Some(Kind::StaticIp(it))) = (listed.is_empty(), kind_now) {
        listed = it
            .addresses
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        if !flags.host.is_empty() {
            listed = &listed - &literals(&now.hosts);
        }
    }
    listed.extend(match flags.host.is_empty() {
        true => literals(&now.hosts),
        false => literals(&hosts(flags)),
    });
    let certificate_now = match kind_now {
        Some(Kind::StaticIp(it)) => it.certificate.as_ref(),
        _ => None,
    };
    let asked = flags.authority.is_some() || flags.cert_name.is_some();
    let certificate = match asked || certificate_now.is_some() {
        true => Some(certificate(
            flags,
            certificate_now,
            "static-ip with a certificate",
        )?),
        false => None,
    };
    Ok(Kind::StaticIp(pb::proof::StaticIp {
        addresses: listed.iter().map(ToString::to_string).collect(),
        certificate,
    }))
}

fn certificate(
    flags: &SiteFlags,
    now: Option<&pb::proof::Certificate>,
    proof_word: &str,
) -> Result<pb::proof::Certificate, Failure> {
    let mut proof = now.cloned().unwrap_or_default();
    if let Some(authority) = &flags.authority {
        proof.authority = authority.to_string();
    }
    if let Some(name) = &flags.cert_name {
        proof.name = name.to_string();
    }
    if proof.authority.is_empty() || proof.name.is_empty() {
        return Err(Failure::Usage(format!(
            "--proof {proof_word} needs --authority CA and --cert-name NAME"
        )));
    }
    Ok(proof)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
