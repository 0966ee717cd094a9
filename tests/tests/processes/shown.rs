//! What a site showed is remembered: a new key is told where nothing else would notice it, and an end is foreseen.

use std::fs;
use std::path::Path;

use dd_tests::faketime;
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

#[test]
fn another_key_is_told_where_the_proof_does_not_rest_on_it_and_mail_goes_on() {
    let mut world = World::start();
    let home = world.home("home", &["--retry", "1s"]);
    set(&world, &["--proof", "port"]);
    deliver(&world, &home, "one");
    let first = certificate(&world, "");
    home.behave(Script::with(&world.ca.identity(&["home.example"])));
    // A changed record ends the session, so that the next message meets the new key.
    set(&world, &["--connections", "3"]);
    deliver(&world, &home, "two");
    let second = certificate(&world, &first);
    let another_key = "the host shows another key than before";
    world.controller().log_line(another_key);
    let said = world.controller().lines(another_key);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("WARN"), "{said:?}");
    let shown = world.show("home");
    let sights = shown["shown"]["sights"].as_array().unwrap();
    assert_eq!(sights.len(), 2, "{shown}");
    for (sight, certificate) in sights.iter().zip([&second, &first]) {
        assert_eq!(sight["certificate"]["sha256"], **certificate, "{shown}");
        assert_eq!(sight["tls_version"], "TLSv1.3", "{shown}");
        assert_eq!(sight["agent"], "out1", "{shown}");
    }
    // Over a restart, and nothing more is said of what is known.
    world.stop_controller();
    world.start_controller();
    world.attached("out1");
    deliver(&world, &home, "three");
    assert_eq!(world.show("home")["shown"], shown["shown"]);
    let said = world.controller().lines("the host shows");
    assert_eq!(said.len(), 0, "{said:?}");
}

#[test]
fn a_removed_site_leaves_no_memory_to_the_next_of_its_name() {
    let world = World::start();
    let home = world.home("home", &[]);
    deliver(&world, &home, "one");
    certificate(&world, "");
    let _ = world.ddadm().run(&["site", "remove", "home"]).done();
    world.add_home("home", home.address(), &[]);
    assert_eq!(world.show("home")["shown"], serde_json::Value::Null);
}

/// A certificate of 35 days; the clock goes on between starts of the controller. No agent: what is written waits.
#[test]
fn the_contact_is_written_to_thirty_fourteen_and_three_days_before_once_each() {
    let mut world = World::with_agents(0);
    let clock = world.path().join("clock");
    turn(&clock, 0);
    let _ = world.ddadm().run(&["ca", "create", "members"]).done();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    world.add_home("home", nowhere, &["--contact", "owner@elsewhere.example"]);
    set(&world, &["--authority", "members"]);
    let out = world.path().join("issued");
    let out = out.to_str().unwrap();
    let issue = ["cert", "issue", "home", "--days", "35", "--out", out];
    let _ = world.ddadm().run(&issue).done();
    world.layout.environment = faketime::told_by(clock.to_str().unwrap());
    let log = (
        "RUST_LOG".to_owned(),
        "info,dd_controller::ends=debug".to_owned(),
    );
    world.layout.environment.push(log);
    let mut written = 0;
    // Day, and whether there is news.
    for (day, news) in [
        (0, 0),
        (6, 1),
        (7, 0),
        (19, 0),
        (22, 1),
        (31, 0),
        (33, 1),
        (34, 0),
    ] {
        world.stop_controller();
        turn(&clock, day);
        world.start_controller();
        written += news;
        world.controller().log_line("certificates were looked at");
        assert_eq!(mails(&world).len(), written, "day {day}");
        // A record of this day, so that the next one is believed.
        set(&world, &["--connections", "3"]);
    }
    // Almost a month on nobody believes the clock, and nobody is told of a new certificate either.
    let _ = world.ddadm().run(&issue).done();
    world.stop_controller();
    turn(&clock, 34 + 25);
    world.start_controller();
    world
        .controller()
        .log_line("certificates are not looked at");
    assert_eq!(mails(&world).len(), written);
    for id in mails(&world) {
        let mail = world.ddadm().run(&["queue", "content", &id]).done();
        let said = "the certificate of your mail server ends soon";
        let whom = "owner@elsewhere.example";
        assert!(
            mail.stdout.contains(said) && mail.stdout.contains(whom),
            "{mail}"
        );
    }
}

/// What waits for the smarthost.
fn mails(world: &World) -> Vec<String> {
    let all = world.json(&["queue", "list", "smarthost"]);
    let all = all.as_array().unwrap();
    let id = |it: &serde_json::Value| it["id"].as_str().unwrap().to_owned();
    all.iter().map(id).collect()
}

fn set(world: &World, flags: &[&str]) {
    let args: Vec<&str> = ["site", "set", "home"]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    let _ = world.ddadm().run(&args).done();
}

fn deliver(world: &World, home: &Site, subject: &str) {
    home.forget();
    let mut feeder = world.smtp();
    feeder.send("a@b.example", "me@home.example", &message(subject));
    home.received(1);
    world.drained("home");
}

/// The SHA-256 of the certificate that the site shows now, once it is another one than `before`.
fn certificate(world: &World, before: &str) -> String {
    until("the certificate to be remembered", PATIENCE, || {
        let shown = world.show("home");
        let now = shown["shown"]["sights"][0]["certificate"]["sha256"].as_str()?;
        (now != before).then(|| now.to_owned())
    })
}

fn turn(clock: &Path, days: u32) {
    let new = clock.with_extension("new");
    fs::write(&new, format!("+{days}d\n")).unwrap();
    fs::rename(new, clock).unwrap();
}
