//! The main road: proved, handed over, reported, and through kills and expired leases.

use std::time::Duration;

use super::{Bench, NAME};
use crate::ca::Ca;
use crate::faketime;
use crate::site::{Act, At, Gate, Handshake, Script};
use crate::submit::message;
use crate::wait::{PATIENCE, Stopwatch, until};
use crate::world::{OUTBOUND, World};

/// Proved by certificate, inside TLS, from the agent's own address, whole: small content and one that is fetched.
///
/// # Panics
/// The agent does not do it.
pub fn delivers_to_a_site_that_proves_itself(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &[]);
    let large = large("large");
    let mut feeder = world.smtp();
    feeder.send("a@elsewhere.example", "me@home.example", &message("small"));
    feeder.send("", "me@home.example", &large);
    for got in home.received(2) {
        let seen = home.session_of(&got);
        assert_eq!(seen.peer, OUTBOUND[0]);
        assert_eq!(seen.handshake, Handshake::Done);
        assert_eq!(got.recipients, ["<me@home.example>"]);
        if got.mail.starts_with("<>") {
            assert!(got.content.ends_with(&large), "the large content is whole");
        }
    }
    let shown = world.drained("home");
    let last = &shown["last_attempts"][0];
    assert_eq!(last["outcome"], "relayed", "{shown}");
    assert_eq!(last["agent"], NAME, "{shown}");
}

/// Three strangers get not one byte of an envelope; the mail waits for the right one.
///
/// # Panics
/// The agent does not do it.
pub fn tells_a_wrong_host_nothing(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    let impostor = Ca::new("Members of the provider");
    let strangers = [
        Script::with(&world.ca.identity(&["other.example"])),
        Script::with(&impostor.identity(&["home.example"])),
        Script::plain(),
    ];
    home.behave(strangers[0].clone());
    let mut feeder = world.smtp();
    feeder.send("a@b.example", "me@home.example", &message("waits"));
    world.site_is("home", "waiting");
    for stranger in strangers {
        home.forget();
        home.behave(stranger);
        let outcome = world.ddadm().run(&["etrn", "home", "--wait", "20s"]);
        assert_eq!(outcome.code, 5, "{outcome}");
        let seen = home.saw("the agent to hang up", |seen| seen.ended);
        assert_eq!(seen.secured, b"", "not one byte inside TLS");
        let clear = String::from_utf8_lossy(&seen.clear);
        for line in clear.split_terminator("\r\n") {
            let verb = line.split(' ').next().unwrap_or_default();
            let harmless = ["EHLO", "STARTTLS", "QUIT"].contains(&verb.to_uppercase().as_str());
            assert!(harmless, "a stranger was told `{line}`");
        }
        let shown = world.show("home");
        assert_eq!(shown["why"], "wrong-host", "{shown}");
    }
    home.behave(Script::with(&world.ca.identity(&["home.example"])));
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "20s"]).done();
    home.received(1);
    world.drained("home");
}

/// A site whose proof needs no TLS, and that has shown TLS, gets nothing without: over restarts of both ends, until an
/// administrator says that it is meant.
///
/// # Panics
/// The agent does not do it.
pub fn does_not_fall_back_to_plaintext(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--proof", "port"])
        .done();
    send(world, "inside TLS");
    home.received(1);
    until("the site to be remembered", PATIENCE, || {
        (world.show("home")["shown"]["tls"] == true).then_some(())
    });
    bench.kill();
    bench.world.stop_controller();
    bench.world.start_controller();
    bench.start_again();
    let world = &bench.world;
    home.behave(Script::plain());
    home.forget();
    send(world, "not in the clear");
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "wrong-host", "{shown}");
    assert_eq!(shown["refusal"]["reason"], "TlsFellAway", "{shown}");
    let seen = home.saw("the agent to hang up", |seen| seen.ended);
    let clear = String::from_utf8_lossy(&seen.clear);
    assert!(
        !clear.contains("MAIL"),
        "a host without TLS was told {clear}"
    );
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--clear", "shown"])
        .done();
    home.received(1);
    world.drained("home");
}

/// Killed before the dot: delivered once. Killed behind it: in doubt, and shown so.
///
/// # Panics
/// The agent does not do it.
pub fn survives_a_kill(bench: &mut Bench) {
    let home = bench
        .world
        .home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&bench.world.ca.identity(&["home.example"]));

    home.behave(good.clone().but(At::Data, Act::Hang));
    send(&bench.world, "before the dot");
    home.saw("DATA", |seen| seen.secured.ends_with(b"DATA\r\n"));
    bench.kill();
    home.behave(good.clone());
    bench.start_again();
    home.received(1);
    let shown = bench.world.drained("home");
    assert_eq!(count(&shown, "in-doubt"), 0, "{shown}");

    // A new session, for the old one follows the old script.
    bench.kill();
    bench.start_again();
    home.behave(good.clone().but(At::Dot, Act::Hang));
    home.forget();
    send(&bench.world, "behind the dot");
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    bench.kill();
    home.behave(good);
    home.forget();
    bench.start_again();
    home.received(1);
    let shown = bench.world.drained("home");
    assert_eq!(count(&shown, "in-doubt"), 1, "{shown}");
}

