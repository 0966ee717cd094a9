//! Ten thousand sites of which all but one are dead, with mail waiting: what the dead ones cost, and whether the live one
//! notices.
//!
//! Half of the dead refuse connections, the other half swallow SYNs: their listener takes no connection, and so many
//! wait for it already that the kernel drops whoever else knocks. All are DynDNS names, so each probe asks DNS.
//!
//! The live site is measured alone before and after, in a world of its own each time: what the machine does meanwhile
//! then shows in the figures it is compared with.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::latency::{Latencies, Stream};
use super::submit;
use crate::layout::Layout;
use crate::loopback;
use crate::process::Observer;
use crate::wait::{Stopwatch, pause, until};
use crate::world::{AUTHORITY, World};

/// Everything here is allowed to take this long.
const PATIENCE: Duration = Duration::from_secs(900);
/// A connect that hangs for so long on loopback has been swallowed.
const SWALLOWED: Duration = Duration::from_millis(300);
const AGENT: &str = "out1";

/// How much is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Size {
    /// All sites, the live one included.
    #[arg(long, default_value_t = 10_000)]
    pub sites: usize,
    /// Messages that wait for each dead site.
    #[arg(long, default_value_t = 1)]
    pub each: usize,
    /// How long each figure is taken: a dead site is tried every 180 to 198 seconds, and in waves after its first try.
    #[arg(long, default_value_t = 198)]
    pub seconds: u64,
    /// Messages a second for the live site.
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
}

/// # Panics
/// Anything is not as it should be.
pub fn run(size: Size) -> Value {
    let mut alone = live_alone(size);
    let mut beside = beside_the_dead(size);
    alone.add(live_alone(size));
    let mut figures = json!({
        "sites": size.sites,
        "live_alone": alone.figures(),
    });
    for (name, latencies) in [
        ("live_while_all_are_tried", &mut beside.storm),
        ("live_beside_the_dead", &mut beside.steady),
    ] {
        figures[name] = latencies.figures();
        figures[format!("{name}_p99_to_alone")] = json!(latencies.at(99) / alone.at(99));
    }
    figures["dead"] = beside.dead;
    figures
}

fn live_alone(size: Size) -> Latencies {
    let world = World::laid_out(layout(None), 1);
    let stream = Stream::start(&world, size.rate);
    pause(Duration::from_secs(size.seconds) / 2);
    stream.stop()
}

/// What was measured beside the dead.
struct Beside {
    /// Of mail that came while all dead sites were tried at once.
    storm: Latencies,
    /// Of mail that came later.
    steady: Latencies,
    dead: Value,
}

fn beside_the_dead(size: Size) -> Beside {
    let tried = Arc::new(Tried::default());
    let observed = Arc::clone(&tried);
    let observer = Observer::new(move |line| observed.read(line));
    let mut world = World::laid_out(layout(Some(observer)), 1);
    let dead = Dead::new(size.sites - 1);
    let registered = dead.register(&world);

    // All mail is there before anybody is tried: the worst that can come.
    world.kill_agent(AGENT);
    let submitted = Stopwatch::start();
    let (count, total) = (dead.count, dead.count * size.each);
    submit(world.listeners().smtp, 20, total, 1_024, move |number| {
        format!("me@{}.example", Dead::name(number % count))
    });
    let submitted = submitted.elapsed();

    tried.begin();
    let begun = Stopwatch::start();
    world.start_agent(AGENT);
    let before = Sample::of(&mut world, &tried);
    world.attached(AGENT);
    let stream = Stream::start(&world, size.rate);
    until("every dead site to be tried", PATIENCE, || {
        pause(Duration::from_millis(50));
        (tried.sites() >= count).then_some(())
    });
    let all_tried = begun.elapsed();
    let first_wave = Sample::of(&mut world, &tried).since(&before);
    let storm = stream.stop();

    let (stream, before) = (
        Stream::start(&world, size.rate),
        Sample::of(&mut world, &tried),
    );
    pause(Duration::from_secs(size.seconds));
    let with_mail = Sample::of(&mut world, &tried).since(&before);
    let steady = stream.stop();
    let before = Sample::of(&mut world, &tried);
    pause(Duration::from_secs(size.seconds));
    let waiting = Sample::of(&mut world, &tried).since(&before);
    Beside {
        storm,
        steady,
        dead: json!({
            "messages_waiting": total,
            "registered_in_seconds": registered.as_secs_f64(),
            "submitted_in_seconds": submitted.as_secs_f64(),
            "all_tried_once_seconds": all_tried.as_secs_f64(),
            "first_wave": first_wave,
            "while_the_live_one_has_mail": with_mail,
            "while_all_wait": waiting,
            "controller_memory_bytes": world.controller().memory(),
            "controller_peak_memory_bytes": world.controller().peak_memory(),
            "agent_peak_memory_bytes": world.agent(AGENT).peak_memory(),
        }),
    }
}

