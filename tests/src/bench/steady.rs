//! A long run at a part of what is possible: memory and descriptors stay where they are.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::generator::{Generator, Pace};
use super::relay::{self, all_there};
use super::server::{Ours, Security};
use super::sink::Row;
use crate::wait::pause;

/// Both processes are looked at so often.
const EVERY: Duration = Duration::from_secs(15);
/// How long the rate that is possible is looked for.
const FIND: Duration = Duration::from_secs(10);

/// What a process takes.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub memory: u64,
    pub descriptors: u64,
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub at: Duration,
    pub arrived: u64,
    pub controller: Taken,
    pub agent: Taken,
}

/// Half of what is possible for so long, or `rate` messages a second; `tell` hears of every look.
///
/// # Panics
/// Something is lost, or arrives twice.
pub fn run(time: Duration, rate: Option<f64>, mut tell: impl FnMut(&Look)) -> Value {
    let mut ours = Ours::start(&[]);
    let row = Row::default();
    let sink = ours.sink(Security::Verified, &row);
    let bench = ours.bench(Security::Verified);
    let possible = relay::round(&bench, &sink, &row, FIND, Pace::Free).per_second;
    let rate = rate.unwrap_or(possible / 2.0);
    let letters = row.begin();
    let load = relay::load(&bench, u64::MAX, Pace::PerSecond(rate));
    let before = bench.times();
    let generator = Generator::start(load, std::sync::Arc::clone(&letters));
    let mut looks = Vec::new();
    while letters.now() < time {
        pause(EVERY.min(time.saturating_sub(letters.now())));
        let [controller, agent] = [0, 1].map(|part| taken(bench.parts[part].1));
        let look = Look {
            at: letters.now(),
            arrived: letters.arrived_so_far(),
            controller,
            agent,
        };
        tell(&look);
        looks.push(look);
    }
    generator.stop();
    all_there(&letters);
    let messages = letters.arrived_so_far() as f64;
    let spent = bench
        .times()
        .into_iter()
        .zip(before)
        .map(|(now, then)| now - then);
    let micros: Vec<f64> = spent
        .map(|time| time.as_secs_f64() * 1e6 / messages)
        .collect();
    json!({
        "possible_per_second": possible,
        "per_second": rate,
        "messages": messages,
        "cpu_us_per_message": { "controller": micros[0], "agent": micros[1] },
        "looks": looks.iter().map(look).collect::<Vec<_>>(),
    })
}

fn look(look: &Look) -> Value {
    let part = |taken: Taken| json!({ "memory": taken.memory, "descriptors": taken.descriptors });
    json!({
        "seconds": look.at.as_secs_f64(),
        "arrived": look.arrived,
        "controller": part(look.controller),
        "agent": part(look.agent),
    })
}

/// # Panics
/// It has ended.
fn taken(pid: u32) -> Taken {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("a process has a VmRSS");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    Taken {
        memory: kilobytes * 1024,
        descriptors: open.count() as u64,
    }
}
