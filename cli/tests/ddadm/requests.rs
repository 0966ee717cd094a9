//! What queue, agents, authorities and status are asked: a controller that answers with what it was sent.

use std::pin::Pin;

use dd_proto::pb;
use dd_proto::pb::agents_server::{Agents, AgentsServer};
use dd_proto::pb::authorities_server::{Authorities, AuthoritiesServer};
use dd_proto::pb::clock_server::{Clock, ClockServer};
use dd_proto::pb::queue_server::{Queue, QueueServer};
use dd_proto::pb::watch_server::{Watch, WatchServer};
use ddadm::Stdout;
use ddadm::failure::Exit;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::scripted::{on_a_socket, ran};

const ID: &str = "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f";

struct Echo;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn items<T: Send + 'static>(all: Vec<T>) -> Answer<Items<T>> {
    Ok(Response::new(Box::pin(tokio_stream::iter(
        all.into_iter().map(Ok),
    ))))
}

/// The delivery to `out` is in an agent's hand; every other message has two.
fn changed(selection: &pb::DeliverySelection) -> Answer<pb::Changed> {
    match selection.site.as_str() {
        "out" => Err(Status::failed_precondition(format!(
            "{} is in hand",
            selection.id
        ))),
        "" => Ok(Response::new(pb::Changed { deliveries: 2 })),
        _ => Ok(Response::new(pb::Changed { deliveries: 1 })),
    }
}

#[tonic::async_trait]
impl Queue for Echo {
    type ListStream = Items<pb::QueuedDelivery>;

    async fn list(&self, request: Request<pb::ListQueueRequest>) -> Answer<Self::ListStream> {
        let row = |site: &str| pb::QueuedDelivery {
            id: ID.into(),
            site: site.into(),
            recipients: vec![format!("me@{site}.example")],
            ..pb::QueuedDelivery::default()
        };
        match request.into_inner().site.as_str() {
            "" => items(vec![row("home"), row("office")]),
            site => items(vec![row(site)]),
        }
    }

    async fn show(&self, request: Request<pb::MessageId>) -> Answer<pb::QueuedMessage> {
        Err(Status::not_found(format!(
            "no message {} waits",
            request.into_inner().id
        )))
    }

    type ContentStream = Items<pb::ContentChunk>;

    async fn content(&self, _: Request<pb::MessageId>) -> Answer<Self::ContentStream> {
        items(vec![
            pb::ContentChunk {
                data: (&b"Subject: \x1b[2J\r\n"[..]).into(),
            },
            pb::ContentChunk {
                data: (&b"\r\n\xff\r\n"[..]).into(),
            },
        ])
    }

    type SearchStream = Items<pb::FoundDelivery>;

    async fn search(&self, request: Request<pb::SearchRequest>) -> Answer<Self::SearchStream> {
        let asked = request.into_inner();
        items(vec![pb::FoundDelivery {
            id: ID.into(),
            message_id: asked.message_id.clone(),
            reply: format!("{asked:?}"),
            ..pb::FoundDelivery::default()
        }])
    }

    async fn retry(&self, request: Request<pb::DeliverySelection>) -> Answer<pb::Changed> {
        changed(&request.into_inner())
    }

    async fn fail(&self, request: Request<pb::DeliverySelection>) -> Answer<pb::Changed> {
        changed(&request.into_inner())
    }

    async fn remove(&self, request: Request<pb::DeliverySelection>) -> Answer<pb::Changed> {
        changed(&request.into_inner())
    }
}

#[tonic::async_trait]
impl Agents for Echo {
    type ListStream = Items<pb::AgentStatus>;

    async fn add(&self, request: Request<pb::AddAgentRequest>) -> Answer<pb::AddAgentResponse> {
        let request = request.into_inner();
        let token = format!("{} from {}", request.addresses.join("+"), request.from_ms);
        Ok(Response::new(pb::AddAgentResponse {
            name: request.name,
            token,
        }))
    }

