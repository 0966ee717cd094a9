//! A certificate opens what it is for, and nothing else.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_agent::identity::{Identity, SERVER_NAME};
use dd_proto::id::MessageId;
use dd_proto::pb;
use dd_proto::token::JoinToken;
use dd_tests::process::program;
use dd_tests::site::{Act, At, Script};
use dd_tests::submit::message;
use dd_tests::world::{OUTBOUND, World};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

/// Starts of the controller and counters that are tried: a fresh world has used no more.
const STARTS: u64 = 3;
const COUNTERS: u64 = 20;

#[test]
fn an_agent_administers_nothing_and_a_stranger_does_not_even_attach() {
    let world = World::start();
    calling(agents_and_strangers_are_denied(&world));
}

async fn agents_and_strangers_are_denied(world: &World) {
    let agent = as_agent(world, "out1").await;
    let stranger = as_stranger(world).await;
    for channel in [agent, stranger.clone()] {
        let mut sites = pb::sites_client::SitesClient::new(channel.clone());
        denied(sites.list(pb::ListSitesRequest {}).await);
        let mut queue = pb::queue_client::QueueClient::new(channel.clone());
        denied(queue.remove(pb::DeliverySelection::default()).await);
        let mut agents = pb::agents_client::AgentsClient::new(channel);
        denied(agents.add(pb::AddAgentRequest::default()).await);
    }
    let mut enrollment = pb::enrollment_client::EnrollmentClient::new(stranger.clone());
    denied(enrollment.renew(pb::RenewRequest::default()).await);
    let mut delivery = pb::delivery_client::DeliveryClient::new(stranger);
    denied(delivery.attach(tokio_stream::empty()).await);
}

#[test]
fn an_agent_reads_the_mail_of_its_own_leases_and_of_no_other() {
    let world = World::with_agents(2);
    let home = world.home("home", &["--retry", "1h"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.but(At::Mail, Act::Hang));
    let id = world
        .smtp()
        .send("a@b.example", "me@home.example", &message("secret"));
    let session = home.saw("MAIL", |seen| {
        seen.secured.windows(4).any(|word| word == b"MAIL")
    });
    let (holder, other) = match session.peer {
        peer if peer == OUTBOUND[0] => ("out1", "out2"),
        _ => ("out2", "out1"),
    };
    assert_eq!(
        calling(readable(&world, holder, &id)),
        1,
        "the holder's own lease"
    );
    assert_eq!(
        calling(readable(&world, other, &id)),
        0,
        "another agent's lease"
    );
}

#[test]
fn what_administers_from_afar_needs_the_administrators_identity() {
    let world = World::start();
    let admin = world.path().join("controller-state/admin");
    let agent = world.path().join("out1-state");
    let url = format!("https://{}", world.listeners().control);
    let status = |identity: &std::path::Path| {
        let mut ddadm = Command::new(program("ddadm"));
        ddadm.args(["--controller", &url, "--identity"]);
        ddadm.arg(identity).arg("status").output().unwrap().status
    };
    assert!(status(&admin).success());
    assert!(!status(&agent).success());
}

/// How many leases on the message, of all there can be, `agent` reads the content under.
async fn readable(world: &World, agent: &str, id: &str) -> usize {
    let id: MessageId = id.parse().unwrap();
    let channel = as_agent(world, agent).await;
    let mut delivery = pb::delivery_client::DeliveryClient::new(channel);
    let mut read = 0;
    for start in 0..STARTS {
        for counter in 0..COUNTERS {
            let lease = pb::Lease {
                message_id: id.as_bytes().to_vec().into(),
                site: "home".into(),
                generation: Some(pb::Generation { start, counter }),
            };
            let request = pb::FetchContentRequest { lease: Some(lease) };
            match delivery.fetch_content(request).await {
                Ok(_) => read += 1,
                Err(status) => assert_eq!(status.code(), Code::PermissionDenied, "{status}"),
            }
        }
    }
    read
}

/// Runs calls to their end. The world is made outside: it waits in the ordinary way.
fn calling<T>(calls: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(calls)
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.expect_err("a call without the right goes through");
    assert!(
        matches!(
            status.code(),
            Code::PermissionDenied | Code::Unauthenticated
        ),
        "{status}"
    );
}

async fn as_agent(world: &World, name: &str) -> Channel {
    let directory = world.path().join(format!("{name}-state"));
    let identity = Identity::load(&directory).unwrap().unwrap();
    identity.connect(&url(world)).await.unwrap()
}

/// Verifies the controller, and has no certificate of its own.
async fn as_stranger(world: &World) -> Channel {
    let token = JoinToken::parse(&world.token("out9", OUTBOUND[1])).unwrap();
    let authority = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(&token.authority)
    );
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name(SERVER_NAME);
    let endpoint = Endpoint::from_shared(url(world)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

fn url(world: &World) -> String {
    format!("https://{}", world.listeners().control)
}
