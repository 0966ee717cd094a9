//! Homes whose door is LMTP, behind TLS and the same proofs.

use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const ALL: [&str; 3] = ["a@home.example", "b@home.example", "c@home.example"];

fn send(world: &World, subject: &str) {
    let mut client = world.smtp();
    client.expect("MAIL FROM:<x@elsewhere.example>", 250);
    for recipient in ALL {
        client.expect(&format!("RCPT TO:<{recipient}>"), 250);
    }
    assert_eq!(client.data(&message(subject)).code, 250);
}

#[test]
fn each_recipient_has_the_answer_that_he_was_given_behind_the_dot() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let answers = ["250 2.0.0 kept", "452 4.2.2 full", "550 5.2.1 closed"];
    let site = Site::start(Script::with(&identity).lmtp(&answers));
    world.add_home("home", site.address(), &["--lmtp", "--retry", "1h"]);
    assert_eq!(world.show("home")["lmtp"], true);
    send(&world, "three");
    let kept = site.received(1).remove(0);
    assert_eq!(kept.recipients, ["<a@home.example>"]);
    let secured = String::from_utf8_lossy(&site.session_of(&kept).secured).into_owned();
    assert!(secured.starts_with("LHLO "), "{secured}");

    // One is left, at his time; the third has gone back to the sender.
    site.behave(Script::with(&identity).lmtp(&["250 2.0.0 kept"]));
    site.forget();
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "20s"]);
    let kept = site.received(1).remove(0);
    assert_eq!(kept.recipients, ["<b@home.example>"]);
    world.drained("home");
}

#[test]
fn those_whose_answers_are_lost_behind_the_dot_are_in_doubt_and_the_others_are_not() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    // It hangs up behind its first answer.
    let site = Site::start(Script::with(&identity).lmtp(&["250 2.0.0 kept"]));
    world.add_home("home", site.address(), &["--lmtp", "--retry", "1s"]);
    send(&world, "three");
    // What broke off behind the dot twice may be there twice, so from then on it has a time of its own, or a release.
    until("the third to be left", PATIENCE, || {
        let waits = world.json(&["queue", "list", "home"]);
        (waits[0]["attempts"] == 2).then_some(())
    });
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "20s"]);
    // Whoever was answered for is never asked for again.
    let kept = site.received(3).into_iter().flat_map(|it| it.recipients);
    let all = ALL.map(|it| format!("<{it}>"));
    assert_eq!(kept.collect::<Vec<_>>(), all);
    world.drained("home");
    let status = world.json(&["status"]);
    assert_eq!(status["in_doubt"], 2, "{status}");
    assert_eq!(status["duplicates"], 0, "{status}");
}
