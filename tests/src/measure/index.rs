//! A start without an index, with a long queue: how soon mail is taken, and how soon all is known.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::submit;
use crate::submit::message;
use crate::wait::{Stopwatch, until};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(600);

/// Queues `messages` of 1 KiB for a site that is away, deletes the index, and starts.
///
/// # Panics
/// Anything is not as it should be.
pub fn run(messages: usize) -> Value {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    let queueing = Stopwatch::start();
    submit(world.listeners().smtp, 20, messages, 1_024, |_| {
        "me@home.example".to_owned()
    });
    let queued_in = queueing.elapsed();
    world.kill_controller();
    fs::remove_dir_all(world.controller_state().join("index")).expect("the index can go");
    let start = Stopwatch::start();
    world.start_controller();
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("new"));
    let open = start.elapsed();
    until("all to be known", PATIENCE, || {
        (world.json(&["status"])["all_known"] == true).then_some(())
    });
    let known = start.elapsed();
    let queued = world.show("home")["queued"]["messages"].clone();
    assert_eq!(queued, messages + 1, "not all are there");
    json!({
        "messages": messages,
        "queued_in_seconds": queued_in.as_secs_f64(),
        "intake_open_seconds": open.as_secs_f64(),
        "all_known_seconds": known.as_secs_f64(),
        "peak_memory_bytes": world.controller().peak_memory(),
    })
}
