//! What a log that nobody reads costs: how long mail takes, and how long both programs take to end, with a reader that has
//! stopped beside one that reads. Both say all they can, so what waits before the pipe is full all the while.

use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::latency::Stream;
use crate::process::Unheard;
use crate::wait::{Stopwatch, pause};
use crate::world::World;

/// Messages a second.
const RATE: u32 = 100;

/// # Panics
/// Mail is refused or does not arrive, or a program does not end.
pub fn run(seconds: u64) -> Value {
    let mut world = World::start();
    let everything = vec![("RUST_LOG".to_owned(), "trace".to_owned())];
    world.layout.environment.clone_from(&everything);
    world.layout.agent_environment = everything;
    world.stop_agent("out1");
    world.stop_controller();
    world.start_controller();
    world.start_agent("out1");
    let read = of(&mut world, seconds);
    world.start_controller_unheard(Unheard::Stopped);
    world.start_agent_unheard("out1", Unheard::Stopped);
    let unread = of(&mut world, seconds);
    json!({ "rate": RATE, "read": read, "nobody reads": unread })
}

fn of(world: &mut World, seconds: u64) -> Value {
    world.attached("out1");
    let stream = Stream::start(world, RATE);
    pause(Duration::from_secs(seconds));
    let delivery = stream.stop().figures();
    let ending = Stopwatch::start();
    world.stop_agent("out1");
    let agent = ending.elapsed();
    let ending = Stopwatch::start();
    world.stop_controller();
    json!({
        "delivery": delivery,
        "agent_ends_ms": 1000.0 * agent.as_secs_f64(),
        "controller_ends_ms": 1000.0 * ending.elapsed().as_secs_f64(),
    })
}
