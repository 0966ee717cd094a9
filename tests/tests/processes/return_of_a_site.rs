//! A site that was away has its mail back by itself, and at once where it asks.

use dd_tests::scrape::Scrape;
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

#[test]
fn a_session_at_its_limit_is_followed_by_another_in_its_place_and_the_site_flows_on() {
    const LIMIT: usize = 1000;
    let world = World::start();
    let home = world.home("home", &["--connections", "1"]);
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    let mut client = world.smtp();
    for number in 0..2 * LIMIT + 1 {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    home.received(2 * LIMIT + 1);
    world.drained("home");
    let sessions = home.connections();
    assert_eq!(sessions.len(), 3);
    let copies = home.copies();
    assert!(copies.len() == 2 * LIMIT + 1 && copies.values().all(|copies| *copies == 1));
    // Only the first session was a probe: for the controller the site never was without one.
    let proved = Scrape::of(&world).value("dd_stage_seconds_count{stage=\"proved\"}");
    assert_eq!(proved, 1.0);
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
