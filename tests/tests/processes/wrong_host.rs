//! Whoever answers at a site's address and is not the site gets nothing, and the mail waits.

use dd_tests::ca::Ca;
use dd_tests::site::{Handshake, Script, Seen};
use dd_tests::submit::message;
use dd_tests::world::World;

const HELLO: &[u8] = b"EHLO out1.provider.example\r\n";
const HELLO_AND_STARTTLS: &[u8] = b"EHLO out1.provider.example\r\nSTARTTLS\r\n";

/// Three strangers in a row, then the site itself.
#[test]
fn a_stranger_gets_nothing_and_the_mail_waits_for_the_site() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("waits"));
    world.site_is("home", "waiting");

    // Another name; the same subject and another key; no STARTTLS at all.
    let impostor = Ca::new("Members of the provider");
    let strangers = [
        (
            Script::with(&world.ca.identity(&["other.example"])),
            HELLO_AND_STARTTLS,
        ),
        (
            Script::with(&impostor.identity(&["home.example"])),
            HELLO_AND_STARTTLS,
        ),
        (Script::plain(), HELLO),
    ];
    home.resume();
    for (stranger, may_hear) in strangers {
        home.forget();
        home.behave(stranger);
        let outcome = world.ddadm().run(&["etrn", "home", "--wait", "20s"]);
        assert_eq!(outcome.code, 5, "{outcome}");
        let seen = home.saw("the agent to hang up", |seen| seen.ended);
        heard_only(&seen, may_hear);

        let shown = world.show("home");
        assert_eq!(shown["state"], "waiting", "{shown}");
        assert_eq!(shown["why"], "wrong-host", "{shown}");
        assert_eq!(shown["queued"]["messages"], 1, "{shown}");
        let last = &shown["last_attempts"][0];
        assert_eq!(last["outcome"], "wrong-host", "{shown}");
        let address = last["address"].as_str().unwrap();
        assert!(
            address.starts_with(&home.address().ip().to_string()),
            "{shown}"
        );
    }
    assert_eq!(home.messages().len(), 0);
    let line = world.controller().log_line("why=\"wrong-host\"");
    assert!(
        line.contains("WARN site: the site has changed its state"),
        "{line}"
    );

    home.behave(Script::with(&world.ca.identity(&["home.example"])));
    let outcome = world.ddadm().run(&["etrn", "home", "--wait", "20s"]).done();
    assert!(outcome.stdout.contains('1'), "{outcome}");
    home.received(1);
    world.drained("home");
}

#[test]
fn who_answered_is_shown_with_the_certificate_it_had() {
    let world = World::start();
    let home = world.home("home", &["--retry", "1h"]);
    home.behave(Script::with(&world.ca.identity(&["neighbour.example"])));
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("waits"));
    let shown = world.site_is("home", "waiting");
    let peer = &shown["last_attempts"][0]["peer"];
    assert!(
        peer["subject"]
            .as_str()
            .unwrap()
            .contains("neighbour.example"),
        "{shown}"
    );
    assert!(
        peer["issuer"]
            .as_str()
            .unwrap()
            .contains("Members of the provider"),
        "{shown}"
    );
    assert_eq!(peer["names"][0], "neighbour.example");

    // A session that has proved itself tells it once, before its first message.
    home.behave(Script::with(&world.ca.identity(&["home.example"])));
    let _ = world.ddadm().run(&["etrn", "home"]).done();
    home.received(1);
    world.drained("home");
    let last = &world.show("home")["last_attempts"][0];
    assert_eq!(last["outcome"], "relayed", "{last}");
    assert_eq!(last["peer"]["names"][0], "home.example", "{last}");
}

#[track_caller]
fn heard_only(seen: &Seen, may_hear: &[u8]) {
    assert_eq!(
        String::from_utf8_lossy(&seen.clear),
        String::from_utf8_lossy(may_hear)
    );
    assert_eq!(seen.secured, b"", "not one byte inside TLS");
    assert_ne!(seen.handshake, Handshake::Done);
}
