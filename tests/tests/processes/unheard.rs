//! A log that nobody reads, that nobody can read, or for which there is no room: mail flows all the same, and a program that is
//! asked to end ends.

use std::time::{Duration, Instant};

use dd_tests::process::Unheard;
use dd_tests::site::Site;
use dd_tests::submit::message;
use dd_tests::world::World;

/// Enough lines of two programs to fill a pipe and what waits before it several times, if they say all they can.
const MESSAGES: usize = 100;
const EVERYTHING: &str = "trace";
/// A reply never takes so long.
const PROMPT: Duration = Duration::from_secs(5);

fn world() -> (World, Site) {
    let mut world = World::start();
    let everything = vec![("RUST_LOG".to_owned(), EVERYTHING.to_owned())];
    world.layout.environment.clone_from(&everything);
    world.layout.agent_environment = everything;
    let home = world.home("home", &[]);
    (world, home)
}

/// Mail goes in and out, and nothing that is asked waits.
fn flows(world: &World, home: &mut Site, before: usize) {
    let mut client = world.smtp();
    for number in 0..MESSAGES {
        let began = now();
        let content = message(&format!("number-{before}-{number}"));
        client.send("a@b.example", "me@home.example", &content);
        assert!(now() - began < PROMPT);
    }
    home.received(before + MESSAGES);
    world.attached("out1");
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_controller_needs_nobody_who_reads_its_log() {
    for how in [Unheard::Stopped, Unheard::Gone, Unheard::Full] {
        let (mut world, mut home) = world();
        world.stop_controller();
        world.start_controller_unheard(how);
        world.attached("out1");
        flows(&world, &mut home, 0);
        if how == Unheard::Stopped {
            world.controller().is_heard();
            world.controller().log_line(" lines lost: ");
            flows(&world, &mut home, MESSAGES);
        }
        world.stop_controller();
    }
}

#[test]
fn an_agent_needs_nobody_who_reads_its_log() {
    for how in [Unheard::Stopped, Unheard::Gone, Unheard::Full] {
        let (mut world, mut home) = world();
        world.stop_agent("out1");
        world.start_agent_unheard("out1", how);
        world.attached("out1");
        flows(&world, &mut home, 0);
        if how == Unheard::Stopped {
            world.agent("out1").is_heard();
            world.agent("out1").log_line(" lines lost: ");
            flows(&world, &mut home, MESSAGES);
        }
        world.stop_agent("out1");
    }
}

#[test]
fn programs_with_a_full_pipe_end_when_they_are_asked_to() {
    let (mut world, mut home) = world();
    world.stop_agent("out1");
    world.stop_controller();
    world.start_controller_unheard(Unheard::Stopped);
    world.start_agent_unheard("out1", Unheard::Stopped);
    world.attached("out1");
    flows(&world, &mut home, 0);
    world.stop_agent("out1");
    world.stop_controller();
}
