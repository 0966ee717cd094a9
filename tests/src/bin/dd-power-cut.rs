//! `make power-cut`: cuts the power under a loaded controller, again and again, and looks for what was lost.
//!
//! # Invariants
//! It ends with 0 only if every promise was kept; with `--without-sync` only if mail was lost, for that shows that a
//! missing sync would be found. It needs root and loop devices, and says so where there are none.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dd_tests::trial::power::{self, Machine, NO_SYNC, Plan};

/// Cuts the power of a provider's machine at chosen moments while mail flows, and checks that nothing acknowledged is lost.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 500)]
    cuts: u64,
    /// Cuts between two judgements.
    #[arg(long, default_value_t = 50)]
    round: u64,
    #[arg(long, default_value_t = 6)]
    feeders: usize,
    /// Milliseconds between two letters of a feeder.
    #[arg(long, default_value_t = 10)]
    gap_ms: u64,
    /// Milliseconds between two cuts, at most, before the moment is waited for.
    #[arg(long, default_value_t = 800)]
    longest_ms: u64,
    /// The agents stand on the same machine.
    #[arg(long)]
    with_agents: bool,
    /// Turns the controller's syncs off, to prove that this test finds what is lost.
    #[arg(long)]
    without_sync: bool,
    /// Writes the summary there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes what all programs log there.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match power::run(&args.plan(), say) {
        Ok(outcome) => outcome,
        Err(unavailable) => {
            say(&format!("no power can be cut here: {unavailable}"));
            return ExitCode::FAILURE;
        }
    };
    let summary = outcome.summary(args.name(), args.seed);
    say(&summary.table());
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", summary.json()))
            .expect("the summary can be written");
    }
    let as_it_must_be = match args.without_sync {
        true => !outcome.judgement.lost.is_empty(),
        false => summary.holds(),
    };
    if as_it_must_be {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Args {
    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            cuts: self.cuts,
            round: self.round,
            feeders: self.feeders,
            gap: Duration::from_millis(self.gap_ms),
            longest: Duration::from_millis(self.longest_ms),
            log: self.log.clone(),
            machine: match self.with_agents {
                true => Machine::Everything,
                false => Machine::Controller,
            },
            environment: match self.without_sync {
                true => vec![("LD_PRELOAD".to_owned(), NO_SYNC.to_owned())],
                false => Vec::new(),
            },
        }
    }

    fn name(&self) -> &'static str {
        match (self.without_sync, self.with_agents) {
            (true, _) => "power cuts, without sync (mail must be lost)",
            (false, true) => "power cuts that take the agents too",
            (false, false) => "power cuts",
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "progress and summary are what this is for"
)]
fn say(text: &str) {
    println!("{text}");
}
