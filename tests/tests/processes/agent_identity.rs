//! An agent is known by its key: whoever bore its name before is a stranger. Its certificate is short, is renewed while
//! the stream goes on, and may be renewed for thirty days after its end.

use std::fs;
use std::path::{Path, PathBuf};

use dd_agent::identity::{Identity, IdentityError};
use dd_proto::pb;
use dd_proto::pb::delivery_client::DeliveryClient;
use dd_tests::faketime;
use dd_tests::layout::Layout;
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::{OUTBOUND, World};
use tonic::{Code, Status};

#[test]
fn an_agent_that_was_removed_and_added_again_is_not_let_in_with_its_old_certificate() {
    let mut world = World::start();
    let old = copy_of_identity(&world, "out1");
    world.kill_agent("out1");
    is_welcome(&world, &old);

    let _ = world.ddadm().run(&["agent", "remove", "out1"]).done();
    is_a_stranger(&world, &old, "removed");
    let token = world.token("out1", OUTBOUND[0]);
    is_a_stranger(&world, &old, "added again, and not joined yet");
    world.start_agent_with("out1", &["--join", &token]);
    world.agent("out1").log_line("--join-file keeps it out");
    world.attached("out1");
    is_a_stranger(&world, &old, "joined again");

    // The new one is let in, and only it.
    let new = copy_of_identity(&world, "out1");
    world.kill_agent("out1");
    is_welcome(&world, &new);
    is_a_stranger(&world, &old, "long ago");
}

#[test]
fn a_join_elsewhere_ends_the_stream_of_who_bore_the_name() {
    let mut world = World::start();
    let token = world.token("out1", OUTBOUND[0]);
    let old = copy_of_identity(&world, "out1");
    let elsewhere = world.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let token = dd_proto::token::JoinToken::parse(&token).unwrap();
    let name = "out1".parse().unwrap();
    let joined = calling(Identity::join(&elsewhere, &url(&world), &name, &token));
    joined.unwrap();
    world.agent("out1").log_line("has joined anew elsewhere");
    world.agent("out1").log_line("no other certificate");
    is_a_stranger(&world, &old, "joined elsewhere");
    is_welcome(&world, &elsewhere);
}

#[test]
fn a_certificate_is_renewed_while_the_stream_goes_on() {
    let mut world = World::start();
    let home = world.home("home", &[]);
    world.kill_agent("out1");
    let before = fs::read(world.agent_state("out1").join("credentials")).unwrap();
    // By its own clock two thirds of the certificate's life are over.
    world.layout.agent_environment = faketime::off_by("+5d");
    world.start_agent("out1");
    send(&world, "one");
    home.received(1);
    world.agent("out1").log_line("certificate renewed");
    let after = fs::read(world.agent_state("out1").join("credentials")).unwrap();
    assert_ne!(before, after);
    send(&world, "two");
    home.received(2);
    let attached = world.agent("out1").lines(" attached ");
    assert_eq!(attached.len(), 1, "{attached:?}");
}

