//! What a message costs on a line with a delay, and what is in doubt when such a line breaks.

use std::time::Duration;

use dd_tests::line::Line;
use dd_tests::postfix::Postfix;
use dd_tests::site::{Act, At, Gate, Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const ONE_WAY: Duration = Duration::from_millis(15);
const MESSAGES: usize = 12;
/// Greeting, EHLO, STARTTLS, handshake, EHLO, the first envelope; and a message or two that came a moment late.
const OPENING: usize = 8;

/// A site behind a line, on one session; held, with mail waiting.
fn held(world: &World, line: &Line, messages: usize) {
    world.add_home("home", line.address(), &["--connections", "1"]);
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    let mut client = world.smtp();
    for number in 0..messages {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
}

fn resume(world: &World) {
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
}

#[test]
fn a_message_costs_one_round_trip_while_more_wait() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let home = Site::start(Script::with(&identity));
    let line = Line::to(home.address(), ONE_WAY);
    held(&world, &line, MESSAGES);
    resume(&world);
    home.received(MESSAGES);
    assert!(home.copies().values().all(|copies| *copies == 1));
    assert_eq!(line.connections(), 1);
    let turns = line.turns();
    assert!(
        turns <= OPENING + MESSAGES,
        "{turns} for {MESSAGES} messages"
    );
    world.drained("home");
}

#[test]
fn a_real_postfix_takes_the_next_envelope_with_the_dot() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let home = Postfix::home(world.path(), "home.example", &identity);
    let line = Line::to(home.address(), ONE_WAY);
    held(&world, &line, MESSAGES);
    resume(&world);
    world.drained("home");
    assert_eq!(home.received(MESSAGES).len(), MESSAGES);
    assert_eq!(line.connections(), 1);
    let turns = line.turns();
    assert!(
        turns <= OPENING + MESSAGES,
        "{turns} for {MESSAGES} messages"
    );
    let log = home.log();
    assert!(
        !log.contains("pipelining") && !log.contains("lost connection"),
        "{log}"
    );
}

#[test]
fn of_two_messages_under_way_only_that_whose_dot_was_sent_is_in_doubt() {
    let mut world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let good = Script::with(&identity);
    let both_are_out = Gate::default();
    let breaks = good.clone().but(At::Data, Act::Wait(both_are_out.clone()));
    let home = Site::start(breaks.but(At::Dot, Act::Break));
    let line = Line::to(home.address(), ONE_WAY);
    held(&world, &line, 2);
    resume(&world);
    until("both messages to be out", PATIENCE, || {
        let agents = world.json(&["agent", "list"]);
        (agents[0]["in_flight"] == 2).then_some(())
    });
    both_are_out.open();
    let broken = home.saw("two envelopes on one session", |seen| {
        count(&seen.secured, b"MAIL FROM:") == 2 && seen.ended
    });
    assert_eq!(count(&broken.secured, b"\r\n.\r\n"), 1);
    until("the attempt to be in doubt", PATIENCE, || {
        let shown = world.show("home");
        let attempts = shown["last_attempts"].as_array()?.clone();
        attempts
            .iter()
            .find(|it| it["outcome"] == "in-doubt")
            .cloned()
    });
    let waiting = world.json(&["queue", "list", "home"]);
    let doubts = waiting.as_array().expect("an array").iter();
    assert_eq!(
        doubts.filter(|it| it["in_doubt"] == true).count(),
        1,
        "{waiting}"
    );
    // The other one was not tried.
    world.agent("out1").log_line("attempt ended");
    let outcomes = world.agent("out1").lines("attempt ended");
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");

    home.behave(good);
    home.forget();
    let _ = world.ddadm().run(&["etrn", "home"]).done();
    home.received(2);
    world.drained("home");
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .filter(|it| *it == needle)
        .count()
}
