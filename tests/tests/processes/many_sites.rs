//! Many sites and much mail: looking messages up, changing several sites, moving a domain; and what is in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dd_tests::layout::Layout;
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use serde_json::{Value, json};

fn run(world: &World, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    world.ddadm().run(&words).done().stdout
}

fn search(world: &World, line: &str) -> Vec<Value> {
    let mut words = vec!["queue", "search"];
    words.extend(line.split(' '));
    let found = world.json(&words);
    found.as_array().expect("a list").clone()
}

#[test]
fn a_message_is_found_while_it_waits_when_it_is_settled_and_over_a_restart() {
    let mut world = World::start();
    let home = world.home("home", &[]);
    let mut office = world.home("office", &["--retry", "1h"]);
    office.stop();
    let mut client = world.smtp();
    let one = client.send("anna@b.example", "me@home.example", &message("one"));
    let two = client.send("ben@b.example", "you@office.example", &message("two"));
    drop(client);
    home.received(1);
    world.drained("home");
    let waits = world.site_is("office", "waiting");
    assert_eq!(waits["queued"]["messages"], 1, "{waits}");
    for again in [false, true] {
        if again {
            world.stop_controller();
            world.start_controller();
            world.all_known();
        }
        let found = search(&world, "--message-id one@elsewhere.example");
        let [settled] = &found[..] else {
            panic!("{found:#?}");
        };
        assert_eq!(settled["id"], *one, "{settled}");
        assert_eq!(settled["stands"], "settled", "{settled}");
        assert_eq!(settled["recipients"], json!(["me@home.example"]));
        assert_eq!(settled["agent"], "out1", "{settled}");
        assert!(
            settled["reply"]
                .as_str()
                .is_some_and(|it| it.starts_with("250 "))
        );
        assert!(
            settled["ended"].is_string() && settled["client"] == "127.0.0.1",
            "{settled}"
        );
        let found = search(&world, "--from BEN@*");
        let [waits] = &found[..] else {
            panic!("{found:#?}");
        };
        assert_eq!(
            (&waits["id"], &waits["site"]),
            (&json!(two), &json!("office"))
        );
        assert_eq!(waits["message_id"], "<two@elsewhere.example>");
        assert!(
            ["waiting", "due"].contains(&waits["stands"].as_str().unwrap()),
            "{waits}"
        );
        let both = search(&world, "--limit 10");
        let ids: Vec<&str> = both.iter().filter_map(|it| it["id"].as_str()).collect();
        assert_eq!(ids, [&*two, &*one], "the newest first");
        assert_eq!(
            search(&world, "--to *@office.example --from anna@*").len(),
            0
        );
        assert_eq!(search(&world, "--since 2099-01-01").len(), 0);
    }
    // All that is given up for one of them is known too.
    let failed = run(&world, "queue remove --match you@office.example");
    assert!(failed.contains(&two), "{failed}");
    let removed = until("what was removed", PATIENCE, || {
        let found = search(&world, &format!("--id {two}"));
        (found[0]["stands"] == "removed").then_some(found)
    });
    assert_eq!(removed.len(), 1, "{removed:#?}");
    world
        .ddadm()
        .run(&["queue", "search", "--site", "nobody"])
        .refused(4, "no site `nobody`");
    office.resume();
}

