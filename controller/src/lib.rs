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
pub mod dsn;
pub mod ends;
pub mod events;
#[doc(hidden)]
pub mod fuzzing;
pub mod history;
pub mod inflow;
pub mod intake;
pub mod ledger;
mod limit;
pub mod lines;
mod listen;
pub mod metrics;
pub mod outages;
pub mod registry;
pub mod sights;
pub mod spread;
pub mod store;
pub mod tls;
pub mod wakeup;
pub mod web;

mod boottime;
mod descriptors;
mod doors;
mod own_addresses;
mod parts;
mod service;
#[cfg(test)]
mod simulation;
mod small_file;
mod untold;
#[cfg(test)]
mod zoo;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dd_proto::id::SiteVersion;
use dd_service::sockets::{Passed, SocketsError};
use dd_service::{format, notify};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use authority::ControlAuthority;
use authority::keys::Keys;
use config::{Config, ConfigError};
use doors::{Bound, Certificates, Doors};
use parts::{Middle, Parts};
use registry::audit::Audit;
use registry::{Changes, Editor, Registry};
use store::{RebuildIndex, Store};

/// The format of the state directory that this version writes; the highest that it reads.
const FORMAT: u32 = 1;
const OWNER: format::Owner = format::Owner {
    program: "dd-controller",
    names: &[
        "admin",
        "audit.log",
        "authorities",
        "ballast",
        "clean-stop",
        "content",
        "control",
        "index",
        "quarantine",
        "queue",
        "registry",
        "registry.toml",
    ],
};

