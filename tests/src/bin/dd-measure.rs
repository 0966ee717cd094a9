//! `make measure`: figures for docs/reliability.md, as JSON.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use dd_tests::measure::{
    cleaning, homes, hostile, index, line, long_queue, silent_line, strangers, unheard, unreadable,
};

/// Measures what is promised of starts, of the disk, of sites that are dead, of long lines, and of strangers.
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
    /// Homes that are silent, slow or rude, beside a good one on the same agent.
    Hostile {
        #[arg(long, default_value_t = 100)]
        homes: usize,
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// How soon each of them is tried again.
        #[arg(long, default_value = "3m")]
        retry: String,
    },
    /// The home servers of the tests, each put through what a year brings.
    Homes,
    /// The same with one that runs already.
    Home {
        #[arg(long)]
        at: SocketAddr,
        /// A mailbox that it has.
        #[arg(long)]
        user: String,
        /// One of the same domain that it does not have.
        #[arg(long)]
        unknown: Option<String>,
    },
    /// A member asks for his mail at a new address while the connection to the old one is silent.
    SilentLine,
    /// What honest clients feel of strangers at the doors, beside the same alone.
    Strangers(strangers::Size),
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
    /// A start with a part of a file that cannot be read, for each kind of file.
    Unreadable,
}

fn main() {
    let figures = match Args::parse().what {
        What::Index { messages } => index::run(messages),
        What::Cleaning => cleaning::run(),
        What::DeadSites(size) => long_queue::run(size),
        What::Hostile {
            homes,
            pairs,
            retry,
        } => hostile::run(homes, pairs, &retry),
        What::Homes => homes::all(),
        What::Home { at, user, unknown } => homes::run(&homes::Home {
            address: at,
            user,
            unknown,
        }),
        What::SilentLine => silent_line::run(),
        What::Strangers(size) => strangers::run(&size),
        What::Line {
            round_trip_ms,
            messages,
        } => line::run(Duration::from_millis(round_trip_ms), messages),
        What::Unheard { seconds } => unheard::run(seconds),
        What::Unreadable => unreadable::run(),
    };
    say(&format!("{figures:#}"));
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn say(text: &str) {
    println!("{text}");
}
