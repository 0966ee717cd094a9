//! The agent: makes the verified handoff to sites, and reports. It never decides *whether* to try again.
//!
//! Read [`attempt`] first: it is the whole story of a message here. [`session`] is SMTP as a value, [`proof`] decides
//! who is the site, [`control`] keeps the stream to the controller, [`journal`] remembers what was done.
//!
//! # Invariants
//! - No byte of an envelope goes out before a proof has made a [`proof::Verified`].
//! - No final dot goes out that is not in the journal, or on a lease that is not held.

pub mod agent;
pub mod alarm;
pub mod attempt;
pub mod check;
pub mod client_certificate;
pub mod config;
pub mod connect;
pub mod content;
pub mod control;
pub mod deliver;
pub mod descriptors;
pub mod enroll;
pub mod identity;
pub mod journal;
pub mod lease;
pub mod live;
pub mod places;
pub mod plan;
pub mod proof;
pub mod race;
pub mod resolve;
pub mod service;
pub mod session;
pub mod startable;
pub mod state_dir;
pub mod tls;
pub mod tried;
pub mod untold;
pub mod visits;
pub mod way;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use dd_proto::token::JoinToken;
use dd_service::{format, notify};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use agent::{Agent, Work};
use config::{Config, Targets};
use control::Control;
use dd_proto::targets::TargetRules;
use enroll::Enroll;
use journal::Journal;
use places::Places;
use resolve::Resolver;
use state_dir::StateDir;

/// The format of the state directory that this version writes; the highest that it reads.
const FORMAT: u32 = 1;
const OWNER: format::Owner = format::Owner {
    program: "dd-agent",
    names: &[
        "agent.key",
        "credentials",
        "joining.key",
        "journal",
        "journal.doubt",
    ],
};

/// Runs the agent until `draining` turns true and it is drained. A change of `targets` takes effect at the next connect.
///
/// # Errors
/// What keeps it from starting, or a task that ended unexpectedly.
pub async fn run(
    mut config: Config,
    token: Option<JoinToken>,
    draining: watch::Receiver<bool>,
    targets: watch::Receiver<Targets>,
) -> anyhow::Result<()> {
    let descriptors = descriptors::raise();
    config.probes = descriptors::probes_that_fit(descriptors, config.slots, config.probes);
    // Before the lock, which is a file in the directory.
    format::look(&config.state_dir, OWNER, FORMAT)?;
    let state = StateDir::lock(&config.state_dir)?;
    format::claim(state.path(), OWNER, FORMAT)?;
    let journal = Arc::new(Journal::open(state.path())?);
    let resolver = Resolver::new(&config.dns.servers, config.dns.max_ttl)?;
    let mut enroll = Enroll::new(&config, token);
    let identifying = enroll.identify(agent::wall(), draining.clone());
    let identity = Box::pin(identifying).await?;
    let (events, told) = mpsc::unbounded_channel();
    let (work, started) = mpsc::unbounded_channel();
    let agent = Arc::new(Agent {
        sources: config.addresses.clone(),
        helo: config.helo.to_string(),
        resolver,
        visits: visits::Visits::default(),
        tls: tls::Tls::default(),
        certificates: Default::default(),
        rules: RwLock::new(Arc::new(TargetRules {
            allow: config.targets.allow.clone(),
            forbid: config.targets.forbid.clone(),
        })),
        slots: Places::slots(config.slots),
        probes: Places::probes(config.probes),
        leases: lease::Leases::default(),
        trouble: Mutex::default(),
        untold: untold::Untold::default(),
        journal,
        controller: watch::Sender::new(None),
        events,
        work,
        sessions: AtomicU64::new(1),
        service: Default::default(),
    });
    tracing::info!(
        name = %config.name,
        version = env!("CARGO_PKG_VERSION"),
        controller = config.controller,
        addresses = ?config.addresses,
        slots = config.slots,
        probes = config.probes,
        descriptors,
        "dd-agent starts"
    );
    agent.start(Arc::clone(&agent).keep_journal());
    let watched = Arc::clone(&agent);
    agent.start(async move { watched.service.feed_watchdog().await });
    notify::ready();
    let control = Control::new(agent, config, identity, enroll, told, draining, targets);
    tokio::select! {
        () = Box::pin(control.run()) => Ok(()),
        error = crew(started) => Err(error),
    }
}

/// Runs what attempts start. Returns only when one of them ended by a panic.
async fn crew(mut started: mpsc::UnboundedReceiver<Work>) -> anyhow::Error {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(work) = started.recv() => {
                tasks.spawn(work);
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    return anyhow::Error::new(error).context("a task ended unexpectedly");
                }
            }
        }
    }
}
