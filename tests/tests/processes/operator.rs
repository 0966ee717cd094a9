//! What operators and their machines are shown: figures, readiness, how things stand.

use dd_tests::ddadm::Watching;
use dd_tests::http::{Answer, curl};
use dd_tests::layout::Layout;
use dd_tests::scrape::Scrape;
use dd_tests::site::{At, Script, Site};
use dd_tests::submit::message;
use dd_tests::tmpfs::Tmpfs;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use serde_json::Value;

const MIB: u64 = 1 << 20;

#[test]
fn metrics_tell_what_was_done_with_mail() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    let mut client = world.smtp();
    for number in 0..3 {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
    client.expect("MAIL FROM:<a@b.example>", 250);
    client.expect("RCPT TO:<me@nowhere.example>", 550);
    home.received(3);
    world.drained("home");
    let scrape = Scrape::of(&world);
    for (name, value) in [
        ("dd_accepted_messages_total", 3.0),
        ("dd_intake_refusals_total{reason=\"unknown-domain\"}", 1.0),
        ("dd_intake_refusals_total{reason=\"space\"}", 0.0),
        ("dd_attempts_total{outcome=\"relayed\"}", 3.0),
        ("dd_stage_seconds_count{stage=\"synced\"}", 3.0),
        ("dd_stage_seconds_count{stage=\"assigned\"}", 3.0),
        ("dd_stage_seconds_count{stage=\"connected\"}", 1.0),
        ("dd_stage_seconds_count{stage=\"proved\"}", 1.0),
        ("dd_stage_seconds_count{stage=\"accepted\"}", 3.0),
        ("dd_stage_seconds_count{stage=\"settled\"}", 3.0),
        ("dd_agents{state=\"connected\"}", 1.0),
        ("dd_agents{state=\"unhealthy\"}", 0.0),
        ("dd_queue_known", 1.0),
        ("dd_oldest_age_seconds", 0.0),
        ("dd_ready", 1.0),
        ("dd_clock_alarm", 0.0),
        ("dd_in_doubt_total", 0.0),
    ] {
        assert_eq!(scrape.value(name), value, "{name}");
    }
    // Settlements may share a commit.
    assert!(scrape.value("dd_commit_seconds_count") >= 4.0);
    assert!(scrape.value("dd_commit_records_sum") >= 6.0);
    assert!(scrape.value("dd_disk_free_bytes") > scrape.value("dd_disk_min_free_bytes"));
    let bucket = "dd_stage_seconds_bucket{le=\"+Inf\",stage=\"settled\"}";
    assert_eq!(scrape.value(bucket), 3.0);

    home.stop();
    world.queue("home", 2);
    let scrape = Scrape::of(&world);
    assert_eq!(scrape.value("dd_sites{state=\"waiting\"}"), 1.0);
    let waiting = "dd_queued_deliveries{state=\"waiting\"}";
    assert_eq!(scrape.value(waiting), 2.0);
    assert!(scrape.value("dd_queued_bytes{state=\"waiting\"}") > 0.0);
    assert!(scrape.value("dd_attempts_total{outcome=\"unreachable\"}") >= 1.0);
    let age = until("the oldest to be told", PATIENCE, || {
        let age = Scrape::of(&world).value("dd_oldest_age_seconds");
        (age > 0.0).then_some(age)
    });
    assert!(age < PATIENCE.as_secs_f64(), "{age}");
}

#[test]
fn readyz_says_why_no_mail_is_taken() {
    let disk = Tmpfs::new(320 * MIB, 100_000);
    let layout = Layout {
        controller_state: Some(disk.path().join("controller")),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 1);
    let url = format!("http://{}/readyz", world.listeners().metrics);
    let ready = || curl(&[&url]);
    let becomes = |status: u16, says: &str| {
        until(&format!("{status} {says}"), PATIENCE, || {
            let answer: Answer = ready();
            (answer.status == status && answer.body.contains(says)).then_some(())
        });
    };
    becomes(200, "ready");
    disk.fill(32 * MIB);
    becomes(503, "space is short");
    let alarms = world.json(&["status"])["alarms"].to_string();
    assert!(alarms.contains("space is short"), "{alarms}");
    assert_eq!(Scrape::of(&world).value("dd_ready"), 0.0);
    disk.free();
    becomes(200, "ready");

    // A transaction that is open keeps the controller from its end, and new mail had better go elsewhere.
    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    world.controller().ask_to_end();
    becomes(503, "stopping");
    drop(client);
    assert!(world.controller().ended().success());
}

