//! A start without an index, with a long queue: how soon mail is taken, and how soon all is known.

use std::fs;

use serde_json::{Value, json};

use super::start::Start;
use super::submit;
use crate::wait::Stopwatch;
use crate::world::World;

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
    let start = Start::measure(&mut world, "me@home.example");
    let queued = world.show("home")["queued"]["messages"].clone();
    assert_eq!(queued, messages + 1, "not all are there");
    json!({
        "messages": messages,
        "queued_in_seconds": queued_in.as_secs_f64(),
        "start": start.json(),
    })
}
