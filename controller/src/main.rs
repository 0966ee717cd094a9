//! `dd-controller`: command line and log; the rest is the library.

use std::io::{self, Stderr, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dd_controller::credentials::hashed_at_once;
use dd_controller::events;
use dd_controller::lines::Log;
use dd_controller::store::RebuildIndex;
use dd_log::Lines;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Small pieces come and go on every thread, for months: glibc's takes twice the time for them, and gives less back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that wait for the disk, beside those that hash passwords. More of them read no faster, and each
/// keeps memory of its own: with tokio's 512 a restart with a thousand large messages took 4.7 GB.
const DISK_THREADS: usize = 8;

/// Takes mail for sites, and decides what is tried when and by which agent.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say whether a start would succeed, and exit; nothing is changed.
    #[arg(long)]
    check: bool,
    /// Start as if the index were gone: it is built again from the log.
    #[arg(long)]
    rebuild_index: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Where there is no thread to be had there is nothing to be said either.
    let Ok(lines) = Lines::to_stderr() else {
        return ExitCode::FAILURE;
    };
    let ended = start(&args, &lines);
    if let Err(error) = &ended {
        lines.say(&format!("dd-controller: {error:#}"));
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

fn start(args: &Args, lines: &Lines<Stderr>) -> anyhow::Result<()> {
    if args.check {
        return check(&args.config);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let written = tracing_subscriber::fmt::layer()
        .with_writer(Log(lines.clone()))
        .with_ansi(false)
        // That could only be said where it has just failed.
        .log_internal_errors(false)
        .with_filter(filter);
    tracing_subscriber::registry()
        .with(written)
        .with(events::layer())
        .init();
    let rebuild = match args.rebuild_index {
        true => RebuildIndex::Yes,
        false => RebuildIndex::No,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS + hashed_at_once())
        .build()?;
    let ended = runtime.block_on(dd_controller::run(&args.config, rebuild));
    // Nothing that still blocks may hold up the end: after an error least of all.
    runtime.shutdown_background();
    Ok(ended?)
}
