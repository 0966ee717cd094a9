//! `kill -9` at random moments under load.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::ledger::Judgement;
use super::registrar::Registrar;
use super::summary::Summary;
use super::{Setting, Trial};
use crate::wait::{Stopwatch, pause};

/// The index is deleted at one restart of the controller in so many.
const INDEX_GOES_EACH: u64 = 20;

/// How many kills, and how hard the world works between them.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub kills: u64,
    /// Kills between two judgements.
    pub round: u64,
    pub feeders: usize,
    /// Between two letters of a feeder.
    pub gap: Duration,
    /// The world runs at most so long between two kills.
    pub longest: Duration,
    /// Gets every line that every program logs.
    pub log: Option<PathBuf>,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Controller,
    Agent(&'static str),
    Both,
    /// SIGTERM to the controller: a clean stop between the kills.
    Stop,
}

/// A trial that is over, whatever it came to.
#[derive(Debug)]
pub struct Outcome {
    pub trial: Trial,
    pub judgement: Judgement,
    pub faults: Vec<String>,
    pub took: Duration,
}

impl Outcome {
    pub fn summary<'a>(&'a self, name: &'a str, seed: u64) -> Summary<'a> {
        Summary {
            name,
            seed,
            took: self.took,
            judgement: &self.judgement,
            tally: &self.trial.tally,
            faults: &self.faults,
        }
    }
}

/// Runs a plan to its end, or to the first judgement that does not hold. `tell` is told of each round.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str)) -> Outcome {
    let begun = Stopwatch::start();
    let mut killing = Killing {
        trial: Trial::start(&Setting {
            log: plan.log.clone(),
            ..Setting::new(plan.seed)
        }),
        rng: StdRng::seed_from_u64(plan.seed),
        restarts: 0,
        faults: Vec::new(),
    };
    let registrar = Registrar::start(killing.trial.world.ddadm());
    let mut kills = 0;
    loop {
        kills += killing.round(&registrar, plan, plan.round.min(plan.kills - kills));
        let judgement = killing.trial.settle();
        tell(&format!(
            "{kills} of {} kills in {:.0} s: {judgement}",
            plan.kills,
            begun.elapsed().as_secs_f64(),
        ));
        if kills >= plan.kills || !judgement.holds() {
            return Outcome {
                trial: killing.trial,
                judgement,
                faults: killing.faults,
                took: begun.elapsed(),
            };
        }
    }
}

struct Killing {
    trial: Trial,
    rng: StdRng,
    restarts: u64,
    faults: Vec<String>,
}

impl Killing {
    /// So many kills under load; returns how many there were.
    fn round(&mut self, registrar: &Registrar, plan: &Plan, kills: u64) -> u64 {
        let feeders = self.trial.feed(plan.feeders, plan.gap);
        let mut done = 0;
        while done < kills {
            pause(self.rng.random_range(Duration::ZERO..plan.longest));
            let victim = self.victim();
            let acknowledged = registrar.acknowledged();
            self.fell(victim);
            if victim != Victim::Stop {
                done += 1;
            }
            self.faults
                .extend(registrar.missing(&self.trial.world, acknowledged));
        }
        feeders.stop();
        done
    }

    fn victim(&mut self) -> Victim {
        match self.rng.random_range(0..100) {
            0..40 => Victim::Controller,
            40..55 => Victim::Agent("out1"),
            55..70 => Victim::Agent("out2"),
            70..90 => Victim::Both,
            _ => Victim::Stop,
        }
    }

    /// Ends the victims and starts them again.
    fn fell(&mut self, victim: Victim) {
        let agent = ["out1", "out2"][self.rng.random_range(0..2)];
        let world = &mut self.trial.world;
        if !world.controller().runs() {
            let tail = world.controller().tail();
            self.faults
                .push(format!("the controller had ended by itself: {tail}"));
        }
        let name = match victim {
            Victim::Controller => "kills of the controller",
            Victim::Agent(_) => "kills of an agent",
            Victim::Both => "kills of both",
            Victim::Stop => "clean stops",
        };
        self.trial.tally.add(name, 1);
        match victim {
            Victim::Controller => world.kill_controller(),
            Victim::Agent(name) => world.kill_agent(name),
            Victim::Both => {
                world.kill_controller();
                world.kill_agent(agent);
            }
            Victim::Stop => world.stop_controller(),
        }
        match victim {
            Victim::Agent(name) => return world.start_agent(name),
            Victim::Both => world.start_agent(agent),
            Victim::Controller | Victim::Stop => {}
        }
        self.restart();
    }

    fn restart(&mut self) {
        self.restarts += 1;
        if self.restarts.is_multiple_of(INDEX_GOES_EACH) {
            let index = self.trial.world.controller_state().join("index");
            fs::remove_dir_all(index).expect("the index of a controller that is down can go");
            self.trial.tally.add("deletions of the index", 1);
        }
        self.trial.world.start_controller();
    }
}
