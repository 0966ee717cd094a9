//! `dd.v1.Agents`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::token::JoinToken;
use rand::RngExt as _;
use tonic::{Request, Response, Status};

use super::conduct::Conduct;
use super::produced::Produced;
use super::{Context, at_ms, caller, from_ms, now, order, status};
use crate::dispatch::{AgentView, Drain};
use crate::registry::agents::AgentRecord;

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
        if addresses.is_empty() && self.0.registry.agent(&name).is_none() {
            return Err(status::invalid(
                "a new agent needs its outbound addresses: add --address IP",
            ));
        }
        let secret: [u8; 32] = rand::rng().random();
        let from = from_ms(request.from_ms)?;
        let added = name.clone();
        let adding = self.0.editor.change(move |change| async move {
            let who = who.who();
            change
                .add_agent(added, addresses, from, &secret, who, now())
                .await
        });
        adding.await?;
        self.0.attached.tell_all(&order::forbidden_now(&self.0));
        let token = JoinToken {
            name,
            secret: secret.to_vec(),
            authority: self.0.authority.certificate().to_vec(),
        };
        Ok(Response::new(pb::AddAgentResponse {
            name: token.name.to_string(),
            token: token.encode(),
        }))
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
                if items
                    .send(Ok(shown(&agent, view, &context.conduct)))
                    .await
                    .is_err()
                {
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
        }))
    }
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
        let mut views = self.0.dispatch.agent_views().await.into_iter();
        let view = views.find(|view| view.name == agent.name);
        Ok(Response::new(shown(&agent, view, &self.0.conduct)))
    }
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Status> {
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            status::invalid(format!(
                "`{shown}` is no IP address: expected one such as 192.0.2.10"
            ))
        })
    };
    texts.iter().map(parse).collect()
}

/// What keeps an agent from working comes before what is held against what it says.
fn shown(agent: &AgentRecord, view: Option<AgentView>, conduct: &Conduct) -> pb::AgentStatus {
    let addresses = agent.addresses.iter().map(ToString::to_string).collect();
    let name = agent.name.to_string();
    let drain = agent.drain.is_wanted();
    match view {
        Some(view) => pb::AgentStatus {
            name,
            addresses,
            state: view.state.to_owned(),
            slots: view.slots,
            in_flight: view.in_flight,
            last_seen_ms: at_ms(view.last_seen),
            version: view.version,
            trouble: match view.trouble.is_empty() {
                true => conduct.trouble(&agent.name),
                false => view.trouble,
            },
            drain,
        },
        None => pb::AgentStatus {
            name,
            addresses,
            state: "disconnected".to_owned(),
            trouble: conduct.trouble(&agent.name),
            drain,
            ..pb::AgentStatus::default()
        },
    }
}
