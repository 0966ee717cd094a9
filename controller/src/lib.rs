//! The controller: holds the site registry and the queue, accepts mail, and decides what is tried when and by whom.
//!
//! [`run`] wires the parts in the order in which a message meets them; read it first, then the parts it names.
//!
//! # Invariants
//! Nothing is accepted before the store is open, and nothing is assigned before the registry is. A part that ends
//! unexpectedly ends the process; the log then says at the next start what was true.
//!
//! # Not here
//! SMTP to sites: an agent does it.

pub mod api;
pub mod authority;
pub mod config;
pub mod dispatch;
pub mod inflow;
pub mod intake;
pub mod metrics;
pub mod registry;
pub mod store;
pub mod tls;

mod doors;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use config::{Config, ConfigError};
use doors::Doors;
use registry::audit::Audit;
use registry::{Editor, Registry};
use store::{RebuildIndex, Store};

/// At most this long a stop waits for sessions to end.
const DRAIN: Duration = Duration::from_secs(20);

/// Why the controller does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the audit in {path} cannot be written: {source}", path = path.display())]
    Audit { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Intake(#[from] intake::listener::BindError),
    #[error(transparent)]
    Socket(#[from] api::listener::SocketError),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("the log or its index has failed; nothing is accepted any more, start again")]
    StoreFailed,
    #[error("{0} ended unexpectedly")]
    PartEnded(&'static str),
    #[error("a part of the controller failed: {0}")]
    PartFailed(#[from] tokio::task::JoinError),
}

/// What the file at `path` says, if it can be used: everything but whether listeners can be bound.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(path: &Path) -> Result<Config, RunError> {
    let config = Config::read(path)?;
    let web = config.web.as_ref().and_then(|web| web.tls.as_ref());
    for files in config.intake.tls.iter().chain(web) {
        tls::Certificate::read(files)?;
    }
    Ok(config)
}

/// Runs until SIGTERM or SIGINT, and returns when everything is closed.
///
/// # Errors
/// A part cannot start, or ends.
pub async fn run(path: &Path, rebuild_index: RebuildIndex) -> Result<(), RunError> {
    let config = check(path)?;
    let started = now();
    let signals = Signals::new().map_err(RunError::Signals)?;
    let store = open_store(&config, rebuild_index).await?;
    let registry = Registry::load(&store)?;
    let authority = authority::ControlAuthority::open(&config.state_dir, started)?;
    let audit = Audit::open(&config.state_dir).map_err(|source| RunError::Audit {
        path: config.state_dir.clone(),
        source,
    })?;
    let doors = Doors::bind(&config).await?;
    let certificate = doors.certificate.clone();

    let mut parts = JoinSet::new();
    let agents = registry.agents();
    let agents = agents.iter().map(|agent| agent.name.clone()).collect();
    let settings = dispatch::Settings {
        start_number: store.start_number(),
    };
    let (dispatch, dispatching) =
        dispatch::start(settings, store.clone(), registry.sites(), agents);
    parts.spawn(async {
        dispatching.await;
        "dispatch"
    });

    let metrics = metrics::Metrics::default();
    let (release, releases) = inflow::releases();
    let releasing = releases.serve(registry.clone(), dispatch.clone());
    parts.spawn(async {
        releasing.await;
        "release"
    });
    let judgement = inflow::Judgement {
        registry: registry.clone(),
        store: store.clone(),
    };
    let entrance = inflow::Entrance {
        store: store.clone(),
        dispatch: dispatch.clone(),
        metrics: metrics.clone(),
    };
    let (stop, stopped) = watch::channel(());
    let listening = doors.listening();
    let mut intake = JoinSet::new();
    intake.spawn(
        doors
            .intake
            .serve(Arc::new(judgement), entrance, release, stopped),
    );

    if let Some(listener) = doors.metrics {
        let sources = metrics::Sources {
            metrics,
            store: store.clone(),
            dispatch: dispatch.clone(),
        };
        parts.spawn(async {
            report(metrics::serve(listener, sources).await);
            "metrics"
        });
    }
    let tls = authority.server(started)?;
    let context = api::Context {
        editor: Editor::new(
            registry.clone(),
            store.clone(),
            dispatch.clone(),
            config.site_defaults,
            audit,
        ),
        registry,
        store: store.clone(),
        dispatch,
        authority,
        passwords: api::password::Passwords::default(),
        facts: facts(&config, started, doors.listeners),
    };
    let serving = api::serve(Arc::new(context), doors.socket, doors.control, tls);
    parts.spawn(async {
        report(serving.await);
        "control"
    });

    tracing::info!("listening {listening}");
    watch_over(path, signals, certificate, &store, &mut parts, &mut intake).await?;
    tracing::info!("stopping");
    drop(stop);
    let draining = async { while intake.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, draining).await.is_err() {
        tracing::warn!("some sessions did not end in time; their clients will try again");
    }
    intake.shutdown().await;
    parts.shutdown().await;
    store.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Returns when the controller shall stop.
///
/// # Errors
/// The store failed, or a part ended by itself.
async fn watch_over(
    path: &Path,
    mut signals: Signals,
    certificate: Option<Arc<tls::Certificate>>,
    store: &Store,
    parts: &mut JoinSet<&'static str>,
    intake: &mut JoinSet<()>,
) -> Result<(), RunError> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => reload(path, certificate.as_deref()),
            () = store.failed() => return Err(RunError::StoreFailed),
            Some(ended) = parts.join_next() => return Err(RunError::PartEnded(ended?)),
            Some(ended) = intake.join_next() => {
                ended?;
                return Err(RunError::PartEnded("intake"));
            }
        }
    }
}

/// Reads the certificates again. Whatever else the file says now takes effect at the next start.
fn reload(path: &Path, certificate: Option<&tls::Certificate>) {
    let reloaded = check(path).and_then(|config| match (certificate, &config.intake.tls) {
        (Some(certificate), Some(files)) => Ok(certificate.replace(files)?),
        _ => Ok(()),
    });
    match reloaded {
        Ok(()) => tracing::info!("certificates reloaded"),
        Err(error) => tracing::error!(%error, "nothing was reloaded"),
    }
}

async fn open_store(config: &Config, rebuild_index: RebuildIndex) -> Result<Store, RunError> {
    let settings = store::Settings {
        dir: config.state_dir.clone(),
        segment_bytes: config.store.segment_bytes,
        min_free: match config.store.min_free {
            config::MinFree::Percent(percent) => store::MinFree::Percent(percent),
            config::MinFree::Bytes(bytes) => store::MinFree::Bytes(bytes),
        },
        rebuild_index,
    };
    let opening = tokio::task::spawn_blocking(move || Store::open(&settings));
    let (store, report) = opening.await??;
    tracing::info!(?report, "store open");
    Ok(store)
}

fn facts(config: &Config, started: Timestamp, listeners: dd_proto::pb::Listeners) -> api::Facts {
    let mut alarms = Vec::new();
    if config.web.is_some() {
        let alarm =
            "[web] is configured, but this version serves no web: remove the table, or ignore this";
        tracing::warn!("{alarm}");
        alarms.push(alarm.to_owned());
    }
    api::Facts {
        hostname: config.hostname.to_string(),
        started,
        listeners,
        outbound_networks: config.outbound_networks(),
        alarms,
    }
}

fn report<E: std::error::Error>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a listener failed");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the start is when the process says it is; what it calls takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
