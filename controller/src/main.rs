//! `dd-controller`: command line and log; the rest is the library.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dd_controller::credentials::hashed_at_once;
use dd_controller::events;
use dd_controller::lines::Lines;
use dd_controller::store::RebuildIndex;
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
    /// Validate the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Start as if the index were gone: it is built again from the log.
    #[arg(long)]
    rebuild_index: bool,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "dd-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    if args.check {
        dd_controller::check_all(&args.config)?;
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = Lines::to_stderr()?;
    let written = tracing_subscriber::fmt::layer()
        .with_writer(lines.clone())
        .with_ansi(false)
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
    lines.end();
    Ok(ended?)
}
