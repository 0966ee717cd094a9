//! The sustained relay: sessions that hand in as fast as they are taken, until everything is at the sink.

use std::sync::Arc;
use std::time::Duration;

use super::cpu;
use super::generator::{Generator, Load, Pace};
use super::letters::Letters;
use super::server::Bench;
use super::sink::{Row, Sink};
use crate::wait::{PATIENCE, Stopwatch, pause, until};

/// Sessions of the generator.
pub const SESSIONS: u32 = 20;
/// A message, without our fields.
pub const BYTES: usize = 4096;

/// What one round came to.
#[derive(Debug, Clone)]
pub struct Round {
    pub messages: u64,
    /// From the first to the last at the sink.
    pub per_second: f64,
    /// Microseconds of each part for a message.
    pub micros: Vec<(&'static str, f64)>,
    /// What the machine was busy with, in parts of all its processors; and how much of that was neither the server nor
    /// generator and sink.
    pub busy: f64,
    pub others: f64,
}

impl Round {
    /// Microseconds of the server's parts together.
    pub fn server_micros(&self) -> f64 {
        let own = self.micros.iter().filter(|(name, _)| !TOOLS.contains(name));
        own.map(|(_, micros)| micros).sum()
    }

    /// Microseconds of one part.
    pub fn part(&self, name: &str) -> f64 {
        let part = self.micros.iter().find(|(it, _)| *it == name);
        part.map_or(0.0, |(_, micros)| *micros)
    }

    /// How much of its time a part that has one thread was busy.
    pub fn busy_thread(&self, name: &str) -> f64 {
        self.part(name) * self.per_second / 1e6
    }
}

/// The parts of a round that are the benchmark's own.
pub const TOOLS: [&str; 2] = ["generator", "sink"];

/// Hands in for so long, with the sink at its place, and waits until all of it is there.
///
/// # Panics
/// Something is lost, or arrives twice.
pub fn round(bench: &Bench, sink: &Sink, row: &Row, time: Duration, pace: Pace) -> Round {
    let clock = Clock::start(Some(bench), sink);
    hand_in(load(bench, u64::MAX, pace), row, clock, time)
}

/// What generator and sink do over so many sessions without anything between them.
pub fn ceiling(sink: &Sink, row: &Row, time: Duration, sessions: u32) -> Round {
    let load = Load {
        to: sink.address,
        recipients: ["me@home.example".to_owned()].into(),
        sessions,
        bytes: BYTES,
        most: u64::MAX,
        pace: Pace::Free,
    };
    hand_in(load, row, Clock::start(None, sink), time)
}

/// What a row hands in to a server.
pub(super) fn load(bench: &Bench, most: u64, pace: Pace) -> Load {
    Load {
        to: bench.smtp,
        recipients: [bench.recipient.clone()].into(),
        sessions: SESSIONS,
        bytes: BYTES,
        most,
        pace,
    }
}

fn hand_in(load: Load, row: &Row, clock: Clock, time: Duration) -> Round {
    let letters = row.begin();
    let generator = Generator::start(load, Arc::clone(&letters));
    pause(time);
    let feeding = generator.thread.time();
    generator.stop();
    all_there(&letters);
    clock.round(&letters, feeding)
}

/// # Panics
/// What was taken does not arrive, or more does.
pub(super) fn all_there(letters: &Letters) {
    let taken = letters.taken_so_far();
    let mut last = (0, Stopwatch::start());
    // As long as something comes, it comes.
    until("all that was taken to arrive", PATIENCE * 10, || {
        let arrived = letters.arrived_so_far();
        if arrived > last.0 {
            last = (arrived, Stopwatch::start());
        }
        assert!(
            last.1.elapsed() < PATIENCE,
            "{arrived} of {taken} arrived, and no more come"
        );
        (arrived >= taken).then_some(())
    });
    assert_eq!(letters.strange(), 0, "arrivals that should not be");
}

/// Where everything stood when the round began.
struct Clock<'a> {
    bench: Option<&'a Bench>,
    sink: &'a Sink,
    begun: Stopwatch,
    server: Vec<Duration>,
    sinks: Duration,
    machine: Duration,
}

impl<'a> Clock<'a> {
    fn start(bench: Option<&'a Bench>, sink: &'a Sink) -> Self {
        Self {
            bench,
            sink,
            begun: Stopwatch::start(),
            server: bench.map(Bench::times).unwrap_or_default(),
            sinks: sink.thread.time(),
            machine: cpu::of_machine(),
        }
    }

    fn round(self, letters: &Letters, feeding: Duration) -> Round {
        let elapsed = self.begun.elapsed();
        let machine = cpu::of_machine().saturating_sub(self.machine);
        let server = self.bench.map(Bench::times).unwrap_or_default();
        let names = self.bench.iter().flat_map(|bench| &bench.parts);
        let mut spent: Vec<(&'static str, Duration)> = names
            .zip(server.iter().zip(&self.server))
            .map(|((name, _), (now, then))| (*name, now.saturating_sub(*then)))
            .collect();
        spent.push(("generator", feeding));
        spent.push(("sink", self.sink.thread.time().saturating_sub(self.sinks)));
        let arrivals = letters.arrivals();
        let messages = arrivals.len() as u64;
        let span = arrivals.last().copied().unwrap_or_default()
            - arrivals.first().copied().unwrap_or_default();
        let known: Duration = spent.iter().map(|(_, time)| *time).sum();
        let whole = elapsed.as_secs_f64() * cpu::processors() as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
        Round {
            messages,
            per_second: messages as f64 / span.as_secs_f64(),
            micros: spent
                .iter()
                .map(|(name, time)| (*name, each(*time)))
                .collect(),
            busy: machine.as_secs_f64() / whole,
            others: machine.saturating_sub(known).as_secs_f64() / whole,
        }
    }
}