/// As an operator would have it: segments of the usual size.
fn layout(observer: Option<Observer>) -> Layout {
    Layout {
        store: "segment_bytes = \"64M\"".to_owned(),
        observer,
        ..Layout::default()
    }
}

/// Dead sites: every other one refuses, every other one is silent.
struct Dead {
    count: usize,
    /// Bound, and nobody listens: connects are refused.
    refusing: TcpListener,
    silent: TcpListener,
    /// They fill the queue of the silent one.
    _waiting: Vec<TcpStream>,
}

impl Dead {
    fn new(count: usize) -> Self {
        let bind = || TcpListener::bind((loopback::fresh(), 0)).expect("a fresh address has ports");
        let (refusing, silent) = (bind(), bind());
        let _ = rustix::net::shutdown(&refusing, rustix::net::Shutdown::Both);
        let address = silent.local_addr().expect("it is bound");
        rustix::net::listen(&silent, 0).expect("a listener's queue can be made shorter");
        let mut waiting = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, SWALLOWED) {
            waiting.push(connection);
            assert!(waiting.len() < 100, "{address} swallows nothing");
        }
        Self {
            count,
            refusing,
            silent,
            _waiting: waiting,
        }
    }

    fn name(number: usize) -> String {
        format!("dead-{number}")
    }

    fn address(&self, number: usize) -> SocketAddr {
        let listener = match number % 2 {
            0 => &self.refusing,
            _ => &self.silent,
        };
        listener.local_addr().expect("it is bound")
    }

    /// All of them with one file; how long that took.
    fn register(&self, world: &World) -> Duration {
        let mut file = String::new();
        for number in 0..self.count {
            let (name, address) = (Self::name(number), self.address(number));
            let host = format!("{name}.dyn.example");
            world.dns.set(&host, &[address.ip()]);
            let _ = write!(
                file,
                "[site.{name}]\n\
                 domain = [\"{name}.example\"]\n\
                 host = [\"{host}:{port}\"]\n\
                 proof = \"certificate\"\n\
                 authority = \"{AUTHORITY}\"\n\
                 cert-name = \"{name}.example\"\n",
                port = address.port(),
            );
        }
        let path = world.path().join("dead.toml");
        std::fs::write(&path, file).expect("the world's directory can be written");
        let begun = Stopwatch::start();
        let path = path.to_str().expect("a path of ASCII");
        let _ = world.ddadm().run(&["registry", "apply", path]).done();
        begun.elapsed()
    }
}

/// Attempts at dead sites, as the agent logs them.
#[derive(Debug, Default)]
struct Tried(Mutex<HashMap<String, u64>>);

impl Tried {
    fn read(&self, line: &str) {
        let site = line.split_once(" site=dead-").map(|(_, rest)| rest);
        if let (true, Some(rest)) = (line.contains("attempt ended"), site) {
            let site = rest.split_whitespace().next().unwrap_or_default();
            *self.locked().entry(site.to_owned()).or_default() += 1;
        }
    }

    /// From here on.
    fn begin(&self) {
        self.locked().clear();
    }

    fn sites(&self) -> usize {
        self.locked().len()
    }

    fn attempts(&self) -> u64 {
        self.locked().values().sum()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What had been used and done at a time.
struct Sample {
    at: Stopwatch,
    controller: Duration,
    agent: Duration,
    attempts: u64,
}

impl Sample {
    fn of(world: &mut World, tried: &Tried) -> Self {
        Self {
            at: Stopwatch::start(),
            controller: world.controller().processor_time(),
            agent: world.agent(AGENT).processor_time(),
            attempts: tried.attempts(),
        }
    }

    fn since(&self, before: &Self) -> Value {
        let time = before.at.elapsed().as_secs_f64();
        let percent = |now: Duration, before: Duration| 100.0 * (now - before).as_secs_f64() / time;
        let probes = (self.attempts - before.attempts) as f64;
        json!({
            "seconds": time,
            "probes_per_minute": 60.0 * probes / time,
            "controller_percent_of_a_core": percent(self.controller, before.controller),
            "agent_percent_of_a_core": percent(self.agent, before.agent),
        })
    }
}