#[test]
fn a_domain_moves_while_its_mail_arrives_and_none_is_refused() {
    let world = World::start();
    let home = world.home("home", &[]);
    let office = world.home("office", &[]);
    run(&world, "site set home --domain home.example shed.example");
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut client = world.smtp();
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                client.send("a@b.example", "me@shed.example", &message("moving"));
                sent += 1;
            }
            sent
        });
        for to in ["office", "home", "office", "home", "office"] {
            let moved = run(&world, &format!("site move-domain shed.example --to {to}"));
            assert!(moved.starts_with("shed.example: moved from "), "{moved}");
        }
        done.store(true, Ordering::Relaxed);
        sending.join().expect("every one was taken")
    });
    assert_eq!(
        world.show("office")["domains"],
        json!(["office.example", "shed.example"])
    );
    assert_eq!(world.show("home")["domains"], json!(["home.example"]));
    for site in ["home", "office"] {
        world.drained(site);
    }
    assert_eq!(home.messages().len() + office.messages().len(), sent);
    for (line, says) in [
        (
            "site move-domain office.example --to nobody",
            "no site `nobody`",
        ),
        ("site move-domain shed.example --to office", "already"),
        (
            "site move-domain nowhere.example --to office",
            "no site has",
        ),
        (
            "site move-domain home.example --to office",
            "all that the site home has",
        ),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let code = if says.starts_with("no site `") { 4 } else { 1 };
        world.ddadm().run(&words).refused(code, says);
    }
    // Lists of recipients go along, and are neither ended nor begun by a move.
    run(
        &world,
        "site set office --recipient me@shed.example me@office.example",
    );
    let there = ["site", "move-domain", "shed.example", "--to", "home"];
    world.ddadm().run(&there).refused(1, "--recipient");
    run(&world, "site set home --recipient you@home.example");
    run(&world, "site move-domain shed.example --to home");
    assert_eq!(
        world.show("office")["recipients"],
        json!(["me@office.example"])
    );
    assert_eq!(
        world.show("home")["recipients"],
        json!(["me@shed.example", "you@home.example"])
    );
    run(&world, "site set home --clear recipient");
    let back = ["site", "move-domain", "shed.example", "--to", "office"];
    world.ddadm().run(&back).refused(1, "--clear recipient");
    let audited = world.json(&["audit", "--last", "1000"]).to_string();
    assert!(
        audited.contains("site home set: domain shed.example came from the site office"),
        "{audited}"
    );
}

#[test]
fn several_sites_are_changed_and_listed_together() {
    let world = World::start();
    let _homes: Vec<_> = ["home", "office-1", "office-2"]
        .into_iter()
        .map(|name| world.home(name, &[]))
        .collect();
    let set = world.json(&["site", "set", "--match", "OFFICE-*", "--retry", "7m"]);
    let names: Vec<&str> = set
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names, ["office-1", "office-2"], "{set}");
    assert_eq!(world.show("office-2")["retry"], "7m");
    assert_ne!(world.show("home")["retry"], "7m");
    let one = world.json(&["site", "set", "--match", "home", "--lifetime", "3d"]);
    assert_eq!(one.as_array().map(Vec::len), Some(1), "{one}");
    run(&world, "site set --all --connections 3");
    let all = world.json(&["site", "list"]);
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .all(|it| it["connections"] == 3),
        "{all}"
    );
    run(&world, "site hold office-1");
    assert_eq!(
        run(&world, "site list --state held --columns name,state"),
        "NAME      STATE\noffice-1  held\n"
    );
}

#[test]
fn what_is_in_force_says_where_it_comes_from_and_a_report_names_nobody() {
    let layout = Layout {
        web: "[history]\nkeep = \"3d\"".to_owned(),
        ..Layout::default()
    };
    let world = World::laid_out(layout, 1);
    let home = world.home("home", &["--contact", "anna@elsewhere.example"]);
    let config = world.json(&["config"]);
    let setting = |key: &str| {
        let settings = config["settings"].as_array().expect("a list");
        let found = settings.iter().find(|it| it["key"] == key);
        found.cloned().unwrap_or_else(|| panic!("{key}: {config}"))
    };
    assert_eq!(setting("history.keep")["value"], "3d");
    assert_eq!(setting("history.keep")["source"], "file");
    assert!(setting("history.keep")["line"].as_u64() > Some(1));
    let usual = setting("intake.max_sessions");
    assert_eq!(
        (&usual["value"], &usual["source"]),
        (&json!(1000), &json!("default"))
    );
    assert_eq!(config["file_changed"], false);
    let path = config["path"].as_str().expect("a path");
    let text = std::fs::read_to_string(path).unwrap() + "# another line\n";
    std::fs::write(path, text).unwrap();
    assert_eq!(world.json(&["config"])["file_changed"], true);

    let report = run(&world, "report --site home");
    for part in [
        "## status",
        "## config",
        "## agent list",
        "## site show home",
        "***@elsewhere.example",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    assert!(!report.contains("anna"), "{report}");
    drop(home);
}

#[test]
fn a_clean_stop_leaves_the_registry_as_it_is() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    run(&world, "site set home --retry 77m");
    world.stop_controller();
    let copy = world.controller_state().join("registry.toml");
    let copy = std::fs::read_to_string(copy).unwrap();
    assert!(copy.contains("retry = \"77m\""), "{copy}");
}
