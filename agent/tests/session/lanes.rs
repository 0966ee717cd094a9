//! Lanes to scripted homes on loopback, and messages for them.

use std::net::SocketAddr;
use std::sync::Arc;

use dd_agent::agent::{Agent, now};
use dd_agent::deliver::{Lane, kind_for};
use dd_agent::lease::Boottime;
use dd_agent::plan::{Assignment, Content, Plan};
use dd_agent::proof::Terms;
use dd_agent::resolve::Freshness;
use dd_agent::session::{AskTls, Together};
use dd_proto::id::{DeliveryId, Generation, Lease, MessageId, SiteVersion};
use dd_proto::pb;
use dd_proto::site::{Host, HostName, Proof, Way};
use rustls_pki_types::CertificateDer;

use super::support::envelope;

/// A plan of one connection to these hosts.
pub(crate) fn plan(hosts: Vec<Host>, proof: Proof, anchors: Vec<CertificateDer<'static>>) -> Plan {
    Plan {
        site: "home".parse().unwrap(),
        version: SiteVersion(1),
        kind: "smtp".to_owned(),
        hosts,
        terms: Arc::new(Terms {
            proof,
            anchors,
            revocation_lists: Vec::new(),
        }),
        allow_targets: vec!["127.0.0.0/8".parse().unwrap()],
        connections: 1,
        way: Way::default(),
    }
}

pub(crate) fn host_at(address: SocketAddr) -> Host {
    Host {
        name: HostName::Address(address.ip()),
        port: address.port().try_into().unwrap(),
    }
}

/// A lane to a home that is believed for its port.
pub(crate) fn lane(agent: &Arc<Agent>, address: SocketAddr, connections: usize) -> Arc<dyn Lane> {
    let plan = Plan {
        connections,
        ..plan(vec![host_at(address)], Proof::Port, Vec::new())
    };
    let kind = kind_for(&plan).unwrap();
    kind.lane(Arc::clone(agent), Arc::new(plan))
}

/// A message under its number, leased to the agent. Its sender tells the number too.
pub(crate) fn assignment(agent: &Agent, number: u64, content: &[u8]) -> Assignment {
    let lease = Lease {
        delivery: DeliveryId {
            message: MessageId::from_bytes(u128::from(number).to_be_bytes()),
            site: "home".parse().unwrap(),
        },
        generation: Generation {
            start: 1,
            counter: number,
        },
    };
    agent.leases.take(lease.clone(), Boottime::now());
    let message = format!("{number}@b.example -> c@home.example");
    Assignment {
        lease,
        version: SiteVersion(1),
        envelope: Arc::new(envelope(&message)),
        content_bytes: content.len() as u64,
        content: Content::Inline(content.to_vec().into()),
        tls: AskTls::WhereOffered,
        together: Together::default(),
        freshness: Freshness::Cached,
        received: now(),
    }
}

/// The number of the message that an event is about.
pub(crate) fn number(lease: Option<pb::Lease>) -> u64 {
    lease.unwrap().generation.unwrap().counter
}
