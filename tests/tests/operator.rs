//! What operators and their machines are shown: figures, readiness, how things stand.

use dd_tests::http::{Answer, curl};
use dd_tests::layout::Layout;
use dd_tests::scrape::Scrape;
use dd_tests::submit::message;
use dd_tests::tmpfs::Tmpfs;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

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
