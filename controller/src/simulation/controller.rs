//! One life of a controller: store and loop, stepped by hand. It ends with a crash or a clean stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ledger::Ledger;
use crate::dispatch::{
    self, Backing, Chance, Clock, ClockNews, Handle, NotRead, Now, ReadOf, StoreFailed, Terms,
};
use crate::intake::accept::Submission;
use crate::intake::policy::Space;
use crate::store::local::On;
use crate::store::local::steps::Steps;
use crate::store::local::wall::WallClock;
use crate::store::{
    Count, Head, HeadOf, Loaded, Note, Owing, Settings, Settlement, Spooled, Store, Waiting,
    WithMail,
};

/// The wall clock of the machine, which can be set.
#[derive(Debug, Clone)]
pub(super) struct Wall {
    began: Instant,
    set_by_s: Arc<AtomicI64>,
}

impl Wall {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            set_by_s: Arc::default(),
        }
    }

    /// By so many seconds against the right time.
    pub(super) fn set(&self, seconds: i64) {
        self.set_by_s.store(seconds, Ordering::Relaxed);
    }
}

impl WallClock for Wall {
    fn wall(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        let set = SignedDuration::from_secs(self.set_by_s.load(Ordering::Relaxed));
        let start = SignedDuration::from_hours(24 * 365 * 50);
        Timestamp::UNIX_EPOCH + start + passed + set
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The clocks of one life.
#[derive(Debug)]
struct Clocks {
    began: Instant,
    wall: Wall,
}

impl Clock for Clocks {
    fn now(&self) -> Now {
        Now {
            monotonic: self.began.elapsed(),
            wall: self.wall.wall(),
        }
    }
}

/// What a controller is started with.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) on: On,
    pub(super) settings: Settings,
    pub(super) wall: Wall,
    pub(super) sites: Vec<Arc<Site>>,
    pub(super) agents: Vec<(AgentName, Terms)>,
}

/// A controller that runs.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) store: Store,
    pub(super) handle: Handle,
    steps: Steps,
    running: JoinHandle<()>,
}

impl Controller {
    /// None: the disk failed, and the process has ended.
    pub(super) async fn start(machine: Machine, ledger: &Ledger, rng: StdRng) -> Option<Self> {
        let clock = Clocks {
            began: Instant::now(),
            wall: machine.wall,
        };
        let (now, sites) = (clock.now().wall, machine.sites);
        let (store, steps, report) = Store::open_stepped(machine.on, &machine.settings).ok()?;
        ledger.entries().note(format!("start {}", report.start));
        let backing = Watched {
            store: store.clone(),
            ledger: ledger.clone(),
        };
        let memory = dispatch::clock_at_start(&store, report.newest, &sites, now);
        let settings = dispatch::Settings {
            start_number: report.start,
            clock: memory.await.ok()?,
            notifier: crate::dsn::samples::notifier(),
        };
        let chance = Chance { clock, rng };
        let (handle, run) = dispatch::start_with(settings, chance, backing, sites, machine.agents);
        Some(Self {
            store,
            handle,
            steps,
            running: tokio::spawn(run),
        })
    }

    /// All that waits for the log is one commit.
    pub(super) fn commit(&mut self) {
        self.steps.commit();
    }

    /// The index learns what earlier starts left, or else writes behind the log.
    pub(super) fn index(&mut self) {
        self.steps.index();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.store.has_failed()
    }

    /// As `kill -9` does.
    pub(super) async fn crash(self) {
        self.running.abort();
        if let Err(ended) = self.running.await
            && ended.is_panic()
        {
            std::panic::resume_unwind(ended.into_panic());
        }
    }

    /// As SIGTERM does, without waiting for agents.
    pub(super) async fn stop(mut self) {
        let store = self.store.clone();
        let closing = tokio::spawn(async move { store.close().await });
        while !closing.is_finished() {
            self.steps.commit();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.crash().await;
    }
}

/// The store, and a note in the ledger of what it said is durable.
#[derive(Debug, Clone)]
struct Watched {
    store: Store,
    ledger: Ledger,
}

impl Backing for Watched {
    async fn settle(&self, batch: Vec<Owing<Settlement>>) -> Result<Vec<Waiting>, StoreFailed> {
        let settlements: Vec<_> = batch.iter().map(|owing| owing.what.clone()).collect();
        let (mut reports, mut wrong) = (Vec::new(), Vec::new());
        for owing in &batch {
            let mut entries = self.ledger.entries();
            let unread = entries.is_unread(&owing.what.delivery);
            match entries.senders.settling(owing, unread) {
                Ok(report) => reports.extend(report),
                Err(said) => wrong.push((owing.what.delivery.clone(), said)),
            }
            entries.settling(&owing.what);
        }
        let accepted = Backing::settle(&self.store, batch).await?;
        let mut entries = self.ledger.entries();
        // Without power nothing can be read, and nothing becomes durable.
        if let Some((delivery, said)) = wrong.first() {
            panic!("{said}:\n{}", entries.life_of(delivery));
        }
        settlements.iter().for_each(|it| entries.settled(it));
        reports.into_iter().for_each(|it| entries.acknowledged(it));
        Ok(accepted)
    }

    async fn note(&self, batch: Vec<Owing<Note>>) -> Result<Vec<Waiting>, StoreFailed> {
        let noting = |owing| self.ledger.entries().senders.noting(owing);
        let reports: Vec<_> = batch.iter().filter_map(noting).collect();
        let accepted = Backing::note(&self.store, batch).await?;
        let mut entries = self.ledger.entries();
        reports.into_iter().for_each(|it| entries.acknowledged(it));
        Ok(accepted)
    }

    async fn remember_clock(&self, news: ClockNews) -> Result<(), StoreFailed> {
        Backing::remember_clock(&self.store, news).await
    }

    async fn accept(&self, submission: Submission<Spooled>) -> Result<Vec<Waiting>, StoreFailed> {
        Backing::accept(&self.store, submission).await
    }

    fn space(&self) -> Space {
        Backing::space(&self.store)
    }

    async fn remember_timer(&self, site: SiteName, at: Option<Timestamp>) {
        Backing::remember_timer(&self.store, site, at).await;
    }

    async fn heads(&self, of: Vec<HeadOf>) -> Result<Vec<Head>, StoreFailed> {
        Backing::heads(&self.store, of).await
    }

    async fn left(&self, site: SiteName, limit: usize) -> Result<Vec<Waiting>, StoreFailed> {
        Backing::left(&self.store, site, limit).await
    }

    async fn load(&self, delivery: DeliveryId) -> Result<Option<Loaded>, NotRead> {
        Backing::load(&self.store, delivery).await
    }

    async fn load_all(&self, deliveries: Vec<DeliveryId>) -> Vec<ReadOf> {
        Backing::load_all(&self.store, deliveries).await
    }

    async fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreFailed> {
        Backing::find(&self.store, message).await
    }

    fn count(&self, site: &SiteName) -> Count {
        Backing::count(&self.store, site)
    }

    fn sites_with_mail(&self) -> Vec<WithMail> {
        Backing::sites_with_mail(&self.store)
    }

    fn all_known(&self) -> watch::Receiver<bool> {
        Backing::all_known(&self.store)
    }
}
