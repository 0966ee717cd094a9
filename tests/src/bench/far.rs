//! A home behind a line with a round trip of 30 ms: what one session takes over it.

use std::sync::Arc;
use std::time::Duration;

use super::generator::{Generator, Load, Pace};
use super::relay::{BYTES, all_there};
use super::server::{Ours, Security};
use super::sink::{Row, Sink};
use crate::line::Line;
use crate::wait::{PATIENCE, until};

pub const ROUND_TRIP: Duration = Duration::from_millis(30);
/// The site's name.
const SITE: &str = "far";
/// Sessions of the generator: enough that something always waits.
const FEEDERS: u32 = 4;

/// Messages a second over one session, from the first to the last of `count` at the sink.
///
/// # Panics
/// Something is lost, or arrives twice.
pub fn per_second(ours: &mut Ours, row: &Row, count: u64) -> f64 {
    let identity = ours.world.ca.identity(&[&format!("{SITE}.example")]);
    let sink = Sink::start(crate::loopback::free_port(), Some(&identity), row);
    let line = Line::to(sink.address, ROUND_TRIP / 2);
    ours.world
        .add_home(SITE, line.address(), &["--connections", "1"]);
    let letters = row.begin();
    let load = Load {
        to: ours.bench(Security::Verified).smtp,
        recipients: [format!("me@{SITE}.example")].into(),
        sessions: FEEDERS,
        bytes: BYTES,
        most: count,
        pace: Pace::Free,
    };
    let generator = Generator::start(load, Arc::clone(&letters));
    until("all to be handed in", PATIENCE, || {
        generator.is_done().then_some(())
    });
    generator.stop();
    all_there(&letters);
    let arrivals = letters.arrivals();
    let (first, last) = (arrivals.first(), arrivals.last());
    let span = last.zip(first).map(|(last, first)| *last - *first);
    (count - 1) as f64 / span.unwrap_or_default().as_secs_f64()
}