/// What the site does not accept is not reported as accepted: it is delivered later.
///
/// # Panics
/// The agent does not do it.
pub fn reports_what_the_site_said(bench: &mut Bench) {
    let world = &bench.world;
    let mut home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().but(At::Dot, Act::Hang));
    send(world, "early");
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    // The next connection must not meet the same: from the second break on a message waits for minutes.
    home.behave(good);
    home.stop();
    home.resume();
    until("the message to come, or to be lost", PATIENCE, || {
        let came = !home.messages().is_empty();
        (came || world.show("home")["queued"]["messages"] == 0).then_some(())
    });
    assert_eq!(home.messages().len(), 1, "the site never had it");
}

/// # Panics
/// The agent does not do it.
pub fn sends_no_dot_on_an_expired_lease(bench: &mut Bench) {
    assert_eq!(
        copies_after_a_lease_expired(bench),
        1,
        "a copy went out on an expired lease"
    );
}

/// An agent that was away for longer than its lease sends no dot: its work went to another one. Returns the copies that
/// the site accepted.
///
/// # Panics
/// The message does not come at all.
pub fn copies_after_a_lease_expired(bench: &mut Bench) -> usize {
    let Bench { world, agent } = bench;
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let gate = Gate::default();
    home.behave(good.clone().but(At::Data, Act::Wait(gate.clone())));
    send(world, "expired");
    let held = home.saw("DATA", |seen| seen.secured.ends_with(b"DATA\r\n"));
    agent.freeze();
    home.behave(good);
    world.add_agent("out2", OUTBOUND[1]);
    // Lease and grace are forty seconds.
    until("another agent to deliver", PATIENCE * 2, || {
        (home.messages().len() == 1).then_some(())
    });
    gate.open();
    agent.thaw();
    until("the agent to come back", PATIENCE, || {
        let connections = home.connections();
        let same = connections.iter().find(|seen| seen.number == held.number)?;
        (same.ended || home.messages().len() == 2).then_some(())
    });
    home.messages().len()
}

/// The answer to the dot comes while the controller is away: its report is in the journal, and told to the next start.
///
/// # Panics
/// The agent does not do it.
pub fn tells_a_report_again_that_was_not_acknowledged(bench: &mut Bench) {
    let world = &mut bench.world;
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let gate = Gate::default();
    home.behave(good.clone().but(At::Dot, Act::Wait(gate.clone())));
    send(world, "while the controller is away");
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    world.kill_controller();
    home.behave(good);
    gate.open();
    home.received(1);
    world.start_controller();
    world.attached(NAME);
    let shown = world.drained("home");
    assert_eq!(count(&shown, "in-doubt"), 0, "{shown}");
    assert_eq!(home.received(1).len(), 1, "one copy");
}

/// The controller's wall clock jumps ahead by two days while a message is before its dot: it is handed over all the same, once.
///
/// # Panics
/// The agent does not do it.
pub fn goes_on_while_the_controllers_clock_jumps(bench: &mut Bench) {
    let world = &mut bench.world;
    let clock = world.path().join("clock");
    faketime::set(&clock, "+0d");
    world.stop_controller();
    world.layout.environment = faketime::told_by(clock.to_str().expect("UTF-8"));
    world.start_controller();
    world.all_known();
    world.attached(NAME);
    let home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    let gate = Gate::default();
    home.behave(good.clone().but(At::Data, Act::Wait(gate.clone())));
    send(world, "before the jump");
    let first = home.saw("DATA", |seen| seen.secured.ends_with(b"DATA\r\n"));
    faketime::set(&clock, "+2d");
    let beats = Stopwatch::start();
    until("a few beats", PATIENCE, || {
        (beats.elapsed() > Duration::from_secs(12)).then_some(())
    });
    gate.open();
    let got = home.received(1).remove(0);
    assert_eq!(got.number, first.number, "on another session");
    home.behave(good);
    send(world, "behind it");
    home.received(2);
    let shown = world.drained("home");
    assert_eq!(count(&shown, "in-doubt"), 0, "{shown}");
}

/// Hands in a message for the site `home`.
pub fn send(world: &World, subject: &str) {
    let mut feeder = world.smtp();
    feeder.send("a@b.example", "me@home.example", &message(subject));
}

fn count(shown: &serde_json::Value, outcome: &str) -> usize {
    let attempts = shown["last_attempts"].as_array().expect("a list");
    let such = attempts.iter().filter(|last| last["outcome"] == outcome);
    such.count()
}

fn large(subject: &str) -> Vec<u8> {
    let mut large = message(subject);
    // A line that begins with a dot is one that must be stuffed.
    large.extend(b".dots and lines\r\n".repeat(20_000));
    large
}
