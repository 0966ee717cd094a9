//! One message at a time: from its last byte sent to its last byte at the sink, with the session to the sink open.

use std::sync::Arc;
use std::time::Duration;

use super::generator::{Generator, Load, Pace};
use super::relay::{all_there, load};
use super::server::Bench;
use super::sink::Row;
use crate::wait::{PATIENCE, until};

/// Messages a second.
pub const RATE: f64 = 20.0;

/// Both from `count` messages.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    pub p50: Duration,
    pub p99: Duration,
}

/// # Panics
/// Something is lost, or arrives twice.
pub fn round(bench: &Bench, row: &Row, count: u64) -> Delays {
    // The first opens the session and is not counted.
    hand_in(bench, row, 1);
    let letters = hand_in(bench, row, count);
    let delays = letters.delays();
    let at = |part: usize| delays[(delays.len() * part / 100).min(delays.len() - 1)];
    Delays {
        p50: at(50),
        p99: at(99),
    }
}

fn hand_in(bench: &Bench, row: &Row, count: u64) -> Arc<super::letters::Letters> {
    let letters = row.begin();
    let load = Load {
        sessions: 1,
        ..load(bench, count, Pace::PerSecond(RATE))
    };
    let generator = Generator::start(load, Arc::clone(&letters));
    let patience = PATIENCE + Duration::from_secs_f64(count as f64 / RATE);
    until("all to be handed in", patience, || {
        generator.is_done().then_some(())
    });
    generator.stop();
    all_there(&letters);
    letters
}
