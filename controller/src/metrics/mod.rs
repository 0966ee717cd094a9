//! Every metric in one list, and what it is read from.
//!
//! What happens often is counted where it happens, in atomics ([`crate::spread`]); the rest is asked for when somebody
//! looks. Nothing here waits for a lock that a message waits for.
//!
//! # Not here
//! How the list is written ([`text`]), and the HTTP door it is read through ([`door`]).

pub mod door;
mod ready;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use crate::api::conduct::Conduct;
use crate::dispatch::{Counters, Handle, MICROS, Measured};
use crate::doors::Certificates;
use crate::dsn::{Notifier, smarthost};
use crate::intake::refusals::Refusals;
use crate::limit::DoorSeats;
use crate::registry::Registry;
use crate::spread::Buckets;
use crate::store::{Measures, Store};
use crate::wakeup::failures::FailuresByDoor;
use text::{List, Unit};

/// Why a site waits, as in `site show`.
const WHYS: [&str; 5] = ["down", "wrong-host", "refused", "busy", "deferred"];

/// What is counted where it happens.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub accepted: Counter,
    /// From a complete message until it is durable.
    pub synced: Arc<Buckets>,
    pub refusals: Arc<Refusals>,
    /// What was refused of what agents say.
    pub conduct: Conduct,
    pub(crate) doors: DoorSeats,
    pub(crate) failed_sign_ins: FailuresByDoor,
}

impl Metrics {
    pub(crate) fn new(refusals: Arc<Refusals>, doors: DoorSeats) -> Self {
        Self {
            accepted: Counter::default(),
            synced: Arc::new(Buckets::new(&MICROS)),
            refusals,
            conduct: Conduct::default(),
            doors,
            failed_sign_ins: FailuresByDoor::default(),
        }
    }
}

/// Whom the rest is asked of.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) metrics: Metrics,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) dispatch: Handle,
    pub(crate) notifier: Notifier,
    pub(crate) certificates: Certificates,
    pub(crate) started: Timestamp,
    /// Its sender is gone once the controller stops.
    pub(crate) stopping: watch::Receiver<()>,
}

/// All that is asked for, once a look.
struct Asked {
    measures: Measures,
    counters: Counters,
    /// Sites, deliveries and their bytes by the state of their site.
    states: BTreeMap<&'static str, Queued>,
    /// Sites that wait, by why.
    waiting: BTreeMap<&'static str, u64>,
    agents: BTreeMap<&'static str, u64>,
    handoffs: Vec<(String, u64)>,
    /// Why notifications wait, where their site does not take them.
    smarthost: Option<&'static str>,
    clock_alarm: bool,
}

#[derive(Default)]
struct Queued {
    sites: u64,
    deliveries: u64,
    bytes: u64,
}

impl Sources {
    async fn ask(&self) -> Asked {
        let mut states = BTreeMap::<_, Queued>::new();
        // All of them, so that none comes and goes.
        for state in ["idle", "ready", "proving", "flowing", "waiting", "held"] {
            states.entry(state).or_default();
        }
        let mut waiting = BTreeMap::from(WHYS.map(|why| (why, 0)));
        let smarthost = self.dispatch.site_view(smarthost::name()).await;
        let smarthost = smarthost.and_then(|view| view.waits_for());
        for site in self.dispatch.site_states().await {
            if let Some(why) = site.why.filter(|_| site.state == "waiting") {
                *waiting.entry(why).or_default() += 1;
            }
            let count = self.store.count(&site.site);
            let queued = states.entry(site.state).or_default();
            queued.sites += 1;
            queued.deliveries += count.messages;
            queued.bytes += count.bytes;
        }
        let mut agents = BTreeMap::new();
        for state in ["connected", "disconnected", "draining", "unhealthy"] {
            agents.insert(state, 0);
        }
        let mut handoffs = Vec::new();
        for agent in self.dispatch.agent_views().await {
            *agents.entry(agent.state).or_default() += 1;
            handoffs.push((agent.name.to_string(), u64::from(agent.in_flight)));
        }
        Asked {
            measures: self.store.measures(),
            counters: self.dispatch.counters().await,
            states,
            waiting,
            agents,
            handoffs,
            smarthost,
            clock_alarm: self.dispatch.clock_alarm().await.is_some(),
        }
    }

