//! `ddadm site check`: a row for each agent and address of a host, a column for each step, and one sentence each.

use dd_proto::pb;
use dd_proto::pb::check_step::Result as Step;
use serde::Serialize;

use super::evidence::Peer;
use crate::failure::Exit;
use crate::output::{Answer, Table, present};

/// The columns, in the order in which an agent takes the steps.
const STEPS: [&str; 11] = [
    "resolve", "connect", "banner", "starttls", "chain", "name", "expiry", "proof", "ehlo",
    "login", "size",
];
/// Only few sites have these: they are columns where one was taken.
const SELDOM: [&str; 2] = ["ehlo", "login"];

#[derive(Debug, Serialize)]
struct AgentView {
    agent: String,
    proved: bool,
    sentence: String,
    hosts: Vec<HostView>,
}

#[derive(Debug, Serialize)]
struct HostView {
    host: String,
    address: Option<String>,
    proved: bool,
    sentence: String,
    steps: Vec<StepView>,
    tls: Option<String>,
    certificate: Option<Peer>,
    refusal: Option<Refusal>,
    max_message_bytes: Option<u64>,
    ms: u64,
}

#[derive(Debug, Serialize)]
struct StepView {
    name: String,
    result: &'static str,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Refusal {
    reason: String,
    wanted: String,
    seen: String,
}

/// Exit 5 where no agent was satisfied.
pub(super) fn answer(checks: pb::SiteChecks) -> Answer {
    let text = page(&checks);
    let proved = checks.agents.iter().any(|agent| agent.proved);
    let view: Vec<AgentView> = checks.agents.into_iter().map(AgentView::from).collect();
    let answer = Answer::new(&view, text);
    match proved {
        true => answer,
        false => {
            let said = view
                .iter()
                .map(|it| format!("{}: {}", it.agent, it.sentence));
            let said: Vec<String> = said.collect();
            answer.ending_with(Exit::SiteNotReached, said.join("; "))
        }
    }
}

fn page(checks: &pb::SiteChecks) -> String {
    let hosts = || checks.agents.iter().flat_map(|agent| &agent.hosts);
    let is_taken = |name: &str| hosts().any(|host| host.steps.iter().any(|it| it.name == name));
    let shown = STEPS.into_iter();
    let shown = shown.filter(|step| !SELDOM.contains(step) || is_taken(step));
    let shown: Vec<&str> = shown.collect();
    let heads: Vec<String> = shown.iter().map(|step| step.to_uppercase()).collect();
    let heads: Vec<&str> = ["AGENT", "HOST", "ADDRESS"]
        .into_iter()
        .chain(heads.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(&heads);
    for agent in &checks.agents {
        for host in &agent.hosts {
            let cell = |name: &str| {
                let step = host.steps.iter().find(|step| step.name == name);
                step.map_or("-", |step| word(step.result())).to_owned()
            };
            let whose = [
                agent.agent.clone(),
                host.host.clone(),
                address(host).unwrap_or("-").to_owned(),
            ];
            let cells = shown.iter().map(|step| cell(step));
            table.cells(whose.into_iter().chain(cells));
        }
    }
    let mut text = table.text("no host was looked at");
    for agent in &checks.agents {
        text.push('\n');
        if agent.hosts.is_empty() {
            text.push_str(&format!("{}: {}\n", agent.agent, agent.sentence));
        }
        for host in &agent.hosts {
            let at = address(host).map_or_else(String::new, |it| format!(" at {it}"));
            text.push_str(&format!(
                "{}, {}{at}: {}\n",
                agent.agent, host.host, host.sentence
            ));
            for step in &host.steps {
                text.push_str(&format!("  {:<9} {}\n", step.name, step.detail));
            }
        }
    }
    text
}

/// What was connected to, without the port, which the host has.
fn address(host: &pb::HostCheck) -> Option<&str> {
    let peer = host.observed.as_ref()?.peer.as_str();
    let (ip, _port) = peer.rsplit_once(':')?;
    Some(ip.trim_matches(['[', ']']))
}

fn word(result: Step) -> &'static str {
    match result {
        Step::Unspecified => "-",
        Step::Good => "ok",
        Step::Bad => "BAD",
        Step::Noted => "note",
    }
}

