//! A long run at a part of what is possible: memory and descriptors stay where they are.
//!
//! What fills once, such as caches, has filled in the first fifth; the rest is cut into four quarters, and the last has to be
//! like the first.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::generator::{Generator, Pace};
use super::pairs::median;
use super::relay::{self, all_there};
use super::server::{Ours, Security};
use super::sink::Row;
use crate::wait::pause;

/// Both processes are looked at so often, or more often in a short run.
const EVERY: Duration = Duration::from_secs(15);
/// Looks in a short run.
const LOOKS: u32 = 40;
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

/// A run's figures.
#[derive(Debug)]
pub struct Steady {
    pub drifts: Vec<Drift>,
    pub json: Value,
}

/// Where a figure stood in the first quarter and where in the last: the median of each.
#[derive(Debug, Clone, Copy)]
pub struct Drift {
    pub what: &'static str,
    pub first: f64,
    pub last: f64,
    /// What it may grow by, for chance moves it.
    allowed: f64,
}

/// A figure of a look, with the part of it and the number that it may grow by from the first quarter to the last.
type Watched = (&'static str, fn(&Look) -> u64, f64, f64);

const MIB: f64 = 1_048_576.0;

/// A leak of ten bytes a message shows in half an hour at a thousand messages a second.
const WATCHED: [Watched; 4] = [
    (
        "controller, bytes",
        |it| it.controller.memory,
        0.03,
        4.0 * MIB,
    ),
    (
        "controller, descriptors",
        |it| it.controller.descriptors,
        0.0,
        2.0,
    ),
    ("agent, bytes", |it| it.agent.memory, 0.03, 2.0 * MIB),
    ("agent, descriptors", |it| it.agent.descriptors, 0.0, 2.0),
];

impl Drift {
    pub fn is_flat(&self) -> bool {
        self.last <= self.first + self.allowed
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "first_quarter": self.first,
            "last_quarter": self.last,
            "allowed": self.allowed,
            "flat": self.is_flat(),
        })
    }
}

fn drifts(looks: &[Look]) -> Vec<Drift> {
    let settled = &looks[looks.len() / 5..];
    let quarter = settled.len().div_ceil(4);
    let (first, last) = (&settled[..quarter], &settled[settled.len() - quarter..]);
    let watched = WATCHED.iter();
    let drifts = watched.map(|(what, key, part, number)| {
        let middle = |looks: &[Look]| median(looks.iter().map(|look| key(look) as f64));
        let first = middle(first);
        Drift {
            what,
            first,
            last: middle(last),
            allowed: first * part + number,
        }
    });
    drifts.collect()
}

/// Half of what is possible for so long, or `rate` messages a second; `tell` hears of every look.
///
/// # Panics
/// Something is lost, or arrives twice.
pub fn run(time: Duration, rate: Option<f64>, mut tell: impl FnMut(&Look)) -> Steady {
    let mut ours = Ours::start();
    let row = Row::default();
    let sink = ours.sink(Security::Verified, &row);
    let bench = ours.bench(Security::Verified);
    let possible = relay::round(&bench, &sink, &row, FIND, Pace::Free).per_second;
    let rate = rate.unwrap_or(possible / 2.0);
    let letters = row.begin();
    let load = relay::load(&bench, u64::MAX, Pace::PerSecond(rate));
    let before = bench.times();
    let generator = Generator::start(load, std::sync::Arc::clone(&letters));
    let (mut looks, every) = (Vec::new(), EVERY.min(time / LOOKS));
    while letters.now() < time {
        pause(every.min(time.saturating_sub(letters.now())));
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
    let drifts = drifts(&looks);
    let json = json!({
        "possible_per_second": possible,
        "per_second": rate,
        "messages": messages,
        "cpu_us_per_message": { "controller": micros[0], "agent": micros[1] },
        "flat": drifts.iter().all(Drift::is_flat),
        "drifts": drifts.iter().map(Drift::json).collect::<Vec<_>>(),
        "looks": looks.iter().map(look).collect::<Vec<_>>(),
    });
    Steady { drifts, json }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred looks at a controller that takes so much at each.
    fn memory(at: impl Fn(u64) -> u64) -> Vec<Look> {
        let look = |number| Look {
            at: Duration::from_secs(number),
            arrived: number,
            controller: Taken {
                memory: at(number) << 20,
                descriptors: 40,
            },
            agent: Taken {
                memory: 30 << 20,
                descriptors: 20,
            },
        };
        (0..100).map(look).collect()
    }

    #[test]
    fn what_fills_once_is_flat_and_what_grows_is_not() {
        let flat = |looks: &[Look]| drifts(looks).iter().all(Drift::is_flat);
        assert!(flat(&memory(|number| 100 + number.min(15))));
        assert!(flat(&memory(|number| 100 + number % 7)), "it swings");
        assert!(!flat(&memory(|number| 100 + number / 4)));
    }

    #[test]
    fn descriptors_that_are_never_closed_are_told() {
        let mut looks = memory(|_| 100);
        for (number, look) in looks.iter_mut().enumerate() {
            look.agent.descriptors += number as u64 / 10;
        }
        let drift = drifts(&looks)[3];
        assert!(!drift.is_flat(), "{drift:?}");
    }
}