#[test]
fn status_names_full_quotas_and_reports_that_wait() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h", "--quota-messages", "4"]);
    let status = world.json(&["status"]);
    assert_eq!(status["quotas"], serde_json::json!([]), "{status}");
    assert_eq!(status["queued"]["oldest"], serde_json::Value::Null);
    assert!(status["disk"]["free_bytes"].as_u64() > status["disk"]["min_free_bytes"].as_u64());
    assert_eq!(status["agents"], serde_json::json!({ "connected": 1 }));
    home.stop();
    world.queue("home", 4);
    let status = world.json(&["status"]);
    assert_eq!(status["quotas"][0]["site"], "home", "{status}");
    assert_eq!(status["quotas"][0]["percent"], 100, "{status}");
    assert!(status["queued"]["oldest"].is_string(), "{status}");
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("the queue of home is full"), "{alarms}");
    // Nobody told the controller of a smarthost.
    let _ = world
        .ddadm()
        .run(&["site", "remove", "home", "--fail"])
        .done();
    let status = world.json(&["status"]);
    assert_eq!(status["notifications_waiting"], 4, "{status}");
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("no smarthost is configured"), "{alarms}");
}

#[test]
fn watch_shows_what_happens_to_a_site_and_to_no_other() {
    let world = World::start();
    let _home = world.home("home", &[]);
    let _office = world.home("office", &[]);
    let watching = world.ddadm().start(&["--output", "json", "watch", "home"]);
    is_live(&world, &watching);
    let mut client = world.smtp();
    client.send("a@b.example", "me@office.example", &message("other"));
    let id = client.send("a@b.example", "me@home.example", &message("watched"));
    let events = until("the last event of a message", PATIENCE, || {
        let events = events(&watching);
        let settled = |event: &Value| event["what"] == "settled";
        events.iter().any(settled).then_some(events)
    });
    let mail: Vec<&Value> = events.iter().filter(|it| it["kind"] == "mail").collect();
    let words: Vec<&str> = mail.iter().filter_map(|it| it["what"].as_str()).collect();
    assert_eq!(words, ["accepted", "settled"], "{events:?}");
    assert!(mail.iter().all(|it| it["fields"]["id"] == *id), "{mail:?}");
    assert_eq!(mail[1]["fields"]["agent"], "out1", "{mail:?}");
    assert!(events.iter().all(|it| it["lost"] == 0), "{events:?}");
}

#[test]
fn watch_tells_once_that_a_site_is_down_and_once_that_it_is_back() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1s"]);
    home.stop();
    let watching = world.ddadm().start(&["--output", "json", "watch", "home"]);
    is_live(&world, &watching);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("one"));
    until("several tries", PATIENCE, || {
        let shown = world.show("home");
        (shown["last_attempts"].as_array()?.len() >= 3).then_some(())
    });
    home.resume();
    home.received(1);
    world.drained("home");
    let states = until("news of its return", PATIENCE, || {
        let events = events(&watching);
        let states = events
            .iter()
            .filter_map(|it| it["fields"]["state"].as_str());
        let states: Vec<String> = states.map(str::to_owned).collect();
        states.contains(&"flowing".to_owned()).then_some(states)
    });
    assert_eq!(states, ["waiting", "flowing"]);
}

#[test]
fn a_controller_that_stops_waits_for_no_watcher() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    let mut watching = world.ddadm().start(&["--output", "json", "watch"]);
    is_live(&world, &watching);
    world.controller().ask_to_end();
    assert!(world.controller().ended().success());
    let late = world.controller().lines("not everything ended in time");
    assert!(late.is_empty(), "{late:?}");
    // A script sees that it has missed something from here on.
    assert_ne!(watching.ended(), 0);
}

