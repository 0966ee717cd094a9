//! How many messages a second one session carries over a line with a delay, and how often it waits for each.

use std::time::Duration;

use serde_json::{Value, json};

use super::submit;
use crate::line::Line;
use crate::site::{Script, Site};
use crate::wait::{PATIENCE, Stopwatch, until};
use crate::world::World;

const BYTES: usize = 4 << 10;
const SESSIONS: usize = 4;

/// # Panics
/// Something does not arrive.
pub fn run(round_trip: Duration, messages: usize) -> Value {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let home = Site::start(Script::with(&identity));
    let line = Line::to(home.address(), round_trip / 2);
    world.add_home("home", line.address(), &["--connections", "1"]);
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    let smtp = world.listeners().smtp;
    submit(smtp, SESSIONS, messages, BYTES, |_| {
        "me@home.example".to_owned()
    });
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    let arrived = |count: usize| {
        until("messages at home", PATIENCE * 10, || {
            (home.count() >= count).then_some(())
        });
    };
    arrived(1);
    let (begun, turns) = (Stopwatch::start(), line.turns());
    arrived(messages);
    let (behind_it, elapsed) = (messages - 1, begun.elapsed());
    json!({
        "round_trip_ms": round_trip.as_secs_f64() * 1e3,
        "messages": messages,
        "sessions": line.connections(),
        "per_second": behind_it as f64 / elapsed.as_secs_f64(),
        "waits_per_message": (line.turns() - turns) as f64 / behind_it as f64,
    })
}
