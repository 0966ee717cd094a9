//! The cost table: what is measured, and in which order.

use std::time::Duration;

use serde_json::{Value, json};

use super::generator::Pace;
use super::line::{self, Line, Relayed, Releases};
use super::pairs::{Pair, Pairs};
use super::relay::{self, Round};
use super::server::{Bench, Ours, Security, System, Theirs};
use super::sink::{Row as SinkRow, Sink};
use super::stages::{Staged, Stages};
use super::{Extent, far, figures, instructions, latency, queue, release, syncs};
use crate::loopback;

/// How much of everything there is.
struct Amounts {
    /// Pairs of rounds.
    pairs: usize,
    relay: Duration,
    ceiling: Duration,
    delays: u64,
    waiting: u64,
    far: u64,
    synced: u64,
    /// Whose instructions are counted.
    counted: u64,
}

impl From<Extent> for Amounts {
    fn from(extent: Extent) -> Self {
        match extent {
            Extent::Quick => Self {
                pairs: 3,
                relay: Duration::from_millis(2_500),
                ceiling: Duration::from_millis(500),
                delays: 60,
                waiting: 5_000,
                far: 100,
                synced: 300,
                counted: 200,
            },
            Extent::Full => Self {
                pairs: 7,
                relay: Duration::from_secs(4),
                ceiling: Duration::from_secs(1),
                delays: 160,
                waiting: 50_000,
                far: 400,
                synced: 1_000,
                counted: 600,
            },
        }
    }
}

/// Both servers with their sinks.
struct Field {
    amounts: Amounts,
    // First: its state lies in the world of ours, and ends with that.
    theirs: [Theirs; 2],
    ours: Ours,
    /// With nothing before it.
    bare: Sink,
    row: SinkRow,
}

/// Measures everything. Returns the figures in detail; `tell` hears of each line as it comes.
///
/// # Panics
/// Anything is lost, or does not start.
pub fn run(extent: Extent, mut tell: impl FnMut(&Line)) -> Value {
    let mut measured = |lines: &[Line]| lines.iter().for_each(&mut tell);
    let mut detail = beside_postfix(extent, &mut measured);
    let counted = instructions::count(Amounts::from(extent).counted);
    measured(&[line::instructions(&counted)]);
    detail["instructions"] = instructions::json(&counted);
    let queue = queue::measure(extent);
    measured(&line::queue(&queue));
    detail["long_queue"] = queue.json();
    detail
}

fn beside_postfix(extent: Extent, measured: &mut impl FnMut(&[Line])) -> Value {
    let mut field = Field::start(extent);
    let ceilings: Vec<Round> = (0..field.amounts.pairs).map(|_| field.ceiling()).collect();
    measured(&[line::ceiling(&ceilings)]);
    let mut detail = json!({ "ceiling": figures::ceiling(&ceilings) });
    for security in Security::ALL {
        let relayed = field.relay(security);
        measured(&line::relay(security, &relayed));
        detail["relay"][security.site()] = figures::relayed(&relayed);
    }
    for security in Security::ALL {
        let (delays, staged) = field.delays(security);
        measured(&line::delays(security, &delays, &staged));
        detail["delay"][security.site()] = figures::delays(&delays, &staged);
    }
    let released = field.release();
    measured(&line::releases(&released));
    detail["release"] = figures::releases(&released);
    let over_line = far::per_second(&mut field.ours, &field.row, field.amounts.far);
    measured(&[line::far(over_line)]);
    detail["line_of_30_ms"] = json!({ "per_second_and_session": over_line });
    let synced = field.syncs();
    measured(&[line::syncs(synced)]);
    detail["syncs_per_message"] = json!({ "ours": synced.ours, "postfix": synced.postfix });
    detail
}

impl Field {
    fn start(extent: Extent) -> Self {
        let ours = Ours::start();
        let theirs = Security::ALL.map(|security| Theirs::start(&ours.world, security));
        let row = SinkRow::default();
        Self {
            amounts: extent.into(),
            theirs,
            ours,
            bare: Sink::start(loopback::free_port(), None, &row),
            row,
        }
    }

    fn ceiling(&self) -> Round {
        self.ceiling_of(relay::SESSIONS)
    }

    fn ceiling_of(&self, sessions: u32) -> Round {
        relay::ceiling(&self.bare, &self.row, self.amounts.ceiling, sessions)
    }

    /// A turn of one of them, with its sink at its place and a session open; and what our stages say of it.
    fn turn<T>(
        &mut self,
        system: System,
        security: Security,
        work: impl FnOnce(&Bench, &Sink, &SinkRow) -> T,
    ) -> (T, Staged) {
        let (bench, sink) = match system {
            System::Ours => (
                self.ours.bench(security),
                self.ours.sink(security, &self.row),
            ),
            System::Postfix => {
                let theirs = &self.theirs[usize::from(security == Security::Plain)];
                (theirs.bench(), theirs.sink(&self.ours.world, &self.row))
            }
        };
        let before = Stages::of(&self.ours.world);
        latency::open(&bench, &self.row);
        let open = Stages::of(&self.ours.world);
        let done = work(&bench, &sink, &self.row);
        let staged = Staged {
            opening: open.since(&before),
            flowing: Stages::of(&self.ours.world).since(&open),
        };
        (done, staged)
    }

    fn relay(&mut self, security: Security) -> Relayed {
        let (mut stages, mut ceilings) = (Staged::default(), Vec::new());
        let time = self.amounts.relay;
        let pairs = Pairs::take(self.amounts.pairs, |system| {
            if system == System::Ours {
                ceilings.push(self.ceiling());
            }
            let (round, staged) = self.turn(system, security, |bench, sink, row| {
                relay::round(bench, sink, row, time, Pace::Free)
            });
            stages.add(&staged);
            round
        });
        Relayed {
            pairs,
            ceilings,
            stages,
        }
    }

    fn delays(&mut self, security: Security) -> (Pairs<latency::Delays>, Staged) {
        let mut stages = Staged::default();
        let count = self.amounts.delays;
        let pairs = Pairs::take(self.amounts.pairs.div_ceil(2), |system| {
            let (delays, staged) = self.turn(system, security, |bench, _, row| {
                latency::round(bench, row, count)
            });
            stages.add(&staged);
            delays
        });
        (pairs, stages)
    }

    fn release(&mut self) -> Releases {
        let waiting = self.amounts.waiting;
        let ours = release::ours(&mut self.ours, &self.row, waiting);
        let after_start = release::after_start(&mut self.ours, &self.row, waiting);
        let postfix = release::theirs(&self.ours.world, &self.theirs[0], &self.row, waiting);
        Releases {
            pair: Pair { ours, postfix },
            after_start,
            ceiling: self.ceiling(),
            ceiling_of_sessions: self.ceiling_of(release::SESSIONS),
        }
    }

    fn syncs(&mut self) -> Pair<f64> {
        let count = self.amounts.synced;
        Pair::take(System::Ours, |system| {
            let (syncs, _) = self.turn(system, Security::Verified, |bench, _, row| {
                syncs::for_each_message(bench, row, count)
            });
            syncs
        })
    }
}
