//! `make crash`: kills controller and agents under load, again and again, and looks for what was lost.
//!
//! # Invariants
//! It ends with 0 only if every promise was kept.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dd_tests::trial::kills::{self, Plan};

/// Kills a provider's programs at random moments while mail flows, and checks that nothing acknowledged is lost.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often something is killed.
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// Kills between two judgements.
    #[arg(long, default_value_t = 50)]
    round: u64,
    #[arg(long, default_value_t = 6)]
    feeders: usize,
    /// Milliseconds between two letters of a feeder.
    #[arg(long, default_value_t = 10)]
    gap_ms: u64,
    /// Milliseconds between two kills, at most.
    #[arg(long, default_value_t = 1_500)]
    longest_ms: u64,
    /// Writes the summary there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes what all programs log there.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = Plan {
        seed: args.seed,
        kills: args.kills,
        round: args.round,
        feeders: args.feeders,
        gap: Duration::from_millis(args.gap_ms),
        longest: Duration::from_millis(args.longest_ms),
        log: args.log.clone(),
    };
    let outcome = kills::run(&plan, say);
    let summary = outcome.summary("kill -9", args.seed);
    say(&summary.table());
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", summary.json()))
            .expect("the summary can be written");
    }
    if summary.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(
    clippy::print_stdout,
    reason = "progress and summary are what this is for"
)]
fn say(text: &str) {
    println!("{text}");
}