impl From<pb::AgentCheck> for AgentView {
    fn from(it: pb::AgentCheck) -> Self {
        Self {
            agent: it.agent,
            proved: it.proved,
            sentence: it.sentence,
            hosts: it.hosts.into_iter().map(HostView::from).collect(),
        }
    }
}

impl From<pb::HostCheck> for HostView {
    fn from(it: pb::HostCheck) -> Self {
        let observed = it.observed.unwrap_or_default();
        Self {
            host: it.host,
            address: present(observed.peer),
            proved: it.proved,
            sentence: it.sentence,
            steps: it.steps.into_iter().map(StepView::from).collect(),
            tls: present(observed.tls_version),
            certificate: observed.certificate.map(Peer::from),
            refusal: observed.refusal.map(|it| Refusal {
                reason: it.reason,
                wanted: it.wanted,
                seen: it.seen,
            }),
            max_message_bytes: (it.max_message_bytes > 0).then_some(it.max_message_bytes),
            ms: it.total_ms,
        }
    }
}

impl From<pb::CheckStep> for StepView {
    fn from(it: pb::CheckStep) -> Self {
        Self {
            result: match it.result() {
                Step::Unspecified => "unknown",
                Step::Good => "good",
                Step::Bad => "bad",
                Step::Noted => "noted",
            },
            name: it.name,
            detail: it.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, result: Step, detail: &str) -> pb::CheckStep {
        pb::CheckStep {
            name: name.into(),
            result: result.into(),
            detail: detail.into(),
        }
    }

    fn at(peer: &str) -> pb::HostCheck {
        let observed = pb::Observed {
            peer: peer.into(),
            ..pb::Observed::default()
        };
        pb::HostCheck {
            observed: Some(observed),
            ..pb::HostCheck::default()
        }
    }

    fn checks(proved: bool) -> pb::SiteChecks {
        let last = match proved {
            true => step("proof", Step::Good, "certificate"),
            false => step("name", Step::Bad, "the certificate is for b, not for a"),
        };
        let host = pb::HostCheck {
            host: "home.dyndns.example:25".into(),
            steps: vec![
                step("resolve", Step::Good, "192.0.2.7, 2001:db8::7"),
                step("connect", Step::Good, "192.0.2.7:25 from 192.0.2.1"),
                step("expiry", Step::Noted, "valid until tomorrow, 1 days"),
                last,
            ],
            proved,
            sentence: "what came of it".into(),
            total_ms: 12,
            ..at("192.0.2.7:25")
        };
        let other = pb::HostCheck {
            host: "home.dyndns.example:25".into(),
            steps: vec![
                step("resolve", Step::Good, "192.0.2.7, 2001:db8::7"),
                step("connect", Step::Bad, "does not answer"),
            ],
            sentence: "does not answer".into(),
            ..at("[2001:db8::7]:25")
        };
        let agent = |name: &str, hosts: Vec<pb::HostCheck>| pb::AgentCheck {
            agent: name.into(),
            proved: proved && !hosts.is_empty(),
            sentence: "the agent did not answer in time".into(),
            hosts,
        };
        pb::SiteChecks {
            agents: vec![agent("out1", vec![host, other]), agent("out2", vec![])],
        }
    }

    #[test]
    fn a_check_is_a_matrix_and_a_sentence_for_each() {
        insta::assert_snapshot!(answer(checks(true)).both());
        insta::assert_snapshot!("not_proved", answer(checks(false)).both());
    }

    #[test]
    fn steps_that_few_sites_have_are_columns_where_one_was_taken() {
        let page_with = |last: pb::CheckStep| {
            let mut checks = checks(true);
            checks.agents[0].hosts[0].steps.push(last);
            page(&checks)
        };
        let head = |page: &str| page.lines().next().unwrap_or_default().to_owned();
        let plain = page_with(step("size", Step::Good, "without a limit"));
        assert!(!head(&plain).contains("LOGIN") && !head(&plain).contains("EHLO"));
        let refused = page_with(step("login", Step::Bad, "the site answered `535 no`"));
        assert!(head(&refused).contains("PROOF  LOGIN  SIZE"), "{refused}");
        let row = refused.lines().nth(1).unwrap_or_default();
        assert!(row.ends_with("ok     BAD    -"), "{refused}");
        let refused = page_with(step("ehlo", Step::Bad, "the site answered `554 no`"));
        assert!(head(&refused).contains("PROOF  EHLO  SIZE"), "{refused}");
    }
}
