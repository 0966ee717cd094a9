//! `make measure`: figures for docs/reliability.md, as JSON.

use std::time::Duration;

use clap::{Parser, Subcommand};
use dd_tests::measure::{cleaning, index, line, long_queue, unheard};

/// Measures what is promised of starts, of the disk, of sites that are dead, and of long lines.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A start without an index, with a long queue.
    Index {
        #[arg(long, default_value_t = 100_000)]
        messages: usize,
    },
    /// Disk used by the log under a steady load, beside what lives in it.
    Cleaning,
    /// Dead sites with mail, half refusing and half swallowing connects, beside a live one.
    DeadSites(long_queue::Size),
    /// Messages a second on one session over a line with a delay.
    Line {
        #[arg(long, default_value_t = 30)]
        round_trip_ms: u64,
        #[arg(long, default_value_t = 300)]
        messages: usize,
    },
    /// How long mail takes, and a stop, while nobody reads the programs' logs.
    Unheard {
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
}

fn main() {
    let figures = match Args::parse().what {
        What::Index { messages } => index::run(messages),
        What::Cleaning => cleaning::run(),
        What::DeadSites(size) => long_queue::run(size),
        What::Line {
            round_trip_ms,
            messages,
        } => line::run(Duration::from_millis(round_trip_ms), messages),
        What::Unheard { seconds } => unheard::run(seconds),
    };
    say(&format!("{figures:#}"));
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn say(text: &str) {
    println!("{text}");
}
