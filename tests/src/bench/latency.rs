//! One message at a time: from its last byte sent to its last byte at the sink, with the session to the sink open.

use std::sync::Arc;
use std::time::Duration;

use super::generator::{Generator, Load, Pace};
use super::letters::Letters;
use super::relay::{all_there, load};
use super::server::Bench;
use super::sink::Row;
use crate::wait::{PATIENCE, until};

/// Messages a second.
pub const RATE: f64 = 20.0;

/// Of one round.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    pub messages: u64,
    pub p50: Duration,
    pub p99: Duration,
}

/// The first message opens the session and is not counted.
///
/// # Panics
/// It is lost, or arrives twice.
pub fn open(bench: &Bench, row: &Row) {
    let _ = hand_in(bench, row, 1);
}

/// # Panics
/// Something is lost, or arrives twice.
pub fn round(bench: &Bench, row: &Row, count: u64) -> Delays {
    let delays = hand_in(bench, row, count).delays();
    let at = |part: usize| delays[(delays.len() * part / 100).min(delays.len() - 1)];
    Delays {
        messages: count,
        p50: at(50),
        p99: at(99),
    }
}

fn hand_in(bench: &Bench, row: &Row, count: u64) -> Arc<Letters> {
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
