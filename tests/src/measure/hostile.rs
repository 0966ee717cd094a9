//! Homes that are silent, slow or rude, as many as wanted, with mail for each, on the agent that a good home is served by.
//!
//! Two worlds, one with such homes and one without, are fed by turns, so that both see the same machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::latency::{Latencies, Stream};
use crate::loopback;
use crate::site::{Act, At, Gate, Script, Site};
use crate::submit::message;
use crate::wait::{PATIENCE, pause, until};
use crate::world::World;

/// Messages a second for the good home.
const RATE: u32 = 25;
const EACH: Duration = Duration::from_secs(12);
const DRIPS: Duration = Duration::from_millis(200);
/// More than lies in the buffers of a connection.
const LONG: usize = 12 << 20;
const MESSAGES: usize = 3;

/// What one of them does.
#[derive(Debug, Clone, Copy)]
enum Rude {
    /// Says nothing more from there on.
    Silent(At),
    /// Hangs up there.
    Breaks(At),
    /// Takes half of a long message, and reads nothing more.
    ReadsNothing,
    /// A byte of its greeting now and then.
    Drips,
    /// Lines of a greeting without an end.
    Babbles,
}

const KINDS: [Rude; 14] = [
    Rude::Silent(At::Greeting),
    Rude::Silent(At::Ehlo),
    Rude::Silent(At::StartTls),
    Rude::Silent(At::Handshake),
    Rude::Silent(At::Mail),
    Rude::Silent(At::Rcpt),
    Rude::Silent(At::Data),
    Rude::Silent(At::Dot),
    Rude::ReadsNothing,
    Rude::Drips,
    Rude::Babbles,
    Rude::Breaks(At::Greeting),
    Rude::Breaks(At::Mail),
    Rude::Breaks(At::Dot),
];

/// # Panics
/// A message for the good home does not arrive.
pub fn run(homes: usize, pairs: usize, retry: &str) -> Value {
    let (alone, beside) = (World::start(), World::start());
    let _homes: Vec<_> = (0..homes)
        .map(|number| rude(&beside, number, KINDS[number % KINDS.len()], retry))
        .collect();
    until("the agent to be busy with them", PATIENCE, || {
        let agents = beside.json(&["agent", "list"]);
        (agents[0]["in_flight"].as_u64()? >= homes as u64 / 2).then_some(())
    });
    let (mut without, mut with) = (Taken::default(), Taken::default());
    for pair in 0..2 * pairs {
        // What comes first is not always the same.
        let (world, all) = match pair % 4 {
            0 | 3 => (&alone, &mut without),
            _ => (&beside, &mut with),
        };
        let stream = Stream::start(world, RATE);
        pause(EACH);
        all.add(stream.stop());
    }
    let agents = beside.json(&["agent", "list"]);
    json!({
        "homes": homes,
        "in_flight": agents[0]["in_flight"],
        "alone": without.all.figures(),
        "beside": with.all.figures(),
        "p50_ratio": with.all.at(50) / without.all.at(50),
        "p95_ratio": with.all.at(95) / without.all.at(95),
        "p95_ratio_of_medians": with.median_p95() / without.median_p95(),
    })
}

/// What was measured in one of the worlds.
#[derive(Debug, Default)]
struct Taken {
    all: Latencies,
    /// Of each stream. Their median bears something else that the machine has to do meanwhile.
    p95: Vec<f64>,
}

impl Taken {
    fn add(&mut self, stream: Latencies) {
        self.p95.push(stream.at(95));
        self.p95.sort_by(f64::total_cmp);
        self.all.add(stream);
    }

    fn median_p95(&self) -> f64 {
        self.p95[self.p95.len() / 2]
    }
}

fn rude(world: &World, number: usize, kind: Rude, retry: &str) -> Option<Site> {
    let name = format!("rude-{number}");
    let domain = format!("{name}.example");
    let script = Script::with(&world.ca.identity(&[&domain]));
    let site = match kind {
        Rude::Silent(at) => Some(Site::start(script.but(at, Act::Hang))),
        Rude::Breaks(at) => Some(Site::start(script.but(at, Act::Break))),
        Rude::ReadsNothing => {
            let never = Act::Wait(Gate::default());
            Some(Site::start(script.but(At::Body, never)))
        }
        Rude::Drips | Rude::Babbles => None,
    };
    let address = match (&site, kind) {
        (Some(site), _) => site.address(),
        (None, Rude::Drips) => speaks(|stream| stream.write_all(b"2").map(|()| pause(DRIPS))),
        (None, _) => speaks(|stream| stream.write_all(b"220-hello\r\n").map(|()| pause(DRIPS))),
    };
    world.add_home(&name, address, &["--retry", retry]);
    let mut client = world.smtp();
    for count in 0..MESSAGES {
        let mut content = message(&count.to_string());
        while matches!(kind, Rude::ReadsNothing) && content.len() < LONG {
            content.extend_from_slice(b"All work and no play makes mail a dull matter.\r\n");
        }
        let _ = client.send("a@b.example", &format!("me@{domain}"), &content);
    }
    site
}

/// Somebody who says something again and again until the client has enough of it.
fn speaks(says: fn(&mut TcpStream) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind((loopback::fresh(), 0)).expect("a fresh address has ports");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(DRIPS));
                while says(&mut stream).is_ok() {
                    // What the client says is thrown away.
                    let _ = stream.read(&mut [0; 1024]);
                }
            });
        }
    });
    address
}