    /// The whole page, as of `now`.
    async fn page(&self, now: Timestamp) -> List {
        let asked = self.ask().await;
        let mut list = List::default();
        self.mail(&mut list, &asked, now);
        self.handoff(&mut list, &asked);
        log(&mut list, &asked.measures);
        self.health(&mut list, &asked);
        list
    }

    fn mail(&self, list: &mut List, asked: &Asked, now: Timestamp) {
        let accepted = self.metrics.accepted.get();
        list.counter(
            "accepted_messages",
            "Messages answered with 250 since the start",
            accepted,
        );
        list.counters(
            "intake_refusals",
            "Replies of intake that refuse, by reason",
            "reason",
            self.metrics.refusals.counts(),
        );
        list.counters(
            "strangers_turned_away",
            "Connections of strangers that made room for others or got none, by door",
            "door",
            self.metrics.doors.all().map(|seats| seats.turned_away()),
        );
        list.counters(
            "sign_ins_failed",
            "Sign-ins with a wrong name or password, or too often, by door",
            "door",
            self.metrics.failed_sign_ins.all(),
        );
        let states = || asked.states.iter().map(|(state, it)| (*state, it));
        list.gauges(
            "sites",
            "Sites by state",
            "state",
            states().map(|(state, it)| (state, it.sites)),
        );
        list.gauges(
            "sites_waiting",
            "Sites in the state waiting, by why",
            "why",
            asked.waiting.iter().map(|(why, sites)| (*why, *sites)),
        );
        list.gauges(
            "queued_deliveries",
            "Deliveries that wait, by the state of their site",
            "state",
            states().map(|(state, it)| (state, it.deliveries)),
        );
        list.gauges(
            "queued_bytes",
            "Bytes that wait, by the state of their site",
            "state",
            states().map(|(state, it)| (state, it.bytes)),
        );
        let known = u64::from(*self.store.all_known().borrow());
        list.gauge(
            "queue_known",
            "1 when the queue of earlier starts has been read to its end",
            known,
        );
        let oldest = self.store.oldest().map(|at| now.duration_since(at));
        list.seconds(
            "oldest_age",
            "Age of the oldest delivery that waits, 0 where none does",
            oldest.map_or(0.0, |age| age.as_secs_f64().max(0.0)),
        );
        let dsn = self.notifier.counters();
        list.counters(
            "dsn_written",
            "Reports written to senders since the start",
            "kind",
            [
                ("failed", dsn.failed),
                ("delayed", dsn.delayed),
                ("relayed", dsn.relayed),
            ],
        );
        list.counter(
            "dsn_capped",
            "Reports put off because their sender had many",
            dsn.capped,
        );
        list.counter(
            "dsn_undeliverable",
            "Reports that the smarthost did not take",
            dsn.undeliverable,
        );
        list.gauge(
            "dsn_waiting",
            "Reports that wait for the smarthost",
            self.store.count(&smarthost::name()).messages,
        );
        list.gauges(
            "smarthost_waiting",
            "1 under the reason for which the smarthost takes no reports",
            "why",
            WHYS.map(|why| (why, u64::from(asked.smarthost == Some(why)))),
        );
        list.counter(
            "notices_written",
            "Mails written to the contacts of sites since the start",
            dsn.notices,
        );
    }

    fn handoff(&self, list: &mut List, asked: &Asked) {
        let measured: &Measured = self.dispatch.measured();
        list.counters(
            "attempts",
            "Ended attempts by outcome",
            "outcome",
            measured.attempts(),
        );
        let synced = ("synced", self.metrics.synced.spread());
        list.histograms(
            "stage",
            "How long each stage of a message took: synced after it was complete; assigned after it was accepted; connected, \
             proved and accepted after it was assigned; settled after the report",
            ("stage", Unit::Micros),
            [synced].into_iter().chain(measured.stages()),
        );
        list.counter(
            "in_doubt",
            "Attempts of which nobody knows whether the site has the message",
            asked.counters.in_doubt,
        );
        list.counter(
            "duplicates",
            "Acceptances of what was settled already",
            asked.counters.duplicates,
        );
        list.gauges(
            "agents",
            "Registered agents by state",
            "state",
            asked.agents.iter().map(|(state, it)| (*state, *it)),
        );
        let contradictions = self.metrics.conduct.contradictions();
        list.counters(
            "agent_contradictions",
            "Events of an agent that contradict themselves or cannot be understood",
            "agent",
            contradictions
                .iter()
                .map(|(agent, it)| (agent.as_str(), *it)),
        );
        list.gauges(
            "agent_deliveries",
            "Deliveries that an agent holds",
            "agent",
            asked
                .handoffs
                .iter()
                .map(|(agent, it)| (agent.as_str(), *it)),
        );
    }

