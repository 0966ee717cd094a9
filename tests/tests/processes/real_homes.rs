//! Real mail servers at home with their own limits and tempers, as Debian ships them: what the home would take is there.

use std::net::SocketAddr;
use std::time::Duration;

use dd_tests::home_server::HomeServer;
use dd_tests::postfix::Postfix;
use dd_tests::submit::message;
use dd_tests::wait::Stopwatch;
use dd_tests::world::World;

use crate::home_servers::{issued, listens_at};

const GOOD: &str = "me@home.example";

fn sends(world: &World, to: &str, subjects: std::ops::Range<usize>) {
    let mut client = world.smtp();
    for subject in subjects {
        let _ = client.send("a@b.example", to, &message(&format!("mail-{subject}")));
    }
}

fn sends_to_unknown(world: &World, count: usize) {
    let mut client = world.smtp();
    for n in 0..count {
        let to = format!("nobody{n}@home.example");
        let _ = client.send("a@b.example", &to, &message("unwanted"));
    }
}

/// A site at an address where nobody listens, with a retry interval that a test can wait for.
fn is_away(world: &World, address: SocketAddr) {
    listens_at(world, address);
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--retry", "2s"])
        .done();
}

#[test]
fn a_burst_reaches_a_home_that_loses_what_stands_behind_a_dot() {
    let (world, printed) = issued();
    let home = HomeServer::chasquid(world.path(), "home.example", &printed);
    listens_at(&world, home.address());
    sends(&world, GOOD, 0..30);
    assert_eq!(home.received(30).len(), 30);
    let _ = world.drained("home");
}

#[test]
fn a_queue_reaches_a_home_that_takes_a_hundred_messages_a_session() {
    let (world, printed) = issued();
    let home = HomeServer::opensmtpd(world.path(), "home.example", &printed);
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    listens_at(&world, home.address());
    sends(&world, GOOD, 0..250);
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    assert_eq!(home.received(250).len(), 250);
    let _ = world.drained("home");
}

#[test]
fn an_exim_that_is_set_up_with_what_is_printed_leaves_nothing_to_its_queue_runner() {
    let (world, printed) = issued();
    let home = HomeServer::exim(world.path(), "home.example", &printed);
    listens_at(&world, home.address());
    sends(&world, GOOD, 0..30);
    assert_eq!(home.received(30).len(), 30);
    let _ = world.drained("home");
}

#[test]
fn good_mail_passes_mail_for_unknown_recipients_at_an_exim_that_was_never_away() {
    let (world, printed) = issued();
    let home = HomeServer::exim(world.path(), "home.example", &printed);
    is_away(&world, home.address());
    sends_to_unknown(&world, 60);
    sends(&world, GOOD, 0..2);
    assert_eq!(home.received(2).len(), 2);
    let _ = world.drained("home");
}

#[test]
fn good_mail_passes_mail_for_unknown_recipients_at_a_postfix_that_comes_back() {
    let (world, printed) = issued();
    let mut lines = printed.below("Postfix, main.cf");
    // The last word counts: one mailbox.
    lines += "virtual_mailbox_maps = inline:{me@home.example=inbox/}\n";
    let home = Postfix::set_up(world.path(), "home.example", &lines);
    // Nobody listens on its port at this address.
    let mut away = home.address();
    away.set_ip(dd_tests::loopback::fresh().into());
    is_away(&world, away);
    sends_to_unknown(&world, 40);
    sends(&world, GOOD, 0..3);
    let _ = world.site_is("home", "waiting");
    listens_at(&world, home.address());
    let _ = world.ddadm().run(&["etrn", "home"]).done();
    let mail = home.received(3);
    assert_eq!(mail.len(), 3, "{mail:?}");
}

#[test]
fn good_mail_waits_for_one_refusal_at_a_courier_that_holds_each_back() {
    let (world, printed) = issued();
    let home = HomeServer::courier(world.path(), "home.example", &printed);
    listens_at(&world, home.address());
    sends(&world, GOOD, 0..1);
    assert_eq!(home.received(1).len(), 1);
    sends_to_unknown(&world, 20);
    let begun = Stopwatch::start();
    sends(&world, GOOD, 1..2);
    assert_eq!(home.received(2).len(), 2);
    // A refusal takes eight seconds; all of them on two sessions would be eighty.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(24), "{took:?}");
}

#[test]
fn mail_is_kept_for_a_qpsmtpd_that_takes_nothing_as_it_is_packaged() {
    let (world, printed) = issued();
    let packaged = HomeServer::qpsmtpd_as_packaged(world.path(), "home.example", &printed);
    listens_at(&world, packaged.address());
    sends(&world, GOOD, 0..3);
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "refused", "{shown}");
    let waiting = world.json(&["queue", "list", "home"]);
    assert_eq!(waiting.as_array().map(Vec::len), Some(3), "{waiting}");
    let mended = HomeServer::qpsmtpd(world.path(), "home.example", &printed);
    listens_at(&world, mended.address());
    assert_eq!(mended.received(3).len(), 3);
    let _ = world.drained("home");
}
