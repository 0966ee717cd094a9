//! `make measure`: figures for docs/reliability.md, as JSON.

use clap::{Parser, Subcommand};
use dd_tests::measure::{cleaning, dead_sites, index};

/// Measures what is promised of starts, of the disk, and of sites that are dead.
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
    DeadSites(dead_sites::Size),
}

fn main() {
    let figures = match Args::parse().what {
        What::Index { messages } => index::run(messages),
        What::Cleaning => cleaning::run(),
        What::DeadSites(size) => dead_sites::run(size),
    };
    say(&format!("{figures:#}"));
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn say(text: &str) {
    println!("{text}");
}
