//! Strangers at the doors, who do what they can.

pub mod h2;

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::layout::Layout;
use crate::secure::connect_from;
use crate::wait::{PATIENCE, pause, until};
use crate::world::World;

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
        ..Layout::default()
    };
    World::laid_out(layout, 1)
}

/// What strangers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Connections on which nothing happens.
    Idle,
    /// A byte now and then.
    Slow,
    /// What is neither SMTP nor HTTP nor TLS.
    Garbage,
    /// Calls without a certificate that do not end, and that are denied.
    Calls,
    /// Commands without reading the replies.
    Unread,
    /// Wrong passwords.
    Guesses,
    /// ETRN of everything there may be.
    Etrn,
}

impl Trick {
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Slow,
        Self::Garbage,
        Self::Calls,
        Self::Unread,
        Self::Guesses,
        Self::Etrn,
    ];
}

/// Strangers at work. They stop when this is dropped.
#[derive(Debug)]
pub struct Attack {
    over: Arc<AtomicBool>,
    opened: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

/// So many connections are held at each door.
const OPEN: usize = 1_000;
/// Between two connections at one door, once so many are open.
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
        let (over, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let doors = world.listeners();
        let (smtp, web, control) = (doors.smtp, doors.web, doors.control);
        let everywhere = vec![smtp, doors.lmtp, web, control, doors.metrics];
        let targets = match trick {
            Trick::Idle | Trick::Slow | Trick::Garbage => everywhere,
            Trick::Calls => vec![control],
            Trick::Unread | Trick::Etrn => vec![smtp],
            Trick::Guesses => vec![web],
        };
        let threads = targets.into_iter().map(|door| {
            let work = Work {
                trick,
                door,
                over: over.clone(),
                opened: opened.clone(),
            };
            thread::spawn(move || work.run())
        });
        let mut threads: Vec<_> = threads.collect();
        if trick == Trick::Calls {
            threads.extend(calls(world, &over));
        }
        Self {
            over,
            opened,
            threads,
        }
    }

    /// Waits until there is something of it.
    ///
    /// # Panics
    /// There is not.
    pub fn has_risen(&self) {
        until("strangers to come", PATIENCE, || {
            (self.opened.load(Ordering::Relaxed) >= 1_000).then_some(())
        });
    }
}

/// Connections whose calls do not end, made anew as they are ended.
fn calls(world: &World, over: &Arc<AtomicBool>) -> Option<JoinHandle<()>> {
    let connect = (0..60).map(|n| h2::connect(world, stranger(n % 3)));
    let mut streams: Vec<h2::Secured> = connect.collect();
    let over = over.clone();
    Some(thread::spawn(move || {
        for (number, stream) in streams.iter_mut().enumerate() {
            if over.load(Ordering::Relaxed) {
                return;
            }
            match number % 3 {
                0 => h2::say(stream, h2::unfinished(16_000, 8_000).into_iter()),
                1 => h2::say(stream, h2::unfinished(1_000_000, 900_000).into_iter()),
                _ => h2::say(stream, h2::refused(20_000)),
            }
        }
        while !over.load(Ordering::Relaxed) {
            pause(GAP);
        }
    }))
}

struct Work {
    trick: Trick,
    door: SocketAddr,
    over: Arc<AtomicBool>,
    opened: Arc<AtomicU32>,
}

impl Work {
    fn run(self) {
        let mut open: VecDeque<TcpStream> = VecDeque::new();
        while !self.over.load(Ordering::Relaxed) {
            let number = self.opened.fetch_add(1, Ordering::Relaxed);
            let mut stream = connect_from(stranger(number), self.door);
            let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
            self.trick.play(&mut stream, number);
            open.push_back(stream);
            if open.len() >= OPEN {
                open.pop_front();
                pause(GAP);
            }
            if self.trick == Trick::Slow
                && let Some(slow) = open.get_mut(number as usize % OPEN)
            {
                let _ = slow.write_all(b"E");
            }
        }
    }
}

impl Trick {
    fn play(self, stream: &mut TcpStream, number: u32) {
        // Who is turned away or ended cannot be written to: nothing is lost by that.
        let _ = match self {
            Self::Idle | Self::Slow | Self::Calls => Ok(()),
            Self::Garbage => stream.write_all(&[0xff; 4096]),
            Self::Unread => stream.write_all(&b"HELP\r\n".repeat(20_000)),
            Self::Guesses => {
                let login = STANDARD.encode(format!("site{number}:wrong password"));
                let request = format!(
                    "GET /etrn HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n\r\n"
                );
                stream.write_all(request.as_bytes())
            }
            Self::Etrn => stream.write_all(
                b"EHLO x\r\nETRN home.example\r\nETRN @example\r\nETRN #home\r\nETRN @\r\nQUIT\r\n",
            ),
        };
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
