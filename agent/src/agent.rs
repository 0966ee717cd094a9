//! What every attempt of this process shares, and the one way in which it tells what it did.
//!
//! # Invariants
//! A dot is in the journal before it is sent; without that it is not sent. A report is handed on when it is noted, and
//! written before it is told ([`crate::control`]). An agent whose journal fails says so, and gets no work.
//!
//! # Not here
//! When dots are told ([`crate::untold`]).

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dd_proto::id::{Lease, SessionId};
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::report::{DotSent, GivenBack, Report};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;

use crate::client_certificate::{ClientCertificates, NoCertificate, Shown};
use crate::connect::first_bound;
use crate::journal::{Journal, JournalError, ToSync};
use crate::lease::Leases;
use crate::places::Places;
use crate::plan::Plan;
use crate::resolve::Resolver;
use crate::service::Service;
use crate::tls::Tls;
use crate::untold::Untold;
use crate::visits::Visits;
use dd_proto::targets::TargetRules;

/// So often the journal is looked after.
const JOURNAL: Duration = Duration::from_millis(250);
/// A full disk does not become emptier by writing to it.
const MEND_AGAIN: Duration = Duration::from_secs(1);

/// Work handed to whoever runs the tasks.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Shared by all attempts.
#[derive(Debug)]
pub struct Agent {
    /// Outbound addresses.
    pub sources: Vec<IpAddr>,
    pub helo: String,
    pub resolver: Resolver,
    /// What the last visits to the sites' addresses came to.
    pub visits: Visits,
    pub tls: Tls,
    /// What is shown to hosts of sites that want to know who comes.
    pub certificates: ClientCertificates,
    pub rules: RwLock<Arc<TargetRules>>,
    /// Handoffs that move at once.
    pub slots: Arc<Places>,
    /// Connects, openings and still handoffs that may hang at once.
    pub probes: Arc<Places>,
    pub leases: Leases,
    pub journal: Arc<Journal>,
    pub untold: Untold,
    /// What keeps the agent from working, as it was last told; empty: nothing.
    pub trouble: Mutex<String>,
    /// The controller, while attached.
    pub controller: watch::Sender<Option<Channel>>,
    pub events: mpsc::UnboundedSender<Event>,
    pub work: mpsc::UnboundedSender<Work>,
    pub sessions: AtomicU64,
    pub service: Service,
}

