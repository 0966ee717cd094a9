//! A long queue: mail for thousands of sites of which all but one are dead. What it takes in memory and processor time while
//! it waits, how soon a start knows all of it, and whether the live site notices.
//!
//! The live site is measured alone before and after, in a world of its own each time: what the machine does meanwhile
//! then shows in the figures it is compared with.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::dead::{Dead, Tried};
use super::latency::{Latencies, Stream};
use super::start::Start;
use crate::bench::generator::{Generator, Load, Pace};
use crate::bench::letters::Letters;
use crate::layout::Layout;
use crate::process::Observer;
use crate::scrape::Scrape;
use crate::wait::{Stopwatch, pause, until};
use crate::world::World;

/// Everything here is allowed to take this long.
const PATIENCE: Duration = Duration::from_secs(900);
const AGENT: &str = "out1";
/// Of each message.
const BYTES: usize = 1_024;
const SESSIONS: u32 = 20;
/// Each state that a site's mail may be in.
const STATES: [&str; 6] = ["idle", "ready", "proving", "flowing", "waiting", "held"];

/// How much is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Size {
    /// All sites, the live one included.
    #[arg(long, default_value_t = 10_000)]
    pub sites: usize,
    /// Messages that wait for each dead site.
    #[arg(long, default_value_t = 1)]
    pub each: usize,
    /// How long it is looked at what waiting takes: a dead site is tried every 180 to 198 seconds, and in waves after its
    /// first try.
    #[arg(long, default_value_t = 198)]
    pub seconds: u64,
    /// How long the live site's mail is timed beside the dead ones; alone, half of it before and half of it after.
    #[arg(long, default_value_t = 198)]
    pub live_seconds: u64,
    /// Messages a second for the live site.
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
}

/// A world with that queue. Its agent is down until all are tried.
#[derive(Debug)]
pub struct LongQueue {
    world: World,
    dead: Dead,
    tried: Arc<Tried>,
    size: Size,
    pub registered: Duration,
    pub submitted: Duration,
}

/// How an earlier start has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By SIGTERM.
    Clean,
    /// By SIGKILL; and the index is gone.
    Killed,
}

/// Of mail that came while all dead sites were tried at once.
#[derive(Debug)]
pub struct Storm {
    pub live: Latencies,
    pub all_tried: Duration,
    pub used: Used,
}

/// What a time took.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    pub time: Duration,
    pub probes_per_minute: f64,
    /// Percent of a core.
    pub controller: f64,
    pub agent: f64,
}

/// `dd-measure dead-sites`.
///
/// # Panics
/// Anything is not as it should be.
pub fn run(size: Size) -> Value {
    let mut alone = live_alone(size);
    let mut queue = LongQueue::start(size);
    let storm = queue.storm();
    let (beside, with_mail) = queue.live();
    let waiting = queue.wait();
    let (memory, peak, agents_peak) = (
        queue.memory(),
        queue.peak_memory(),
        queue.world.agent(AGENT).peak_memory(),
    );
    let starts = [End::Clean, End::Killed].map(|end| queue.restart(end));
    alone.add(live_alone(size));
    let mut figures = json!({
        "sites": size.sites,
        "live_alone": alone.figures(),
    });
    for (name, latencies) in [
        ("live_while_all_are_tried", &storm.live),
        ("live_beside_the_dead", &beside),
    ] {
        figures[name] = latencies.figures();
        figures[format!("{name}_p99_to_alone")] = json!(latencies.at(99) / alone.at(99));
    }
    figures["dead"] = json!({
        "messages_waiting": queue.waiting(),
        "registered_in_seconds": queue.registered.as_secs_f64(),
        "submitted_in_seconds": queue.submitted.as_secs_f64(),
        "all_tried_once_seconds": storm.all_tried.as_secs_f64(),
        "first_wave": storm.used.json(),
        "while_the_live_one_has_mail": with_mail.json(),
        "while_all_wait": waiting.json(),
        "controller_memory_bytes": memory,
        "controller_peak_memory_bytes": peak,
        "agent_peak_memory_bytes": agents_peak,
        "start_after_a_clean_stop": starts[0].json(),
        "start_without_index": starts[1].json(),
    });
    figures
}

/// How long the live site's mail takes without the others, for half of the time.
///
/// # Panics
/// Anything is not as it should be.
pub fn live_alone(size: Size) -> Latencies {
    let world = World::laid_out(layout(None), 1);
    let stream = Stream::start(&world, size.rate);
    pause(Duration::from_secs(size.live_seconds) / 2);
    stream.stop()
}

/// As an operator would have it: segments of the usual size.
fn layout(observer: Option<Observer>) -> Layout {
    Layout {
        store: "segment_bytes = \"64M\"".to_owned(),
        observer,
        ..Layout::default()
    }
}

