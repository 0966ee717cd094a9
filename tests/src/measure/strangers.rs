//! What honest clients feel of strangers: times beside those alone, and the controller's memory.
//!
//! For each trick there are two worlds, one that strangers come to and one that they leave alone, measured by turns: so
//! what else the machine has to do meanwhile falls on both. Compared are the medians of the 95th percentiles of the turns.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::latency::Latencies;
use crate::secure::{Member, code};
use crate::site::Site;
use crate::strangers::{self, Attack, Trick};
use crate::submit::message;
use crate::wait::{Stopwatch, pause};
use crate::world::World;

const PASSWORD: &str = "correct horse battery";
/// A member's address, which no stranger has.
const MEMBER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// One member asks for his mail only so often; this many ask in turn.
const MEMBERS: usize = 5;
/// An agent takes its time to start, so that there are fewer of its attaches than of the others.
const ATTACHES: usize = 5;
/// What strangers did just before a turn without them is over by then.
const CALM: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Size {
    /// These tricks only.
    #[arg(long)]
    trick: Vec<Trick>,
    /// Turns with strangers, and as many without.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How often each client is measured in a turn.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
}

/// # Panics
/// An honest client is not served.
pub fn run(size: &Size) -> Value {
    let tricks: &[Trick] = match size.trick.as_slice() {
        [] => &Trick::ALL,
        some => some,
    };
    let figures = tricks
        .iter()
        .map(|trick| (format!("{trick:?}"), one(*trick, size)));
    figures.collect::<Map<_, _>>().into()
}

fn one(trick: Trick, size: &Size) -> Value {
    let (mut alone, mut beside) = (Place::new(), Place::new());
    // What is done for the first time is not counted: pages are read, sessions opened, and each member is seen at an address
    // that is known for its own from then on.
    let (_, _) = (alone.turn(MEMBERS), beside.turn(MEMBERS));
    let (mut opened, mut lasted) = (0, 0.0);
    for turn in 0..2 * size.pairs {
        // What comes first is not always the same.
        if matches!(turn % 4, 0 | 3) {
            pause(CALM);
            let times = alone.turn(size.rounds);
            alone.times.add(times);
            continue;
        }
        let attack = Attack::start(trick, &beside.world);
        attack.has_risen();
        let (before, watch) = (attack.opened(), Stopwatch::start());
        let times = beside.turn(size.rounds);
        beside.times.add(times);
        opened += attack.opened() - before;
        lasted += watch.elapsed().as_secs_f64();
    }
    let mut figures = Map::new();
    let clients = alone.times.by_client().into_iter();
    for ((client, alone), (_, beside)) in clients.zip(beside.times.by_client()) {
        let figure = json!({
            "alone_p95_ms": alone,
            "beside_p95_ms": beside,
            "ratio": beside / alone,
        });
        figures.insert(client.to_owned(), figure);
    }
    let (alone, beside) = (alone.memory(), beside.memory());
    figures.insert(
        "controller_peak_mib".to_owned(),
        json!({ "alone": alone, "beside": beside, "ratio": beside / alone }),
    );
    figures.insert(
        "strangers_connections_per_second".to_owned(),
        (f64::from(opened) / lasted).into(),
    );
    figures.into()
}

/// A world with a home, and what its honest clients were measured at.
struct Place {
    world: World,
    times: Times,
    _homes: Vec<Site>,
}

/// The 95th percentile of each turn, for each client.
#[derive(Debug, Default)]
struct Times {
    feeder: Vec<f64>,
    etrn: Vec<f64>,
    wget: Vec<f64>,
    attach: Vec<f64>,
}

impl Times {
    fn add(&mut self, turn: Self) {
        self.feeder.extend(turn.feeder);
        self.etrn.extend(turn.etrn);
        self.wget.extend(turn.wget);
        self.attach.extend(turn.attach);
    }

    fn by_client(&self) -> [(&'static str, f64); 4] {
        [
            ("feeder_250", median(&self.feeder)),
            ("member_etrn", median(&self.etrn)),
            ("member_wget", median(&self.wget)),
            ("agent_attach", median(&self.attach)),
        ]
    }
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Place {
    fn new() -> Self {
        let world = strangers::world();
        let homes = (0..MEMBERS).map(|member| {
            let home = world.home(&site(member), &["--retry", "1s"]);
            world.set_password(&site(member), PASSWORD);
            home
        });
        let homes = homes.collect();
        Self {
            world,
            times: Times::default(),
            _homes: homes,
        }
    }

    /// In MiB.
    fn memory(&mut self) -> f64 {
        self.world.controller().peak_memory() as f64 / f64::from(1 << 20)
    }

    fn turn(&mut self, rounds: usize) -> Times {
        let world = &mut self.world;
        let text = message("measured");
        let mut attach = Vec::new();
        for _ in 0..rounds.div_ceil(ATTACHES) {
            world.kill_agent("out1");
            let watch = Stopwatch::start();
            world.start_agent("out1");
            let _ = world.agent("out1").log_line("attached");
            attach.push(1000.0 * watch.elapsed().as_secs_f64());
        }
        let p95 = |of: &dyn Fn(&str)| {
            let times = (0..rounds).map(|round| {
                let site = site(round % MEMBERS);
                let watch = Stopwatch::start();
                of(&site);
                1000.0 * watch.elapsed().as_secs_f64()
            });
            vec![Latencies::of(times.collect()).at(95)]
        };
        Times {
            feeder: p95(&|site| {
                let mut client = world.smtp();
                client.send("a@b.example", &format!("me@{site}.example"), &text);
            }),
            etrn: p95(&|site| etrn(world, site)),
            wget: p95(&|site| wget(world, site)),
            attach: vec![Latencies::of(attach).at(95)],
        }
    }
}

fn site(member: usize) -> String {
    format!("home-{member}")
}

fn etrn(world: &World, site: &str) {
    use base64::Engine as _;
    let login = format!("\0{site}\0{PASSWORD}");
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let mut member = Member::connect(world.listeners().smtp, MEMBER, &world.provider, None);
    assert_eq!(code(&member.say(&format!("AUTH PLAIN {login}"))), 235);
    let answer = member.say(&format!("ETRN {site}.example"));
    assert!((250..=253).contains(&code(&answer)), "{answer}");
}

fn wget(world: &World, site: &str) {
    let output = Command::new("wget")
        .args(["-q", "-O", "/dev/null"])
        .arg(format!("--http-user={site}"))
        .arg(format!("--bind-address={MEMBER}"))
        .arg(format!("--http-password={PASSWORD}"))
        .arg(world.url("/etrn"))
        .output()
        .expect("wget can be run");
    assert!(output.status.success(), "{output:?}");
}
