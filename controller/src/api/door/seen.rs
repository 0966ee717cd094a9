//! What an agent says to have seen, beside the plan that it was given.

use std::net::SocketAddr;

use dd_proto::excerpt;
use dd_proto::pb;
use dd_proto::site::{Proof, Site};
use dd_proto::targets::same_host;

use super::Flaw;

/// A session has proved itself: at a host of the plan, by the proof of the plan, inside TLS where that rests on it.
///
/// # Errors
/// By the plan it has not.
pub(super) fn proves(observed: &pb::Observed, plan: &Site) -> Result<(), Flaw> {
    if observed.refusal.is_some() {
        let says = "is there, so nothing was proved: that is OUTCOME_WRONG_HOST";
        return Err(Flaw::new("observed.refusal", says));
    }
    if observed.host.is_empty() {
        return Err(Flaw::new("observed.host", "is missing"));
    }
    host(observed, plan)?;
    proof(observed, plan)?;
    address(observed, plan)?;
    // A certificate need not be there: what proves is not always what can be described.
    if rests_on_tls(&plan.proof) && observed.tls_version.is_empty() {
        let says = format!(
            "is empty, and the proof `{}` rests on TLS",
            plan.proof.kind()
        );
        return Err(Flaw::new("observed.tls_version", says));
    }
    Ok(())
}

/// A report of what a site answered. Behind a proof peer and proof are enough.
///
/// # Errors
/// It was not answered behind the plan's proof.
pub(super) fn behind_proof(report: &pb::Report, plan: &Site) -> Result<(), Flaw> {
    if report.recipients.is_empty() && !report.dot_sent {
        return Ok(());
    }
    let none = pb::Observed::default();
    let observed = report.observed.as_ref().unwrap_or(&none);
    if !observed.host.is_empty() {
        host(observed, plan)?;
    }
    proof(observed, plan)?;
    if observed.peer.is_empty() {
        return Err(Flaw::new("observed.peer", "is missing"));
    }
    address(observed, plan)
}

fn host(observed: &pb::Observed, plan: &Site) -> Result<(), Flaw> {
    let same = |one: &str, other: &str| {
        let plain = |text: &str| text.replace(['[', ']'], "").to_ascii_lowercase();
        plain(one) == plain(other)
    };
    let mut hosts = plan.hosts.iter().map(ToString::to_string);
    if hosts.any(|host| same(&host, &observed.host)) {
        return Ok(());
    }
    let says = format!(
        "is `{}`, which is no host of the plan",
        excerpt::of(&observed.host)
    );
    Err(Flaw::new("observed.host", says))
}

fn proof(observed: &pb::Observed, plan: &Site) -> Result<(), Flaw> {
    let wanted = plan.proof.kind();
    match observed.proof.as_str() {
        "" => Err(Flaw::new("observed.proof", "is missing")),
        given if given == wanted => Ok(()),
        given => {
            let says = format!("is `{}`, and the plan's is `{wanted}`", excerpt::of(given));
            Err(Flaw::new("observed.proof", says))
        }
    }
}

/// Of static addresses the one connected to has to be one, as the proof itself compares them.
fn address(observed: &pb::Observed, plan: &Site) -> Result<(), Flaw> {
    let (Proof::StaticIp { addresses, .. }, Ok(peer)) =
        (&plan.proof, observed.peer.parse::<SocketAddr>())
    else {
        return Ok(());
    };
    let connected_to = same_host(peer.ip());
    if addresses.iter().any(|it| same_host(*it) == connected_to) {
        return Ok(());
    }
    let says = format!("is {peer}, which is none of the plan's addresses");
    Err(Flaw::new("observed.peer", says))
}

fn rests_on_tls(proof: &Proof) -> bool {
    match proof {
        Proof::Certificate(_) | Proof::Fingerprint { .. } | Proof::Public { .. } => true,
        Proof::StaticIp { certificate, .. } => certificate.is_some(),
        Proof::Port | Proof::Configured => false,
    }
}
