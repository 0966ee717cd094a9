//! Between the wire and dispatch: what agents say, and what they are told.

use std::net::IpAddr;
use std::time::Duration;

use dd_proto::convert::ConvertError;
use dd_proto::id::{Lease, SessionId};
use dd_proto::pb;
use dd_proto::site::{Family, HandOver, Site, Speaks, TlsBegins};
use ipnet::IpNet;

use super::door::limits;
use super::{Context, Facts, now};
use crate::dispatch::{AgentEvent, Assignment, BEAT, Ended, LEASE, Order, Proved, Refuses};
use crate::own_addresses;

/// The kind of delivery every site has.
pub(super) const KIND: &str = "smtp";

/// What an attached agent says after its Hello.
///
/// # Errors
/// Something is missing or malformed, or belongs into the Hello.
pub(crate) fn event(event: pb::agent_event::Event) -> Result<AgentEvent, ConvertError> {
    use pb::agent_event::Event;
    Ok(match event {
        Event::Hello(_) => return Err(ConvertError("hello")),
        Event::Journaled(_) => return Err(ConvertError("journaled")),
        Event::HelloEnd(_) => return Err(ConvertError("hello_end")),
        Event::Beat(beat) => AgentEvent::Beat {
            number: beat.number,
        },
        Event::Proved(it) => AgentEvent::Proved {
            site: it.site.parse().map_err(|_| ConvertError("site"))?,
            session: SessionId(it.session),
            observed: Box::new(it.observed.unwrap_or_default().try_into()?),
        },
        Event::DotSent(dot) => AgentEvent::DotSent(dot.try_into()?),
        Event::Report(report) => AgentEvent::Report(Box::new((*report).try_into()?)),
        Event::GivenBack(it) => {
            let (lease, why) = it.try_into()?;
            AgentEvent::GivenBack { lease, why }
        }
        Event::SessionClosed(it) => AgentEvent::SessionClosed {
            site: it.site.parse().map_err(|_| ConvertError("site"))?,
            session: SessionId(it.session),
            proved: match it.proved {
                true => Proved::Yes,
                false => Proved::No,
            },
            accepted: it.accepted,
            answered: it.answered.max(it.accepted),
            ended: match it.orderly {
                true => Ended::InOrder,
                false => Ended::Lost,
            },
            refuses: match it.holds_back {
                true => Refuses::HeldBack,
                false => Refuses::AtOnce,
            },
            detail: it.detail,
        },
        Event::Draining(_) => AgentEvent::Draining,
        Event::Health(it) => AgentEvent::Health {
            trouble: trouble(&it.trouble),
        },
        // Not dispatch's: whoever asked has taken it out before.
        Event::Checked(_) => return Err(ConvertError("checked")),
    })
}

/// One line for people, whatever the agent wrote.
pub(super) fn trouble(said: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    said.chars().take(limits::TROUBLE).map(printable).collect()
}

/// What an attached agent is told.
pub(super) fn order(context: &Context, order: Order) -> pb::Order {
    use pb::order::Order as Wire;
    let order = match order {
        Order::Welcome { going_on } => Wire::Welcome(welcome(context, going_on)),
        Order::Plan(site) => Wire::RoutePlan(Box::new(plan(context, &site))),
        Order::Assign(assignment) => Wire::Assignment(Box::new(assign(context, *assignment))),
        Order::BeatAnswer { number } => Wire::BeatAnswer(pb::BeatAnswer { number }),
        Order::Acknowledged(lease) => Wire::Acknowledged(pb::Acknowledged {
            lease: Some(lease.into()),
        }),
        Order::CloseSite(site) => Wire::CloseSite(pb::CloseSite {
            site: site.to_string(),
        }),
        Order::Recall(site) => Wire::Recall(pb::Recall {
            site: site.to_string(),
        }),
    };
    pb::Order { order: Some(order) }
}

