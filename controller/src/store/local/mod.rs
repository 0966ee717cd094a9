//! The engine on one machine: the queue log and its writer, sled behind it, the registry's log, content files.
//!
//! ```text
//! <state_dir>/ lock  clean-stop
//!   queue/     segments of the queue log      (truth)
//!   registry/  segments of the registry log   (truth)
//!   content/   contents over 256 KiB          (truth, named by records)
//!   index/     sled                           (derived)
//!   ballast    space held back for a rebuild of the index
//!   quarantine/  what a start could not read
//! ```
//!
//! # Not here
//! What a start does ([`start`]), the commit ([`writer`]), formats ([`segment`], [`record`], [`body`]).

mod ballast;
mod body;
mod clean;
pub(super) mod content;
pub(crate) mod disk;
mod free;
pub(crate) mod fuzzing;
pub(crate) mod index;
mod learn;
#[cfg(test)]
pub(crate) mod lies_in;
mod load;
mod log;
mod meter;
mod pieces;
mod quarantine;
mod reaper;
mod record;
mod registry;
mod replay;
mod segment;
pub(crate) mod spares;
mod start;
pub(crate) mod steps;
mod torn;
pub(crate) mod wall;
mod wording;
mod writer;

#[cfg(test)]
mod addresses_tests;
#[cfg(test)]
mod clean_tests;
#[cfg(test)]
mod costs_tests;
#[cfg(test)]
mod learn_tests;
#[cfg(test)]
mod power_cut_tests;
#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod sampled_damage_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_cleaning_tests;
#[cfg(test)]
mod unreadable_tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;

use crate::intake::accept::{AcceptError, Content, Submission};
use crate::intake::policy::Space;
use crate::store::{
    Count, EnvelopeOf, Head, HeadOf, ListPosition, Loaded, LoadedOf, LogFailed, Measures, Note,
    OpenError, Owing, Progress, Record, Remembered, Settings, Settlement, Stage, StartReport,
    StoreError, Waiting, WithMail,
};

use ballast::{BALLAST_BYTES, Ballast};
use clean::Cleaner;
use content::{Contents, Spooled};
use disk::{Lock, RealDisk, SharedDisk};
use free::{Free, Told};
use index::Index;
use index::entry::millis;
use index::on_sled::OnSled;
use index::shelf::Shelves;
use learn::{Known, Learner};
use load::{Sources, envelope, load};
use log::{AppendError, Files};
use meter::Meter;
use quarantine::Room;
use reaper::Reaper;
use registry::Registry;
use spares::{Level, Making};
use start::{Places, Started};
use steps::Steps;
use wall::{Times, WallClock};
use wording::{accepted_of, content_of, noted_of, settled_of};
use writer::{Request, Writer};

/// Longer content is not read with the record where several are read: no assignment carries it.
const READ_TOGETHER: u64 = 64 << 10;
/// Requests that may wait for the writer; beyond them callers wait.
const REQUESTS: usize = 4096;

/// The engine.
#[derive(Debug)]
pub(crate) struct Local {
    places: Places,
    start: u64,
    free: Free,
    told: Told,
    requests: mpsc::Sender<Request>,
    index: Arc<Index>,
    files: Files,
    contents: Contents,
    meter: Arc<Meter>,
    spares: Level,
    registry: Arc<Registry>,
    known: Arc<Known>,
    failed: watch::Sender<bool>,
    threads: Mutex<Option<Threads>>,
    times: Arc<Times>,
    blocking: Blocking,
    /// Held for as long as the process uses the directory.
    _lock: Box<dyn Lock>,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    index: JoinHandle<()>,
    /// Dropped, it ends the thread of the index.
    end_index: std::sync::mpsc::Sender<()>,
}

/// What a store stands on.
#[derive(Debug)]
pub(crate) struct On {
    /// Where all files but the index lie.
    pub(crate) disk: SharedDisk,
    /// When segments of the queue log are made.
    pub(crate) making: Making,
    pub(crate) shelves: Arc<dyn Shelves>,
    /// Space held back for a rebuild of the index; 0: none.
    pub(crate) ballast_bytes: u64,
    pub(crate) wall: Arc<dyn WallClock>,
    pub(crate) blocking: Blocking,
}

