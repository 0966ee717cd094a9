//! `ddadm`: administers a controller.
//!
//! [`run`] reads the command line, makes the call and prints the answer. Each noun has a file in `cmd/`: arguments in,
//! one call (rarely two), an [`output::Answer`] out. What people script against is in the flags (`args`), the exit
//! codes ([`failure::Exit`]) and the JSON (the view structs beside each command).
//!
//! # Invariants
//! With `--output json` standard output gets exactly one JSON value, or nothing. A failure is one line on standard
//! error that says what to do. Nothing that came from the network reaches a terminal as a control character.
//!
//! # Not here
//! Any decision about mail or sites: the controller makes those, and answers in sentences that are passed on.

mod args;
mod client;
mod cmd;
pub mod failure;
mod files;
mod identity;
mod output;

use std::ffi::OsString;
use std::io::{Read, Write};

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::queue::QueueVerb;
use crate::args::{Args, Noun, RegistryVerb};
use crate::client::Controller;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Output, Printer};

pub use crate::output::Stdout;

/// Runs one command line and says how it ended. Only writes what it prints to `stdout` and `stderr`.
pub async fn run(
    arguments: impl IntoIterator<Item = OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stdout_is: Stdout,
    stderr: &mut dyn Write,
) -> Exit {
    let mut printer = Printer::new(stdout, stdout_is, stderr);
    let parsed = Args::command().try_get_matches_from(arguments);
    let parsed = parsed.and_then(|it| Args::from_arg_matches(&it).map(|args| (args, it)));
    let (mut args, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return printer.usage(&error),
    };
    let controller = match args.connection.settle(&matches) {
        Ok(()) => Controller::new(args.connection),
        Err(failure) => Err(failure),
    };
    let controller = match controller {
        Ok(controller) => controller,
        Err(failure) => return printer.failure(&failure),
    };
    let ended = carried_out(args.noun, args.output, &controller, stdin, &mut printer).await;
    for notice in controller.notices() {
        printer.notice(&notice);
    }
    match ended {
        Ok(exit) => exit,
        Err(failure) => printer.failure(&failure),
    }
}

/// Most commands have one answer; what may be longer than memory, or has no end, is printed as it comes.
async fn carried_out(
    noun: Noun,
    output: Output,
    controller: &Controller,
    stdin: &mut dyn Read,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    match noun {
        Noun::Registry {
            verb: RegistryVerb::Export,
        } => cmd::registry::export(controller, printer, output).await,
        Noun::Queue {
            verb: QueueVerb::Content { id },
        } => cmd::content::run(id, controller, printer, output).await,
        Noun::Watch { site } => cmd::watch::run(site, controller, printer, output).await,
        Noun::Completions { shell } => cmd::completions::run(shell, printer),
        Noun::Man { out } => cmd::man::run(&out),
        noun => {
            let answer = answer(noun, controller, stdin).await?;
            Ok(printer.answer(&answer, output))
        }
    }
}

async fn answer(
    noun: Noun,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    match noun {
        Noun::Site { verb } => cmd::site::run(verb, controller, stdin).await,
        Noun::Etrn(etrn) => cmd::etrn::run(etrn, controller).await,
        Noun::Queue { verb } => cmd::queue::run(verb, controller, stdin).await,
        Noun::Agent { verb } => cmd::agent::run(verb, controller).await,
        Noun::Admin { verb } => cmd::admin::run(verb, controller).await,
        Noun::Ca { verb } => cmd::ca::run(verb, controller).await,
        Noun::Cert { verb } => cmd::cert::run(verb, controller).await,
        Noun::Clock { verb } => cmd::clock::run(verb, controller).await,
        Noun::Registry { verb } => cmd::registry::run(verb, controller, stdin).await,
        Noun::Watch { .. } => unreachable!("it has no end, see `carried_out`"),
        Noun::Completions { .. } | Noun::Man { .. } => {
            unreachable!("they ask no controller, see `carried_out`")
        }
        Noun::Audit { last } => cmd::audit::run(last, controller).await,
        Noun::Status => cmd::status::run(controller).await,
        Noun::Config { changed } => cmd::config::run(changed, controller).await,
        Noun::Report { site } => cmd::report::run(site, controller).await,
    }
}
