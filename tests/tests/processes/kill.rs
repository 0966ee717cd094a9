//! `kill -9` loses nothing, and repeats nothing but what was in doubt.

use std::thread;
use std::time::{Duration, Instant};

use dd_tests::site::{Act, At, Script, Site, contains};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

#[test]
fn mail_that_waits_survives_the_end_of_the_controller() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1s"]);
    home.stop();
    send(&world, 20);
    world.site_is("home", "waiting");
    world.kill_controller();
    world.start_controller();
    world.attached("out1");
    world.all_known();
    assert_eq!(world.show("home")["queued"]["messages"], 20);
    home.resume();
    home.received(20);
    world.drained("home");
}

#[test]
fn mail_in_flight_before_its_dot_arrives_once_after_the_end_of_the_controller() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().but(At::Mail, Act::Hang));
    send(&world, 5);
    home.saw("MAIL", |seen| !seen.secured.is_empty());
    world.kill_controller();
    world.start_controller();
    world.attached("out1");
    // The attempt goes on under its lease until the site breaks it.
    home.stop();
    home.behave(good);
    home.resume();
    home.received(5);
    world.drained("home");
    each_once(&home, 5);
}

/// A home that does not answer its dot keeps both programs for as long as a drain may take, but for the second SIGTERM.
#[test]
fn whoever_is_asked_twice_ends_at_once() {
    let mut world = World::start();
    let home = world.home("home", &["--retry", "1s"]);
    let identity = world.ca.identity(&["home.example"]);
    home.behave(Script::with(&identity).but(At::Dot, Act::Hang));
    send(&world, 1);
    home.saw("the dot", |seen| contains(&seen.secured, b"\r\n.\r\n"));
    let began = now();
    let controller = world.controller();
    controller.ask_to_end();
    controller.log_line("stopping");
    controller.ask_to_end();
    assert!(controller.ended().success());
    let agent = world.agent("out1");
    agent.ask_to_end();
    agent.log_line("draining");
    agent.ask_to_end();
    assert!(agent.ended().success());
    let took = now() - began;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn what_was_acknowledged_in_the_rush_arrives_once_after_the_end_of_the_controller() {
    let mut world = World::start();
    let home = world.home("home", &["--retry", "1s"]);
    let mut client = world.smtp();
    let feeder = thread::spawn(move || {
        // Ends when the controller does: the first message that is not acknowledged is the last.
        (0..100_000)
            .take_while(|number| {
                let message = message(&format!("number-{number}"));
                let sent = client.try_send("a@b.example", "me@home.example", &message);
                sent.is_some()
            })
            .count()
    });
    until("mail to flow", PATIENCE, || {
        (home.messages().len() >= 50).then_some(())
    });
    world.kill_controller();
    let acknowledged = feeder.join().unwrap();
    world.start_controller();
    world.attached("out1");
    world.drained("home");
    each_once(&home, acknowledged);
    // The one that was cut off may be there, for its 250 may have been lost; nothing else may.
    assert!(home.messages().len() <= acknowledged + 1);
}

#[test]
fn mail_in_data_arrives_once_after_the_end_of_its_agent() {
    let mut world = World::start();
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().but(At::Body, Act::Hang));
    // Larger than what fits into sockets and TLS buffers, so that no dot can have been sent.
    let mut large = message("number-0");
    large.extend(
        "x".repeat(70)
            .into_bytes()
            .into_iter()
            .chain(*b"\r\n")
            .cycle()
            .take(72 * 20_000),
    );
    world.smtp().send("a@b.example", "me@home.example", &large);
    home.saw("content", |seen| {
        contains(&seen.secured, b"Subject: number-0")
    });
    world.kill_agent("out1");
    home.behave(good);
    world.start_agent("out1");
    home.received(1);
    world.drained("home");
    each_once(&home, 1);
}

#[test]
fn a_message_whose_dot_was_sent_is_in_doubt_and_may_come_twice() {
    let mut world = World::start();
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().but(At::Dot, Act::Hang));
    send(&world, 1);
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    world.kill_agent("out1");
    home.behave(good);
    home.forget();
    world.start_agent("out1");
    home.received(1);
    let shown = world.drained("home");
    let attempts = shown["last_attempts"].as_array().unwrap();
    assert!(
        attempts
            .iter()
            .any(|attempt| attempt["outcome"] == "in-doubt"),
        "{shown}"
    );
}

#[test]
fn a_controller_that_is_stopped_ends_well_and_starts_again() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1s"]);
    home.stop();
    send(&world, 3);
    world.stop_controller();
    world.start_controller();
    world.attached("out1");
    home.resume();
    home.received(3);
}

fn send(world: &World, count: usize) {
    let mut client = world.smtp();
    for number in 0..count {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
}

#[track_caller]
fn each_once(home: &Site, count: usize) {
    let copies = home.copies();
    for number in 0..count {
        let subject = format!("number-{number}");
        assert_eq!(copies.get(&subject), Some(&1), "{subject}");
    }
}
