//! Power cuts at chosen moments under load: everything that was not synced is gone.
//!
//! The programs get their SIGKILL an instant before the disk stops, as a processor without power would: a sync that is under way
//! then is cut in the middle, but nobody hears how it ended. (A sync that waits for the journal while ext4 is shut down can
//! return success for what is lost. No power cut does that, so it must not be blamed on whoever believed it.)
//!
//! # Not here
//! Disks that report errors and go on: those are the faults.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::aim::{Aim, Snapshot};
use super::disk::{Disk, Unavailable};
use super::kills::Outcome;
use super::registrar::Registrar;
use super::{Setting, Trial};
use crate::wait::{Stopwatch, pause};

/// Loaded before the controller's own libraries, Debian's eatmydata makes every sync do nothing and say that it was done.
pub const NO_SYNC: &str = "libeatmydata.so";

const DISK_BYTES: u64 = 1 << 30;
/// The index is deleted at one restart in so many.
const INDEX_GOES_EACH: u64 = 20;

/// How many cuts, and of what.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub cuts: u64,
    /// Cuts between two judgements.
    pub round: u64,
    pub feeders: usize,
    /// Between two letters of a feeder.
    pub gap: Duration,
    /// The world runs at most so long between two cuts.
    pub longest: Duration,
    pub machine: Machine,
    /// Set for the controller.
    pub environment: Vec<(String, String)>,
    /// Gets every line that every program logs.
    pub log: Option<PathBuf>,
}

/// What stands on the machine that loses its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    Controller,
    /// The agents too: here a duplicate may be unmarked, for their journals may lack their ends.
    Everything,
}

/// Runs a plan to its end, or to the first judgement that does not hold. `tell` is told of each round.
///
/// # Errors
/// There can be no such disk here.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str)) -> Result<Outcome, Unavailable> {
    let begun = Stopwatch::start();
    let disk = Disk::new(DISK_BYTES)?;
    let mut cutting = Cutting::start(plan, disk);
    let registrar = Registrar::start(cutting.trial.world.ddadm());
    let mut cuts = 0;
    loop {
        let round = plan.round.min(plan.cuts - cuts);
        cutting.round(&registrar, plan, round);
        cuts += round;
        let mut judgement = cutting.trial.settle();
        if plan.machine == Machine::Everything {
            let unmarked = judgement.duplicates_unmarked.drain(..).count() as u64;
            let name = "duplicates nobody can mark";
            cutting.trial.tally.set(name, unmarked);
        }
        tell(&format!(
            "{cuts} of {} cuts in {:.0} s: {judgement}",
            plan.cuts,
            begun.elapsed().as_secs_f64(),
        ));
        if cuts >= plan.cuts || !judgement.holds() {
            drop(registrar);
            let Cutting {
                mut trial, faults, ..
            } = cutting;
            trial.world.kill_controller();
            return Ok(Outcome {
                trial,
                judgement,
                faults,
                took: begun.elapsed(),
            });
        }
    }
}

struct Cutting {
    trial: Trial,
    disk: Disk,
    rng: StdRng,
    restarts: u64,
    machine: Machine,
    faults: Vec<String>,
}

impl Cutting {
    fn start(plan: &Plan, disk: Disk) -> Self {
        let setting = Setting {
            controller_state: Some(disk.path().join("controller")),
            agents_state: match plan.machine {
                Machine::Controller => None,
                Machine::Everything => Some(disk.path().to_owned()),
            },
            log: plan.log.clone(),
            ..Setting::new(plan.seed)
        };
        let mut trial = Trial::start(&setting);
        if !plan.environment.is_empty() {
            // From here on, so that the set-up itself is on the disk whatever the library does.
            trial.world.layout.environment.clone_from(&plan.environment);
            trial.world.stop_controller();
            disk.sync();
            trial.world.start_controller();
        }
        Self {
            trial,
            disk,
            rng: StdRng::seed_from_u64(plan.seed),
            restarts: 0,
            machine: plan.machine,
            faults: Vec::new(),
        }
    }

    fn round(&mut self, registrar: &Registrar, plan: &Plan, cuts: u64) {
        let feeders = self.trial.feed(plan.feeders, plan.gap);
        for _ in 0..cuts {
            pause(self.rng.random_range(Duration::ZERO..plan.longest));
            let acknowledged = self.cut(registrar);
            self.restart();
            let missing = registrar.missing(&self.trial.world, acknowledged);
            self.faults.extend(missing);
        }
        feeders.stop();
    }

    /// Cuts the power at a moment that chance has chosen; gives the changes that were acknowledged before.
    fn cut(&mut self, registrar: &Registrar) -> u64 {
        let aim = Aim::choose(&mut self.rng);
        let delay = self.rng.random_range(Duration::ZERO..aim.spread());
        let state = self.trial.world.controller_state();
        let switch = self.disk.arm();
        let hit = aim.wait(&state, &mut self.trial.world, registrar);
        pause(delay);
        let before = Snapshot::of(&state);
        let acknowledged = registrar.acknowledged();
        self.strike();
        aim.press(&state, &mut self.rng);
        switch.cut();
        self.trial.tally.add("power cuts", 1);
        if hit {
            self.trial.tally.add(aim.name(), 1);
        }
        self.trial.world.kill_controller();
        if self.machine == Machine::Everything {
            for agent in ["out1", "out2"] {
                self.trial.world.kill_agent(agent);
            }
        }
        self.disk.plug_in();
        before.compare(&Snapshot::of(&state), &self.trial.tally);
        acknowledged
    }

    fn strike(&mut self) {
        self.trial.world.controller().strike();
        if self.machine == Machine::Everything {
            for agent in ["out1", "out2"] {
                self.trial.world.agent(agent).strike();
            }
        }
    }

    fn restart(&mut self) {
        self.restarts += 1;
        if self.restarts.is_multiple_of(INDEX_GOES_EACH) {
            let index = self.trial.world.controller_state().join("index");
            if index.exists() {
                fs::remove_dir_all(index).expect("the index of a controller that is down can go");
            }
            self.trial.tally.add("deletions of the index", 1);
        }
        self.trial.world.start_controller();
        if self.machine == Machine::Everything {
            for agent in ["out1", "out2"] {
                self.trial.world.start_agent(agent);
            }
        }
    }
}
