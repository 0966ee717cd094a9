//! The running parts of the controller: started one by one, watched over together, and stopped in order.
//!
//! # Invariants
//! A part that ends by itself ends the process. Intake stops first; the rest runs on while its sessions end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dd_service::notify;
use jiff::Timestamp;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::credentials::Passwords;
use crate::dispatch::Told;
use crate::doors::Certificates;
use crate::dsn::Notifier;
use crate::ends::Ends;
use crate::history::keep::Keeper;
use crate::intake::listener::Intake;
use crate::intake::policy::Space;
use crate::ledger::{self, Ledger};
use crate::listen::Listeners;
use crate::outages::Outages;
use crate::registry::{Changes, Editor, Registry};
use crate::sights::Sights;
use crate::store::{Store, StoreError};
use crate::wakeup::Wakeup;
use crate::web::{self, Web};
use crate::{RunError, Signals, api, dispatch, inflow, metrics, registry, reload, service, untold};

/// At most this long a stop waits for sessions to end.
const DRAIN: Duration = Duration::from_secs(20);
const UPKEEP: Duration = Duration::from_secs(3600);

/// What the parts share.
#[derive(Debug)]
pub(crate) struct Middle {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) dispatch: dispatch::Handle,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) notifier: Notifier,
}

#[derive(Debug)]
pub(crate) struct Parts {
    running: JoinSet<&'static str>,
    intake: JoinSet<()>,
    /// Dropped, it ends intake.
    stop: watch::Sender<()>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            intake: JoinSet::new(),
            stop: watch::Sender::new(()),
        }
    }

    /// `newest`: of the records that earlier starts left.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub(crate) async fn dispatch(
        &mut self,
        store: &Store,
        newest: Option<Timestamp>,
        registry: &Registry,
        notifier: &Notifier,
    ) -> Result<dispatch::Handle, StoreError> {
        let untold = untold::found(store)?;
        let agents = registry.agents();
        let agents = agents.iter().map(|agent| {
            let mut terms = agent.terms();
            if untold.as_ref().is_some_and(|it| !it.contains(&agent.name)) {
                terms.told = Told::All;
            }
            (agent.name.clone(), terms)
        });
        let agents = agents.collect();
        let mut sites = registry.dispatched_sites();
        sites.extend(registry.smarthost());
        let settings = dispatch::Settings {
            start_number: store.start_number(),
            clock: dispatch::clock_at_start(store, newest, &sites, crate::now()).await?,
            notifier: notifier.clone(),
        };
        let (dispatch, dispatching) = dispatch::start(settings, store.clone(), sites, agents);
        self.running.spawn(async {
            dispatching.await;
            "dispatch"
        });
        Ok(dispatch)
    }

    /// What all doors share, and the releases that strangers ask for.
    pub(crate) fn wakeup(&mut self, middle: &Middle, passwords: &Arc<Passwords>) -> Wakeup {
        let (wakeup, knocks) = Wakeup::new(
            middle.registry.clone(),
            middle.store.clone(),
            middle.dispatch.clone(),
            passwords.clone(),
            middle.metrics.failed_sign_ins.clone(),
        );
        self.running.spawn(async {
            knocks.serve().await;
            "wakeup"
        });
        wakeup
    }

    /// The portal and the wake-up URLs.
    pub(crate) fn web(&mut self, door: web::listener::Door, web: Web) {
        let router = web::router(Arc::new(web));
        self.running.spawn(async {
            web::listener::serve(door, router).await;
            "web"
        });
    }

    pub(crate) fn intake(&mut self, intake: Intake, middle: &Middle, wakeup: &Wakeup) {
        let judgement = inflow::Judgement {
            registry: middle.registry.clone(),
            store: middle.store.clone(),
        };
        let entrance = inflow::Entrance {
            store: middle.store.clone(),
            dispatch: middle.dispatch.clone(),
            metrics: middle.metrics.clone(),
        };
        let stopped = self.stop.subscribe();
        let gatekeeper = Arc::new(wakeup.clone());
        let serving = intake.serve(Arc::new(judgement), entrance, gatekeeper, stopped);
        self.intake.spawn(serving);
    }

    /// By Prometheus where that is wanted, and by the service manager where there is one.
    pub(crate) fn watched(
        &mut self,
        listeners: Option<Listeners>,
        certificates: &Certificates,
        middle: &Middle,
        started: Timestamp,
    ) {
        let sources = metrics::Sources {
            metrics: middle.metrics.clone(),
            store: middle.store.clone(),
            registry: middle.registry.clone(),
            dispatch: middle.dispatch.clone(),
            notifier: middle.notifier.clone(),
            certificates: certificates.clone(),
            started,
            stopping: self.stop.subscribe(),
        };
        if notify::is_heard() {
            let sources = sources.clone();
            self.running.spawn(async {
                service::report(sources).await;
                "report to the service manager"
            });
        }
        if let Some(listeners) = listeners {
            self.running.spawn(async {
                metrics::door::serve(listeners, sources).await;
                "metrics"
            });
        }
    }

    /// The registry beside the state, for people and backups.
    pub(crate) fn registry_copy(&mut self, registry: Registry, state_dir: PathBuf) {
        self.running.spawn(async {
            registry::copy::keep(registry, state_dir).await;
            "registry copy"
        });
    }

    /// Where changes of the registry run, whoever waits for them.
    pub(crate) fn changes(&mut self, changes: Changes) {
        self.running.spawn(async {
            changes.run().await;
            "changes of the registry"
        });
    }

    /// Revocation lists are made anew before they are old, also those that a stop kept from being made.
    pub(crate) fn authorities(&mut self, editor: Editor) {
        self.running.spawn(async move {
            loop {
                let keeping = editor.change(|change| async move {
                    change.keep_authorities(crate::now()).await
                });
                match keeping.await {
                    Ok(lacking) => lacking.iter().for_each(|(authority, error)| {
                        tracing::error!(%authority, %error, "an authority's revocation list cannot be made anew; the present one still applies");
                    }),
                    Err(error) => {
                        tracing::error!(%error, "what time does to authorities cannot be made durable");
                    }
                }
                tokio::time::sleep(UPKEEP).await;
            }
        });
    }

    /// That an agent has drained to its end, or has left in order, is remembered over restarts.
    pub(crate) fn drains(&mut self, editor: Editor, dispatch: dispatch::Handle) {
        self.running.spawn(async move {
            loop {
                dispatch.drain_ended().await;
                let remembering = editor.change(|change| async move {
                    change.drains_ended(crate::now()).await?;
                    change.agents_left().await
                });
                if let Err(error) = remembering.await {
                    tracing::error!(%error, "the end of a drain, or of an agent, cannot be remembered: the next start waits for the agent");
                }
            }
        });
    }

    /// What sites show is remembered, and whoever looks after one is told before its certificate ends.
    pub(crate) fn certificates(&mut self, middle: &Middle, editor: &Editor) -> Sights {
        let learnt = Arc::new(Notify::new());
        let registry = middle.registry.clone();
        let (sights, learning) = Sights::new(registry.clone(), editor.clone(), learnt.clone());
        let ends = Ends {
            registry: registry.clone(),
            editor: editor.clone(),
            store: middle.store.clone(),
            dispatch: middle.dispatch.clone(),
            notifier: middle.notifier.clone(),
            learnt,
        };
        self.running.spawn(async {
            learning.serve(registry).await;
            "memory of what sites show"
        });
        self.running.spawn(async {
            ends.watch(crate::now).await;
            "watch over certificates"
        });
        sights
    }

    /// The last days of each site, as an earlier start left them, and kept from now on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn histories(&mut self, middle: &Middle) -> Result<Keeper, StoreError> {
        let keeper = Keeper {
            book: middle.dispatch.measured().history.clone(),
            store: middle.store.clone(),
            registry: middle.registry.clone(),
        };
        keeper.recall()?;
        let keeping = keeper.clone();
        self.running.spawn(async {
            keeping.keep(crate::now).await;
            "memory of the last days"
        });
        Ok(keeper)
    }

    /// The contact of a site is told when it is away for long.
    pub(crate) fn outages(&mut self, middle: &Middle) {
        let outages = Outages {
            registry: middle.registry.clone(),
            store: middle.store.clone(),
            dispatch: middle.dispatch.clone(),
            notifier: middle.notifier.clone(),
            book: middle.dispatch.measured().history.clone(),
        };
        self.running.spawn(async {
            outages.watch(crate::now).await;
            "watch over outages"
        });
    }

    /// The administrator's identity below the state directory is renewed in good time.
    pub(crate) fn admin_identity(&mut self, context: Arc<api::Context>, state_dir: PathBuf) {
        self.running.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                let api::Context {
                    authority,
                    registry,
                    editor,
                    ..
                } = &*context;
                crate::keep_admin(authority, &state_dir, registry, editor, crate::now()).await;
            }
        });
    }

    /// What agents and administrators call.
    pub(crate) fn control(
        &mut self,
        context: Arc<api::Context>,
        socket: UnixListener,
        listeners: Listeners,
        tls: rustls::ServerConfig,
    ) {
        let serving = api::serve(context, socket, listeners, tls);
        self.running.spawn(async {
            report(serving.await);
            "control"
        });
    }

    /// Returns when the controller shall stop.
    ///
    /// # Errors
    /// The store failed, or a part ended by itself.
    pub(crate) async fn watch_over(
        &mut self,
        path: &Path,
        mut signals: Signals,
        certificates: Certificates,
        store: &Store,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.hangup.recv() => reload(path, &certificates),
                () = store.failed() => return Err(RunError::StoreFailed),
                Some(ended) = self.running.join_next() => return Err(RunError::PartEnded(ended?)),
                Some(ended) = self.intake.join_next() => {
                    ended?;
                    return Err(RunError::PartEnded("intake"));
                }
            }
        }
    }

    /// Sessions at intake, handoffs at agents and changes of the registry end by themselves, if they do it in time.
    pub(crate) async fn stop(
        mut self,
        dispatch: &dispatch::Handle,
        editor: &Editor,
        store: &Store,
    ) {
        drop(self.stop);
        let draining = async {
            let intake = async { while self.intake.join_next().await.is_some() {} };
            tokio::join!(intake, dispatch.drain(), editor.idle());
        };
        if tokio::time::timeout(DRAIN, draining).await.is_err() {
            tracing::warn!(
                "not everything ended in time: clients try again, and agents report later"
            );
        }
        // Also where not everything ended in time: what is still out is what agents have not told.
        untold::remember(store, dispatch).await;
        self.intake.shutdown().await;
        self.running.shutdown().await;
    }
}

/// What became of each message, for whoever asks later. Nothing rests on it.
pub(crate) fn ledger(config: &Config, store: &Store) -> Option<Ledger> {
    let store = store.clone();
    let opened = Ledger::open(ledger::Settings {
        state_dir: config.state_dir.clone(),
        keep: config.history.keep,
        has_room: Box::new(move || store.space() == Space::Enough),
    });
    if let Err(error) = &opened {
        tracing::warn!(%error, "the history of messages cannot be kept: `ddadm queue search` finds what waits only");
    }
    opened.ok()
}

fn report<E: std::error::Error>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a listener failed");
    }
}
