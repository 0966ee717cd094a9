//! How long mail takes to a site: a steady stream of messages, each timed from before its final dot until it is at home.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{Host, Received, Script, Site, Verdict};
use crate::submit::message;
use crate::wait::{Stopwatch, pause, until};
use crate::world::World;

/// How long the last message may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages that are not counted: the session is opened for the first.
const UNCOUNTED: usize = 1;

/// A stream of messages to a site of its own that is up.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    feeding: JoinHandle<Vec<Stopwatch>>,
    home: Arc<Home>,
    _site: Site,
}

/// In order of how long they took, in milliseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<f64>);

/// When each message came, by its number.
#[derive(Debug, Default)]
struct Home(Mutex<HashMap<usize, Stopwatch>>);

impl Stream {
    /// Registers the site `live`, where it is not there yet, and sends it so many messages a second.
    ///
    /// # Panics
    /// A message is refused.
    pub fn start(world: &World, rate: u32) -> Self {
        let home = Arc::new(Home::default());
        let script = Script::with(&world.ca.identity(&["live.example"]));
        let hosted: Arc<dyn Host> = home.clone();
        let site = Site::start(script.hosted(hosted));
        world.home_moves("live", site.address());
        let mut client = world.smtp();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, gap) = (Arc::clone(&stop), Duration::from_secs(1) / rate);
        let feeding = thread::spawn(move || {
            let (mut sent, begun) = (Vec::new(), Stopwatch::start());
            while !stopped.load(Ordering::Relaxed) {
                client.expect("MAIL FROM:<a@b.example>", 250);
                client.expect("RCPT TO:<me@live.example>", 250);
                client.expect("DATA", 354);
                let mut bytes = message(&sent.len().to_string());
                bytes.extend_from_slice(b".\r\n");
                sent.push(Stopwatch::start());
                client.write(&bytes);
                assert_eq!(client.reply().code, 250);
                let next = gap * u32::try_from(sent.len()).expect("a stream has an end");
                pause(next.saturating_sub(begun.elapsed()));
            }
            sent
        });
        Self {
            stop,
            feeding,
            home,
            _site: site,
        }
    }

    /// Ends the stream, and waits until the last message is at home.
    ///
    /// # Panics
    /// One does not arrive.
    pub fn stop(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.feeding.join().expect("every message is taken");
        until("every message to be at home", PATIENCE, || {
            (self.home.arrived().len() == sent.len()).then_some(())
        });
        let arrived = self.home.arrived();
        let latencies = sent.iter().enumerate().skip(UNCOUNTED);
        let latencies =
            latencies.map(|(number, sent)| 1000.0 * arrived[&number].since(*sent).as_secs_f64());
        Latencies::of(latencies.collect())
    }
}

impl Latencies {
    pub(crate) fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self(latencies)
    }

    /// Takes in those of another stream.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0.sort_by(f64::total_cmp);
    }

    /// So many in a hundred took no longer.
    ///
    /// # Panics
    /// There are none.
    pub fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    pub fn figures(&self) -> Value {
        json!({
            "messages": self.0.len(),
            "p50_ms": self.at(50),
            "p90_ms": self.at(90),
            "p99_ms": self.at(99),
            "longest_ms": self.at(100),
        })
    }
}

impl Home {
    fn arrived(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Stopwatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Home {
    fn rcpt(&self, _: &str) -> Option<String> {
        None
    }

    fn message(&self, message: Received) -> Verdict {
        let at = Stopwatch::start();
        let content = String::from_utf8_lossy(&message.content);
        let subject = content.lines().find_map(|it| it.strip_prefix("Subject: "));
        let number = subject.and_then(|it| it.parse().ok());
        self.arrived().insert(number.expect("a letter of ours"), at);
        Verdict::Takes
    }
}
