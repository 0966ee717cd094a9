//! Every door that wakes a site, and the one [`Wakeup::release`] behind all of them.
//!
//! | door | file |
//! | --- | --- |
//! | ETRN over SMTP | [`smtp`] |
//! | `/etrn`, `/intern/etrn.cgi`, `/wake/SECRET` | [`url`] |
//! | `/nic/update` | [`dyndns`] |
//! | the portal's button | [`crate::web::portal`] |
//! | `ddadm etrn` | [`crate::api::sites`] |
//!
//! # Invariants
//! - Mail goes to the configured hosts, never to whoever asks.
//! - Who has not proved to be the site learns nothing about it, and uses up nothing of what the site itself may do.
//!
//! # Not here
//! What a release does to the queue: [`crate::dispatch`].

mod certificate;
pub mod dyndns;
pub mod failures;
mod limits;
pub mod members;
pub mod outcome;
pub(crate) mod reported;
pub mod smtp;
pub mod url;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dd_proto::name::SiteName;
use dd_proto::site::Site;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;

use crate::credentials::Passwords;
use crate::dispatch::{Handle, Released};
use crate::limit::bucket::Empty;
use crate::limit::line::Sparing;
use crate::registry::Registry;
use crate::store::{Count, Store};
use certificate::{Judge, Proves};
use failures::FailuresByDoor;
use limits::Limits;
use members::Members;
pub use reported::Reported;

/// Nobody waits longer for what comes of a release.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// Releases that strangers asked for and that dispatch has not heard of; each is for another client or site.
const MAX_RELEASES: usize = 4096;

/// Who asks. All of them have proved to act for the site; strangers have a way of their own, [`Wakeup::knock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// Administrators have no limit.
    Operator(String),
    Member {
        client: IpAddr,
        door: Door,
    },
}

/// Which way a member came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Smtp,
    Url,
    Secret,
    DynDns,
    Portal,
}

impl Door {
    /// For logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Smtp => "etrn",
            Self::Url => "url",
            Self::Secret => "wake",
            Self::DynDns => "dyndns",
            Self::Portal => "portal",
        }
    }
}

/// Why nothing was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReleased {
    #[error("there is no such site")]
    Unknown,
    #[error("asked too often: again in {} seconds", .0.as_secs() + 1)]
    TooOften(Duration),
}

/// A member's last call, as the portal shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub at: Timestamp,
    pub door: Door,
    pub client: IpAddr,
    /// What a DynDNS client reported last; shown, never trusted.
    pub reported: Option<Reported>,
}

/// What all doors share.
#[derive(Debug, Clone)]
pub struct Wakeup(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    store: Store,
    dispatch: Handle,
    members: Members,
    limits: Mutex<Limits>,
    judge: Judge,
    calls: Mutex<HashMap<SiteName, Call>>,
    knocks: mpsc::Sender<SiteName>,
    began: Instant,
}

const LOCK: &str = "no holder of this lock panics";

/// Releases that strangers asked for, on their way to dispatch.
#[derive(Debug)]
pub struct Knocks {
    asked: mpsc::Receiver<SiteName>,
    dispatch: Handle,
}

impl Knocks {
    /// Serves until every door is gone.
    pub async fn serve(mut self) {
        while let Some(site) = self.asked.recv().await {
            self.dispatch.knock(site).await;
        }
    }
}

impl Wakeup {
    pub fn new(
        registry: Registry,
        store: Store,
        dispatch: Handle,
        passwords: Arc<Passwords>,
        failures: FailuresByDoor,
    ) -> (Self, Knocks) {
        let (knocks, asked) = mpsc::channel(MAX_RELEASES);
        let began = began();
        let waiting = Knocks {
            asked,
            dispatch: dispatch.clone(),
        };
        let inner = Inner {
            members: Members::new(registry.clone(), passwords, failures, began),
            registry,
            store,
            dispatch,
            limits: Mutex::default(),
            judge: Judge::default(),
            calls: Mutex::default(),
            knocks,
            began,
        };
        (Self(Arc::new(inner)), waiting)
    }

    /// Everybody who can sign in.
    pub fn members(&self) -> &Members {
        &self.0.members
    }

    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Makes everything of a site due; with `wait`, says what came of it, at the latest after that time.
    ///
    /// # Errors
    /// There is no such site, or it was asked for too often.
    pub async fn release(
        &self,
        site: &SiteName,
        asker: &Asker,
        wait: Option<Duration>,
    ) -> Result<Released, NotReleased> {
        match asker {
            Asker::Operator(who) => tracing::info!(%site, %who, "released by an operator"),
            Asker::Member { client, door } => {
                self.member_may(*client, site)?;
                let client = client.to_canonical();
                let word = door.word();
                if self.is_held(site) {
                    tracing::info!(%site, %client, door = word, "asked for by its member, and held");
                } else {
                    tracing::info!(%site, %client, door = word, "released by its member");
                }
                self.called(site, *door, client, None);
            }
        }
        let wait = wait.map(|wait| wait.min(MAX_WAIT));
        let released = self.0.dispatch.release(site.clone(), wait).await;
        released.ok_or(NotReleased::Unknown)
    }