/// Why the controller does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the audit in {path} cannot be written: {cause}", path = path.display())]
    Audit { path: PathBuf, cause: io::Error },
    #[error("the state directory {path} cannot be used: {cause}", path = path.display())]
    StateDir { path: PathBuf, cause: io::Error },
    #[error("{0}")]
    Smarthost(String),
    #[error(transparent)]
    SmarthostTerms(#[from] dsn::smarthost::TermsError),
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    #[error(transparent)]
    Registry(#[from] registry::ChangeError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Socket(#[from] api::listener::SocketError),
    #[error(transparent)]
    Passed(#[from] SocketsError),
    #[error(transparent)]
    Format(#[from] format::FormatError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("the log or its index has failed; nothing is accepted any more, start again")]
    StoreFailed,
    #[error("{0} ended unexpectedly")]
    PartEnded(&'static str),
    #[error("a part of the controller failed: {0}")]
    PartFailed(#[from] tokio::task::JoinError),
}

/// What the file at `path` says, if it can be used: everything that does not depend on what else runs here.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(path: &Path) -> Result<Config, RunError> {
    let config = Config::read(path)?;
    let web = config.web.as_ref().and_then(|web| web.tls.as_ref());
    for files in config.intake.tls.iter().chain(web) {
        tls::Certificate::read(files)?;
    }
    api::listener::socket_path_fits(&config.socket())?;
    Ok(config)
}

/// Whether a start would succeed, and what it would only warn of. Nothing is made or changed.
///
/// A controller that runs with this state directory has its listeners: whoever looks before a restart is told nothing of it.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_all(path: &Path) -> Result<(), RunError> {
    let config = check(path)?;
    let web = config.web.as_ref().and_then(|web| web.tls.as_ref());
    for files in config.intake.tls.iter().chain(web) {
        // A start goes on with an alarm: mail flows without it, and a controller that is down would only add to the trouble.
        tls::Certificate::read(files)?.has_not_ended(files, now())?;
    }
    format::look(&config.state_dir, OWNER, FORMAT)?;
    dd_proto::writable::directory(&config.state_dir).map_err(|cause| RunError::StateDir {
        path: config.state_dir.clone(),
        cause,
    })?;
    let config::Intake { smtp, lmtp, .. } = &config.intake;
    let mail = [&smtp[..], lmtp].concat();
    if let Some(trouble) = smarthost_trouble(&config, &mail) {
        return Err(RunError::Smarthost(trouble));
    }
    dsn::smarthost::Terms::read(&config.notify)?;
    let runs = store::is_in_use(&config.state_dir);
    let web = config.web.as_ref().map(|web| &web.listen.get_ref().0[..]);
    let metrics = config.metrics.as_ref().map(|it| &it.listen[..]);
    let others = [web, metrics].into_iter().flatten();
    let all = [&mail[..], &config.control.listen]
        .into_iter()
        .chain(others);
    // All at once: two of them may be the same.
    let mut open = Vec::new();
    for &address in all.flatten() {
        match listen::bind(address) {
            Ok(listener) => open.push(listener),
            Err(error) if runs && error.cause.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(api::listener::could_bind_socket(&config.socket())?)
}

fn smarthost_trouble(config: &Config, listeners: &[SocketAddr]) -> Option<String> {
    let smarthost = config.notify.smarthost.as_ref()?;
    dsn::smarthost::is_ourselves(smarthost, listeners)
}

/// Runs until SIGTERM or SIGINT, and returns when everything is closed; at once where it is asked twice. Listens on the
/// sockets that were `passed` where they are bound to what is configured.
///
/// # Errors
/// A part cannot start, or ends.
pub async fn run(path: &Path, rebuild_index: RebuildIndex, passed: Passed) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let twice = async {
        signals.asked_to_end().await;
        signals.asked_to_end().await;
    };
    tokio::select! {
        ended = Box::pin(serve(path, rebuild_index, passed)) => ended,
        // As after a crash: what was acknowledged is in the log.
        () = twice => {
            tracing::warn!("asked again: ends at once, and the next start reads the log");
            Ok(())
        }
    }
}

async fn serve(path: &Path, rebuild_index: RebuildIndex, passed: Passed) -> Result<(), RunError> {
    let config = check(path)?;
    let started = now();
    descriptors::raise(config.intake.max_sessions);
    let signals = Signals::new().map_err(RunError::Signals)?;
    format::claim(&config.state_dir, OWNER, FORMAT)?;
    let (store, newest) = open_store(&config, rebuild_index).await?;
    let registry = Registry::load(&store)?;
    let notifier = notifier(&config, &registry, &store, started)?;
    let authority = ControlAuthority::open(&config.state_dir, started)?;
    let tls = authority.server(started)?;
    let audit = open_audit(&config)?;
    let doors = Doors::bind(&config, passed)?;
    let (certificates, listening) = (doors.certificates.clone(), doors.listening());
    let mut facts = facts(path, &config, started, &doors.bound);
    let mail = [&doors.bound.smtp[..], &doors.bound.lmtp].concat();
    if let Some(trouble) = smarthost_trouble(&config, &mail) {
        tracing::warn!("{trouble}");
        facts.alarms.push(trouble);
    }

    let mut parts = Parts::new();
    let middle = Middle {
        dispatch: parts.dispatch(&store, newest, &registry, &notifier).await?,
        store: store.clone(),
        registry,
        metrics: metrics::Metrics::new(doors.intake.refusals(), doors.seats.clone()),
        notifier,
    };
    let passwords = Arc::new(credentials::Passwords::default());
    let wakeup = parts.wakeup(&middle, &passwords);
    parts.intake(doors.intake, &middle, &wakeup);
    let (editor, changes) = editor(&middle, audit, &config);
    parts.changes(changes);
    let noting = editor.change(|change| async move { change.note_damage(now()).await });
    if let Err(error) = noting.await {
        tracing::error!(%error, "since when the registry is damaged cannot be written: the time that mail is held for it counts");
    }
    keep_admin(
        &authority,
        &config.state_dir,
        &middle.registry,
        &editor,
        started,
    )
    .await;
    parts.watched(doors.metrics, &certificates, &middle, started);
    let registry = middle.registry.clone();
    parts.registry_copy(registry.clone(), config.state_dir.clone());
    let dispatch = middle.dispatch.clone();
    parts.authorities(editor.clone());
    parts.drains(editor.clone(), dispatch.clone());
    let histories = parts.histories(&middle)?;
    parts.outages(&middle);
    let ledger = parts::ledger(&config, &middle.store);
    let sights = parts.certificates(&middle, &editor);
    let context = Arc::new(api::Context {
        certificates: shown(&certificates),
        ..context(
            middle,
            authority,
            editor.clone(),
            facts,
            passwords,
            wakeup,
            sights,
        )
    });
    if let Some(door) = doors.web {
        let settings = web_settings(&config, &door, &context.facts);
        parts.web(door, web::Web::new(settings, context.clone()));
    }
    parts.admin_identity(context.clone(), config.state_dir.clone());
    parts.control(context, doors.socket, doors.control, tls);

    tracing::info!("listening {listening}");
    notify::ready();
    parts
        .watch_over(path, signals, certificates, &store)
        .await?;
    tracing::info!("stopping");
    notify::stopping();
    parts.stop(&dispatch, &editor, &store).await;
    histories.finish(now()).await;
    drop(ledger);
    registry::copy::bring_up_to_date(&registry, &config.state_dir).await;
    store.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Sees to the administrator's identity in `<state_dir>/admin/`. Where that cannot be done now nothing else suffers: the
/// local socket needs none.
async fn keep_admin(
    authority: &ControlAuthority,
    state_dir: &Path,
    registry: &Registry,
    editor: &Editor,
    now: Timestamp,
) {
    let kept = async {
        let name = authority::admin::name();
        // What cannot be read may say that the identity was removed: nothing is let in on a guess.
        if registry.admin_may_be_damaged(&name) {
            return Ok::<_, RunError>(());
        }
        let known = registry.admin_record(&name);
        let Some(prepared) = authority.prepare_admin(state_dir, known.as_deref(), now)? else {
            return Ok(());
        };
        let record = prepared.record().clone();
        let until = record.until;
        let registering = editor.change(|change| async move {
            change.register_own_admin(record, known.as_deref()).await
        });
        if !registering.await? {
            return Ok(());
        }
        authority.write_admin(&prepared, now)?;
        tracing::info!(%name, %until, "the administrator's identity in the state directory has a new certificate");
        Ok(())
    };
    if let Err(error) = kept.await {
        tracing::error!(%error, "the administrator's identity in the state directory cannot be kept");
    }
}

/// Who writes to senders, and the site through which that leaves.
fn notifier(
    config: &Config,
    registry: &Registry,
    store: &Store,
    started: Timestamp,
) -> Result<dsn::Notifier, RunError> {
    let version = SiteVersion(store.start_number());
    let smarthost = config.notify.smarthost.as_ref();
    let terms = dsn::smarthost::Terms::read(&config.notify)?;
    let site = terms.of(dsn::smarthost::site(smarthost, version, started));
    registry.build_in(site, terms.anchors);
    let hostname = config.hostname.clone();
    let postmaster = config.notify.postmaster.clone().unwrap_or_else(|| {
        let postmaster = format!("postmaster@{hostname}");
        postmaster.parse().expect("a domain makes an address")
    });
    Ok(dsn::Notifier::new(dsn::text::Letterhead {
        hostname,
        postmaster,
    }))
}

/// With where each stands in the configuration.
fn shown(certificates: &Certificates) -> Vec<(&'static str, Arc<tls::Certificate>)> {
    let intake = certificates
        .intake
        .iter()
        .map(|it| ("[intake]", it.clone()));
    let web = certificates.web.iter().map(|it| ("[web]", it.clone()));
    intake.chain(web).collect()
}

/// What the control plane calls.
fn context(
    middle: Middle,
    authority: ControlAuthority,
    editor: Editor,
    facts: api::Facts,
    passwords: Arc<credentials::Passwords>,
    wakeup: wakeup::Wakeup,
    sights: sights::Sights,
) -> api::Context {
    let Middle {
        store,
        registry,
        dispatch,
        metrics,
        ..
    } = middle;
    api::Context {
        editor,
        registry,
        store,
        dispatch,
        authority,
        attached: api::attached::Attached::default(),
        conduct: metrics.conduct,
        passwords,
        wakeup,
        sights,
        removals: api::removals::Removals::default(),
        checks: api::check::Checks::default(),
        doors: metrics.doors,
        certificates: Vec::new(),
        facts,
    }
}

fn editor(middle: &Middle, audit: Audit, config: &Config) -> (Editor, Changes) {
    Editor::new(
        middle.registry.clone(),
        middle.store.clone(),
        middle.dispatch.clone(),
        config.site_defaults,
        audit,
        Keys::new(&config.state_dir),
    )
}

fn web_settings(config: &Config, door: &web::listener::Door, facts: &api::Facts) -> web::Settings {
    web::Settings {
        hostname: facts.hostname.clone(),
        origin: facts.web.clone().unwrap_or_default(),
        outbound_networks: config.outbound_networks(),
        transport: match door.tls {
            Some(_) => web::Transport::Tls,
            None => web::Transport::Plain,
        },
    }
}

fn open_audit(config: &Config) -> Result<Audit, RunError> {
    Audit::open(&config.state_dir).map_err(|cause| RunError::Audit {
        path: config.state_dir.clone(),
        cause,
    })
}

/// Reads the certificates again. Whatever else the file says now takes effect at the next start.
fn reload(path: &Path, certificates: &Certificates) {
    let reloaded = check(path).and_then(|config| certificates.replace(&config));
    match reloaded {
        Ok(()) => {
            tracing::info!("certificates read again; other keys take effect at the next start");
        }
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
    let store::StartReport {
        start,
        clean,
        registry_damage,
        torn_bytes,
        newest,
    } = report;
    let newest_record = newest.map(tracing::field::display);
    tracing::info!(
        start,
        clean,
        registry_damage,
        torn_bytes,
        newest_record,
        "store open"
    );
    Ok((store, report.newest))
}

fn facts(path: &Path, config: &Config, started: Timestamp, bound: &Bound) -> api::Facts {
    let (everywhere, named): (Vec<IpAddr>, Vec<IpAddr>) = bound
        .reached_at()
        .into_iter()
        .partition(IpAddr::is_unspecified);
    api::Facts {
        hostname: config.hostname.to_string(),
        started,
        control: named,
        listens_everywhere: !everywhere.is_empty(),
        web: config.web_origin(&bound.web),
        outbound_networks: config.outbound_networks(),
        listeners: bound.shown(),
        alarms: Vec::new(),
        configuration: Arc::new(config::effective::Effective::read(path, config)),
        state_dir: config.state_dir.clone(),
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

    async fn asked_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the start is when the process says it is; what it calls takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
