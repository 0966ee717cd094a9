//! `ddadm agent …`.

use std::net::IpAddr;

use dd_proto::pb;
use ipnet::IpNet;
use serde::Serialize;

use crate::args::{AddressFormat, AgentVerb};
use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Table, count, present, time, time_shown};

pub(crate) async fn run(verb: AgentVerb, controller: &Controller) -> Result<Answer, Failure> {
    let mut agents = controller.agents().await?;
    match verb {
        AgentVerb::Add {
            name,
            address,
            from,
        } => {
            let request = pb::AddAgentRequest {
                name: name.to_string(),
                addresses: address.iter().map(ToString::to_string).collect(),
                from_ms: from.map_or(0, jiff::Timestamp::as_millisecond),
            };
            let added = agents.add(request).await;
            Ok(added_answer(controller.one(added)?))
        }
        AgentVerb::Set {
            name,
            address,
            from,
            at_once,
        } => {
            let request = pb::SetAgentRequest {
                name: name.to_string(),
                addresses: address.iter().map(ToString::to_string).collect(),
                from_ms: from.map_or(0, jiff::Timestamp::as_millisecond),
                at_once,
            };
            let set = agents.set(request).await;
            Ok(list_of_one(controller.one(set)?))
        }
        AgentVerb::Token { name } => {
            let name = name.to_string();
            let made = agents.token(pb::AgentName { name }).await;
            Ok(added_answer(controller.one(made)?))
        }
        AgentVerb::List => {
            let all = agents.list(pb::ListAgentsRequest {}).await;
            Ok(list(controller.all(all).await?))
        }
        AgentVerb::Drain { name } => {
            let name = name.to_string();
            let drained = agents.drain(pb::AgentName { name }).await;
            Ok(drained_answer(controller.one(drained)?))
        }
        AgentVerb::Resume { name } => {
            let name = name.to_string();
            let resumed = agents.resume(pb::AgentName { name }).await;
            let agent = controller.one(resumed)?;
            let text = match agent.trouble.as_str() {
                "" => format!("{}: gets work again\n", agent.name),
                trouble => format!("{}: gets work again once it can: {trouble}\n", agent.name),
            };
            Ok(Answer::new(&Agent::from(agent), text))
        }
        AgentVerb::Remove { name } => {
            let name = name.to_string();
            let removed = agents.remove(pb::AgentName { name: name.clone() }).await;
            controller.one(removed)?;
            let text = format!("{name}: removed; its certificate lets it do nothing any more\n");
            Ok(Answer::new(&Removed { name }, text))
        }
        AgentVerb::Addresses { format } => {
            let all = agents.addresses(pb::AddressesRequest {}).await;
            Ok(addresses(controller.one(all)?, format))
        }
    }
}

#[derive(Debug, Serialize)]
struct Removed {
    name: String,
}

#[derive(Debug, Serialize)]
struct Added {
    name: String,
    token: String,
}

/// For people the token is the whole line too: it goes into a pipe or a file.
fn added_answer(added: pb::AddAgentResponse) -> Answer {
    let text = format!("{}\n", added.token);
    let view = Added {
        name: added.name,
        token: added.token,
    };
    Answer::new(&view, text)
}

#[derive(Debug, Serialize)]
struct Agent {
    name: String,
    addresses: Vec<String>,
    state: String,
    slots: u32,
    in_flight: u32,
    last_seen: Option<String>,
    version: Option<String>,
    /// What keeps it from working, as it says itself.
    trouble: Option<String>,
    /// An operator drains it, connected or not.
    drain: bool,
    /// It works from then on.
    from: Option<String>,
    /// After a drain: no other agent works either.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    none_works: bool,
    /// Addresses that it hands mail over from although they are not registered.
    unregistered: Vec<String>,
}

impl From<pb::AgentStatus> for Agent {
    fn from(it: pb::AgentStatus) -> Self {
        Self {
            name: it.name,
            addresses: it.addresses,
            state: it.state,
            slots: it.slots,
            in_flight: it.in_flight,
            last_seen: time(it.last_seen_ms),
            version: present(it.version),
            trouble: present(it.trouble),
            drain: it.drain,
            from: time(it.from_ms),
            none_works: it.none_works,
            unregistered: it.unregistered,
        }
    }
}

fn drained_answer(agent: pb::AgentStatus) -> Answer {
    let name = &agent.name;
    let text = match agent.in_flight {
        0 => format!("{name}: drained; it has nothing in hand, and gets nothing\n"),
        n => {
            let in_hand = count(n.into(), "delivery", "deliveries");
            format!("{name}: draining; {in_hand} in hand are finished, and it gets nothing more\n")
        }
    };
    let warning = agent.none_works.then(|| {
        format!("no agent works now: mail waits until one does, for example after `ddadm agent resume {name}`")
    });
    Answer::new(&Agent::from(agent), text).with_warning(warning)
}

/// The state's word; with a drain that another state would hide.
fn state(it: &pb::AgentStatus) -> String {
    match it.drain && it.state != "draining" {
        true => format!("{}, draining", it.state),
        false => it.state.clone(),
    }
}

fn list_of_one(agent: pb::AgentStatus) -> Answer {
    let text = table(std::slice::from_ref(&agent));
    Answer::new(&Agent::from(agent), text)
}

fn list(agents: Vec<pb::AgentStatus>) -> Answer {
    let text = table(&agents);
    let view: Vec<Agent> = agents.into_iter().map(Agent::from).collect();
    Answer::new(&view, text)
}

