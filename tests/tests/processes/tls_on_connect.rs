//! Homes where TLS begins with the connection.

use dd_tests::site::{Handshake, Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;

fn send(world: &World, subject: &str) {
    let mail = message(subject);
    world.smtp().send("a@b.example", "me@home.example", &mail);
}

#[test]
fn a_home_whose_tls_begins_with_the_connection_gets_its_mail_and_is_checked() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let site = Site::start(Script::with(&identity).on_connect());
    world.add_home("home", site.address(), &["--tls-on-connect"]);
    assert_eq!(world.show("home")["tls_on_connect"], true);
    send(&world, "on connect");
    let received = site.received(1).remove(0);
    let seen = site.session_of(&received);
    assert_eq!(seen.handshake, Handshake::Done);
    assert_eq!(seen.clear, b"");

    let checked = world.json(&["site", "check", "home"]);
    let steps = checked[0]["hosts"][0]["steps"].as_array().unwrap().clone();
    let steps: Vec<&str> = steps
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let expected = [
        "resolve", "connect", "starttls", "chain", "name", "expiry", "banner", "proof", "size",
    ];
    assert_eq!(steps, expected, "{checked}");
}

#[test]
fn nothing_is_said_in_the_clear_to_a_home_that_speaks_first() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let site = Site::start(Script::with(&identity));
    // Not even where the proof does not need TLS.
    let address = site.address().ip().to_string();
    let more = [
        "--tls-on-connect",
        "--proof",
        "static-ip",
        "--address",
        &address,
    ];
    world.add_home("home", site.address(), &[]);
    let _ = world
        .ddadm()
        .run(&[&["site", "set", "home"], &more[..]].concat())
        .done();
    send(&world, "waits");
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "wrong-host", "{shown}");
    for seen in site.connections() {
        // What came is the beginning of a handshake, RFC 8446 §5.1, and no command.
        let first = seen.clear.first();
        assert!(first.is_none_or(|byte| *byte == 22), "{:?}", seen.clear);
    }
    assert_eq!(site.count(), 0);
}