impl LongQueue {
    /// All mail is there before anybody is tried: the worst that can come.
    ///
    /// # Panics
    /// Anything is not as it should be.
    pub fn start(size: Size) -> Self {
        let tried = Arc::new(Tried::default());
        let observed = Arc::clone(&tried);
        let observer = Observer::new(move |line| observed.read(line));
        let mut world = World::laid_out(layout(Some(observer)), 1);
        let dead = Dead::new(size.sites - 1);
        let registered = dead.register(&world);
        world.kill_agent(AGENT);
        let submitted = Stopwatch::start();
        let load = Load {
            to: world.listeners().smtp,
            recipients: (0..dead.count).map(recipient).collect(),
            sessions: SESSIONS,
            bytes: BYTES,
            most: (dead.count * size.each) as u64,
            pace: Pace::Free,
        };
        let generator = Generator::start(load, Arc::new(Letters::begin()));
        until("all to be handed in", PATIENCE, || {
            generator.is_done().then_some(())
        });
        generator.stop();
        Self {
            submitted: submitted.elapsed(),
            world,
            dead,
            tried,
            size,
            registered,
        }
    }

    /// Messages that wait for dead sites.
    pub fn waiting(&self) -> usize {
        self.dead.count * self.size.each
    }

    /// The controller's, in bytes.
    pub fn memory(&mut self) -> u64 {
        self.world.controller().memory()
    }

    /// The most that the controller has had since its start, in bytes.
    pub fn peak_memory(&mut self) -> u64 {
        self.world.controller().peak_memory()
    }

    /// The agent comes, and all dead sites are tried, beside a live one that has mail.
    ///
    /// # Panics
    /// One is not tried.
    pub fn storm(&mut self) -> Storm {
        self.tried.begin();
        let begun = Stopwatch::start();
        self.world.start_agent(AGENT);
        let before = Sample::of(&mut self.world, &self.tried);
        self.world.attached(AGENT);
        let stream = Stream::start(&self.world, self.size.rate);
        until("every dead site to be tried", PATIENCE, || {
            pause(Duration::from_millis(50));
            (self.tried.sites() >= self.dead.count).then_some(())
        });
        let all_tried = begun.elapsed();
        let used = Sample::of(&mut self.world, &self.tried).since(&before);
        Storm {
            live: stream.stop(),
            all_tried,
            used,
        }
    }

    /// The live site's mail beside the dead ones, and what was used meanwhile.
    ///
    /// # Panics
    /// Mail does not arrive.
    pub fn live(&mut self) -> (Latencies, Used) {
        let stream = Stream::start(&self.world, self.size.rate);
        let used = self.used(Duration::from_secs(self.size.live_seconds));
        (stream.stop(), used)
    }

    /// What is used while no mail comes.
    ///
    /// # Panics
    /// A program ends.
    pub fn wait(&mut self) -> Used {
        self.used(Duration::from_secs(self.size.seconds))
    }

    fn used(&mut self, time: Duration) -> Used {
        let before = Sample::of(&mut self.world, &self.tried);
        pause(time);
        Sample::of(&mut self.world, &self.tried).since(&before)
    }

    /// Ends the controller so, and starts it again; all are there then.
    ///
    /// # Panics
    /// One is missing.
    pub fn restart(&mut self, end: End) -> Start {
        let before = self.queued();
        match end {
            End::Clean => self.world.stop_controller(),
            End::Killed => {
                self.world.kill_controller();
                let index = self.world.controller_state().join("index");
                fs::remove_dir_all(index).expect("the index can go");
            }
        }
        let start = Start::measure(&mut self.world, &recipient(0));
        let there = self.queued() - before;
        assert!((there - 1.0).abs() < 0.5, "not all are there: {there} more");
        start
    }

    fn queued(&self) -> f64 {
        let scrape = Scrape::of(&self.world);
        let states = STATES.map(|state| format!("dd_queued_deliveries{{state=\"{state}\"}}"));
        states.iter().map(|name| scrape.value(name)).sum()
    }
}

fn recipient(number: usize) -> String {
    format!("me@{}.example", Dead::name(number))
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

    fn since(&self, before: &Self) -> Used {
        let time = self.at.since(before.at);
        let percent = |now: Duration, before: Duration| {
            100.0 * (now - before).as_secs_f64() / time.as_secs_f64()
        };
        let probes = (self.attempts - before.attempts) as f64;
        Used {
            time,
            probes_per_minute: 60.0 * probes / time.as_secs_f64(),
            controller: percent(self.controller, before.controller),
            agent: percent(self.agent, before.agent),
        }
    }
}

impl Used {
    pub fn json(&self) -> Value {
        json!({
            "seconds": self.time.as_secs_f64(),
            "probes_per_minute": self.probes_per_minute,
            "controller_percent_of_a_core": self.controller,
            "agent_percent_of_a_core": self.agent,
        })
    }
}
