//! What a site showed: the certificates that are remembered of it, and who was refused in its place. As JSON and for
//! people.

use dd_proto::pb;
use serde::Serialize;

use crate::output::{Page, present, time, time_shown};

/// A certificate.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    subject: String,
    issuer: String,
    names: Vec<String>,
    sha256: String,
    spki_sha256: String,
    not_before: Option<String>,
    not_after: Option<String>,
}

/// Who was refused last, and why.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    at: Option<String>,
    agent: String,
    host: String,
    address: String,
    reason: String,
    sentence: String,
    wanted: String,
    seen: String,
    tls_version: Option<String>,
    peer: Option<Peer>,
}

/// What is remembered.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// Without TLS it gets nothing any more.
    tls: bool,
    sights: Vec<Sight>,
    /// When it last lost commands that travelled together, and what stood behind a final dot.
    lost_together: Option<String>,
    lost_behind_dot: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sight {
    host: String,
    address: String,
    proof: String,
    tls_version: Option<String>,
    certificate: Option<Peer>,
    first: Option<String>,
    last: Option<String>,
    agent: String,
}

impl From<pb::PeerCertificate> for Peer {
    fn from(it: pb::PeerCertificate) -> Self {
        Self {
            subject: it.subject,
            issuer: it.issuer,
            names: it.names,
            sha256: it.sha256,
            spki_sha256: it.spki_sha256,
            not_before: time(it.not_before_ms),
            not_after: time(it.not_after_ms),
        }
    }
}

impl From<pb::LastRefusal> for Refusal {
    fn from(it: pb::LastRefusal) -> Self {
        let observed = it.observed.unwrap_or_default();
        let refusal = observed.refusal.unwrap_or_default();
        Self {
            at: time(it.at_ms),
            agent: it.agent,
            host: observed.host,
            address: observed.peer,
            reason: refusal.reason,
            sentence: refusal.sentence,
            wanted: refusal.wanted,
            seen: refusal.seen,
            tls_version: present(observed.tls_version),
            peer: observed.certificate.map(Peer::from),
        }
    }
}

impl From<pb::Shown> for Shown {
    fn from(it: pb::Shown) -> Self {
        let sight = |it: pb::Sight| Sight {
            host: it.host,
            address: it.address,
            proof: it.proof,
            tls_version: present(it.tls_version),
            certificate: it.certificate.map(Peer::from),
            first: time(it.first_ms),
            last: time(it.last_ms),
            agent: it.agent,
        };
        Self {
            tls: it.tls,
            sights: it.sights.into_iter().map(sight).collect(),
            lost_together: it.lost_together_ms.and_then(time),
            lost_behind_dot: it.lost_behind_dot_ms.and_then(time),
        }
    }
}

pub(super) fn refusal(page: &mut Page, it: &pb::LastRefusal) {
    let observed = it.observed.clone().unwrap_or_default();
    let refusal = observed.refusal.unwrap_or_default();
    page.line("", "");
    let at = time_shown(it.at_ms);
    let whom = format!("{at} {} via {}", observed.peer, it.agent);
    page.line("Last refused", &format!("{whom} ({})", refusal.reason));
    page.line("", &refusal.sentence);
    page.line("", &format!("wanted: {}", refusal.wanted));
    page.line("", &format!("seen: {}", refusal.seen));
    if let Some(peer) = &observed.certificate {
        certificate(page, peer);
    }
}

/// Whether what a site has shown is all that makes TLS a must: every other proof needs it anyway.
fn tls_is_remembered(proof: Option<&pb::Proof>) -> bool {
    use pb::proof::Kind;
    match proof.and_then(|proof| proof.kind.as_ref()) {
        Some(Kind::StaticIp(it)) => it.certificate.is_none(),
        Some(Kind::Port(_) | Kind::Configured(_)) => true,
        Some(Kind::Certificate(_) | Kind::Public(_) | Kind::Fingerprint(_)) | None => false,
    }
}

pub(super) fn shown(page: &mut Page, spec: &pb::SiteSpec, it: &pb::Shown) {
    page.line("", "");
    let mut label = "Has shown";
    for sight in &it.sights {
        let tls = match sight.tls_version.as_str() {
            "" => "no TLS",
            version => version,
        };
        // The last time is known to the day.
        let (first, last) = (time_shown(sight.first_ms), time_shown(sight.last_ms));
        let last = last.split('T').next().unwrap_or_default();
        let times = format!("since {first}, last on {last}");
        page.line(
            label,
            &format!("{}: {tls}, by {}, {times}", sight.host, sight.proof),
        );
        if let Some(peer) = &sight.certificate {
            certificate(page, peer);
        }
        label = "";
    }
    for (lost, what) in [
        (
            it.lost_together_ms,
            "commands that travel together, though it offers PIPELINING: it gets them one at a time",
        ),
        (
            it.lost_behind_dot_ms,
            "what stands behind a final dot: it gets each message when the one before is answered",
        ),
    ] {
        if let Some(at) = lost {
            page.line(
                "",
                &format!(
                    "loses {what} (seen {}, remembered for 30 days)",
                    time_shown(at)
                ),
            );
        }
    }
    if it.tls && tls_is_remembered(spec.proof.as_ref()) {
        page.line(
            "",
            &format!(
                "without TLS it is refused from now on; `ddadm site set {} --clear shown` ends that",
                spec.name
            ),
        );
    }
}

fn certificate(page: &mut Page, peer: &pb::PeerCertificate) {
    let names = match peer.names.is_empty() {
        true => "no name".to_owned(),
        false => peer.names.join(" "),
    };
    let subject = format!("{} for {names}, issued by {}", peer.subject, peer.issuer);
    page.line("", &format!("certificate: {subject}"));
    if peer.not_after_ms != 0 {
        let (from, until) = (
            time_shown(peer.not_before_ms),
            time_shown(peer.not_after_ms),
        );
        page.line("", &format!("valid: {from} to {until}"));
    }
    page.line("", &format!("sha256: {}", peer.sha256));
    if !peer.spki_sha256.is_empty() {
        page.line("", &format!("key: {}", peer.spki_sha256));
    }
}
