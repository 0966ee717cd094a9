//! Strangers at the doors, who do what they can.

mod deeds;
pub mod h2;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};

use self::deeds::{Deeds, Held};
use crate::layout::Layout;
use crate::wait::{PATIENCE, pause, until};
use crate::world::World;

/// The load balancer of such a world's web: it says for whom it asks.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// A world whose feeder is 127.0.0.1 alone; all else of loopback is strangers.
///
/// # Panics
/// It does not start.
pub fn world() -> World {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may use what it has");
    let layout = Layout {
        trusted: Some("127.0.0.1/32"),
        web: format!("proxy_protocol = [\"{BALANCER}/32\"]"),
        ..Layout::default()
    };
    World::laid_out(layout, 1)
}

/// What strangers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Trick {
    /// Connections on which nothing happens.
    Idle,
    /// A byte now and then on each of a thousand connections.
    Slow,
    /// What is neither SMTP nor HTTP nor TLS.
    Garbage,
    /// TLS handshakes, and nothing behind them.
    Handshakes,
    /// Calls without a certificate that do not end.
    Calls,
    /// Commands, requests and calls without reading the answers.
    Unread,
    /// Whatever is worth a line in the log, with long names.
    Lines,
    /// Wrong passwords, from a /48 and from everywhere.
    Guesses,
    /// ETRN of everything there may be.
    Etrn,
}

impl Trick {
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Slow,
        Self::Garbage,
        Self::Handshakes,
        Self::Calls,
        Self::Unread,
        Self::Lines,
        Self::Guesses,
        Self::Etrn,
    ];
}

/// Strangers at work. They stop when this is dropped.
#[derive(Debug)]
pub struct Attack {
    over: Arc<AtomicBool>,
    opened: Vec<Arc<AtomicU32>>,
    threads: Vec<JoinHandle<()>>,
}

/// How many connections are held at each door.
const OPEN: usize = 1_000;
/// How long a stranger waits at one door before the next connection, once it holds as many.
const GAP: Duration = Duration::from_millis(2);

/// Addresses of strangers, in networks of their own.
fn stranger(number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 10 + high % 50, low, 1))
}

impl Attack {
    /// # Panics
    /// There is no thread to be had.
    pub fn start(trick: Trick, world: &World) -> Self {
        let over = Arc::<AtomicBool>::default();
        let work = deeds::of(trick, world).into_iter().map(|deeds| Work {
            deeds,
            over: over.clone(),
            opened: Arc::default(),
        });
        let work: Vec<Work> = work.collect();
        Self {
            over,
            opened: work.iter().map(|work| work.opened.clone()).collect(),
            threads: work
                .into_iter()
                .map(|work| thread::spawn(move || work.run()))
                .collect(),
        }
    }

    /// Waits until there is something of it at every door.
    ///
    /// # Panics
    /// There is not.
    pub fn has_risen(&self) {
        until("strangers to come", PATIENCE, || {
            let mut doors = self.opened.iter();
            let risen = |opened: &Arc<AtomicU32>| opened.load(Ordering::Relaxed) >= 100;
            doors.all(risen).then_some(())
        });
        until("strangers to be many", PATIENCE, || {
            (self.opened() >= 1_000).then_some(())
        });
    }

    /// How many connections it has made so far.
    pub fn opened(&self) -> u32 {
        let opened = |door: &Arc<AtomicU32>| door.load(Ordering::Relaxed);
        self.opened.iter().map(opened).sum()
    }
}

/// What one thread of strangers does at one door.
struct Work {
    deeds: Deeds,
    over: Arc<AtomicBool>,
    opened: Arc<AtomicU32>,
}

impl Work {
    fn run(self) {
        // Strangers have machines of their own: here they take what the others leave. Of the calling thread only.
        let _ = setpriority_process(None, 19);
        let mut open: VecDeque<Held> = VecDeque::new();
        while !self.over.load(Ordering::Relaxed) {
            let number = self.opened.fetch_add(1, Ordering::Relaxed);
            // Who is turned away comes again.
            open.extend(self.deeds.once(number));
            if open.len() >= OPEN.min(self.deeds.holds()) {
                open.pop_front();
                pause(GAP);
            }
            if let Some(held) = open.get_mut(number as usize % OPEN) {
                self.deeds.now_and_then(held);
            }
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that failed has said so.
            let _ = thread.join();
        }
    }
}