/// Who waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// Threads that serve nobody else.
    Threads,
    /// The caller, and what [`steps::Steps`] are called for: in a simulation nothing may depend on threads.
    #[cfg(test)]
    Caller,
}

impl Blocking {
    /// # Errors
    /// The work panicked.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await,
            #[cfg(test)]
            Self::Caller => Ok(work()),
        }
    }
}

impl Local {
    pub(crate) fn open(settings: &Settings) -> Result<(Self, StartReport), OpenError> {
        let on = On {
            disk: Arc::new(RealDisk),
            making: Making::Ahead,
            shelves: Arc::new(OnSled::new(&settings.dir.join("index"))),
            ballast_bytes: BALLAST_BYTES,
            wall: Arc::new(wall::MachineWall),
            blocking: Blocking::Threads,
        };
        Self::open_on(on, settings)
    }

    pub(crate) fn open_on(on: On, settings: &Settings) -> Result<(Self, StartReport), OpenError> {
        let making = on.making;
        let (mut local, steps, report) = Self::assemble(on, settings)?;
        let Steps {
            mut writer,
            learner,
            end_index,
        } = steps;
        // Where segments are made by whoever takes one, files are removed by whoever has settled their mail.
        if making == Making::Ahead {
            writer.reaper.begin();
        }
        let places = &local.places;
        let threads = Threads {
            writer: spawn("log writer", places, move || writer.run())?,
            index: spawn("index", places, move || learner.run())?,
            end_index,
        };
        local.threads = Mutex::new(Some(threads));
        Ok((local, report))
    }

    /// Everything but the threads.
    pub(crate) fn assemble(
        on: On,
        settings: &Settings,
    ) -> Result<(Self, Steps, StartReport), OpenError> {
        let Started {
            lock,
            places,
            start,
            queue,
            files,
            contents,
            registry,
            old,
            own,
            clean_stop,
            report,
        } = start::start(on.disk, on.making, settings)?;
        let failed = watch::Sender::new(false);
        let (known, index) = (Arc::new(Known::new()), Arc::new(Index::new(own, start)));
        let (end_index, ended) = std::sync::mpsc::channel();
        let learner = Learner {
            index: Arc::clone(&index),
            shelves: on.shelves,
            places: places.clone(),
            contents: contents.clone(),
            old,
            clean_stop,
            start,
            known: Arc::clone(&known),
            ballast: Ballast::new(&places.root, on.ballast_bytes),
            failed: failed.clone(),
            ended,
        };
        let times = Arc::new(Times::new(report.newest, on.wall));
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (meter, spares) = (Arc::new(Meter::default()), queue.spares().level());
        let writer = Writer {
            cleaner: Cleaner::new(
                Arc::clone(&index),
                files.clone(),
                places.quarantine.clone(),
                settings.segment_bytes,
            ),
            meter: Arc::clone(&meter),
            log: queue,
            index: Arc::clone(&index),
            requests: receiver,
            failed: failed.clone(),
            reaper: Reaper::here(contents.clone()),
            times: Arc::clone(&times),
            start,
            before: None,
            owed: Vec::new(),
            room: writer::Room::default(),
        };
        let local = Self {
            places,
            start,
            free: Free::new(settings.min_free),
            told: Told::default(),
            requests,
            index,
            files,
            contents,
            meter,
            spares,
            registry: Arc::new(registry),
            known,
            failed,
            threads: Mutex::new(None),
            times,
            blocking: on.blocking,
            _lock: lock,
        };
        let steps = Steps {
            writer,
            learner,
            end_index,
        };
        Ok((local, steps, report))
    }

    pub(crate) fn start_number(&self) -> u64 {
        self.start
    }

