//! A site for people: where it stands in a sentence, what is set, what happened last and who answered.

use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::proof::Kind;
use dd_proto::units::{OutageNotice, format_duration, format_size};

use crate::cmd::site::hint::hint;
use crate::cmd::site::view::kind_word;
use crate::cmd::site::{evidence, history};
use crate::output::{Page, bytes_shown, count, time_shown};

pub(super) fn page(status: &pb::SiteStatus) -> String {
    let site = status.site.clone().unwrap_or_default();
    let spec = site.spec.clone().unwrap_or_default();
    let mut page = Page::new(&format!("{} (version {})", spec.name, site.version));
    page.lines("Warning", status.warnings.iter().map(String::as_str));
    page.line("State", &state(status, &site));
    if status.next_attempt_ms != 0 {
        page.line("Next attempt", &time_shown(status.next_attempt_ms));
    }
    if !status.no_agent.is_empty() {
        page.line("Not tried", &status.no_agent);
    }
    let found = status.agents_found.iter().map(|it| {
        let detail = if it.detail.is_empty() { "" } else { ": " };
        format!(
            "{}, {}: {}{detail}{}",
            it.agent,
            time_shown(it.at_ms),
            it.found,
            it.detail
        )
    });
    let found: Vec<String> = found.collect();
    page.lines("Agents differ", found.iter().map(String::as_str));
    page.line("Queued", &queued(status));
    if status.out > 0 || status.sessions > 0 {
        let sessions = count(status.sessions.into(), "session", "sessions");
        page.line(
            "Out",
            &format!(
                "{} in {sessions}",
                count(status.out.into(), "message", "messages")
            ),
        );
    }
    if let Some(it) = &status.history {
        history::days(&mut page, it);
    }
    page.lines("Domains", spec.domains.iter().map(String::as_str));
    let hosts: Vec<String> = spec.hosts.iter().map(host).collect();
    page.lines("Hosts", hosts.iter().map(String::as_str));
    page.line("Proof", &proof(spec.proof.as_ref()));
    settings(&mut page, &spec);
    let wakes = [
        (status.has_password, "password"),
        (status.has_wake_secret, "secret URL"),
    ];
    let wakes: Vec<&str> = wakes.iter().filter(|it| it.0).map(|it| it.1).collect();
    if !wakes.is_empty() {
        page.line("Wakes up by", &wakes.join(", "));
    }
    if let Some(it) = &status.shown {
        evidence::shown(&mut page, &spec, it);
    }
    if let Some(it) = &status.refusal {
        evidence::refusal(&mut page, it);
    }
    attempts(&mut page, &status.last_attempts);
    if let Some(it) = &status.history {
        history::before(&mut page, it, &status.last_attempts);
    }
    if let Some(hint) = hint(&status.last_attempts) {
        page.line("Note", hint);
    }
    for it in &status.answered_for {
        page.line(
            "Answered for",
            &format!(
                "{}, whose name pointed to {}, {}; refused, and got nothing",
                it.site,
                it.address,
                time_shown(it.at_ms)
            ),
        );
    }
    page.into_text()
}

/// What the state means for the mail.
fn state(status: &pb::SiteStatus, site: &pb::Site) -> String {
    let closing = if site.closing {
        "; closed for removal, takes no new mail"
    } else {
        ""
    };
    let sentence = match (status.state.as_str(), status.why.as_str()) {
        ("idle", _) => "nothing waits".into(),
        ("ready", _) if status.queued_messages == 0 => "nothing waits any more".into(),
        ("ready", _) => "mail waits and is due now".into(),
        ("proving", _) => "an agent is connecting and makes sure who answers".into(),
        ("flowing", _) => "mail is being handed over".into(),
        ("held", _) => held(site.hold.as_ref()),
        ("waiting", "down") => {
            "no host was reached, or none answered as a mail server does (down)".into()
        }
        ("waiting", "wrong-host") => {
            "who answered did not prove to be the site, and got nothing (wrong-host)".into()
        }
        ("waiting", "refused") => "the site refused (refused)".into(),
        ("waiting", "busy") => "the site is busy (busy)".into(),
        ("waiting", "deferred") => {
            "its mail has times of its own, for the site put it off (deferred)".into()
        }
        (_, why) => why.to_owned(),
    };
    let colon = if sentence.is_empty() { "" } else { ": " };
    format!("{}{colon}{sentence}{closing}", status.state)
}

fn held(hold: Option<&pb::Hold>) -> String {
    let Some(hold) = hold else {
        return "nothing is tried and nothing expires".into();
    };
    let until = match hold.until_ms {
        0 => "it is resumed".into(),
        at => time_shown(at),
    };
    format!(
        "by {} since {} until {until}; nothing is tried and nothing expires",
        hold.by,
        time_shown(hold.since_ms)
    )
}