    /// Whether nothing comes of a release now.
    fn is_held(&self, site: &SiteName) -> bool {
        let hold = self
            .0
            .registry
            .site(site)
            .and_then(|site| site.hold.clone());
        hold.is_some_and(|hold| hold.until.is_none_or(|until| until > wall()))
    }

    /// A stranger asks for what may be a site: coalesced, not waited for, and never answered.
    pub(crate) fn knock(&self, site: &SiteName, client: IpAddr) {
        let now = monotonic(self.0.began);
        let mut limits = self.0.limits.lock().expect(LOCK);
        if limits.stranger_at(client, site, now).is_err() {
            return;
        }
        drop(limits);
        static KNOCKS: Sparing = Sparing::one_a_second();
        if let Some(unsaid) = KNOCKS.due(wall()) {
            let client = client.to_canonical();
            tracing::info!(%site, %client, unsaid, "released by ETRN of a client that proved nothing");
        }
        static DROPPED: Sparing = Sparing::one_a_second();
        if self.0.knocks.try_send(site.clone()).is_err()
            && let Some(unsaid) = DROPPED.due(wall())
        {
            tracing::warn!(%site, unsaid, "too many ETRN at once: one was dropped");
        }
    }

    /// Whether a stranger's request is looked at.
    pub(crate) fn stranger_may(&self, client: IpAddr) -> bool {
        let now = monotonic(self.0.began);
        let mut limits = self.0.limits.lock().expect(LOCK);
        limits.stranger(client, now).is_ok()
    }

    /// Whether a chain that could be the site's is.
    fn is_certified(&self, site: &Site, client: IpAddr, chain: &[CertificateDer<'static>]) -> bool {
        let now = monotonic(self.0.began);
        let may = self.0.limits.lock().expect(LOCK).judged(client, now);
        may.is_ok() && self.0.judge.rule(site, chain, &self.0.registry, wall()) == Proves::Site
    }

    /// Whether a member may cause work for the site again.
    pub(crate) fn member_may(&self, client: IpAddr, site: &SiteName) -> Result<(), NotReleased> {
        let now = monotonic(self.0.began);
        let mut limits = self.0.limits.lock().expect(LOCK);
        let may = limits.member_at(client, site, now);
        may.map_err(|Empty(wait)| NotReleased::TooOften(wait))
    }

    /// Whether a member may have a certificate issued now.
    ///
    /// # Errors
    /// That was too often.
    pub(crate) fn member_may_be_certified(
        &self,
        client: IpAddr,
        site: &SiteName,
    ) -> Result<(), NotReleased> {
        let now = monotonic(self.0.began);
        let mut limits = self.0.limits.lock().expect(LOCK);
        let may = limits.certified(client, site, now);
        may.map_err(|Empty(wait)| NotReleased::TooOften(wait))
    }

    /// What waits for a site.
    pub fn count(&self, site: &SiteName) -> Count {
        self.0.store.count(site)
    }

    /// Whether the queue of earlier starts has been read to its end.
    pub fn knows_all(&self) -> bool {
        *self.0.store.all_known().borrow()
    }

    /// Remembers a call, for the portal.
    pub(crate) fn called(
        &self,
        site: &SiteName,
        door: Door,
        client: IpAddr,
        reported: Option<Reported>,
    ) {
        let mut calls = self.0.calls.lock().expect(LOCK);
        let before = calls.get(site).and_then(|call| call.reported);
        let call = Call {
            at: wall(),
            door,
            client,
            reported: reported.or(before),
        };
        calls.insert(site.clone(), call);
    }

    /// The site is gone: whoever has its name next is shown nothing of it, nor helped by what it has shown.
    pub(crate) fn forget(&self, site: &SiteName) {
        self.0.calls.lock().expect(LOCK).remove(site);
        self.0.members.forget(site);
    }

    pub fn last_call(&self, site: &SiteName) -> Option<Call> {
        self.0.calls.lock().expect(LOCK).get(site).copied()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a request happens now; what it calls takes the time as an argument"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the limits count from here; they take the time as an argument"
)]
fn began() -> Instant {
    Instant::now()
}

/// Since the doors were opened.
pub(crate) fn monotonic(began: Instant) -> Duration {
    began.elapsed()
}
