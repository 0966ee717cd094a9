//! `site check`: what every agent sees of a site now, side by side.
//!
//! # Invariants
//! No mail, no envelope; nothing about the site or its queue changes. An agent that does not answer costs only its own
//! row.

use std::time::Duration;

use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::pb::check_step::Result as Step;
use dd_proto::site::Site;
use tokio::task::JoinSet;

use super::{Context, order};

/// An agent gives each host 40 seconds, all of them side by side.
const LIMIT: Duration = Duration::from_secs(50);

/// Asks the agent named, or every one that is attached; in the order of their names.
pub async fn check_site(
    context: &Context,
    site: &Site,
    only: Option<&AgentName>,
) -> Vec<pb::AgentCheck> {
    let agents = match only {
        Some(agent) => vec![agent.clone()],
        None => context.attached.agents(),
    };
    let mut looking = JoinSet::new();
    for agent in agents {
        let check = pb::Check {
            number: 0,
            plan: Some(order::plan(context, site)),
            tls_expected: context.registry.expects_tls(&site.name),
        };
        let asked = context.attached.ask(&agent, check);
        looking.spawn(async move {
            let Some(asked) = asked else {
                return row(&agent, Vec::new(), "the agent is not connected");
            };
            match tokio::time::timeout(LIMIT, asked.answer()).await {
                Ok(Some(hosts)) => row(&agent, hosts, "the site has no host"),
                Ok(None) => row(&agent, Vec::new(), "the agent went away before it answered"),
                Err(_) => row(&agent, Vec::new(), "the agent did not answer in time"),
            }
        });
    }
    let mut rows = Vec::new();
    while let Some(ended) = looking.join_next().await {
        match ended {
            Ok(row) => rows.push(row),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    rows.sort_by(|a: &pb::AgentCheck, b| a.agent.cmp(&b.agent));
    rows
}

/// The sentence of the address that proved itself, else of the first at which somebody answered, else of the first.
fn row(agent: &AgentName, hosts: Vec<pb::HostCheck>, nothing: &str) -> pb::AgentCheck {
    let answered = |host: &&pb::HostCheck| {
        let mut steps = host.steps.iter();
        steps.any(|step| step.name == "connect" && step.result() == Step::Good)
    };
    let proved = hosts.iter().find(|host| host.proved);
    let telling = proved
        .or_else(|| hosts.iter().find(answered))
        .or(hosts.first());
    pb::AgentCheck {
        agent: agent.to_string(),
        proved: telling.is_some_and(|host| host.proved),
        sentence: telling.map_or_else(|| nothing.to_owned(), |host| host.sentence.clone()),
        hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_address_is_what_an_agent_says() {
        let at = |sentence: &str, connected: Step, proved| pb::HostCheck {
            sentence: sentence.into(),
            steps: vec![pb::CheckStep {
                name: "connect".into(),
                result: connected.into(),
                detail: String::new(),
            }],
            proved,
            ..pb::HostCheck::default()
        };
        let dead = at("nobody", Step::Bad, false);
        let stranger = at("a stranger", Step::Good, false);
        let home = at("the site", Step::Good, true);
        let agent: AgentName = "out1".parse().expect("a name");
        for (hosts, sentence) in [
            (vec![], "none"),
            (vec![&dead, &dead], "nobody"),
            (vec![&dead, &stranger], "a stranger"),
            (vec![&dead, &stranger, &home], "the site"),
        ] {
            let hosts: Vec<_> = hosts.into_iter().cloned().collect();
            assert_eq!(row(&agent, hosts, "none").sentence, sentence);
        }
    }
}