fn queued(status: &pb::SiteStatus) -> String {
    let so_far = if status.complete {
        ""
    } else {
        " so far; the queue is still being read"
    };
    format!(
        "{}, {}{so_far}",
        count(status.queued_messages, "message", "messages"),
        bytes_shown(status.queued_bytes)
    )
}

pub(super) fn host(host: &pb::Host) -> String {
    match host.host.contains(':') {
        true => format!("[{}]:{}", host.host, host.port),
        false => format!("{}:{}", host.host, host.port),
    }
}

fn proof(proof: Option<&pb::Proof>) -> String {
    let Some(kind) = proof.and_then(|proof| proof.kind.as_ref()) else {
        return "none: nothing is handed over".into();
    };
    let word = kind_word(kind);
    match kind {
        Kind::StaticIp(it) => {
            let addresses = it.addresses.join(" ");
            match &it.certificate {
                None => format!("{word} {addresses}"),
                Some(it) => format!(
                    "{word} {addresses}; {}, authority {}",
                    it.name, it.authority
                ),
            }
        }
        Kind::Fingerprint(it) => format!("{word} {}", it.sha256.join(" ")),
        Kind::Public(it) => format!("{word} {}", it.name),
        Kind::Certificate(it) => format!("{word} {}, authority {}", it.name, it.authority),
        Kind::Port(_) | Kind::Configured(_) => word.into(),
    }
}

/// Only what is set: the controller fills in its defaults, so that what is missing here has none.
fn settings(page: &mut Page, spec: &pb::SiteSpec) {
    let duration = |ms: u64| format_duration(Duration::from_millis(ms));
    page.lines("Recipients", spec.recipients.iter().map(String::as_str));
    for (label, value) in [
        ("Connections", spec.connections.map(|it| it.to_string())),
        ("Retry", spec.retry_ms.map(duration)),
        ("Lifetime", spec.lifetime_ms.map(duration)),
        ("Delay warning", spec.delay_warning_ms.map(duration)),
        (
            "Outage notice",
            spec.outage_notice_ms
                .map(|ms| OutageNotice::of_milliseconds(ms).to_string()),
        ),
        ("Max message", spec.max_message_bytes.map(format_size)),
        (
            "Quota",
            spec.quota_messages
                .map(|it| count(it, "message", "messages")),
        ),
        ("Quota bytes", spec.quota_bytes.map(format_size)),
        ("Contact", spec.contact.clone()),
        ("Language", spec.language.clone()),
        (
            "Hand-over",
            spec.hand_over.clone().filter(|it| it != "none"),
        ),
        ("Agents show", spec.client_certificate.clone()),
        (
            "TLS",
            (spec.tls_on_connect == Some(true)).then(|| "on connect".to_owned()),
        ),
        (
            "Speaks",
            (spec.lmtp == Some(true)).then(|| "LMTP".to_owned()),
        ),
        (
            "Family",
            spec.family
                .as_ref()
                .map(|family| format!("IPv{family} only")),
        ),
    ] {
        if let Some(value) = value {
            page.line(label, &value);
        }
    }
    page.lines(
        "Allowed targets",
        spec.allow_targets.iter().map(String::as_str),
    );
    page.lines("Agents", spec.agents.iter().map(String::as_str));
}

/// How an attempt ended and where; one that found no address has none.
fn ended(it: &pb::LastAttempt) -> String {
    let at = match it.address.as_str() {
        "" => String::new(),
        address => format!(" at {address}"),
    };
    format!("{} via {}{at}", it.outcome, it.agent)
}

fn attempts(page: &mut Page, attempts: &[pb::LastAttempt]) {
    let mut label = "Last attempts";
    for it in attempts {
        page.line("", "");
        let at = time_shown(it.at_ms);
        page.line(label, &format!("{at} {}", ended(it)));
        if !it.detail.is_empty() {
            page.line("", &it.detail);
        }
        if let Some(peer) = &it.peer {
            page.line(
                "",
                &format!("answered: {}, issued by {}", peer.subject, peer.issuer),
            );
            page.line("", &format!("names: {}", peer.names.join(" ")));
            page.line("", &format!("sha256: {}", peer.sha256));
        }
        label = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_found_no_address_names_none() {
        let mut attempt = pb::LastAttempt {
            outcome: "unreachable".into(),
            agent: "out1".into(),
            ..pb::LastAttempt::default()
        };
        assert_eq!(ended(&attempt), "unreachable via out1");
        attempt.address = "192.0.2.1:25".into();
        assert_eq!(ended(&attempt), "unreachable via out1 at 192.0.2.1:25");
    }
}
