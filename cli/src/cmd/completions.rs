//! `ddadm completions`: what a shell completes.

use clap::CommandFactory as _;
use clap_complete::{Shell as Complete, generate};

use crate::args::{Args, Shell};
use crate::failure::{Exit, Failure};
use crate::output::Printer;

pub(crate) fn run(shell: Shell, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let shell = match shell {
        Shell::Bash => Complete::Bash,
        Shell::Zsh => Complete::Zsh,
        Shell::Fish => Complete::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Args::command(), "ddadm", &mut script);
    printer.raw(&script)?;
    Ok(Exit::Done)
}
