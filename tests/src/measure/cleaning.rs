//! Cleaning under a steady load, of which a part waits for long: how much disk the log takes beside what lives in it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::submit;
use crate::layout::Layout;
use crate::wait::Stopwatch;
use crate::world::World;

const SEGMENT: u64 = 1 << 20;
const ROUNDS: usize = 40;
const MESSAGES: usize = 500;
const BYTES: usize = 8 << 10;
/// One message in so many waits for a site that is away.
const WAITS_EACH: usize = 20;

/// # Panics
/// Anything is not as it should be.
pub fn run() -> Value {
    let layout = Layout {
        store: "segment_bytes = \"1M\"".to_owned(),
        ..Layout::default()
    };
    let world = World::laid_out(layout, 1);
    let home = world.home("home", &[]);
    let mut away = world.home("away", &["--retry", "1h"]);
    away.stop();
    let begun = Stopwatch::start();
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        submit(
            world.listeners().smtp,
            4,
            MESSAGES,
            BYTES,
            |number| match number % WAITS_EACH {
                0 => "me@away.example".to_owned(),
                _ => "me@home.example".to_owned(),
            },
        );
        home.forget();
        let live = world.show("away")["queued"]["bytes"].as_u64();
        let waiting = world.show("home")["queued"]["bytes"].as_u64();
        let live = live.zip(waiting).map_or(0, |(a, b)| a + b);
        let disk = used(&world.controller_state().join("queue"));
        samples.push((begun.elapsed().as_secs_f64(), live, disk));
    }
    let over = samples
        .iter()
        .map(|(_, live, disk)| disk.saturating_sub(2 * live) as f64 / SEGMENT as f64)
        .fold(0.0, f64::max);
    json!({
        "messages": ROUNDS * MESSAGES,
        "segment_bytes": SEGMENT,
        "samples": samples
            .iter()
            .map(|(at, live, disk)| json!({ "seconds": at, "live_bytes": live, "disk_bytes": disk }))
            .collect::<Vec<_>>(),
        "most_segments_over_twice_live": over,
    })
}

/// What the segments take that the log has, and those that it keeps ready.
fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
