//! What a log that nobody reads costs: how long mail and answers take, whether leases last, how long both programs take to
//! end, and how many lines are lost, for each thing that standard error may be. Both say all they can, so what waits before a
//! pipe is full all the while.

use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::latency::{Latencies, Stream};
use crate::process::{Process, Unheard};
use crate::wait::{PATIENCE, Stopwatch, pause, until};
use crate::world::World;

/// Messages a second.
const RATE: u32 = 100;
/// Longer than a lease: one that is not renewed shows.
const LEASE: Duration = Duration::from_secs(30);
const AGENT: &str = "out1";

/// # Panics
/// Mail is refused or does not arrive, or a program does not end.
pub fn run(seconds: u64) -> Value {
    let mut world = World::start();
    let everything = vec![("RUST_LOG".to_owned(), "trace".to_owned())];
    world.layout.environment.clone_from(&everything);
    world.layout.agent_environment = everything;
    world.stop_agent(AGENT);
    world.stop_controller();
    let mut figures = json!({ "messages_a_second": RATE });
    for (name, how) in [
        ("read", None),
        ("nobody reads it", Some(Unheard::Stopped)),
        ("closed", Some(Unheard::Gone)),
        ("on a full disk", Some(Unheard::Full)),
    ] {
        match how {
            None => {
                world.start_controller();
                world.start_agent(AGENT);
            }
            Some(how) => {
                world.start_controller_unheard(how);
                world.start_agent_unheard(AGENT, how);
            }
        }
        figures[name] = of(&mut world, how, Duration::from_secs(seconds));
    }
    figures
}

fn of(world: &mut World, how: Option<Unheard>, time: Duration) -> Value {
    world.attached(AGENT);
    let before = in_doubt(world);
    let stream = Stream::start(world, RATE);
    let (begun, mut answers) = (Stopwatch::start(), Vec::new());
    while begun.elapsed() < time.max(LEASE + LEASE / 2) {
        let asked = Stopwatch::start();
        let agents = world.json(&["agent", "list"]);
        answers.push(1000.0 * asked.elapsed().as_secs_f64());
        assert_eq!(agents[0]["state"], "connected", "it lost its place");
        pause(Duration::from_millis(200));
    }
    let delivery = stream.stop().figures();
    let in_doubt = in_doubt(world) - before;
    // The first reader there is is told how many lines were lost.
    let lost = (how == Some(Unheard::Stopped)).then(|| {
        json!({
            "controller": lost(world.controller()),
            "agent": lost(world.agent(AGENT)),
        })
    });
    let ending = Stopwatch::start();
    world.stop_agent(AGENT);
    let agent = ending.elapsed();
    let ending = Stopwatch::start();
    world.stop_controller();
    let controller = ending.elapsed();
    json!({
        "delivery": delivery,
        "ddadm": Latencies::of(answers).figures(),
        "in_doubt": in_doubt,
        "lines_lost": lost,
        "agent_ends_ms": 1000.0 * agent.as_secs_f64(),
        "controller_ends_ms": 1000.0 * controller.as_secs_f64(),
    })
}

/// Deliveries that lost their lease, or their session behind the dot, so far.
fn in_doubt(world: &World) -> f64 {
    crate::scrape::Scrape::of(world).value("dd_in_doubt_total")
}

/// As the program itself says, once somebody reads.
fn lost(program: &mut Process) -> u64 {
    program.is_heard();
    until("lines that were lost to be told", PATIENCE, || {
        let line = program.lines(" lines lost: ").into_iter().next()?;
        let (before, _) = line.split_once(" lines lost: ")?;
        before.rsplit(' ').next()?.parse().ok()
    })
}