fn table(agents: &[pb::AgentStatus]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "IN FLIGHT",
        "LAST SEEN",
        "VERSION",
        "FROM",
        "ADDRESSES",
    ]);
    for it in agents {
        table.row([
            it.name.clone(),
            state(it),
            format!("{}/{}", it.in_flight, it.slots),
            time_shown(it.last_seen_ms),
            if it.version.is_empty() {
                "-".into()
            } else {
                it.version.clone()
            },
            time_shown(it.from_ms),
            it.addresses.join(" "),
        ]);
    }
    let mut text = table.text("no agent: `ddadm agent add NAME --address IP` announces one");
    for it in agents.iter().filter(|it| !it.trouble.is_empty()) {
        text.push_str(&format!("{}: {}\n", it.name, it.trouble));
    }
    text
}

#[derive(Debug, Serialize)]
struct Addresses {
    addresses: Vec<String>,
    networks: Vec<String>,
}

fn addresses(all: pb::AddressesResponse, format: AddressFormat) -> Answer {
    let view = Addresses {
        addresses: all.addresses,
        networks: all.networks,
    };
    let text = match format {
        AddressFormat::Text => lines(&view),
        AddressFormat::Nft => nft(&view),
        AddressFormat::Json => format!(
            "{}\n",
            serde_json::to_string_pretty(&view).expect("two lists of strings are JSON")
        ),
    };
    Answer::new(&view, text)
}

fn lines(all: &Addresses) -> String {
    all.addresses
        .iter()
        .chain(&all.networks)
        .map(|it| format!("{it}\n"))
        .collect()
}

/// Definitions for `include`. Networks are merged, because nft refuses a set whose elements overlap; a family without
/// addresses has no line, because nft refuses an empty set too.
fn nft(all: &Addresses) -> String {
    let nets: Vec<IpNet> = all
        .addresses
        .iter()
        .filter_map(|it| it.parse::<IpAddr>().ok().map(IpNet::from))
        .chain(all.networks.iter().filter_map(|it| it.parse().ok()))
        .collect();
    let nets = IpNet::aggregate(&nets);
    let mut text = String::new();
    for (name, family) in [
        ("dd_outbound_v4", IpNet::V4(ipnet::Ipv4Net::default())),
        ("dd_outbound_v6", IpNet::V6(ipnet::Ipv6Net::default())),
    ] {
        let of_family: Vec<String> = nets
            .iter()
            .filter(|net| family.contains(*net))
            .map(ToString::to_string)
            .collect();
        if !of_family.is_empty() {
            text.push_str(&format!("define {name} = {{ {} }}\n", of_family.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_agent_is_its_token() {
        let added = pb::AddAgentResponse {
            name: "out1".into(),
            token: "ddjoin1.AAAA".into(),
        };
        insta::assert_snapshot!(added_answer(added).both());
    }

    #[test]
    fn agents_are_listed_with_what_they_do() {
        let agents = vec![
            pb::AgentStatus {
                name: "out1".into(),
                addresses: vec!["192.0.2.10".into(), "2001:db8::10".into()],
                state: "connected".into(),
                slots: 64,
                in_flight: 3,
                last_seen_ms: 1_800_000_000_123,
                version: "0.1.0".into(),
                ..pb::AgentStatus::default()
            },
            pb::AgentStatus {
                name: "out2".into(),
                addresses: vec!["192.0.2.11".into()],
                state: "disconnected".into(),
                drain: true,
                from_ms: 1_800_000_000_000,
                ..pb::AgentStatus::default()
            },
            pb::AgentStatus {
                name: "out3".into(),
                addresses: vec!["192.0.2.12".into()],
                state: "unhealthy".into(),
                slots: 64,
                trouble: "the outbound address 192.0.2.12 cannot be bound".into(),
                ..pb::AgentStatus::default()
            },
        ];
        insta::assert_snapshot!(list(agents).both());
        insta::assert_snapshot!("no_agents", list(vec![]).both());
    }

    #[test]
    fn a_drain_says_what_is_still_in_hand() {
        for (in_flight, says) in [(0, "out1: drained"), (3, "draining; 3 deliveries in hand")] {
            let agent = pb::AgentStatus {
                name: "out1".into(),
                state: "draining".into(),
                in_flight,
                drain: true,
                ..pb::AgentStatus::default()
            };
            let both = drained_answer(agent.clone()).both();
            assert!(both.contains(says), "{both}");
            assert!(!both.contains("no agent works"), "{both}");
            let last = pb::AgentStatus {
                none_works: true,
                ..agent
            };
            let answer = drained_answer(last);
            assert!(answer.both().contains("\"none_works\": true"));
            let warning = answer.warning().unwrap();
            assert!(warning.contains("no agent works now"), "{warning}");
        }
    }

    #[test]
    fn addresses_come_in_three_forms() {
        let all = || pb::AddressesResponse {
            keys: Vec::new(),
            addresses: vec![
                "192.0.2.10".into(),
                "2001:db8::10".into(),
                "198.51.100.1".into(),
            ],
            networks: vec!["192.0.2.0/27".into()],
        };
        insta::assert_snapshot!(
            "addresses_text",
            addresses(all(), AddressFormat::Text).both()
        );
        insta::assert_snapshot!("addresses_nft", addresses(all(), AddressFormat::Nft).both());
        insta::assert_snapshot!(
            "addresses_json",
            addresses(all(), AddressFormat::Json).both()
        );
    }
}
