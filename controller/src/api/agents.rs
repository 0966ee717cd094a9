//! `dd.v1.Agents`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use dd_proto::fingerprint::Fingerprint;
use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::token::JoinToken;
use jiff::Timestamp;
use rand::RngExt as _;
use tonic::{Request, Response, Status};

use super::conduct::Conduct;
use super::produced::Produced;
use super::standing::any_works;
use super::{Context, at_ms, caller, from_ms, now, order, status};
use crate::authority::client::AgentKey;
use crate::dispatch::{AgentView, Drain};
use crate::registry::Registry;
use crate::registry::agents::{AgentRecord, From};

#[derive(Debug, Clone)]
pub struct Agents(pub Arc<Context>);

#[tonic::async_trait]
impl pb::agents_server::Agents for Agents {
    async fn add(
        &self,
        request: Request<pb::AddAgentRequest>,
    ) -> Result<Response<pb::AddAgentResponse>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let name: AgentName = request
            .name
            .parse()
            .map_err(|error| status::invalid(format!("{error}")))?;
        let addresses = addresses(&request.addresses)?;
        let secret: [u8; 32] = rand::rng().random();
        let from = not_past(from_ms(request.from_ms)?)?;
        let added = name.clone();
        let adding = self.0.editor.change(move |change| async move {
            let who = who.who();
            change
                .add_agent(added, addresses, from, &secret, who, now())
                .await
        });
        adding.await?;
        self.0.attached.tell_all(&order::forbidden_now(&self.0));
        Ok(self.token_of(name, &secret))
    }

    async fn set(
        &self,
        request: Request<pb::SetAgentRequest>,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let addresses = addresses(&request.addresses)?;
        let from = match (not_past(from_ms(request.from_ms)?)?, request.at_once) {
            (None, false) => From::AsItIs,
            (None, true) => From::Now,
            (Some(at), false) => From::At(at),
            (Some(_), true) => {
                return Err(status::invalid("either from a time, or at once: not both"));
            }
        };
        let setting = self.0.editor.change(move |change| async move {
            let (name, who) = (request.name, who.who());
            change.set_agent(&name, addresses, from, who, now()).await
        });
        let agent = setting.await?;
        self.0.attached.tell_all(&order::forbidden_now(&self.0));
        Ok(Response::new(self.looked_at(&agent).await))
    }

    async fn token(
        &self,
        request: Request<pb::AgentName>,
    ) -> Result<Response<pb::AddAgentResponse>, Status> {
        let who = caller(&request);
        let name = request.into_inner().name;
        let secret: [u8; 32] = rand::rng().random();
        let making = self.0.editor.change(move |change| async move {
            let who = who.who();
            change.new_agent_token(&name, &secret, who, now()).await
        });
        Ok(self.token_of(making.await?, &secret))
    }

    type ListStream = Produced<pb::AgentStatus>;

    async fn list(
        &self,
        _: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let context = self.0.clone();
        Ok(Response::new(Produced::by(|items| async move {
            let views = context.dispatch.agent_views().await;
            let mut views: HashMap<_, _> =
                views.into_iter().map(|it| (it.name.clone(), it)).collect();
            for agent in context.registry.agents() {
                let view = views.remove(&agent.name);
                let bound = context.attached.addresses(&agent.name);
                let shown = shown(&agent, view, bound.as_deref(), &context.conduct);
                if items.send(Ok(shown)).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn remove(
        &self,
        request: Request<pb::AgentName>,
    ) -> Result<Response<pb::RemoveAgentResponse>, Status> {
        let who = caller(&request);
        let name = request.into_inner().name;
        let context = self.0.clone();
        let removing = self.0.editor.change(move |change| async move {
            let removed = change.remove_agent(&name, who.who(), now()).await?;
            context.attached.cut(&removed);
            context.conduct.forget(&removed);
            context.attached.tell_all(&order::forbidden_now(&context));
            Ok::<_, Status>(Response::new(pb::RemoveAgentResponse {}))
        });
        removing.await
    }

    async fn drain(
        &self,
        request: Request<pb::AgentName>,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        self.set_drain(request, Drain::Drains).await
    }

    async fn resume(
        &self,
        request: Request<pb::AgentName>,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        self.set_drain(request, Drain::Works).await
    }

    async fn addresses(
        &self,
        _: Request<pb::AddressesRequest>,
    ) -> Result<Response<pb::AddressesResponse>, Status> {
        let addresses = self.0.registry.agent_addresses();
        let networks = &self.0.facts.outbound_networks;
        Ok(Response::new(pb::AddressesResponse {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            networks: networks.iter().map(ToString::to_string).collect(),
            keys: keys(&self.0.registry),
        }))
    }
}

/// By which homes know the agents that show them a certificate.
fn keys(registry: &Registry) -> Vec<pb::AgentKey> {
    let keys = registry.agent_keys().into_iter();
    let key = |(agent, key): (AgentName, AgentKey)| pb::AgentKey {
        agent: agent.to_string(),
        spki_sha256: Fingerprint(key.0).to_string(),
    };
    keys.map(key).collect()
}

impl Agents {
    async fn set_drain(
        &self,
        request: Request<pb::AgentName>,
        drain: Drain,
    ) -> Result<Response<pb::AgentStatus>, Status> {
        let who = caller(&request);
        let name = request.into_inner().name;
        let changing = self.0.editor.change(move |change| async move {
            change.drain_agent(&name, drain, who.who(), now()).await
        });
        let agent = changing.await?;
        let none_works = drain == Drain::Drains
            && none_works_without(&agent.name, self.0.dispatch.agent_views().await);
        Ok(Response::new(pb::AgentStatus {
            none_works,
            ..self.looked_at(&agent).await
        }))
    }

    async fn looked_at(&self, agent: &AgentRecord) -> pb::AgentStatus {
        let mut views = self.0.dispatch.agent_views().await.into_iter();
        let view = views.find(|view| view.name == agent.name);
        let bound = self.0.attached.addresses(&agent.name);
        shown(agent, view, bound.as_deref(), &self.0.conduct)
    }

    fn token_of(&self, name: AgentName, secret: &[u8; 32]) -> Response<pb::AddAgentResponse> {
        let token = JoinToken {
            name,
            secret: secret.to_vec(),
            authority: self.0.authority.certificate().to_vec(),
        };
        Response::new(pb::AddAgentResponse {
            name: token.name.to_string(),
            token: token.encode(),
        })
    }
}

/// A year that was mistyped would let the agent work at once, where members expect nobody yet.
fn not_past(from: Option<Timestamp>) -> Result<Option<Timestamp>, Status> {
    match from {
        Some(from) if from <= now() => Err(status::invalid(
            "--from lies in the past: name a later time, or let the agent work at once (`agent add` without it, `agent set --at-once`)",
        )),
        from => Ok(from),
    }
}

/// Dispatch may not have heard of the drain yet, so the agent itself does not count.
fn none_works_without(drained: &AgentName, mut agents: Vec<AgentView>) -> bool {
    agents.retain(|agent| agent.name != *drained);
    !any_works(&agents)
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Status> {
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            let shown = dd_proto::excerpt::of(text);
            status::invalid(format!(
                "`{shown}` is no IP address: expected one such as 192.0.2.10"
            ))
        })
    };
    texts.iter().map(parse).collect()
}

/// The addresses that an attached agent binds and that it is not registered with.
fn unregistered(registered: &[IpAddr], bound: &[IpAddr]) -> Vec<IpAddr> {
    let bound = bound.iter().filter(|it| !registered.contains(it));
    bound.copied().collect()
}

/// One sentence for people about that.
pub(super) fn differs(agent: &AgentRecord, bound: &[IpAddr]) -> Option<String> {
    let unregistered = unregistered(&agent.addresses, bound);
    if unregistered.is_empty() {
        return None;
    }
    let list = |all: &[IpAddr]| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        all.join(" ")
    };
    Some(format!(
        "it hands mail over from {}, where no member expects it: make `addresses` in its configuration {}, and start it again, or say `ddadm agent set {} --address {}`",
        list(&unregistered),
        list(&agent.addresses),
        agent.name,
        list(bound),
    ))
}

/// What keeps an agent from working comes before what is held against what it says.
fn shown(
    agent: &AgentRecord,
    view: Option<AgentView>,
    bound: Option<&[IpAddr]>,
    conduct: &Conduct,
) -> pb::AgentStatus {
    let bound = bound.unwrap_or_default();
    let common = pb::AgentStatus {
        name: agent.name.to_string(),
        addresses: agent.addresses.iter().map(ToString::to_string).collect(),
        state: "disconnected".to_owned(),
        drain: agent.drain.is_wanted(),
        from_ms: at_ms(agent.from),
        unregistered: unregistered(&agent.addresses, bound)
            .iter()
            .map(ToString::to_string)
            .collect(),
        trouble: conduct.trouble(&agent.name),
        ..pb::AgentStatus::default()
    };
    let Some(view) = view else {
        return common;
    };
    pb::AgentStatus {
        state: view.state.to_owned(),
        slots: view.slots,
        in_flight: view.in_flight,
        last_seen_ms: at_ms(view.last_seen),
        version: view.version,
        trouble: match (view.trouble, differs(agent, bound)) {
            (own, None) if own.is_empty() => common.trouble.clone(),
            (own, None) => own,
            (own, Some(differs)) if own.is_empty() => differs,
            (own, Some(differs)) => format!("{own}; {differs}"),
        },
        ..common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_of_the_last_agent_that_works_is_told_of() {
        let drained = "out1".parse().unwrap();
        for (states, none) in [
            (&["connected"][..], true),
            (&["draining", "disconnected", "unhealthy", "draining"], true),
            (&["draining", "connected"], false),
        ] {
            let names = 1..;
            let agents = states.iter().zip(names);
            let agents = agents.map(|(state, n)| AgentView::in_state(&format!("out{n}"), state));
            assert_eq!(
                none_works_without(&drained, agents.collect()),
                none,
                "{states:?}"
            );
        }
    }

    #[test]
    fn an_agent_that_binds_what_is_not_registered_is_told_of() {
        let addresses =
            |all: &[&str]| -> Vec<IpAddr> { all.iter().map(|it| it.parse().unwrap()).collect() };
        for (registered, bound, expected) in [
            (
                &["192.0.2.1", "2001:db8::1"][..],
                &["2001:db8::1", "192.0.2.1"][..],
                &[][..],
            ),
            // It did not say: an agent of somebody else's.
            (&["192.0.2.1"], &[], &[]),
            // One that it cannot bind just now, or is yet to be given: members expect more than comes.
            (&["192.0.2.1", "192.0.2.2"], &["192.0.2.1"], &[]),
            (&["192.0.2.1"], &["192.0.2.2"], &["192.0.2.2"]),
            (&["192.0.2.1"], &["192.0.2.1", "192.0.2.2"], &["192.0.2.2"]),
        ] {
            let found = unregistered(&addresses(registered), &addresses(bound));
            assert_eq!(found, addresses(expected), "{registered:?} {bound:?}");
        }
    }
}
