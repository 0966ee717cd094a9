//! A site that was away comes back: how soon its first message is there, and how fast the rest follows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::generator::{Generator, Pace};
use super::letters::Letters;
use super::relay::{all_there, load};
use super::server::{Bench, Ours, Security, System, Theirs};
use super::sink::{Row, Sink};
use crate::wait::{PATIENCE, until};

#[derive(Debug, Clone, Copy)]
pub struct Released {
    pub waiting: u64,
    /// From the release to the first message that is there as a whole.
    pub first: Duration,
    /// From there to the last.
    pub per_second: f64,
}

/// Whose mail waits.
const SECURITY: Security = Security::Verified;

/// # Panics
/// Something is lost, or arrives twice.
pub fn ours(ours: &mut Ours, row: &Row, waiting: u64) -> Released {
    let letters = fill(&ours.bench(SECURITY), row, waiting);
    release(ours, row, &letters, waiting)
}

/// The same by a controller that was stopped and started meanwhile: it has no content in its memory, and reads all of them
/// from the log. What the system keeps of the files stays.
///
/// # Panics
/// Something is lost, or arrives twice.
pub fn after_start(ours: &mut Ours, row: &Row, waiting: u64) -> Released {
    let letters = fill(&ours.bench(SECURITY), row, waiting);
    let world = &mut ours.world;
    let _ = world.site_is(SECURITY.site(), "waiting");
    world.stop_controller();
    world.start_controller();
    world.all_known();
    world.attached("out1");
    release(ours, row, &letters, waiting)
}

/// How many a site has at once for which nothing is said: `connections` of the controller's `[defaults]`.
pub const SESSIONS: u32 = 2;

fn release(ours: &Ours, row: &Row, letters: &Letters, waiting: u64) -> Released {
    let shown = ours.world.site_is(SECURITY.site(), "waiting");
    assert_eq!(shown["queued"]["messages"], waiting, "{shown}");
    let mut asker = Asker::connect(ours.world.listeners().smtp);
    let sink = ours.sink(SECURITY, row);
    let released = letters.now();
    asker.etrn(SECURITY.site());
    drained(letters, released, waiting, sink)
}

/// # Panics
/// Something is lost, or arrives twice.
pub fn theirs(world: &crate::world::World, theirs: &Theirs, row: &Row, waiting: u64) -> Released {
    let bench = theirs.bench();
    assert_eq!(bench.system, System::Postfix);
    let letters = fill(&bench, row, waiting);
    theirs.deferred(waiting);
    let sink = theirs.sink(world, row);
    let released = letters.now();
    theirs.postfix.flush();
    drained(&letters, released, waiting, sink)
}

/// Hands in so many, with nobody at the sink's place.
fn fill(bench: &Bench, row: &Row, waiting: u64) -> Arc<Letters> {
    let letters = row.begin();
    let load = load(bench, waiting, Pace::Free);
    let generator = Generator::start(load, Arc::clone(&letters));
    let patience = PATIENCE * 20;
    until("all to be handed in", patience, || {
        generator.is_done().then_some(())
    });
    generator.stop();
    letters
}

fn drained(letters: &Letters, released: Duration, waiting: u64, sink: Sink) -> Released {
    all_there(letters);
    drop(sink);
    let arrivals = letters.arrivals();
    let first = arrivals.first().copied().unwrap_or_default();
    let span = arrivals.last().copied().unwrap_or_default() - first;
    Released {
        waiting,
        first: first.saturating_sub(released),
        per_second: waiting as f64 / span.as_secs_f64(),
    }
}

/// Asks for a release by ETRN, without the time a program takes to start.
struct Asker(BufReader<TcpStream>);

impl Asker {
    fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("the controller listens");
        let mut asker = Self(BufReader::new(stream));
        asker.reply("220");
        asker.say("EHLO home.example", "250");
        asker
    }

    fn etrn(&mut self, site: &str) {
        self.say(&format!("ETRN {site}.example"), "25");
    }

    fn say(&mut self, line: &str, code: &str) {
        let written = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
        written.expect("the controller reads");
        self.reply(code);
    }

    fn reply(&mut self, code: &str) {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("the controller answers");
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(
                    line.starts_with(code),
                    "{code} wanted, and there came {line}"
                );
                return;
            }
        }
    }
}
