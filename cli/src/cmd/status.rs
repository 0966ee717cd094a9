//! `ddadm status`.

use std::collections::BTreeMap;

use dd_proto::pb;
use serde::Serialize;

use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Page, bytes_shown, count, present, time, time_shown};

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
    /// Sites in each state.
    sites: BTreeMap<String, u64>,
    agents_connected: u32,
    in_doubt: u64,
    duplicates: u64,
    alarms: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Listeners {
    smtp: Vec<String>,
    lmtp: Vec<String>,
    control: Option<String>,
    web: Option<String>,
    metrics: Option<String>,
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
}

fn answer(status: pb::StatusResponse) -> Answer {
    let text = page(&status);
    Answer::new(&view(status), text)
}

fn view(status: pb::StatusResponse) -> View {
    let listeners = status.listeners.unwrap_or_default();
    View {
        version: status.version,
        hostname: status.hostname,
        started: time(status.started_ms),
        listeners: Listeners {
            smtp: listeners.smtp,
            lmtp: listeners.lmtp,
            control: present(listeners.control),
            web: present(listeners.web),
            metrics: present(listeners.metrics),
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
        },
        sites: status
            .sites
            .into_iter()
            .map(|it| (it.state, it.sites))
            .collect(),
        agents_connected: status.agents_connected,
        in_doubt: status.in_doubt,
        duplicates: status.duplicates,
        alarms: status.alarms,
    }
}

fn page(status: &pb::StatusResponse) -> String {
    let mut page = Page::new(&format!(
        "{}, dd-controller {}",
        status.hostname, status.version
    ));
    page.lines("ALARM", status.alarms.iter().map(String::as_str));
    page.line("Started", &time_shown(status.started_ms));
    page.line("Queued", &queued(status));
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
    page.line("Agents", &format!("{} connected", status.agents_connected));
    page.line("In doubt", &status.in_doubt.to_string());
    page.line("Duplicates", &status.duplicates.to_string());
    let off = pb::Listeners::default();
    let listeners = status.listeners.as_ref().unwrap_or(&off);
    for (label, addresses) in [
        ("SMTP", listeners.smtp.as_slice()),
        ("LMTP", &listeners.lmtp),
        ("Control", std::slice::from_ref(&listeners.control)),
        ("Web", std::slice::from_ref(&listeners.web)),
        ("Metrics", std::slice::from_ref(&listeners.metrics)),
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
