//! Whatever strangers do to the control port, agents that are attached stay so, and others can attach.
//!
//! A program of its own: the flood takes all cores, and leaves nothing to a test beside it.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, pause, until};
use dd_tests::world::World;
use rustix::net::sockopt::set_socket_linger;

/// So many connections of the flood are open at once, as far as they are let.
const OPEN: usize = 1_500;

#[test]
fn a_flood_of_the_control_port_leaves_honest_agents_served() {
    let mut world = World::with_agents(2);
    let home = world.home("home", &["--retry", "1s"]);
    // It comes from the same address as the agents, which is the worst place.
    let flood = Flood::start(world.listeners().control);
    flood.has_opened(OPEN);
    let mut client = world.smtp();
    for number in 0..100 {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
    home.received(100);
    let detached = world.controller().lines("agent detached");
    assert_eq!(detached, Vec::<String>::new(), "who was attached still is");
    world.kill_agent("out1");
    world.start_agent("out1");
    world.attached("out1");
    let more = flood.opened.load(Ordering::Relaxed) + OPEN;
    flood.has_opened(more);
    for number in 100..200 {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
    home.received(200);
    world.drained("home");
    assert!(home.copies().values().all(|count| *count == 1));
    flood.end();
}

/// Threads that connect, do something bad, and keep as many connections as they can.
struct Flood {
    over: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

/// What a stranger does with a connection.
type Trick = fn(&mut TcpStream);

const TRICKS: [Trick; 5] = [
    // Nothing at all.
    |_| {},
    |stream| {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: controller\r\n\r\n");
    },
    // No TLS record has this form.
    |stream| {
        let _ = stream.write_all(&[0xff; 4096]);
    },
    // The first bytes of a ClientHello, and no more.
    |stream| {
        let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    },
    // Closed with a reset.
    |stream| {
        let _ = set_socket_linger(&*stream, Some(Duration::ZERO));
        let _ = stream.shutdown(std::net::Shutdown::Write);
    },
];

impl Flood {
    fn start(target: SocketAddr) -> Self {
        let (over, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = TRICKS.map(|trick| {
            let (over, opened) = (over.clone(), opened.clone());
            thread::spawn(move || {
                let mut open = VecDeque::new();
                while !over.load(Ordering::Relaxed) {
                    let patience = Duration::from_secs(1);
                    if let Ok(mut stream) = TcpStream::connect_timeout(&target, patience) {
                        trick(&mut stream);
                        opened.fetch_add(1, Ordering::Relaxed);
                        open.push_back(stream);
                    }
                    if open.len() > OPEN / TRICKS.len() {
                        open.pop_front();
                        pause(Duration::from_millis(1));
                    }
                }
            })
        });
        Self {
            over,
            opened,
            threads: threads.into(),
        }
    }

    fn has_opened(&self, count: usize) {
        until("the flood to rise", PATIENCE, || {
            (self.opened.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