    fn health(&self, list: &mut List, asked: &Asked) {
        let ready = self.not_ready().is_empty();
        list.gauge(
            "ready",
            "1 while mail is taken, as /readyz says",
            u64::from(ready),
        );
        list.gauge(
            "clock_alarm",
            "1 while the wall clock looks wrong, and nothing expires",
            u64::from(asked.clock_alarm),
        );
        list.gauge(
            "registry_damage",
            "Records of the registry that cannot be read",
            self.registry.alarms().len() as u64,
        );
        list.gauge(
            "queue_damage",
            "Damaged places in the log that this start found",
            self.store.progress().damaged,
        );
        list.gauges(
            "build_info",
            "1 under the version that runs",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
        list.gauges(
            "certificate_end_time_seconds",
            "When a certificate of our own ends, since 1970: of intake, of web",
            "of",
            self.own_ends(),
        );
        let authorities = self.registry.authorities();
        let ends: Vec<_> = authorities
            .iter()
            .filter_map(|authority| {
                Some((authority.name.to_string(), since_1970(authority.end()?)))
            })
            .collect();
        list.gauges(
            "authority_end_time_seconds",
            "When the last certificate of a members' authority ends, since 1970",
            "authority",
            ends.iter().map(|(name, end)| (name.as_str(), *end)),
        );
        list.seconds(
            "start_time",
            "When the controller was started, since 1970",
            self.started.as_millisecond() as f64 / 1000.0,
        );
    }

    /// What the doors show, where it can be read.
    fn own_ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Certificates { intake, web } = &self.certificates;
        let shown = [("intake", intake), ("web", web)];
        shown.into_iter().filter_map(|(of, certificate)| {
            let end = certificate.as_ref()?.end()?;
            Some((of, since_1970(end)))
        })
    }

    /// Why no mail is taken; empty while it is.
    pub(crate) fn not_ready(&self) -> Vec<&'static str> {
        ready::reasons(&ready::Facts {
            stopping: self.stopping.has_changed().is_err(),
            log_failed: self.store.has_failed(),
            space: self.store.space(),
            completeness: self.registry.completeness(),
            all_sites_held: self.store.holds_all_sites(),
        })
    }
}

/// Whole seconds.
fn since_1970(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
}

fn log(list: &mut List, measures: &Measures) {
    list.histogram(
        "commit",
        "How long a commit of the log took, its sync included",
        Unit::Micros,
        &measures.commit_micros,
    );
    list.histogram(
        "commit_records",
        "Records of a commit",
        Unit::Count,
        &measures.commit_records,
    );
    for (name, help, value) in [
        (
            "log_written_bytes",
            "Bytes of records written to the log",
            measures.committed_bytes,
        ),
        (
            "log_rolled_segments",
            "Segments of the log begun",
            measures.rolled_segments,
        ),
        (
            "log_cleaned_segments",
            "Segments of the log cleaned",
            measures.cleaned_segments,
        ),
        (
            "log_carried_records",
            "Records that cleaning has written anew",
            measures.carried_records,
        ),
        (
            "log_carried_bytes",
            "Bytes that cleaning has written anew",
            measures.carried_bytes,
        ),
    ] {
        list.counter(name, help, value);
    }
    for (name, help, value) in [
        ("log_segments", "Segments of the log", measures.log_segments),
        ("log_bytes", "What they take", measures.log_bytes),
        (
            "log_live_bytes",
            "Bytes of the log that waiting mail needs",
            measures.live_bytes,
        ),
        (
            "log_spare_segments",
            "Segments made ahead; below 2 no new mail is taken where no more can be made",
            measures.spare_segments,
        ),
        (
            "log_cleaning",
            "1 while a segment is half emptied",
            u64::from(measures.cleaning),
        ),
        (
            "disk_free_bytes",
            "Free on the file system of the log",
            measures.free_bytes,
        ),
        (
            "disk_min_free_bytes",
            "Below this no new mail is taken",
            measures.min_free_bytes,
        ),
    ] {
        list.gauge(name, help, value);
    }
}
