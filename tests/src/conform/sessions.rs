//! Sessions: which host, how many, and when they end.

use std::net::SocketAddr;
use std::time::Duration;

use super::basics::send;
use super::{Bench, NAME};
use crate::ca::Ca;
use crate::loopback;
use crate::site::{Act, At, Gate, Script, Site, contains};
use crate::wait::{PATIENCE, Stopwatch, until};

/// A home that takes one session at a time: what finds no place in it waits, and does not knock without end.
///
/// # Panics
/// The agent does not do it.
pub fn waits_where_a_further_session_is_turned_away(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1s", "--connections", "2"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let gate = Gate::default();
    home.behave(good.clone().but(At::Data, Act::Wait(gate.clone())));
    send(world, "first");
    home.saw("DATA", |seen| contains(&seen.secured, b"DATA\r\n"));
    home.behave(
        good.clone()
            .says(At::Greeting, "421 4.7.0 one session at a time"),
    );
    send(world, "second");
    let watch = Stopwatch::start();
    until(
        "time enough to come back a thousand times",
        PATIENCE,
        || (watch.elapsed() > Duration::from_secs(3)).then_some(()),
    );
    let knocked = home.connections().len();
    assert!(knocked <= 10, "{knocked} connections in three seconds");
    home.behave(good);
    gate.open();
    home.received(2);
    world.drained("home");
}

/// The first host is somebody else's, the second is away, the third is the site.
///
/// # Panics
/// The agent does not do it.
pub fn tries_the_next_host_when_the_first_is_wrong(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    let elsewhere = Ca::new("Somebody else");
    let impostor = Site::start(Script::with(&elsewhere.identity(&["home.example"])));
    let mut hosts = vec!["site".to_owned(), "set".to_owned(), "home".to_owned()];
    let away = SocketAddr::from((loopback::fresh(), home.address().port()));
    for (name, address) in [
        ("first", impostor.address()),
        ("second", away),
        ("third", home.address()),
    ] {
        let name = format!("{name}.dyn.example");
        world.dns.set(&name, &[address.ip()]);
        hosts.extend(["--host".to_owned(), format!("{name}:{}", address.port())]);
    }
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let _ = world.ddadm().run(&hosts).done();
    send(world, "to the third");
    home.received(1);
    world.drained("home");
    let seen = impostor.saw("the agent to hang up", |seen| seen.ended);
    for told in [&seen.clear, &seen.secured] {
        assert!(
            !contains(told, b"MAIL"),
            "the wrong host was told of a message"
        );
    }
}

/// The home comes back at another address, and a release says so: no old answer of the name service is used.
///
/// # Panics
/// The agent does not do it.
pub fn asks_for_addresses_anew_after_a_release(bench: &mut Bench) {
    let world = &bench.world;
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    send(world, "waits");
    world.site_is("home", "waiting");
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let address = SocketAddr::from((loopback::fresh(), home.address().port()));
    let moved = Site::start_at(address, good);
    world.dns.set("home.dyn.example", &[address.ip()]);
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "20s"]).done();
    moved.received(1);
    world.drained("home");
}

/// An operator drains the agent while a message is between DATA and its dot: it is handed over, once.
///
/// # Panics
/// The agent does not do it.
pub fn ends_a_transaction_in_hand_when_a_site_is_closed(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let gate = Gate::default();
    home.behave(good.clone().but(At::Dot, Act::Wait(gate.clone())));
    send(world, "in hand");
    let first = home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    let _ = world.ddadm().run(&["agent", "drain", NAME]).done();
    home.behave(good);
    gate.open();
    home.received(1);
    home.saw("its session to end", |seen| {
        seen.number == first.number && seen.ended
    });
    world.drained("home");
    // The plan was taken back: with the next work another one comes.
    let _ = world.ddadm().run(&["agent", "resume", NAME]).done();
    send(world, "after it");
    home.received(2);
    world.drained("home");
}

/// The record names another host: what waits goes there, and what was open ends.
///
/// # Panics
/// The agent does not do it.
pub fn takes_a_new_plan_for_a_changed_site(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    send(world, "to the old host");
    home.received(1);
    world.drained("home");
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let other = Site::start(good);
    world.dns.set("other.dyn.example", &[other.address().ip()]);
    let host = format!("other.dyn.example:{}", other.address().port());
    let args = ["site", "set", "home", "--host", &host];
    let _ = world.ddadm().run(&args).done();
    send(world, "to the new host");
    other.received(1);
    world.drained("home");
    assert_eq!(home.count(), 1, "the old host got more");
}

/// A check finds the site, and then a stranger in its place, and tells neither of any mail.
///
/// # Panics
/// The agent does not do it.
pub fn looks_without_mail(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    assert_eq!(world.ddadm().run(&["site", "check", "home"]).code, 0);
    let elsewhere = Ca::new("Somebody else");
    home.behave(Script::with(&elsewhere.identity(&["home.example"])));
    assert_ne!(world.ddadm().run(&["site", "check", "home"]).code, 0);
    home.saw("the agent to hang up", |seen| seen.ended);
    for seen in home.connections() {
        for told in [&seen.clear, &seen.secured] {
            assert!(!contains(told, b"MAIL"), "a check told of a message");
        }
    }
}
