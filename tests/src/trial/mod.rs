//! Trials: a world under load whose programs are killed, or whose machine is switched off, again and again.
//!
//! A [`Trial`] has feeders that hand letters in, sites that take them, and a ledger that knows what each of them must
//! come to. What is done to the world between is the caller's: [`kills`] and [`power`] are the two ways.
//!
//! # Invariants
//! Everything but timing follows from the seed. A trial is judged only by what senders, sites and `ddadm` are told.

mod aim;
pub mod disk;
pub mod feeder;
pub mod home;
pub mod kills;
pub mod ledger;
pub mod letter;
pub mod power;
pub mod registrar;
pub mod summary;
pub mod tally;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value;

use self::feeder::{Feeders, Intake};
use self::home::{Home, Smarthost};
use self::ledger::{Judgement, Ledger};
use self::letter::{Answer, Post, domain};
use self::tally::Tally;
use crate::layout::Layout;
use crate::loopback;
use crate::process::Observer;
use crate::site::{Script, Site};
use crate::wait::{Stopwatch, pause};
use crate::world::World;

/// How many sites a trial has.
pub const SITES: usize = 6;
/// Recipients in a hundred that are refused: their senders must be told.
const REFUSED: u32 = 2;
/// A drain that takes longer than this is stuck: a lease, the ten seconds after it and every deferral fit in.
const DRAIN: Duration = Duration::from_secs(300);
/// How often the queue is looked at while it drains.
const LOOK: Duration = Duration::from_millis(250);

/// A world under load.
#[derive(Debug)]
pub struct Trial {
    pub world: World,
    pub ledger: Arc<Ledger>,
    pub tally: Arc<Tally>,
    next: Arc<AtomicU64>,
    _homes: Vec<Site>,
}

/// How a trial is laid out.
#[derive(Debug, Clone)]
pub struct Setting {
    pub seed: u64,
    pub segment_bytes: &'static str,
    pub controller_state: Option<PathBuf>,
    pub agents_state: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// Gets every line that every program logs.
    pub log: Option<PathBuf>,
}

impl Setting {
    /// Small segments, for the log shall roll and be cleaned often.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            segment_bytes: "1M",
            controller_state: None,
            agents_state: None,
            environment: Vec::new(),
            log: None,
        }
    }
}

impl Trial {
    /// Two agents, [`SITES`] sites and a smarthost.
    pub fn start(setting: &Setting) -> Self {
        let post = Post {
            seed: setting.seed,
            sites: SITES,
            refused: REFUSED,
        };
        let ledger = Arc::new(Ledger::new(post));
        let tally = Arc::new(Tally::new(setting.log.as_deref()));
        let smarthost = Smarthost(Arc::clone(&ledger));
        let smarthost = Site::start(Script::plain().hosted(Arc::new(smarthost)));
        let observing = Arc::clone(&tally);
        let layout = Layout {
            trusted: None,
            web: String::new(),
            smtp_port: 0,
            controller_state: setting.controller_state.clone(),
            agents_state: setting.agents_state.clone(),
            store: format!("segment_bytes = \"{}\"", setting.segment_bytes),
            runner: Vec::new(),
            secure_web: false,
            smarthost: Some(smarthost.address()),
            notify: String::new(),
            environment: setting.environment.clone(),
            agent_environment: Vec::new(),
            observer: Some(Observer::new(move |line| observing.read(line))),
        };
        let world = World::laid_out(layout, 2);
        let mut homes: Vec<Site> = (0..SITES)
            .map(|number| {
                let identity = world.ca.identity(&[&domain(number)]);
                let home = Home::new(number, Arc::clone(&ledger));
                let script = Script::with(&identity).hosted(Arc::new(home));
                let address = SocketAddr::from((loopback::fresh(), 0));
                let site = Site::start_at(address, script);
                world.add_home(&format!("s{number}"), site.address(), &["--retry", "1s"]);
                site
            })
            .collect();
        homes.push(smarthost);
        Self {
            world,
            ledger,
            tally,
            next: Arc::default(),
            _homes: homes,
        }
    }

    /// Feeders at work until they are stopped.
    pub fn feed(&self, count: usize, gap: Duration) -> Feeders {
        let intake = Intake {
            smtp: self.world.listeners().smtp,
            lmtp: self.world.listeners().lmtp,
            ledger: Arc::clone(&self.ledger),
            next: Arc::clone(&self.next),
            gap,
        };
        Feeders::start(&intake, count)
    }

    /// Waits until nothing waits that can be delivered, and rules on everything so far.
    ///
    /// # Panics
    /// The queue does not drain.
    pub fn settle(&self) -> Judgement {
        let begun = Stopwatch::start();
        self.world.all_known();
        loop {
            let queue = self.world.json(&["queue", "list"]);
            if !queue_flows(&queue) {
                return self
                    .ledger
                    .judge(&recipients(&queue), &self.tally.in_doubt());
            }
            assert!(
                begun.elapsed() < DRAIN,
                "the queue does not drain: {}",
                first_rows(&queue)
            );
            pause(LOOK);
        }
    }
}

/// Whether something waits that is not there for good: what a site has refused stays until its sender can be told.
fn queue_flows(queue: &Value) -> bool {
    rows(queue).any(|row| {
        let mut recipients = row["recipients"].as_array().into_iter().flatten();
        !recipients.all(|it| Answer::of(it.as_str().unwrap_or_default()) == Some(Answer::Refuses))
    })
}

fn recipients(queue: &Value) -> HashSet<String> {
    rows(queue)
        .filter_map(|row| row["recipients"].as_array())
        .flatten()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect()
}

fn rows(queue: &Value) -> impl Iterator<Item = &Value> {
    queue.as_array().into_iter().flatten()
}

fn first_rows(queue: &Value) -> String {
    let rows: Vec<String> = rows(queue).take(5).map(Value::to_string).collect();
    rows.join("\n")
}
