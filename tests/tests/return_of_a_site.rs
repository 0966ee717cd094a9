//! A site that was away has its mail back by itself, and at once where it asks.

use dd_tests::site::Site;
use dd_tests::submit::message;
use dd_tests::world::World;

const WAITING: usize = 50;

#[test]
fn everything_arrives_on_few_sessions_within_the_retry_interval_without_any_command() {
    let world = World::start();
    let mut home = away(&world, &["--retry", "1s", "--connections", "2"]);
    home.resume();
    home.received(WAITING);
    assert!(
        home.connections().len() <= 2,
        "{}",
        home.connections().len()
    );
    world.drained("home");
    each_once(&home);
}

#[test]
fn everything_arrives_at_once_after_etrn() {
    let world = World::start();
    let mut home = away(&world, &["--retry", "1h"]);
    home.resume();
    // By itself the site would be tried in an hour.
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "60s"]).done();
    home.received(WAITING);
    assert!(
        home.connections().len() <= 2,
        "{}",
        home.connections().len()
    );
    each_once(&home);
}

/// A home that is down, with mail waiting for it.
fn away(world: &World, more: &[&str]) -> Site {
    let mut home = world.home("home", more);
    home.stop();
    let mut client = world.smtp();
    for number in 0..WAITING {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "down", "{shown}");
    assert_eq!(shown["queued"]["messages"], WAITING, "{shown}");
    home.forget();
    home
}

#[track_caller]
fn each_once(home: &Site) {
    let copies = home.copies();
    for number in 0..WAITING {
        let subject = format!("number-{number}");
        assert_eq!(copies.get(&subject), Some(&1), "{subject}");
    }
}
