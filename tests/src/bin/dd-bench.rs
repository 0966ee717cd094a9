//! `make bench`: what a message costs, beside Postfix.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dd_tests::bench::line::Line;
use dd_tests::bench::steady::Drift;
use dd_tests::bench::{Extent, disk, instructions, steady, table};
use serde_json::Value;

/// Measures the cost table, beside Postfix in the same run.
#[derive(Debug, Parser)]
struct Args {
    /// Figures as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The whole table.
    Table {
        /// Less of everything: under three minutes.
        #[arg(long)]
        quick: bool,
    },
    /// Half of what is possible for long: memory and descriptors. Fails if they grow.
    Steady {
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Messages a second instead.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Instructions of a message, and the functions that have most of them: what a busy machine does not move.
    Instructions {
        #[arg(long, default_value_t = 1_000)]
        messages: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    disk::check(&std::env::temp_dir())?;
    let (figures, code) = match args.what {
        What::Table { quick } => {
            let extent = match quick {
                true => Extent::Quick,
                false => Extent::Full,
            };
            head(extent);
            let figures = table::run(extent, |line| say(&text(line)));
            (figures, ExitCode::SUCCESS)
        }
        What::Steady { minutes, rate } => run_steady(minutes, rate),
        What::Instructions { messages } => (count_instructions(messages), ExitCode::SUCCESS),
    };
    if let Some(path) = args.json {
        write(&path, &figures)?;
    }
    Ok(code)
}

fn run_steady(minutes: u64, rate: Option<f64>) -> (Value, ExitCode) {
    say("seconds   arrived   controller MiB, descriptors   agent MiB, descriptors");
    let steady = steady::run(Duration::from_secs(minutes * 60), rate, |look| {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        say(&format!(
            "{:7.0} {:9} {:16.1} {:12} {:11.1} {:12}",
            look.at.as_secs_f64(),
            look.arrived,
            mib(look.controller.memory),
            look.controller.descriptors,
            mib(look.agent.memory),
            look.agent.descriptors,
        ));
    });
    for drift in &steady.drifts {
        let verdict = match drift.is_flat() {
            true => "flat",
            false => "NOT FLAT",
        };
        let (what, first, last) = (drift.what, drift.first, drift.last);
        say(&format!("{what:24} {first:12.0} → {last:12.0}  {verdict}"));
    }
    let code = match steady.drifts.iter().all(Drift::is_flat) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    (steady.json, code)
}

fn count_instructions(messages: u64) -> Value {
    let counted = instructions::count(messages);
    for program in &counted {
        say(&format!(
            "{}: {:.0} instructions of a message",
            program.program, program.each
        ));
        for (title, functions) in [
            ("  of their own", &program.own),
            ("  with what they call", &program.with_calls),
        ] {
            say(title);
            for hot in functions {
                say(&format!("  {:6.2} %  {}", hot.part * 100.0, hot.function));
            }
        }
    }
    instructions::json(&counted)
}

fn head(extent: Extent) {
    let amount = match extent {
        Extent::Quick => "a quick look",
        Extent::Full => "the whole table",
    };
    say(&format!(
        "{amount}; both servers durable, in turn, with one agent; rates move with the machine's load"
    ));
    say(&format!(
        "{:60} {:>12} {:>12} {:>14}",
        "", "ours", "Postfix", "ratio"
    ));
}

fn text(line: &Line) -> String {
    let met = match line.met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    let Line {
        what,
        bar,
        ours,
        postfix,
        ratio,
        limit,
        ..
    } = line;
    if ours.is_empty() {
        return format!("{what}: {limit}");
    }
    format!("{what:60} {ours:>12} {postfix:>12} {ratio:>14}  {met:8}{bar:42}{limit}")
}

fn write(path: &Path, figures: &Value) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
    }
    fs::write(path, format!("{figures:#}\n")).with_context(|| format!("{}", path.display()))?;
    say(&format!("figures: {}", path.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn say(text: &str) {
    println!("{text}");
}
