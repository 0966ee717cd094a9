//! `ddadm status`.

use std::collections::BTreeMap;

use dd_proto::pb;
use serde::Serialize;

use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Page, bytes_shown, count, time, time_shown};

pub(crate) async fn run(controller: &Controller) -> Result<Answer, Failure> {
    let status = controller.watch().await?.status(pb::StatusRequest {}).await;
    Ok(answer(controller.one(status)?))
}

#[derive(Debug, Serialize)]
struct View {
    version: String,
    hostname: String,
    started: Option<String>,
    listeners: Listeners,
    all_known: bool,
    /// How far it is, while not all is known.
    reading: Option<Reading>,
    queued: Queued,
    disk: Disk,
    /// Sites in each state.
    sites: BTreeMap<String, u64>,
    agents_connected: u32,
    /// Agents in each state.
    agents: BTreeMap<String, u32>,
    /// Sites that one agent reaches and another does not.
    agents_differ: Vec<String>,
    /// Sites whose refused mail is kept.
    keeps_refused: Vec<String>,
    /// Our own authorities whose roll-over is not finished.
    rolling_over: Vec<String>,
    /// Sites that have used most of a quota, fullest first.
    quotas: Vec<QuotaUse>,
    notifications_waiting: u64,
    in_doubt: u64,
    duplicates: u64,
    alarms: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Disk {
    free_bytes: u64,
    min_free_bytes: u64,
    log_bytes: u64,
    live_bytes: u64,
}

#[derive(Debug, Serialize)]
struct QuotaUse {
    site: String,
    percent: u32,
    messages: u64,
    /// Without one there is none.
    quota_messages: Option<u64>,
    bytes: u64,
    quota_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Listeners {
    smtp: Vec<String>,
    lmtp: Vec<String>,
    control: Option<Addresses>,
    web: Option<Addresses>,
    metrics: Option<Addresses>,
}

/// As `listen` in the configuration: one address, or a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

/// An older controller says only the first.
fn all(first: &str, all: &[String]) -> Vec<String> {
    match (first, all) {
        ("", []) => Vec::new(),
        (first, []) => vec![first.to_owned()],
        (_, all) => all.to_vec(),
    }
}

fn addresses(first: &str, all_of_them: &[String]) -> Option<Addresses> {
    let mut all = all(first, all_of_them);
    match all.len() {
        0 => None,
        1 => all.pop().map(Addresses::One),
        _ => Some(Addresses::Several(all)),
    }
}

#[derive(Debug, Serialize)]
struct Reading {
    what: String,
    percent: u32,
    records: u64,
}

#[derive(Debug, Serialize)]
struct Queued {
    messages: u64,
    bytes: u64,
    /// When the oldest of it has come.
    oldest: Option<String>,
}

fn answer(status: pb::StatusResponse) -> Answer {
    let text = page(&status);
    Answer::new(&view(status), text)
}

fn view(status: pb::StatusResponse) -> View {
    let listeners = status.listeners.unwrap_or_default();
    let disk = status.disk.unwrap_or_default();
    View {
        version: status.version,
        hostname: status.hostname,
        started: time(status.started_ms),
        listeners: Listeners {
            smtp: listeners.smtp,
            lmtp: listeners.lmtp,
            control: addresses(&listeners.control, &listeners.all_control),
            web: addresses(&listeners.web, &listeners.all_web),
            metrics: addresses(&listeners.metrics, &listeners.all_metrics),
        },
        all_known: status.all_known,
        reading: status.reading.map(|it| Reading {
            what: it.what,
            percent: it.percent,
            records: it.records,
        }),
        queued: Queued {
            messages: status.queued_messages,
            bytes: status.queued_bytes,
            oldest: time(status.oldest_ms),
        },
        disk: Disk {
            free_bytes: disk.free_bytes,
            min_free_bytes: disk.min_free_bytes,
            log_bytes: disk.log_bytes,
            live_bytes: disk.live_bytes,
        },
        sites: status
            .sites
            .into_iter()
            .map(|it| (it.state, it.sites))
            .collect(),
        agents_connected: status.agents_connected,
        agents: status
            .agents
            .into_iter()
            .map(|it| (it.state, it.agents))
            .collect(),
        agents_differ: status.agents_differ,
        keeps_refused: status.keeps_refused,
        rolling_over: status.rolling_over,
        quotas: status.quotas.into_iter().map(quota).collect(),
        notifications_waiting: status.notifications_waiting,
        in_doubt: status.in_doubt,
        duplicates: status.duplicates,
        alarms: status.alarms,
    }
}

fn quota(used: pb::QuotaUse) -> QuotaUse {
    let given = |quota: u64| (quota > 0).then_some(quota);
    QuotaUse {
        site: used.site,
        percent: used.percent,
        messages: used.messages,
        quota_messages: given(used.quota_messages),
        bytes: used.bytes,
        quota_bytes: given(used.quota_bytes),
    }
}

fn since_start(count: u64) -> String {
    format!("{count} since the start")
}

fn page(status: &pb::StatusResponse) -> String {
    let mut page = Page::new(&format!(
        "{}, dd-controller {}",
        status.hostname, status.version
    ));
    page.lines("ALARM", status.alarms.iter().map(String::as_str));
    page.line("Started", &time_shown(status.started_ms));
    page.line("Queued", &queued(status));
    if status.oldest_ms > 0 {
        page.line(
            "Oldest",
            &format!("of about {}", time_shown(status.oldest_ms)),
        );
    }
    if let Some(disk) = &status.disk {
        page.line("Disk", &room(disk));
    }
    let sites: Vec<String> = status
        .sites
        .iter()
        .filter(|it| it.sites > 0)
        .map(|it| format!("{} {}", it.sites, it.state))
        .collect();
    page.line(
        "Sites",
        &if sites.is_empty() {
            "none".into()
        } else {
            sites.join(", ")
        },
    );
    page.line("Agents", &agents(status));
    for (label, sites) in [
        ("Agents differ", &status.agents_differ),
        ("Refused, kept", &status.keeps_refused),
        ("Rolling over", &status.rolling_over),
    ] {
        if !sites.is_empty() {
            page.line(label, &sites.join(", "));
        }
    }
    let quotas: Vec<String> = status.quotas.iter().map(quota_line).collect();
    page.lines("Quota", quotas.iter().map(String::as_str));
    if status.notifications_waiting > 0 {
        let waiting = count(status.notifications_waiting, "report", "reports");
        page.line("Smarthost", &format!("{waiting} to senders waiting"));
    }
    page.line("In doubt", &since_start(status.in_doubt));
    page.line("Duplicates", &since_start(status.duplicates));
    let off = pb::Listeners::default();
    let listeners = status.listeners.as_ref().unwrap_or(&off);
    for (label, addresses) in [
        ("SMTP", listeners.smtp.clone()),
        ("LMTP", listeners.lmtp.clone()),
        ("Control", all(&listeners.control, &listeners.all_control)),
        ("Web", all(&listeners.web, &listeners.all_web)),
        ("Metrics", all(&listeners.metrics, &listeners.all_metrics)),
    ] {
        let addresses = addresses.join(", ");
        page.line(
            label,
            if addresses.is_empty() {
                "off"
            } else {
                &addresses
            },
        );
    }
    page.into_text()
}

fn room(disk: &pb::Disk) -> String {
    format!(
        "{} free, mail is taken down to {}; the log has {}, of which {} wait",
        bytes_shown(disk.free_bytes),
        bytes_shown(disk.min_free_bytes),
        bytes_shown(disk.log_bytes),
        bytes_shown(disk.live_bytes),
    )
}

fn agents(status: &pb::StatusResponse) -> String {
    let states = status.agents.iter().filter(|it| it.agents > 0);
    let states: Vec<String> = states
        .map(|it| format!("{} {}", it.agents, it.state))
        .collect();
    match states.is_empty() {
        true => format!("{} connected", status.agents_connected),
        false => states.join(", "),
    }
}

fn quota_line(used: &pb::QuotaUse) -> String {
    let of = |used: String, quota: u64, shown: String| match quota {
        0 => used,
        _ => format!("{used} of {shown}"),
    };
    format!(
        "{}: {} % ({}, {})",
        used.site,
        used.percent,
        of(
            count(used.messages, "message", "messages"),
            used.quota_messages,
            used.quota_messages.to_string()
        ),
        of(
            bytes_shown(used.bytes),
            used.quota_bytes,
            bytes_shown(used.quota_bytes)
        ),
    )
}

fn queued(status: &pb::StatusResponse) -> String {
    format!(
        "{}, {}{}",
        count(status.queued_messages, "message", "messages"),
        bytes_shown(status.queued_bytes),
        so_far(status),
    )
}

/// Why the counts are not the last word.
fn so_far(status: &pb::StatusResponse) -> String {
    let percent = status.reading.as_ref().map_or(0, |it| it.percent);
    match status.reading.as_ref().map(|it| it.what.as_str()) {
        _ if status.all_known => String::new(),
        Some("no-room") => " so far; the index does not fit on the disk".to_owned(),
        Some("rebuilding") => {
            format!(" so far; the queue of earlier starts is being read ({percent} %)")
        }
        Some(_) => format!(" so far; the index is being checked ({percent} %)"),
        None => " so far; the queue is still being read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_what_is_wrong_first() {
        let status = pb::StatusResponse {
            version: "0.1.0".into(),
            hostname: "mail.example.net".into(),
            listeners: Some(pb::Listeners {
                smtp: vec!["127.0.0.1:25".into(), "[::1]:25".into()],
                lmtp: vec![],
                control: "0.0.0.0:7443".into(),
                web: String::new(),
                metrics: "127.0.0.1:9464".into(),
                all_control: vec!["0.0.0.0:7443".into(), "[::]:7443".into()],
                ..Default::default()
            }),
            all_known: false,
            reading: Some(pb::Reading {
                what: "rebuilding".into(),
                percent: 42,
                records: 1000,
            }),
            queued_messages: 3,
            queued_bytes: 4_500_000,
            started_ms: 1_800_000_000_123,
            sites: vec![
                pb::SiteCount {
                    state: "idle".into(),
                    sites: 12,
                },
                pb::SiteCount {
                    state: "waiting".into(),
                    sites: 1,
                },
            ],
            agents_connected: 2,
            agents: vec![
                pb::AgentCount {
                    state: "connected".into(),
                    agents: 2,
                },
                pb::AgentCount {
                    state: "unhealthy".into(),
                    agents: 1,
                },
            ],
            disk: Some(pb::Disk {
                free_bytes: 40 << 30,
                min_free_bytes: 1 << 30,
                log_bytes: 128 << 20,
                live_bytes: 4_600_000,
            }),
            oldest_ms: 1_799_000_000_000,
            agents_differ: vec!["home".into()],
            keeps_refused: vec!["office".into(), "shop".into()],
            rolling_over: vec!["member-ca".into()],
            quotas: vec![pb::QuotaUse {
                site: "office".into(),
                percent: 95,
                messages: 95,
                quota_messages: 100,
                bytes: 4_000_000,
                quota_bytes: 0,
            }],
            notifications_waiting: 3,
            in_doubt: 1,
            duplicates: 0,
            alarms: vec![
                "the wall clock jumped: `ddadm clock confirm`".into(),
                "disk\x07".into(),
            ],
        };
        insta::assert_snapshot!(answer(status).both());
    }
}
