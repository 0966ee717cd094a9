//! `dd-agent`: command line, signals, log; the rest is the library.

use std::io::{Read as _, Stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use dd_agent::config::{Config, Targets};
use dd_log::{Lines, When};
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
    /// The join token that `ddadm agent add` or `agent token` printed; ignored while the certificate lets the agent in.
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
    let args = Args::parse();
    // Where there is no thread to be had there is nothing to be said either.
    let Ok(lines) = Lines::to_stderr() else {
        return ExitCode::FAILURE;
    };
    let ended = start(&args, &lines);
    if let Err(error) = &ended {
        let line = dd_agent::control::chain(&**error);
        lines.say(&format!("dd-agent: {line}"));
    }
    lines.flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn start(args: &Args, lines: &Lines<Stderr>) -> anyhow::Result<()> {
    let config = Config::read(&args.config)?;
    if args.check {
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = lines.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || lines.line(When::Soon))
        .with_ansi(false)
        // That could only be said where it has just failed.
        .log_internal_errors(false)
        .init();
    let token = token(args)?;
    // One thread: stream, control loop and sessions pass each message on several times, and between threads each time
    // costs a wake-up. docs/decisions/0044-an-agent-is-one-thread.md
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let ended = runtime.block_on(run(args, config, token));
    // A sync that hangs does not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn run(args: &Args, config: Config, token: Option<JoinToken>) -> anyhow::Result<()> {
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
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("asked again: ends at once; what is in hand is in the journal");
    };
    tokio::select! {
        ended = Box::pin(dd_agent::run(config, token, draining, changed_targets)) => ended,
        () = signals => Ok(()),
        failed = reloads => failed,
    }
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