#[test]
fn queue_content_is_the_message_as_it_came_and_who_read_it_is_known() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    let mut large = message("large");
    while large.len() < 400 << 10 {
        large.extend_from_slice(b"..a line of a message that is kept in a file of its own\r\n");
    }
    for content in [message("small"), large] {
        let id = world
            .smtp()
            .send("a@b.example", "me@home.example", &content);
        let shown = world.ddadm().run(&["queue", "content", &id]).done();
        let content = String::from_utf8(content).unwrap();
        let (received, rest) = shown.stdout.split_at(shown.stdout.len() - content.len());
        assert!(rest == content, "the content of {id} is another one");
        assert!(received.starts_with("Received: from "), "{received}");
        assert!(received.contains(&id), "{received}");
        let read = audited(&world, &format!("mail read: {id}"));
        assert_eq!(read.len(), 1, "{read:?}");
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    let outcome = world.ddadm().run(&["queue", "content", unknown]);
    assert_eq!(outcome.code, 4, "{outcome}");
}

#[test]
fn the_audit_says_who_did_what_and_what_was_there_before() {
    const PASSWORD: &str = "correct horse battery";
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    world.set_password("home", PASSWORD);
    home.stop();
    let id = world
        .smtp()
        .send("a@b.example", "me@home.example", &message("kept"));
    world.site_is("home", "waiting");
    let run = |args: &[&str]| world.ddadm().run(args).done();
    run(&["site", "set", "home", "--retry", "2h", "--connections", "5"]);
    run(&["site", "set", "home", "--quota-messages", "10"]);
    let args = ["site", "set", "home", "--password-stdin"];
    let _ = world.ddadm().run_with(&args, "another horse battery");
    let _ = world.ddadm().run(&["etrn", "home"]);
    until("the site to be at rest again", PATIENCE, || {
        let outcome = world.ddadm().run(&["queue", "retry", &id]);
        (outcome.code == 0).then_some(())
    });
    run(&["site", "hold", "home"]);
    run(&["site", "resume", "home"]);
    for what in [
        "site home added: ",
        "site home has a new password",
        "site home set: connections 2 → 5; retry \"1h\" → \"2h\"",
        "site home set: quota-messages none → 10",
        "site home set: password changed",
        "site home released",
        &format!("mail retried: {id}"),
        "site home held",
        "site home resumed",
    ] {
        let entries = audited(&world, what);
        assert_eq!(entries.len(), 1, "{what}: {:#?}", audited(&world, ""));
        assert_eq!(entries[0]["who"], "root", "{what}");
    }
    for entry in audited(&world, "") {
        let entry = entry.to_string();
        for secret in [PASSWORD, "another horse", "$argon2"] {
            assert!(!entry.contains(secret), "{entry}");
        }
    }
}

#[test]
fn when_a_site_was_held_is_remembered_over_restarts() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    for _ in 0..2 {
        for what in ["hold", "resume"] {
            let _ = world.ddadm().run(&["site", what, "home"]).done();
        }
        world.kill_controller();
        world.start_controller();
    }
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--retry", "2h"])
        .done();
    let exported = world.ddadm().run(&["registry", "export"]).done().stdout;
    let held = exported
        .lines()
        .find(|line| line.starts_with("held-before"));
    assert_eq!(
        held.map(|line| line.matches('/').count()),
        Some(2),
        "{exported}"
    );
}

/// The entries of the audit that begin so.
fn audited(world: &World, begin: &str) -> Vec<Value> {
    let entries = world.json(&["audit", "--last", "1000"]);
    let entries = entries.as_array().expect("a list").iter();
    let wanted = |entry: &&Value| {
        let what = entry["what"].as_str();
        what.is_some_and(|what| what.starts_with(begin))
    };
    entries.filter(wanted).cloned().collect()
}

fn events(watching: &Watching) -> Vec<Value> {
    let lines = watching.lines();
    let event = |line: &String| serde_json::from_str(line).expect("each line is JSON");
    lines.iter().map(event).collect()
}

/// Whoever watches is told nothing at first: something is done until it is seen.
fn is_live(world: &World, watching: &Watching) {
    until("the watch to be live", PATIENCE, || {
        let _ = world.ddadm().run(&["site", "resume", "home"]).done();
        (!watching.lines().is_empty()).then_some(())
    });
}

