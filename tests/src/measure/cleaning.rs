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

/// How it stood after a round.
struct Sample {
    at: f64,
    /// As the store counts them: records that something is open of, and segments.
    live: u64,
    log: u64,
    /// With spares, and what is being made of one.
    files: u64,
}

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
        let at = begun.elapsed().as_secs_f64();
        let log = world.json(&["status"])["disk"].clone();
        let of = |what: &str| log[what].as_u64().expect("a number");
        samples.push(Sample {
            at,
            live: of("live_bytes"),
            log: of("log_bytes"),
            files: used(&world.controller_state().join("queue")),
        });
    }
    let most = |over: fn(&Sample) -> u64| {
        let segments = samples.iter().map(|it| over(it) as f64 / SEGMENT as f64);
        segments.fold(0.0, f64::max)
    };
    json!({
        "messages": ROUNDS * MESSAGES,
        "segment_bytes": SEGMENT,
        "samples": samples
            .iter()
            .map(|it| {
                json!({ "seconds": it.at, "live_bytes": it.live, "log_bytes": it.log, "file_bytes": it.files })
            })
            .collect::<Vec<_>>(),
        "most_segments_over_twice_live": most(|it| it.log.saturating_sub(2 * it.live)),
        "with_spares": most(|it| it.files.saturating_sub(2 * it.live)),
    })
}

/// What is in the directory of the log.
fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