    pub(crate) async fn accept(
        &self,
        submission: Submission<Spooled>,
    ) -> Result<Vec<Waiting>, AcceptError> {
        let (id, mut accepted) = (submission.id, Box::new(accepted_of(&submission)));
        accepted.arrived_ms = millis(self.times.arrived(submission.arrived));
        let (inline, file) = match submission.content {
            Content::Inline(bytes) => {
                accepted.bytes = bytes.len() as u64;
                (bytes, None)
            }
            Content::Spooled(spooled) => {
                let syncing = self.blocking.run(move || {
                    let synced = spooled.sync();
                    (spooled, synced)
                });
                let synced = syncing.await.map_err(|ended| {
                    self.ended(&ended);
                    AcceptError::LogFailed
                })?;
                let (spooled, synced) = synced;
                let synced = synced.map_err(|error| {
                    tracing::warn!(%error, "a content file cannot be synced");
                    AcceptError::Full
                })?;
                accepted.bytes = synced.bytes;
                accepted.file = synced.name;
                accepted.file_crc = synced.crc;
                (Bytes::new(), Some(spooled))
            }
        };
        if accepted.encoded_len() > record::MAX_ENVELOPE as usize {
            tracing::error!(%id, "an envelope is too large for a record");
            return Err(AcceptError::Full);
        }
        let accept = |answer| Request::Accept {
            accepted,
            inline,
            file,
            answer,
        };
        self.ask(accept, AcceptError::LogFailed).await
    }

    pub(crate) async fn spool(&self) -> Result<Spooled, AcceptError> {
        let (contents, start) = (self.contents.clone(), self.start);
        let random = rand::random();
        self.blocking
            .run(move || contents.spool(start, random))
            .await
            .map_err(|ended| {
                self.ended(&ended);
                AcceptError::LogFailed
            })?
            .map_err(|error| {
                tracing::warn!(%error, "no content file can be made");
                AcceptError::Full
            })
    }

    pub(crate) async fn settle(
        &self,
        batch: Vec<Owing<Settlement>>,
    ) -> Result<Vec<Waiting>, LogFailed> {
        let batch = batch.into_iter().map(|owing| writer::Owing {
            envelope: settled_of(&owing.what, owing.dsn.as_ref()),
            content: content_of(owing.dsn),
        });
        let batch = batch.collect();
        self.ask(|answer| Request::Settle { batch, answer }, LogFailed)
            .await
    }

    pub(crate) async fn note(&self, batch: Vec<Owing<Note>>) -> Result<Vec<Waiting>, LogFailed> {
        let batch = batch.into_iter().map(|owing| writer::Owing {
            envelope: noted_of(&owing.what, owing.dsn.as_ref()),
            content: content_of(owing.dsn),
        });
        let batch = batch.collect();
        self.ask(|answer| Request::Note { batch, answer }, LogFailed)
            .await
    }