#[test]
fn a_restart_names_no_site_that_has_refused_nothing() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    world.queue("home", 1);
    world.stop_controller();
    world.start_controller();
    world.all_known();
    let status = world.json(&["status"]);
    assert_eq!(status["keeps_refused"], serde_json::json!([]), "{status}");
    assert_eq!(status["agents_differ"], serde_json::json!([]), "{status}");
}

#[test]
fn that_no_agent_takes_work_is_an_alarm_and_so_is_one_at_another_address() {
    let world = World::start();
    world.attached("out1");
    let alarms = || world.json(&["status"])["alarms"].to_string();
    assert_eq!(alarms(), "[]");
    let _ = world.ddadm().run(&["agent", "drain", "out1"]).done();
    until("the alarm", PATIENCE, || {
        alarms().contains("out1 is draining").then_some(())
    });
    let _home = world.home("home", &[]);
    let text = dd_tests::submit::message("waits");
    world.smtp().send("a@b.example", "me@home.example", &text);
    let etrn = ["etrn", "home", "--wait", "1s"];
    let untried = world.ddadm().run(&etrn);
    assert_eq!(untried.code, 1, "{untried}");
    let said = "home: not tried: no agent works: out1 is draining";
    assert!(untried.stdout.contains(said), "{untried}");
    let _ = world.ddadm().run(&["agent", "resume", "out1"]).done();
    until("no alarm", PATIENCE, || (alarms() == "[]").then_some(()));

    let set = ["agent", "set", "out1", "--address", "127.0.0.99"];
    let _ = world.ddadm().run(&set).done();
    assert!(
        alarms().contains("hands mail over from 127.0.0.2"),
        "{}",
        alarms()
    );
    let agents = world.json(&["agent", "list"]);
    assert_eq!(agents[0]["unregistered"], serde_json::json!(["127.0.0.2"]));
    let add = ["agent", "add", "out1", "--address", "127.0.0.98"];
    world.ddadm().run(&add).refused(1, "ddadm agent set out1");
}

#[test]
fn next_is_when_mail_is_really_tried() {
    let world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    world.queue("home", 1);
    let row = until("the site to wait", PATIENCE, || {
        let row = world.json(&["queue", "list", "home"])[0].clone();
        (row["stands"] == "waiting").then_some(row)
    });
    let next = &world.show("home")["next_attempt"];
    assert!(next.is_string(), "{row}");
    let seconds = |at: &Value| at.as_str().map(|at| at[..19].to_owned());
    assert_eq!(seconds(&row["next"]), seconds(next), "{row}");
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    assert_eq!(world.json(&["queue", "list"])[0]["stands"], "held");
    kept_mail_has_no_time_of_its_own(&world);
    world
        .ddadm()
        .run(&["queue", "list", "typo"])
        .refused(4, "typo");
    world
        .ddadm()
        .run(&["cert", "list", "typo"])
        .refused(4, "typo");
}

/// A home that has taken nothing yet refuses a message, which is kept.
fn kept_mail_has_no_time_of_its_own(world: &World) {
    let identity = world.ca.identity(&["shut.example"]);
    let refuses = Script::with(&identity).says(At::Rcpt, "554 5.7.1 not set up");
    let shut = Site::start(refuses);
    world.add_home("shut", shut.address(), &["--retry", "1h"]);
    let message = message("kept");
    let id = world
        .smtp()
        .send("a@b.example", "me@shut.example", &message);
    let row = until("the message to be kept", PATIENCE, || {
        let row = world.json(&["queue", "list", "shut"])[0].clone();
        (row["stands"] == "kept").then_some(row)
    });
    assert!(row["not_before"].is_null(), "{row}");
    for args in [["queue", "list", "shut"], ["queue", "show", id.as_str()]] {
        let shown = world.ddadm().run(&args).done().to_string();
        assert!(shown.contains("kept"), "{shown}");
        assert!(!shown.contains("9000-"), "{shown}");
    }
    let tried = world.show("shut").to_string();
    assert!(!tried.contains("\"failed\""), "{tried}");
}