/// Where no site may lie has changed, for agents that are attached.
pub(super) fn forbidden_now(context: &Context) -> pb::order::Order {
    pb::order::Order::ForbiddenNetworks(pb::ForbiddenNetworks {
        networks: forbidden_networks(context),
    })
}

fn forbidden_networks(context: &Context) -> Vec<String> {
    let forbidden = forbidden_to_sites(context);
    forbidden.iter().map(ToString::to_string).collect()
}

fn welcome(context: &Context, going_on: Vec<Lease>) -> pb::Welcome {
    let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
    pb::Welcome {
        going_on: going_on.into_iter().map(Into::into).collect(),
        forbidden_networks: forbidden_networks(context),
        lease_ms: ms(LEASE),
        beat_ms: ms(BEAT),
    }
}

/// As it is now: agents come and go, and addresses of this machine too.
pub(super) fn forbidden_to_sites(context: &Context) -> Vec<IpNet> {
    let mut addresses = context.registry.agent_addresses();
    if context.facts.listens_everywhere {
        addresses.extend(own_addresses::all());
    }
    forbidden(&context.facts, &addresses)
}

/// What a site's name must not lead to: the provider's networks, every agent, and the controller.
fn forbidden(facts: &Facts, agents: &[IpAddr]) -> Vec<IpNet> {
    let addresses = agents.iter().copied().chain(facts.control.iter().copied());
    let networks = facts.outbound_networks.iter().copied();
    networks.chain(addresses.map(IpNet::from)).collect()
}

/// An authority that is not there (any more) leaves a plan without anchors, under which no certificate is proof.
pub(super) fn plan(context: &Context, site: &Site) -> pb::RoutePlan {
    let (anchors, revocation_lists) = context.registry.anchors(site);
    pb::RoutePlan {
        site: site.name.to_string(),
        version: site.version.0,
        kind: KIND.to_owned(),
        hosts: site.hosts.iter().cloned().map(Into::into).collect(),
        proof: Some(site.proof.clone().into()),
        anchors,
        revocation_lists,
        allow_targets: site.allow_targets.iter().map(ToString::to_string).collect(),
        connections: site.limits.connections.into(),
        hand_over: match site.way.hand_over {
            HandOver::None => String::new(),
            told => told.to_string(),
        },
        client_certificate: site
            .way
            .client_certificate
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        tls_on_connect: site.way.tls == TlsBegins::OnConnect,
        no_tls: site.way.tls == TlsBegins::Never,
        login: site.way.login.as_ref().map(Into::into),
        lmtp: site.way.speaks == Speaks::Lmtp,
        family: match site.way.family {
            Family::Any => String::new(),
            one => one.to_string(),
        },
    }
}

fn assign(context: &Context, it: Assignment) -> pb::Assignment {
    let losses = context.registry.losses(&it.lease.delivery.site);
    pb::Assignment {
        one_at_a_time: losses.one_at_a_time(now()),
        nothing_behind_dot: losses.nothing_behind_dot(now()),
        tls_expected: context.registry.expects_tls(&it.lease.delivery.site),
        lease: Some(it.lease.into()),
        site_version: it.version.0,
        envelope: Some(it.envelope.into()),
        content_bytes: it.bytes,
        content: it.content,
        in_doubt: it.in_doubt,
        fresh: it.fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_cannot_point_at_agents_or_the_controller() {
        let facts = Facts {
            web: None,
            hostname: String::new(),
            started: jiff::Timestamp::UNIX_EPOCH,
            listeners: pb::Listeners::default(),
            control: vec![[192, 0, 2, 1].into()],
            listens_everywhere: false,
            outbound_networks: vec!["198.51.100.0/27".parse().unwrap()],
            alarms: Vec::new(),
            configuration: std::sync::Arc::default(),
            state_dir: std::path::PathBuf::new(),
        };
        let networks = forbidden(&facts, &[[192, 0, 2, 2].into()]);
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(
            networks,
            ["198.51.100.0/27", "192.0.2.2/32", "192.0.2.1/32"]
        );
    }
}
