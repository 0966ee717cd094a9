//! `dd-controller`: command line and log; the rest is the library.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use dd_controller::credentials::hashed_at_once;
use dd_controller::lines::Log;
use dd_controller::store::RebuildIndex;
use dd_controller::{events, ledger};
use dd_log::fields::Fields;
use dd_log::journal::Entries;
use dd_log::utc::Utc;
use dd_log::{Lines, Way};
use dd_service::command_line::Controller as Args;
use dd_service::sockets::Passed;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Small pieces come and go on every thread, for months: glibc's takes twice the time for them, and gives less back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that wait for the disk, beside those that hash passwords. More of them read no faster, and each
/// keeps memory of its own: with tokio's 512 a restart with a thousand large messages took 4.7 GB.
const DISK_THREADS: usize = 8;

fn main() -> ExitCode {
    let args = Args::parse();
    // Before the first thread, for it clears the environment.
    let passed = Passed::from_environment();
    let way = Way::of_this_process();
    let journal = matches!(way, Way::Journal(_));
    // Where there is no thread to be had there is nothing to be said either.
    let Ok(lines) = Lines::to(way) else {
        return ExitCode::FAILURE;
    };
    let started = passed.map_err(anyhow::Error::new);
    let ended = started.and_then(|passed| start(&args, &lines, journal, passed));
    if let Err(error) = &ended {
        lines.say(&format!("dd-controller: {}", dd_log::chain(&**error)));
    }
    lines.flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `ok`, or the first thing that is wrong.
fn check(path: &Path) -> anyhow::Result<()> {
    // Sockets want a runtime, also where nobody is served.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { dd_controller::check_all(path) })?;
    Ok(writeln!(io::stdout(), "ok")?)
}

fn start(args: &Args, lines: &Lines<Way>, journal: bool, passed: Passed) -> anyhow::Result<()> {
    if args.check {
        return check(&args.config);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let written = tracing_subscriber::fmt::layer()
        .with_writer(Log(lines.clone()))
        .with_timer(Utc)
        .fmt_fields(Fields)
        .with_ansi(false)
        // That could only be said where it has just failed.
        .log_internal_errors(false);
    let written = match journal {
        true => written.event_format(Entries("dd-controller")).boxed(),
        false => written.boxed(),
    };
    let written = written.with_filter(filter);
    tracing_subscriber::registry()
        .with(written)
        .with(events::layer())
        .with(ledger::layer())
        .init();
    let rebuild = match args.rebuild_index {
        true => RebuildIndex::Yes,
        false => RebuildIndex::No,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS + hashed_at_once())
        .build()?;
    let ended = runtime.block_on(dd_controller::run(&args.config, rebuild, passed));
    // Nothing that still blocks may hold up the end: after an error least of all.
    runtime.shutdown_background();
    Ok(ended?)
}
