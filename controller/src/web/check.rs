//! *Check my server*: every agent looks at the site, as `ddadm site check` has them do, and the page shows what they saw.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use dd_proto::pb::check_step::Result as Step;
use dd_proto::pb::{AgentCheck, CheckStep, HostCheck};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Web;
use super::client::Client;
use super::language::Language;
use super::portal::{PATIENCE, Visitor, part, to_start};
use super::sent::Sent;
use super::session::{Looked, Notice};
use super::steps::{Look, Told};
use super::words::Words;
use crate::api::check::check_site;

/// What one agent saw at one address of a host.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) agent: String,
    pub(super) host: String,
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
    pub(super) told: Told,
    pub(super) steps: Vec<StepSeen>,
}

#[derive(Debug)]
pub(super) struct StepSeen {
    pub(super) tone: &'static str,
    pub(super) name: String,
    pub(super) told: Told,
}

pub(super) async fn check(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        mut visitor,
        headers,
        ..
    }: Sent,
) -> Response {
    let running = visitor.signed.check.take();
    let running = running.filter(|it| matches!(*it.borrow(), Looked::Working));
    let mut looked = match running {
        Some(running) => running,
        None if web.wakeup.member_may(client, &visitor.site.name).is_err() => {
            web.sessions().say(&visitor.id, Notice::NotNow);
            return to_start();
        }
        None => start(&web, &visitor),
    };
    web.sessions().look(&visitor.id, looked.clone());
    if headers.contains_key("x-live") {
        visitor.signed.check = Some(looked);
        return part(&web, visitor, &headers).await;
    }
    let through = looked.wait_for(|it| !matches!(it, Looked::Working));
    let _ = tokio::time::timeout(PATIENCE + Duration::from_secs(4), through).await;
    to_start()
}

fn start(web: &Web, visitor: &Visitor) -> watch::Receiver<Looked> {
    let (sender, looked) = watch::channel(Looked::Working);
    let (api, site) = (web.api.clone(), visitor.site.clone());
    web.spawn(async move {
        let seen = check_site(&api, &site, None).await;
        sender.send_replace(Looked::Done(seen));
    });
    looked
}

/// What there is to show; None while they look.
pub(super) fn rows(looked: &Looked, language: Language, now: Timestamp) -> Option<Vec<Check>> {
    let Looked::Done(agents) = looked else {
        return None;
    };
    let rows = agents.iter().flat_map(|it| of_agent(it, language, now));
    Some(rows.collect())
}

fn of_agent(agent: &AgentCheck, language: Language, now: Timestamp) -> Vec<Check> {
    let w = language.words();
    if agent.hosts.is_empty() {
        let told = Told {
            text: w.c_no_answer.to_owned(),
            verbatim: Some(agent.sentence.clone()),
        };
        return vec![Check {
            agent: agent.agent.clone(),
            host: String::new(),
            tone: "bad",
            word: w.not_proved,
            told,
            steps: Vec::new(),
        }];
    }
    let of_host = |host: &HostCheck| {
        let look = Look::new(host, language, now);
        Check {
            agent: agent.agent.clone(),
            host: place(host),
            tone: if host.proved { "good" } else { "bad" },
            word: if host.proved { w.proved } else { w.not_proved },
            told: look.sentence(),
            steps: host.steps.iter().map(|it| seen(it, &look, w)).collect(),
        }
    };
    agent.hosts.iter().map(of_host).collect()
}

/// The host, and which of its addresses.
fn place(host: &HostCheck) -> String {
    match &host.observed {
        Some(seen) if !seen.peer.is_empty() => format!("{} ({})", host.host, seen.peer),
        _ => host.host.clone(),
    }
}

fn seen(step: &CheckStep, look: &Look<'_>, w: &'static Words) -> StepSeen {
    StepSeen {
        tone: match step.result() {
            Step::Good => "good",
            Step::Bad => "bad",
            Step::Noted | Step::Unspecified => "warn",
        },
        name: name(&step.name, w),
        told: look.step(step),
    }
}

fn name(step: &str, w: &'static Words) -> String {
    let known = match step {
        "resolve" => w.s_resolve,
        "connect" => w.s_connect,
        "banner" => w.s_banner,
        "starttls" => w.s_starttls,
        "chain" => w.s_chain,
        "name" => w.s_name,
        "expiry" => w.s_expiry,
        "proof" => w.s_proof,
        // Everybody calls it that.
        "ehlo" => "EHLO",
        "size" => w.s_size,
        other => other,
    };
    known.to_owned()
}
