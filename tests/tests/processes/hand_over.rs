//! An address changes hands: the name of one member still points to it, and another member's server answers there.

use std::net::SocketAddr;

use dd_tests::browser::{Browser, Look};
use dd_tests::loopback;
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";

#[test]
fn the_new_owner_of_an_address_gets_no_mail_and_both_pages_say_what_happened() {
    let world = World::start();
    let server = |name: &str, port| {
        let identity = world.ca.identity(&[&format!("{name}.example")]);
        let address = SocketAddr::from((loopback::fresh(), port));
        let site = Site::start_at(address, Script::with(&identity));
        world.add_home(name, site.address(), &["--retry", "1h"]);
        world.set_password(name, PASSWORD);
        site
    };
    // On the same port, as all mail servers are.
    let bob = server("bob", 0);
    let mut alice = server("alice", bob.address().port());
    send(&world, "alice", "before");
    send(&world, "bob", "his own");
    alice.received(1);
    bob.received(1);
    world.drained("alice");
    world.drained("bob");

    alice.stop();
    world.dns.set("alice.dyn.example", &[bob.address().ip()]);
    bob.forget();
    send(&world, "alice", "after");
    until("somebody else to answer for alice", PATIENCE, || {
        // A release asks the name service anew.
        let _ = world.ddadm().run(&["etrn", "alice", "--wait", "20s"]);
        (world.show("alice")["why"] == "wrong-host").then_some(())
    });

    assert_eq!(bob.messages().len(), 0);
    for seen in bob.connections() {
        let clear = String::from_utf8_lossy(&seen.clear).into_owned();
        let hello = "EHLO out1.provider.example\r\nSTARTTLS\r\n";
        assert!(hello.starts_with(&clear), "{clear}");
        assert_eq!(seen.secured, b"", "not one byte of mail");
    }
    shown_to_operators(&world, &bob);
    pages(&world, &bob);

    // Her machine has an address again.
    alice.resume();
    alice.forget();
    world.dns.set("alice.dyn.example", &[alice.address().ip()]);
    let _ = world
        .ddadm()
        .run(&["etrn", "alice", "--wait", "20s"])
        .done();
    assert_eq!(alice.received(1).len(), 1);
    assert_eq!(bob.messages().len(), 0);
}

fn shown_to_operators(world: &World, bob: &Site) {
    let shown = world.show("alice");
    assert_eq!(shown["queued"]["messages"], 1, "{shown}");
    let last = &shown["last_attempts"][0];
    assert_eq!(last["outcome"], "wrong-host", "{shown}");
    assert_eq!(last["peer"]["names"][0], "bob.example", "{shown}");
    let detail = last["detail"].as_str().unwrap();
    assert!(detail.contains("may have a new owner"), "{detail}");
    let answered = &world.show("bob")["answered_for"][0];
    assert_eq!(answered["site"], "alice", "{answered}");
    assert_eq!(answered["address"], bob.address().to_string(), "{answered}");
    let page = world.ddadm().run(&["site", "show", "bob"]).done().stdout;
    assert!(page.contains("alice, whose name pointed to"), "{page}");
    assert_eq!(
        world.show("alice")["answered_for"][0],
        serde_json::Value::Null
    );
}

/// In both languages; his does not say whose name it is.
fn pages(world: &World, bob: &Site) {
    let browser = Browser::start(world.path(), Look::DESKTOP);
    browser.sign_in(&world.url("/"), "alice", PASSWORD);
    browser.says("The certificate shown is for another name");
    browser.says("check your DynDNS name");
    browser.click("a[hreflang='de']");
    browser.says("Das gezeigte Zertifikat gilt für einen anderen Namen");
    browser.says("ein fremder Rechner");
    browser.click("form[action='/sign-out'] button");

    browser.sign_in(&world.url("/"), "bob", PASSWORD);
    browser
        .says("Der Name eines anderen Mitglieds zeigt noch auf eine Adresse, die jetzt Ihre ist");
    browser.click("a[hreflang='en']");
    browser.says("Another member's name still points to an address that is yours now");
    browser.says(&bob.address().to_string());
    let text = browser.text().to_lowercase();
    assert!(!text.contains("alice"), "{text}");
}

fn send(world: &World, to: &str, subject: &str) {
    let message = message(subject);
    let to = format!("me@{to}.example");
    world.smtp().send("a@b.example", &to, &message);
}
