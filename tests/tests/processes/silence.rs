//! Homes that read nothing.

use dd_tests::site::{Act, At, Gate, Script, Site, contains};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

/// More than the sockets of a connection hold, and a stream between controller and agent.
const LONG: usize = 12 << 20;
/// More than a connection between them has room for, if it has not room for all its streams.
const SESSIONS: usize = 12;
const LINE: &[u8] = b"All work and no play makes mail a dull matter.\r\n";

#[test]
fn long_mail_that_a_home_does_not_read_keeps_no_mail_of_others_from_the_agent() {
    let mut world = World::start();
    let gate = Gate::default();
    let script = Script::with(&world.ca.identity(&["silent.example"]));
    let silent = Site::start(script.but(At::Body, Act::Wait(gate.clone())));
    let connections = SESSIONS.to_string();
    world.add_home("silent", silent.address(), &["--connections", &connections]);
    let mut long = message("long");
    while long.len() < LONG {
        long.extend_from_slice(LINE);
    }
    let mut client = world.smtp();
    for _ in 0..SESSIONS {
        client.send("a@b.example", "me@silent.example", &long);
    }
    until("all sessions to be stuck", PATIENCE, || {
        let seen = silent.connections();
        let stuck = seen.iter().filter(|it| contains(&it.secured, b"All work"));
        (stuck.count() == SESSIONS).then_some(())
    });
    let good = world.home("good", &[]);
    for number in 1..=20 {
        client.send("a@b.example", "me@good.example", &message("short"));
        let _ = good.received(number);
    }
    let lost = world.agent("out1").lines("not attached to the controller");
    assert!(lost.is_empty(), "{lost:?}");
    gate.open();
}
