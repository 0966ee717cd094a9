//! `dd-agent`: command line, signals, log; the rest is the library.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use dd_agent::config::{Config, Targets};
use dd_log::fields::Fields;
use dd_log::journal::Entries;
use dd_log::utc::Utc;
use dd_log::{Lines, Way, When};
use dd_proto::token::JoinToken;
use dd_service::command_line::Agent as Args;
use dd_service::notify;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Small pieces come and go on every thread, for months: glibc's takes twice the time for them, and gives less back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let way = Way::of_this_process();
    let journal = matches!(way, Way::Journal(_));
    // Where there is no thread to be had there is nothing to be said either.
    let Ok(lines) = Lines::to(way) else {
        return ExitCode::FAILURE;
    };
    let ended = start(&args, &lines, journal);
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

fn start(args: &Args, lines: &Lines<Way>, journal: bool) -> anyhow::Result<()> {
    let config = Config::read(&args.config)?;
    if args.check {
        dd_agent::startable::check(&config, token(args)?.is_some())?;
        return Ok(writeln!(std::io::stdout(), "ok")?);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = lines.clone();
    let written = tracing_subscriber::fmt::layer()
        .with_writer(move || lines.line(When::Soon))
        .with_timer(Utc)
        .fmt_fields(Fields)
        .with_ansi(false)
        // That could only be said where it has just failed.
        .log_internal_errors(false);
    let written = match journal {
        true => written.event_format(Entries("dd-agent")).boxed(),
        false => written.boxed(),
    };
    tracing_subscriber::registry()
        .with(written.with_filter(filter))
        .init();
    if args.join.is_some() {
        tracing::warn!(
            "the join token stands in the list of processes, for everybody on this machine: --join-file keeps it out of there"
        );
    }
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
        notify::stopping();
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

/// From the command line; else what the service manager hands over, which is empty where nobody left a token.
fn token(args: &Args) -> anyhow::Result<Option<JoinToken>> {
    let text = match (&args.join, &args.join_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => match credential("join-token") {
            Some(path) => read(&path)?,
            None => return Ok(None),
        },
    };
    let of_the_command_line = args.join.is_some() || args.join_file.is_some();
    if text.trim().is_empty() && !of_the_command_line {
        return Ok(None);
    }
    Ok(Some(JoinToken::parse(&text)?))
}

/// A file that the service manager made readable for this program: `LoadCredential=` in the unit.
fn credential(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    let path = Path::new(&directory).join(name);
    path.exists().then_some(path)
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