impl Agent {
    /// Runs `work` beside everything else, until it ends or the process does.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Once nobody takes work any more the process is at its end.
        let _ = self.work.send(Box::pin(work));
    }

    pub fn next_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    pub fn rules(&self) -> Arc<TargetRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_rules(&self, rules: TargetRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The certificate that a plan wants its hosts to see.
    ///
    /// # Errors
    /// It wants one, and there is none.
    pub async fn to_be_shown(&self, plan: &Plan) -> Result<Shown, NoCertificate> {
        let Some(authority) = &plan.way.client_certificate else {
            return Ok(None);
        };
        let controller = self.controller.borrow().clone();
        let start = |renewal| self.start(renewal);
        let certificate = self.certificates.of(authority, controller, wall(), start);
        certificate.await.map(Some)
    }

    /// Looks whether any of its own addresses can be bound and the journal works, and tells it where that has changed: without
    /// them the agent can do nothing. Returns what keeps it from working.
    pub fn look_for_trouble(&self) -> String {
        let addresses = first_bound(&self.sources).err();
        let addresses = addresses.map(|error| error.to_string());
        let trouble = addresses.or_else(|| self.journal.trouble());
        let trouble = trouble.unwrap_or_default();
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != trouble {
            match trouble.as_str() {
                "" => tracing::info!("can work again"),
                trouble => tracing::warn!(trouble, "gets no work"),
            }
            known.clone_from(&trouble);
            self.tell(Event::Health(pb::Health {
                trouble: trouble.clone(),
            }));
        }
        trouble
    }

    /// What the journal needs besides what attempts do: for as long as the process lives.
    pub async fn keep_journal(self: Arc<Self>) {
        let mut look = tokio::time::interval(JOURNAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.journal.write_out();
            if self.journal.is_failing() {
                self.look_for_trouble();
                if self.at_the_disk(Journal::mend).await.is_err() {
                    tokio::time::sleep(MEND_AGAIN).await;
                }
                self.look_for_trouble();
            } else if self.journal.is_mostly_forgotten()
                && let Err(error) = self.at_the_disk(Journal::compact).await
            {
                tracing::warn!(%error, "the journal grows");
            }
        }
    }

    /// Tells the controller, if it listens. What must not be lost is in the journal.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Notes that the final dot goes out; it is told unless a report comes first.
    ///
    /// # Errors
    /// It could not be noted: the dot must not go out.
    pub async fn dot_goes_out(&self, dot: DotSent) -> Result<(), JournalError> {
        let lease = dot.lease.clone();
        let dot = dot.into();
        let noted = match self.journal.dot_sent(&lease, &dot) {
            Ok(to_sync) => self.is_on_disk(to_sync).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            self.journal.forget(&lease);
            self.look_for_trouble();
            return Err(error);
        }
        self.untold.dot_goes_out(lease, dot);
        Ok(())
    }

    /// The dot was noted and did not go out after all.
    pub fn dot_stays(&self, lease: &Lease) {
        self.untold.reported(lease);
        self.journal.forget(lease);
    }

    /// Notes and tells what came of an attempt, and lets go of its lease.
    pub async fn report(&self, report: Report) {
        log(&report);
        let lease = report.lease.clone();
        let report = report.into();
        let to_sync = self.journal.report(&lease, &report);
        if let Err(error) = self.is_on_disk(to_sync).await {
            tracing::error!(%error, "a report is not in the journal");
            self.look_for_trouble();
        }
        self.leases.done(&lease);
        self.untold.reported(&lease);
        self.tell(Event::Report(Box::new(report)));
    }

    /// Gives an assignment back untried.
    pub fn give_back(&self, lease: &Lease, reason: GivenBack) {
        tracing::debug!(delivery = %lease.delivery, ?reason, "given back");
        let reason = match reason {
            GivenBack::StalePlan => pb::given_back::Reason::StalePlan,
            GivenBack::Closing => pb::given_back::Reason::Closing,
            GivenBack::LeaseExpired => pb::given_back::Reason::LeaseExpired,
            GivenBack::SessionEnded => pb::given_back::Reason::SessionEnded,
            GivenBack::Recalled => pb::given_back::Reason::Recalled,
        };
        self.leases.done(lease);
        self.tell(Event::GivenBack(pb::GivenBack {
            lease: Some(lease.clone().into()),
            reason: reason.into(),
        }));
    }

    /// Returns when what was noted is on the disk, where it has to be.
    ///
    /// # Errors
    /// It is not.
    pub async fn is_on_disk(&self, to_sync: ToSync) -> Result<(), JournalError> {
        match to_sync {
            None => Ok(()),
            Some(upto) => self.at_the_disk(move |journal| journal.sync_to(upto)).await,
        }
    }

    /// The disk takes milliseconds, so nothing waits for it where sessions run.
    async fn at_the_disk(
        &self,
        work: impl FnOnce(&Journal) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<(), JournalError> {
        let journal = Arc::clone(&self.journal);
        match tokio::task::spawn_blocking(move || work(&journal)).await {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

/// A field that has nothing to say is left out of a line: an attempt that found no address has none.
fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What went well stands in the controller's log, with all that is said here.
fn log(report: &Report) {
    macro_rules! attempt_ended {
        ($level:ident) => {
            tracing::$level!(
                id = %report.lease.delivery.message,
                site = %report.lease.delivery.site,
                agent = said(&report.observed.local),
                peer = said(&report.observed.peer),
                proof = said(&report.observed.proof),
                refusal = report.observed.refusal.as_ref().map(|r| r.reason.as_str()),
                outcome = ?report.outcome,
                detail = said(&report.detail),
                ms = u64::try_from(report.delays.total.as_millis()).unwrap_or(u64::MAX),
                "attempt ended"
            )
        };
    }
    match report.accepted_all() {
        true => attempt_ended!(debug),
        false => attempt_ended!(info),
    }
}

/// The loops' clock, read once for each event; that of the runtime, which a simulation moves together with its timers.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The loops' wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "read once for each event, by the loops only"
)]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