    async fn set(&self, request: Request<pb::SetAgentRequest>) -> Answer<pb::AgentStatus> {
        let request = request.into_inner();
        Ok(Response::new(pb::AgentStatus {
            name: request.name,
            addresses: request.addresses,
            state: "connected".into(),
            from_ms: request.from_ms,
            drain: request.at_once,
            ..pb::AgentStatus::default()
        }))
    }

    async fn token(&self, request: Request<pb::AgentName>) -> Answer<pb::AddAgentResponse> {
        Ok(Response::new(pb::AddAgentResponse {
            name: request.into_inner().name,
            token: "ddjoin1.anew".into(),
        }))
    }

    async fn list(&self, _: Request<pb::ListAgentsRequest>) -> Answer<Self::ListStream> {
        items(vec![])
    }

    async fn addresses(&self, _: Request<pb::AddressesRequest>) -> Answer<pb::AddressesResponse> {
        Ok(Response::new(pb::AddressesResponse {
            keys: Vec::new(),
            addresses: vec!["192.0.2.10".into()],
            networks: vec![],
        }))
    }

    async fn drain(&self, request: Request<pb::AgentName>) -> Answer<pb::AgentStatus> {
        Ok(Response::new(pb::AgentStatus {
            name: request.into_inner().name,
            state: "draining".into(),
            in_flight: 2,
            drain: true,
            ..pb::AgentStatus::default()
        }))
    }

    async fn resume(&self, request: Request<pb::AgentName>) -> Answer<pb::AgentStatus> {
        Ok(Response::new(pb::AgentStatus {
            name: request.into_inner().name,
            state: "connected".into(),
            ..pb::AgentStatus::default()
        }))
    }

    async fn remove(&self, _: Request<pb::AgentName>) -> Answer<pb::RemoveAgentResponse> {
        Ok(Response::new(pb::RemoveAgentResponse {}))
    }
}

#[tonic::async_trait]
impl Authorities for Echo {
    type ListStream = Items<pb::Authority>;

    async fn import(&self, request: Request<pb::ImportAuthorityRequest>) -> Answer<pb::Authority> {
        let request = request.into_inner();
        let certificates = request
            .certificates
            .into_iter()
            .map(|der| pb::AuthorityCertificate {
                subject: format!("{} bytes", der.len()),
                ..pb::AuthorityCertificate::default()
            });
        Ok(Response::new(pb::Authority {
            name: request.name,
            version: 1,
            certificates: certificates.collect(),
            ..pb::Authority::default()
        }))
    }

    async fn remove(&self, _: Request<pb::AuthorityName>) -> Answer<pb::RemoveAuthorityResponse> {
        Ok(Response::new(pb::RemoveAuthorityResponse {}))
    }

    async fn create(&self, request: Request<pb::CreateAuthorityRequest>) -> Answer<pb::Authority> {
        let request = request.into_inner();
        Ok(Response::new(pb::Authority {
            name: request.name,
            permit: request.permit,
            own: true,
            ..pb::Authority::default()
        }))
    }

    async fn rollover(&self, request: Request<pb::RolloverRequest>) -> Answer<pb::Authority> {
        let request = request.into_inner();
        Ok(Response::new(pb::Authority {
            name: request.name,
            version: if request.finish { 2 } else { 1 },
            ..pb::Authority::default()
        }))
    }

    async fn list(&self, _: Request<pb::ListAuthoritiesRequest>) -> Answer<Self::ListStream> {
        items(vec![])
    }

    async fn show(&self, request: Request<pb::AuthorityName>) -> Answer<pb::Authority> {
        let name = request.into_inner().name;
        Ok(Response::new(pb::Authority {
            name,
            ..pb::Authority::default()
        }))
    }
}

#[tonic::async_trait]
impl Clock for Echo {
    async fn confirm(&self, _: Request<pb::ConfirmClockRequest>) -> Answer<pb::ClockConfirmed> {
        Ok(Response::new(pb::ClockConfirmed {
            alarm: "it jumped".into(),
        }))
    }
}

