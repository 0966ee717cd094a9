//! `dd-agent`: command line, signals, log; the rest is the library.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use dd_agent::config::{Config, Targets};
use dd_proto::token::JoinToken;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Small pieces come and go on every thread, for months: glibc's takes twice the time for them, and gives less back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hands mail to sites over verified SMTP.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The join token that `ddadm agent add` printed; ignored while the certificate is valid.
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_file")]
    join: Option<String>,
    /// A file with the join token; `-` is standard input.
    #[arg(long, value_name = "PATH")]
    join_file: Option<PathBuf>,
    /// Validate the configuration and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = dd_agent::control::chain(&*error);
            // Where standard error is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "dd-agent: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = Config::read(&args.config)?;
    if args.check {
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let token = token(&args)?;
    // One thread: stream, control loop and sessions pass each message on several times, and between threads each time
    // costs a wake-up. docs/decisions/0044-an-agent-is-one-thread.md
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(async {
            let (drain, draining) = watch::channel(false);
            let (targets, changed_targets) = watch::channel(config.targets.clone());
            let reloads = reload(args.config.clone(), targets);
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let signals = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("draining");
                drain.send_replace(true);
                // A second signal ends at once.
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            tokio::select! {
                ended = Box::pin(dd_agent::run(config, token, draining, changed_targets)) => ended,
                () = signals => Ok(()),
                failed = reloads => failed,
            }
        })
}

/// Reads the configuration again at each SIGHUP. Networks take effect at once, everything else at the next start.
async fn reload(path: PathBuf, targets: watch::Sender<Targets>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        match Config::read(&path) {
            Ok(config) => {
                targets.send_replace(config.targets);
                tracing::info!(
                    "target networks read again; other keys take effect at the next start"
                );
            }
            Err(error) => tracing::error!(%error, "the configuration stays as it was"),
        }
    }
    Ok(())
}

fn token(args: &Args) -> anyhow::Result<Option<JoinToken>> {
    let text = match (&args.join, &args.join_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(JoinToken::parse(&text)?))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
    }
    Ok(text)
}
