//! A host's name has more than one address, or another one than a minute ago.

use std::net::SocketAddr;

use dd_tests::loopback;
use dd_tests::site::{Handshake, Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;

const HELLO: &[u8] = b"EHLO out1.provider.example\r\n";

/// Somebody's mail server without STARTTLS, on the port of the home.
fn stranger_beside(home: &Site) -> Site {
    let address = SocketAddr::from((loopback::fresh(), home.address().port()));
    Site::start_at(address, Script::plain())
}

#[test]
fn whoever_is_at_the_first_address_the_home_at_the_second_has_its_mail_at_once() {
    let world = World::start();
    let home = world.home("home", &["--retry", "1h"]);
    let stranger = stranger_beside(&home);
    let both = [&stranger, &home].map(|it| it.address().ip());
    world.dns.set("home.dyn.example", &both);

    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("hello"));
    home.received(1);
    world.drained("home");
    let seen = stranger.saw("the agent to hang up", |seen| seen.ended);
    assert_eq!((&*seen.clear, seen.secured.len()), (HELLO, 0));
    assert_eq!(seen.handshake, Handshake::NotAsked);
    assert_eq!(world.show("home")["last_attempts"][0]["outcome"], "relayed");

    // A check looks at both, in the order of the DNS, and one that is the site is enough.
    let checks = world.json(&["site", "check", "home"]);
    let rows = checks[0]["hosts"].as_array().unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|it| (&it["address"], &it["proved"]))
        .collect();
    let address = |site: &Site| serde_json::Value::from(site.address().to_string());
    let (first, second) = (address(&stranger), address(&home));
    assert_eq!(
        told,
        [(&first, &false.into()), (&second, &true.into())],
        "{checks}"
    );
    assert_eq!(rows[0]["refusal"]["reason"], "NoStartTls", "{checks}");
    assert_eq!(checks[0]["proved"], true, "{checks}");
    assert_eq!(home.messages().len(), 1);
}

#[test]
fn a_home_that_has_moved_is_found_though_the_old_address_could_still_be_kept() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    let name = "home.dyn.example";
    world.dns.set_for(name, &[home.address().ip()], 3600);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("before"));
    home.received(1);
    world.drained("home");

    let moved = SocketAddr::from((loopback::fresh(), home.address().port()));
    let identity = world.ca.identity(&["home.example"]);
    let moved = Site::start_at(moved, Script::with(&identity));
    world.dns.set_for(name, &[moved.address().ip()], 3600);
    // The old address has a new owner; the session that is still open there ends.
    home.stop();
    home.behave(Script::plain());
    home.resume();
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("after"));
    moved.received(1);
    world.drained("home");
    assert_eq!(home.messages().len(), 1, "the new owner has nothing");
}