#[tonic::async_trait]
impl Watch for Echo {
    type EventsStream = Items<pb::LiveEvent>;
    type AuditStream = Items<pb::AuditEntry>;

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answer<Self::EventsStream> {
        let event = |what: &str| pb::LiveEvent {
            at_ms: 1_800_000_000_000,
            kind: "mail".into(),
            what: what.into(),
            ..pb::LiveEvent::default()
        };
        let site = request.into_inner().site;
        items(vec![event("settled\n\x1b[2J"), event(&site)])
    }

    async fn audit(&self, request: Request<pb::AuditRequest>) -> Answer<Self::AuditStream> {
        items(vec![pb::AuditEntry {
            who: "anna".into(),
            what: format!("last {}", request.into_inner().last),
            ..pb::AuditEntry::default()
        }])
    }

    async fn config(&self, _: Request<pb::ConfigRequest>) -> Answer<pb::Configuration> {
        let setting = |key: &str, line| pb::Setting {
            key: key.into(),
            value: "25".into(),
            line,
        };
        Ok(Response::new(pb::Configuration {
            path: "c.toml".into(),
            settings: vec![setting("said", 3), setting("usual", 0)],
            file_changed: false,
        }))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        Ok(Response::new(pb::StatusResponse {
            hostname: "mail.example.net".into(),
            ..pb::StatusResponse::default()
        }))
    }
}

fn everything() -> Routes {
    Routes::new(QueueServer::new(Echo))
        .add_service(AgentsServer::new(Echo))
        .add_service(AuthoritiesServer::new(Echo))
        .add_service(ClockServer::new(Echo))
        .add_service(WatchServer::new(Echo))
}

