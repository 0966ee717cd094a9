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
pub mod credentials;
pub mod dispatch;
pub mod inflow;
pub mod intake;
pub mod metrics;
pub mod registry;
pub mod store;
pub mod tls;

mod doors;
mod parts;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use authority::ControlAuthority;
use authority::keys::Keys;
use config::{Config, ConfigError};
use doors::Doors;
use parts::{Middle, Parts};
use registry::audit::Audit;
use registry::{Editor, Registry};
use store::{RebuildIndex, Store};

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
    let (store, newest) = open_store(&config, rebuild_index).await?;
    let registry = Registry::load(&store)?;
    let authority = ControlAuthority::open(&config.state_dir, started)?;
    let tls = authority.server(started)?;
    let audit = open_audit(&config)?;
    let doors = Doors::bind(&config).await?;
    let (certificate, listening) = (doors.certificate.clone(), doors.listening());
    let facts = facts(&config, started, doors.listeners);

    let mut parts = Parts::new();
    let middle = Middle {
        dispatch: parts.dispatch(&store, newest, &registry),
        store: store.clone(),
        registry,
        metrics: metrics::Metrics::default(),
    };
    parts.intake(doors.intake, &middle);
    if let Some(listener) = doors.metrics {
        parts.metrics(listener, &middle);
    }
    parts.registry_copy(middle.registry.clone(), config.state_dir.clone());
    let dispatch = middle.dispatch.clone();
    let keys = Keys::new(&config.state_dir);
    let context = context(
        middle,
        authority,
        (audit, keys),
        config.site_defaults,
        facts,
    );
    parts.authorities(context.editor.clone());
    parts.control(context, doors.socket, doors.control, tls);

    tracing::info!("listening {listening}");
    parts.watch_over(path, signals, certificate, &store).await?;
    tracing::info!("stopping");
    parts.stop(&dispatch).await;
    store.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// What the control plane calls.
fn context(
    middle: Middle,
    authority: ControlAuthority,
    (audit, keys): (Audit, Keys),
    defaults: config::SiteDefaults,
    facts: api::Facts,
) -> api::Context {
    let Middle {
        store,
        registry,
        dispatch,
        ..
    } = middle;
    api::Context {
        editor: Editor::new(
            registry.clone(),
            store.clone(),
            dispatch.clone(),
            defaults,
            audit,
            keys,
        ),
        registry,
        store,
        dispatch,
        authority,
        attached: api::attached::Attached::default(),
        passwords: credentials::Passwords::default(),
        facts,
    }
}

fn open_audit(config: &Config) -> Result<Audit, RunError> {
    Audit::open(&config.state_dir).map_err(|source| RunError::Audit {
        path: config.state_dir.clone(),
        source,
    })
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

/// The store, and the time of the newest record that it found.
async fn open_store(
    config: &Config,
    rebuild_index: RebuildIndex,
) -> Result<(Store, Option<Timestamp>), RunError> {
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
    Ok((store, report.newest))
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
        control: Some(config.control.listen.ip()).filter(|it| !it.is_unspecified()),
        web: config.web_origin(&listeners.web),
        outbound_networks: config.outbound_networks(),
        listeners,
        alarms,
    }
}

#[derive(Debug)]
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
