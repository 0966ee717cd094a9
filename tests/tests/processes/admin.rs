//! What cannot work is refused when it is asked for, with a word about what to do.

use std::fs;
use std::process::Command;

use dd_tests::process::{Process, program};
use dd_tests::submit::message;
use dd_tests::world::{AUTHORITY, OUTBOUND, World};

#[test]
fn a_site_record_that_cannot_be_used_is_refused() {
    let world = World::start();
    let add = |more: &[&str]| {
        let mut args = vec!["site", "add", "bad", "--domain", "bad.example"];
        args.extend(more);
        world.ddadm().run(&args)
    };
    add(&["--host", "bad.dyn.example:25", "--proof", "port"]).refused(1, "25");
    add(&["--host", "bad.dyn.example", "--proof", "port"]).refused(1, "25");
    add(&["--host", "bad.dyn.example", "--proof", "static-ip"]).refused(1, "address");
    let unknown = ["--authority", "nobody-ca", "--cert-name", "bad.example"];
    let mut args = vec!["--host", "bad.dyn.example", "--proof", "certificate"];
    args.extend(unknown);
    let outcome = add(&args);
    assert!([1, 4].contains(&outcome.code), "{outcome}");
    outcome.refused(outcome.code, "nobody-ca");
    assert_eq!(world.json(&["site", "list"]), serde_json::json!([]));
}

#[test]
fn exit_codes_tell_scripts_what_kind_of_no_it_was() {
    let mut world = World::start();
    let ddadm = world.ddadm();
    ddadm.run(&["site", "show", "nobody"]).refused(4, "nobody");
    ddadm.run(&["etrn", "nobody"]).refused(4, "nobody");
    assert_eq!(ddadm.run(&["site", "frobnicate"]).code, 2);
    let home = world.home("home", &[]);
    let host = home.address().to_string();
    let again = [
        "site",
        "add",
        "home",
        "--domain",
        "x.example",
        "--host",
        &host,
        "--proof",
        "static-ip",
    ];
    ddadm.run(&again).refused(1, "home");
    let taken = [
        "site",
        "add",
        "two",
        "--domain",
        "home.example",
        "--host",
        &host,
        "--proof",
        "static-ip",
    ];
    ddadm.run(&taken).refused(1, "home.example");
    world.kill_controller();
    ddadm.run(&["status"]).refused(3, "controller");
}

#[test]
fn a_site_is_changed_held_resumed_and_removed() {
    let world = World::start();
    let _home = world.home("home", &[]);
    let run = |args: &[&str]| world.ddadm().run(args).done();
    let before = world.show("home")["version"].clone();
    run(&["site", "set", "home", "--connections", "3"]);
    assert_ne!(world.show("home")["version"], before);
    run(&["site", "hold", "home"]);
    assert_eq!(world.show("home")["state"], "held");
    run(&["site", "resume", "home"]);
    assert_eq!(world.show("home")["state"], "idle");
    assert_eq!(world.show("home")["proof"]["authority"], AUTHORITY);
    run(&["site", "remove", "home"]);
    world
        .ddadm()
        .run(&["site", "show", "home"])
        .refused(4, "home");
}

#[test]
fn what_waits_is_listed_under_its_id_and_can_be_retried_or_removed() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    let kept = world
        .smtp()
        .send("a@b.example", "me@home.example", &message("kept"));
    world.site_is("home", "waiting");
    let gone = world
        .smtp()
        .send("a@b.example", "me@home.example", &message("gone"));
    let listed = world.json(&["queue", "list", "home"]);
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["id"].as_str())
        .collect();
    assert_eq!(ids, [&kept, &gone], "{listed}");
    assert_eq!(listed[0]["recipients"][0], "me@home.example");
    assert_eq!(listed[0]["reverse_path"], "a@b.example");
    assert_eq!(listed[0]["in_doubt"], false);
    let _ = world.ddadm().run(&["queue", "show", &kept]).done();

    let _ = world.ddadm().run(&["queue", "remove", &gone]).done();
    world
        .ddadm()
        .run(&["queue", "show", &gone])
        .refused(4, &gone);
    home.resume();
    let _ = world.ddadm().run(&["queue", "retry", &kept]).done();
    home.received(1);
    assert_eq!(home.copies().get("kept"), Some(&1));
}

#[test]
fn a_held_site_keeps_its_mail_until_it_is_resumed() {
    let world = World::start();
    let home = world.home("home", &[]);
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("held"));
    let etrn = world.ddadm().run(&["etrn", "home", "--wait", "5s"]);
    assert_eq!(etrn.code, 1, "{etrn}");
    assert!(etrn.to_string().contains("held"), "{etrn}");
    assert_eq!(world.show("home")["queued"]["messages"], 1);
    assert_eq!(
        home.connections().len(),
        0,
        "a held site is not even called"
    );
    world
        .ddadm()
        .run(&["site", "remove", "home"])
        .refused(1, "home");
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    home.received(1);
}

#[test]
fn an_unknown_key_is_refused_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["dd-controller", "dd-agent"] {
        let config = directory.path().join(format!("{name}.toml"));
        fs::write(&config, "# The first line.\nstate_dier = \"/nowhere\"\n").unwrap();
        let output = Command::new(program(name))
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name}: {said}");
        assert!(said.contains(config.to_str().unwrap()), "{name}: {said}");
        assert!(
            said.contains("line 2") || said.contains(":2"),
            "{name}: {said}"
        );
        assert!(said.contains("state_dier"), "{name}: {said}");
    }
}

#[test]
fn a_join_token_is_good_for_one_key_and_one_name() {
    let world = World::start();
    let token = world.token("out2", OUTBOUND[1]);
    // The name in the configuration is not the one the token was made for.
    let mut other = agent(&world, "out3", "out3", &token);
    assert!(!other.ended().success());
    // The right name: it joins and attaches.
    let right = agent(&world, "out2", "out2", &token);
    world.attached("out2");
    drop(right);
    // The right name with another key, for its state directory is another: the token is spent.
    let mut thief = agent(&world, "out2", "thief", &token);
    assert!(!thief.ended().success());
}

/// An agent that calls itself `name` and keeps its key in a state directory of `place`.
fn agent(world: &World, name: &str, place: &str, token: &str) -> Process {
    let config = world.agent_config(name, OUTBOUND[1]);
    let config = config.replace(&format!("/{name}-state"), &format!("/{place}-state"));
    let path = world.path().join(format!("{place}.toml"));
    fs::write(&path, config).unwrap();
    let mut command = Command::new(program("dd-agent"));
    command.arg("--config").arg(path).args(["--join", token]);
    Process::start(place, &mut command)
}

#[test]
fn status_shows_what_is_bound_and_who_is_connected() {
    let world = World::with_agents(2);
    let status = world.json(&["status"]);
    let smtp = world.listeners().smtp.to_string();
    assert_eq!(status["listeners"]["smtp"][0], smtp, "{status}");
    let agents = world.json(&["agent", "list"]);
    assert_eq!(agents.as_array().unwrap().len(), 2, "{agents}");
    let published = world.ddadm().run(&["agent", "addresses"]).done().stdout;
    for address in OUTBOUND {
        assert!(published.contains(&address.to_string()), "{published}");
    }
}