#[tokio::test]
async fn what_is_asked_for_is_what_arrives() {
    let (_directory, socket) = on_a_socket(everything());
    for (line, says) in [
        ("queue list", "office"),
        ("queue list third", "third"),
        (&format!("queue retry {ID}"), "2 deliveries due now"),
        (
            &format!("queue remove {ID} --site home"),
            "1 delivery removed",
        ),
        (
            "agent add out1 --address 192.0.2.10 2001:db8::10",
            "192.0.2.10+2001:db8::10 from 0\n",
        ),
        (
            "agent add out1 --address 192.0.2.10 --from 2027-01-15T08:00:00Z",
            "192.0.2.10 from 1800000000000\n",
        ),
        (&format!("queue fail {ID}"), "2 deliveries failed"),
        ("clock confirm", "the alarm was: it jumped"),
        ("agent list", "no agent"),
        ("agent addresses", "192.0.2.10\n"),
        (
            "agent addresses --format nft",
            "define dd_outbound_v4 = { 192.0.2.10/32 }\n",
        ),
        ("agent drain out1", "out1: draining; 2 deliveries in hand"),
        ("agent resume out1", "out1: gets work again"),
        ("agent remove out1", "out1: removed"),
        ("agent set out1 --address 192.0.2.12", "192.0.2.12"),
        ("agent token out1", "ddjoin1.anew\n"),
        ("ca remove old-ca", "old-ca: removed"),
        ("queue remove --site home", "1 delivery removed"),
        ("ca list", "no authority"),
        ("ca show member-ca", "member-ca"),
        ("ca create own-ca --permit a.example", "a.example"),
        ("ca rollover own-ca", "own-ca (version 1)"),
        ("ca rollover own-ca --finish", "own-ca (version 2)"),
        ("audit", "anna  last 50"),
        ("audit --last 3", "anna  last 3"),
        ("status", "mail.example.net"),
        ("config", "usual  25     default\n"),
        ("config --changed", "said  25     c.toml:3\n"),
        ("report", "## config\n\nKEY"),
        ("queue list --match b@*", "nothing waits"),
        ("queue fail --match b@*", "nothing waits"),
        // Of a message's two deliveries the one that matches, and no other.
        (
            "queue remove --match me@home.*",
            &format!("{ID} to home: 1 delivery removed\n"),
        ),
        (
            "queue retry --match *",
            &format!("{ID} to home: 1 delivery due now\n{ID} to office: 1 delivery due now\n"),
        ),
        (
            "queue search --message-id 1@* --limit 7",
            "message_id: \"1@*\"",
        ),
        (
            "queue search --from a@* --to b --site home",
            "recipient: \"b\", site: \"home\"",
        ),
        (
            "queue search --since 2027-01-15T08:00:00Z",
            "since_ms: 1800000000000",
        ),
    ] {
        let ran = ran(line, "", &["--socket", &socket]).await;
        assert_eq!(ran.exit, Exit::Done, "{line}: {}", ran.stderr);
        assert!(ran.stdout.contains(says), "{line}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn a_message_in_hand_or_unknown_is_said_to_be() {
    let (_directory, socket) = on_a_socket(everything());
    let way = ["--socket", &socket];
    let in_hand = ran(&format!("queue remove {ID} --site out"), "", &way).await;
    assert_eq!(in_hand.exit, Exit::Failed);
    assert!(in_hand.stderr.contains("in hand"), "{}", in_hand.stderr);
    let unknown = ran(&format!("queue show {ID}"), "", &way).await;
    assert_eq!(unknown.exit, Exit::NoSuchThing);
    assert!(unknown.stderr.contains(ID), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_message_is_printed_as_it_is_unless_somebody_looks_at_it() {
    let (_directory, socket) = on_a_socket(everything());
    let line = format!("queue content {ID}");
    let printed = async |stdout_is, more: &[&str]| {
        let mut arguments = vec!["ddadm", "--socket", &socket];
        arguments.extend(line.split(' ').chain(more.iter().copied()));
        let arguments = arguments.into_iter().map(std::ffi::OsString::from);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut stdin = &b""[..];
        let exit = ddadm::run(arguments, &mut stdin, &mut stdout, stdout_is, &mut stderr);
        assert_eq!(exit.await, Exit::Done);
        stdout
    };
    let raw = printed(Stdout::Pipe, &[]).await;
    assert_eq!(raw, b"Subject: \x1b[2J\r\n\r\n\xff\r\n");
    let seen = printed(Stdout::Terminal, &[]).await;
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(seen, "Subject: \\u{1b}[2J\n\n\u{fffd}\n");
    let json = printed(Stdout::Pipe, &["--output", "json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["bytes"], raw.len());
    assert_eq!(json["base64"], "U3ViamVjdDogG1sySg0KDQr/DQo=");
}

#[tokio::test]
async fn live_events_are_a_line_each_until_the_controller_ends() {
    let (_directory, socket) = on_a_socket(everything());
    let way = ["--socket", &socket];
    let table = ran("watch home", "", &way).await;
    assert_eq!(table.exit, Exit::Failed);
    let lines: Vec<_> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("settled\\n\\u{1b}[2J"), "{lines:?}");
    assert!(lines[1].ends_with("mail  home"), "{lines:?}");
    let json = ran("watch --output json", "", &way).await;
    let lines = json.stdout.lines();
    let events: Vec<serde_json::Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["what"], "settled\n\u{1b}[2J");
}

#[tokio::test]
async fn every_certificate_of_every_file_is_imported() {
    let (directory, socket) = on_a_socket(everything());
    let way = ["--socket", &socket];
    let pair = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    let der = pair.cert.der().to_vec();
    let (pem_file, der_file) = (
        directory.path().join("ca.pem"),
        directory.path().join("ca.der"),
    );
    // As `cat` makes it of two files of which the first has no final newline.
    let pem = pair.cert.pem();
    std::fs::write(&pem_file, format!("{}{pem}", pem.trim_end())).unwrap();
    std::fs::write(&der_file, &der).unwrap();
    let import = format!("ca import member-ca --certificate {} ", pem_file.display());
    let imported = ran(&format!("{import}{}", der_file.display()), "", &way).await;
    assert_eq!(imported.exit, Exit::Done, "{}", imported.stderr);
    let subject = format!("{} bytes", der.len());
    assert_eq!(
        imported.stdout.matches(&subject).count(),
        3,
        "{}",
        imported.stdout
    );

    let missing = ran(&format!("{import}/nonexistent.pem"), "", &way).await;
    assert_eq!(missing.exit, Exit::Failed);
    assert!(
        missing.stderr.contains("/nonexistent.pem cannot be read"),
        "{}",
        missing.stderr
    );
}