    /// `failed`: what to say where the writer is gone.
    async fn ask<T, E: Copy>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
        failed: E,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(answer)).await;
        sent.map_err(|_| failed)?;
        answered.await.map_err(|_| failed)?
    }

    pub(crate) fn site_timer(&self, site: &SiteName, at: Option<Timestamp>) {
        self.index.set_timer(site, at);
    }

    pub(crate) async fn heads(&self, of: Vec<HeadOf>) -> Result<Vec<Head>, StoreError> {
        let head = |index: &Index, of: HeadOf| index.head(&of.site, of.after, of.due, of.limit);
        self.look(move |index| of.into_iter().map(|it| head(index, it)).collect())
            .await
    }

    pub(crate) async fn load(&self, delivery: DeliveryId) -> Result<Option<Loaded>, StoreError> {
        let loaded = self.load_up_to(u64::MAX, vec![delivery]).await?;
        loaded.into_iter().next().map_or(Ok(None), |(_, it)| it)
    }

    pub(crate) async fn load_all(
        &self,
        deliveries: Vec<DeliveryId>,
    ) -> Result<Vec<LoadedOf>, StoreError> {
        self.load_up_to(READ_TOGETHER, deliveries).await
    }

    async fn load_up_to(
        &self,
        most: u64,
        deliveries: Vec<DeliveryId>,
    ) -> Result<Vec<LoadedOf>, StoreError> {
        let sources = Sources {
            files: self.files.clone(),
            contents: self.contents.clone(),
            start: self.start,
            most,
        };
        let load_one =
            move |index: &Index, delivery: DeliveryId| match load(index, &sources, &delivery) {
                Err(error @ (StoreError::Index(_) | StoreError::IndexFull)) => Err(error),
                loaded => Ok((delivery, loaded)),
            };
        self.look(move |index| {
            let loaded = deliveries.into_iter().map(|it| load_one(index, it));
            loaded.collect()
        })
        .await
    }

    pub(crate) async fn envelopes(
        &self,
        deliveries: Vec<DeliveryId>,
    ) -> Result<Vec<EnvelopeOf>, StoreError> {
        let files = self.files.clone();
        self.look(move |index| {
            let read = |delivery: &DeliveryId| match envelope(index, &files, delivery) {
                Err(error @ (StoreError::Index(_) | StoreError::IndexFull)) => Err(error),
                read => Ok(read),
            };
            deliveries.iter().map(read).collect()
        })
        .await
    }

    pub(crate) async fn find(&self, id: MessageId) -> Result<Vec<Waiting>, StoreError> {
        self.look(move |index| index.find(id)).await
    }

    pub(crate) async fn list(
        &self,
        site: Option<SiteName>,
        after: Option<ListPosition>,
        limit: usize,
    ) -> Result<(Vec<Waiting>, Option<ListPosition>), StoreError> {
        let listed = self
            .look(move |index| {
                let after = after.as_ref().map(|after| after.0.as_slice());
                index.list(site.as_ref(), after, limit)
            })
            .await?;
        let next = match listed.len() == limit {
            true => listed.last().map(|(key, _)| ListPosition(key.clone())),
            false => None,
        };
        Ok((
            listed.into_iter().map(|(_, waiting)| waiting).collect(),
            next,
        ))
    }

    /// Looks into the index where blocking is allowed. A failure of the index ends the process: it is rebuilt.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Index) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let index = Arc::clone(&self.index);
        let looked = self.blocking.run(move || look(&index)).await;
        let result = looked.map_err(|ended| self.ended(&ended))?;
        if let Err(error @ (StoreError::Index(_) | StoreError::IndexFull)) = &result {
            tracing::error!(%error, "the index failed; the next start rebuilds it");
            self.failed.send_replace(true);
        }
        result
    }

    pub(crate) fn count(&self, site: &SiteName) -> Count {
        self.index.count_of(site)
    }

    pub(crate) fn total(&self) -> Count {
        self.index.total()
    }

    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        let millis = i64::try_from(self.index.oldest_ms()?).ok()?;
        Timestamp::from_millisecond(millis).ok()
    }

    pub(crate) fn sites_with_mail(&self) -> Vec<WithMail> {
        self.index.sites()
    }

    pub(crate) fn all_known(&self) -> watch::Receiver<bool> {
        self.known.all.subscribe()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.known.progress()
    }

    pub(crate) fn holds_all_sites(&self) -> bool {
        self.registry.holds_all()
    }

    pub(crate) async fn registry_repaired(&self) -> Result<(), LogFailed> {
        let now = self.times.written_ms();
        self.change(move |registry| registry.repaired(now)).await
    }

    pub(crate) fn clock_is_believed(&self) {
        self.times.believe();
    }

    pub(crate) fn clock_is_right(&self) {
        self.times.confirm();
    }

    pub(crate) fn measures(&self) -> Measures {
        let (log_segments, log_bytes) = self.files.size();
        let (live, cleaned) = (self.index.live(), self.meter.cleaned_so_far());
        let room = self.places.disk.room(&self.places.root).ok();
        Measures {
            log_segments,
            log_bytes,
            live_deliveries: live.deliveries,
            live_bytes: live.bytes,
            spare_segments: self.spares.ready() as u64,
            free_bytes: room.map_or(0, |room| room.free),
            min_free_bytes: room.map_or(0, |room| self.free.least_of(room.total)),
            rolled_segments: self.meter.rolled_segments(),
            cleaned_segments: cleaned.segments,
            carried_records: cleaned.records,
            carried_bytes: cleaned.bytes,
            cleaning: self.meter.is_cleaning(),
            committed_bytes: self.meter.committed_bytes(),
            commit_micros: self.meter.commit_micros(),
            commit_records: self.meter.commit_records(),
        }
    }

    /// That mail is refused for want of room, and that it no longer is, the log says itself: one line each.
    pub(crate) fn space(&self) -> Space {
        let space = self.room_for_mail();
        if self.told.is_news(space, self.times.monotonic()) {
            match space {
                Space::Short => tracing::warn!(
                    directory = %self.places.root.display(),
                    "space is short: mail is answered 452 until the disk has room"
                ),
                Space::Enough => tracing::info!("the disk has room again: mail is taken"),
            }
        }
        space
    }

    fn room_for_mail(&self) -> Space {
        if self.spares.is_low() {
            return Space::Short;
        }
        if matches!(self.progress().stage, Stage::NoRoom { .. }) {
            return Space::Short;
        }
        let look = || self.places.disk.room(&self.places.root).ok();
        match self.free.is_more(self.times.monotonic(), look) {
            true => Space::Enough,
            false => Space::Short,
        }
    }

    pub(crate) async fn put(
        &self,
        family: &'static str,
        key: String,
        value: Option<Bytes>,
    ) -> Result<u64, LogFailed> {
        let now = self.times.written_ms();
        self.change(move |registry| registry.put(family, &key, value, now))
            .await
    }

    pub(crate) async fn put_all(
        &self,
        family: &'static str,
        records: Vec<(String, Bytes)>,
    ) -> Result<Vec<u64>, LogFailed> {
        let now = self.times.written_ms();
        self.change(move |registry| registry.put_all(family, records, now))
            .await
    }

    pub(crate) async fn remember(
        &self,
        family: &'static str,
        records: Vec<(String, Option<Bytes>)>,
    ) -> Result<Remembered, LogFailed> {
        if self.space() == Space::Short {
            return Ok(Remembered::NoRoom);
        }
        let now = self.times.written_ms();
        let remember = move |registry: &Registry| match registry.remember(family, records, now) {
            Ok(()) => Ok(Remembered::Written),
            Err(AppendError::Full) => Ok(Remembered::NoRoom),
            Err(error) => Err(error),
        };
        self.change(remember).await
    }

    /// Work that panicked leaves whoever waits for it without an answer for ever: the process ends, as for a task.
    fn ended(&self, ended: &JoinError) -> StoreError {
        if ended.is_panic() && !self.failed.send_replace(true) {
            tracing::error!(error = %ended, "a look into the store panicked; the process ends");
        }
        StoreError::Closed
    }

    /// Changes the registry where blocking is allowed.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Registry) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, LogFailed> {
        let registry = Arc::clone(&self.registry);
        let changed = self.blocking.run(move || change(&registry)).await;
        let changed = changed.map_err(|ended| {
            self.ended(&ended);
            LogFailed
        })?;
        changed.map_err(|error| {
            tracing::error!(%error, "the registry's log cannot be written");
            if matches!(error, AppendError::Failed(_)) {
                self.failed.send_replace(true);
            }
            LogFailed
        })
    }

    pub(crate) fn records(&self, family: &'static str) -> Vec<Record> {
        self.registry.records(family)
    }

    pub(crate) async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as `self`.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    pub(crate) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }

    pub(crate) async fn close(self: Arc<Self>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Close { answer }).await;
        asked.map_err(|_| StoreError::Closed)?;
        let end = answered.await.map_err(|_| StoreError::Closed)?;
        if *self.failed.borrow() {
            return Err(StoreError::Closed);
        }
        self.blocking
            .run(move || self.finish(end))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    fn finish(&self, end: (u64, u64, u64)) -> Result<(), StoreError> {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(threads) = threads {
            drop(threads.end_index);
            for thread in [threads.writer, threads.index] {
                thread.join().map_err(|_| StoreError::Closed)?;
            }
        }
        if !*self.known.all.borrow() || *self.failed.borrow() {
            // The next start reads the log again.
            return Ok(());
        }
        if self
            .places
            .quarantine
            .write_owed()
            .map_err(StoreError::Disk)?
            == Room::Missing
        {
            tracing::warn!(
                "what cannot be read could not be noted: the next start reads the log again"
            );
            return Ok(());
        }
        let entries = self.index.total().messages;
        let end = Places::end_of(end, self.registry.end(), entries);
        self.index.close(&end)?;
        self.places.write_marker(&end).map_err(StoreError::Disk)
    }
}

fn spawn(
    name: &str,
    places: &Places,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|source| OpenError::Disk {
        path: places.root.clone(),
        source,
    })
}