#[test]
fn a_certificate_that_has_ended_renews_itself_and_does_nothing_else() {
    let clock = tempfile::NamedTempFile::new().unwrap();
    fs::write(&clock, "-20d\n").unwrap();
    let mut world = World::laid_out(
        Layout {
            environment: faketime::off_by("-20d"),
            agent_environment: faketime::told_by(clock.path().to_str().unwrap()),
            ..Layout::default()
        },
        1,
    );
    let home = world.home("home", &[]);
    let old = copy_of_identity(&world, "out1");
    // Twenty days go by without a controller.
    world.stop_controller();
    fs::write(&clock, "+0d\n").unwrap();
    world.layout.environment = Vec::new();
    world.start_controller();
    world.agent("out1").log_line("has ended: renew it");
    world.agent("out1").log_line("certificate renewed");
    world.attached("out1");
    send(&world, "after");
    home.received(1);

    let refused = attach(&world, &old).expect("it has ended");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let listed = calling(async {
        let channel = connected(&world, &old).await;
        let mut agents = pb::agents_client::AgentsClient::new(channel);
        agents.list(pb::ListAgentsRequest {}).await.map(drop)
    });
    assert_eq!(listed.unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn a_certificate_that_has_ended_is_not_renewed_for_an_agent_that_was_removed() {
    let mut world = World::laid_out(
        Layout {
            environment: faketime::off_by("-20d"),
            agent_environment: faketime::off_by("-20d"),
            ..Layout::default()
        },
        1,
    );
    let old = copy_of_identity(&world, "out1");
    world.kill_agent("out1");
    world.stop_controller();
    world.layout.environment = Vec::new();
    world.start_controller();
    let _ = world.ddadm().run(&["agent", "remove", "out1"]).done();
    is_a_stranger(&world, &old, "ended and removed");
    let _ = world.token("out1", OUTBOUND[0]);
    is_a_stranger(&world, &old, "ended, removed and added again");
}

#[test]
fn after_thirty_days_more_an_agent_joins_anew_and_says_so() {
    let mut world = World::start();
    world.kill_agent("out1");
    world.stop_controller();
    world.layout.environment = faketime::off_by("+38d");
    world.layout.agent_environment = faketime::off_by("+38d");
    world.start_controller();
    world.start_agent("out1");
    let agent = world.agent("out1");
    let ended = until("the agent to end", PATIENCE, || {
        (!agent.runs()).then(|| agent.lines("run `ddadm agent token out1`"))
    });
    assert_eq!(ended.len(), 1, "{}", agent.tail());
    let token = world.token("out1", OUTBOUND[0]);
    world.start_agent_with("out1", &["--join", &token]);
    world.attached("out1");
}

fn send(world: &World, subject: &str) {
    let message = message(subject);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message);
}

#[track_caller]
fn is_welcome(world: &World, directory: &Path) {
    if let Some(refused) = attach(world, directory) {
        panic!("{refused}");
    }
}

/// What lies in a directory lets nobody in, and is not renewed.
#[track_caller]
fn is_a_stranger(world: &World, directory: &Path, when: &str) {
    let refused = attach(world, directory).unwrap_or_else(|| panic!("attached: {when}"));
    assert_eq!(refused.code(), Code::Unauthenticated, "{when}: {refused}");
    let renewed = calling(async {
        let channel = connected(world, directory).await;
        let scratch = tempfile::tempdir().unwrap();
        let identity = Identity::load(directory).unwrap().unwrap();
        identity.renew(scratch.path(), channel).await
    });
    assert!(
        matches!(renewed, Err(IdentityError::Refused(_))),
        "{when}: {renewed:?}"
    );
}

/// Says Hello with the certificate that lies in a directory. None: it was welcome.
fn attach(world: &World, directory: &Path) -> Option<Status> {
    use pb::agent_event::Event;
    let event = |event| pb::AgentEvent { event: Some(event) };
    let hello = pb::Hello {
        name: "out1".to_owned(),
        version: "a test".to_owned(),
        kinds: vec!["smtp".to_owned()],
        slots: 1,
        probes: 1,
        ..pb::Hello::default()
    };
    let said = [
        event(Event::Hello(hello)),
        event(Event::HelloEnd(pb::HelloEnd {})),
    ];
    calling(async {
        let mut delivery = DeliveryClient::new(connected(world, directory).await);
        let mut orders = match delivery.attach(tokio_stream::iter(said)).await {
            Ok(orders) => orders.into_inner(),
            Err(refused) => return Some(refused),
        };
        match orders.message().await {
            Ok(Some(_)) => None,
            Ok(None) => panic!("neither welcome nor refused"),
            Err(refused) => Some(refused),
        }
    })
}

async fn connected(world: &World, directory: &Path) -> tonic::transport::Channel {
    let identity = Identity::load(directory).unwrap().unwrap();
    identity.connect(&url(world)).await.unwrap()
}

fn url(world: &World) -> String {
    format!("https://{}", world.listeners().control)
}

/// As a thief would take it.
fn copy_of_identity(world: &World, agent: &str) -> PathBuf {
    let from = world.agent_state(agent);
    let to = tempfile::Builder::new()
        .prefix("stolen-")
        .tempdir_in(world.path())
        .unwrap()
        .keep();
    for name in ["credentials", "agent.key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    to
}

fn calling<T>(calls: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(calls)
}
