//! Whether an agent keeps the contract, whoever wrote it and in what language.
//!
//! It is a provider on loopback: the real controller, home mail servers that do what a case tells them, a name service and
//! an authority. It starts the agent by a command line, and kills it now and then.
//!
//! # Invariants
//! It ends with 0 only if every case that was asked for has passed.

use std::process::ExitCode;

use clap::Parser;
use dd_tests::conform::stranger::{PLACEHOLDERS, unknown_placeholder};
use dd_tests::conform::{CASES, Case, Verdict, run_all};

/// Runs an agent through the cases of docs/agent-protocol.md, each in a world of its own on loopback.
#[derive(Debug, Parser)]
#[command(after_help = help())]
struct Args {
    /// How the agent is started: a command for the shell, with placeholders
    #[arg(long, value_name = "COMMAND", required_unless_present = "list")]
    run: Option<String>,
    /// Only cases whose name holds this; may be given again
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many cases at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,
    /// Say what cases there are, and the sentence of the protocol that each stands for
    #[arg(long)]
    list: bool,
}

fn help() -> String {
    let mut text = "Placeholders in COMMAND, each put in as one word of the shell:\n".to_owned();
    for (word, meaning) in PLACEHOLDERS {
        text.push_str(&format!("  {word:<14}{meaning}\n"));
    }
    text.push_str(
        "\nThe agent runs in the foreground; what it writes to standard error is shown when a case fails. Our own passes with\n  \
         dd-conform --run 'target/release/dd-agent --config {config} --join-file {token_file}'\n",
    );
    text
}

fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = |case: &&Case| {
        args.only.is_empty()
            || args
                .only
                .iter()
                .any(|name| case.name.contains(name.as_str()))
    };
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    let Some(recipe) = args.run.filter(|_| !args.list) else {
        for case in cases {
            say(&format!("{}\n      {}", case.name, case.sentence));
        }
        return ExitCode::SUCCESS;
    };
    if let Some(word) = unknown_placeholder(&recipe) {
        say(&format!(
            "{word} in --run stands for nothing: --help lists what does"
        ));
        return ExitCode::from(2);
    }
    if cases.is_empty() {
        say("no case has such a name: --list says which there are");
        return ExitCode::from(2);
    }
    // A failed case says so in its line; the place in our source is of no use to anybody.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = run_all(&cases, &recipe, args.jobs, tell);
    say(&format!(
        "{} of {} passed",
        cases.len() - failed,
        cases.len()
    ));
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn tell(case: &Case, verdict: &Verdict) {
    match verdict {
        Ok(()) => say(&format!("pass  {}: {}", case.name, case.sentence)),
        Err(why) => say(&format!(
            "FAIL  {}: {}\n      {why}",
            case.name, case.sentence
        )),
    }
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
