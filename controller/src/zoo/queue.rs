//! A queue in memory that outlives controllers, and the record of what became of everything in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dispatch::{Backing, ClockNews, NotRead, ReadOf, StoreFailed};
use crate::intake::accept::{Content, Submission};
use crate::intake::policy::Space;
use crate::store::{
    Count, Head, HeadOf, Loaded, NextTry, Note, Notification, Owing, Position, Settled, Settlement,
    Spooled, StoredContent, Waiting, WithMail,
};

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(1);

/// Shared by the world and its controllers.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    all_known: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    mail: BTreeMap<DeliveryId, Stored>,
    sequence: u64,
    fates: Vec<Fate>,
}

#[derive(Debug)]
struct Stored {
    waiting: Waiting,
    envelope: Envelope,
    content: Bytes,
}

/// What became of one recipient.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    pub(super) delivery: DeliveryId,
    pub(super) number: RecipientNumber,
    pub(super) settled: Settled,
    pub(super) at: Duration,
    /// What its sender was told with it.
    pub(super) told: Option<String>,
}

impl Queue {
    pub(super) fn new(began: Instant) -> Self {
        let inner = Inner {
            began,
            mail: BTreeMap::new(),
            sequence: 0,
            fates: Vec::new(),
        };
        Self(Arc::new(Shared {
            inner: Mutex::new(inner),
            all_known: watch::Sender::new(true),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in.
    pub(super) fn take(&self, submission: Submission<Spooled>) -> Vec<Waiting> {
        let Content::Inline(content) = submission.content else {
            panic!("messages of the zoo are small");
        };
        let mut inner = self.lock();
        let mut accepted = Vec::new();
        for (site, open) in submission.deliveries {
            inner.sequence += 1;
            let delivery = DeliveryId {
                message: submission.id,
                site,
            };
            let waiting = Waiting {
                delivery: delivery.clone(),
                position: Position::made_up(0, inner.sequence),
                arrived: submission.arrived,
                not_before: None,
                attempts: 0,
                breaks: 0,
                in_doubt: false,
                failed: false,
                kept: false,
                warned: false,
                last: String::new(),
                bytes: content.len() as u64,
                open,
                earlier_start: false,
            };
            let stored = Stored {
                waiting: waiting.clone(),
                envelope: submission.envelope.clone(),
                content: content.clone(),
            };
            inner.mail.insert(delivery, stored);
            accepted.push(waiting);
        }
        accepted
    }

    /// A controller begins: everything is of an earlier start.
    pub(super) fn starts(&self) {
        for stored in self.lock().mail.values_mut() {
            stored.waiting.earlier_start = true;
        }
    }

    pub(super) fn fates(&self) -> Vec<Fate> {
        self.lock().fates.clone()
    }

    pub(super) fn left(&self) -> Vec<Waiting> {
        let inner = self.lock();
        inner.mail.values().map(|it| it.waiting.clone()).collect()
    }
}

impl Inner {
    fn settle(&mut self, owing: Owing<Settlement>) {
        let delivery = owing.what.delivery;
        let told = owing.dsn.as_ref().map(says);
        let at = self.began.elapsed();
        let stored = self.mail.get_mut(&delivery).expect("settled twice");
        for (number, settled) in owing.what.recipients {
            let open = &mut stored.waiting.open;
            let place = open.iter().position(|open| *open == number);
            open.remove(place.expect("settled twice"));
            self.fates.push(Fate {
                delivery: delivery.clone(),
                number,
                settled,
                at,
                told: told.clone(),
            });
        }
        if stored.waiting.open.is_empty() {
            self.mail.remove(&delivery);
        }
    }

    fn note(&mut self, note: Note) {
        let Some(stored) = self.mail.get_mut(&note.delivery) else {
            return;
        };
        let waiting = &mut stored.waiting;
        let ms = note.not_before.map_or(0, Timestamp::as_millisecond);
        self.sequence += 1;
        waiting.position = Position::made_up(u64::try_from(ms).unwrap(), self.sequence);
        waiting.not_before = note.not_before;
        (waiting.attempts, waiting.breaks) = (note.attempts, note.breaks);
        (waiting.in_doubt, waiting.failed) = (note.in_doubt, note.failed);
        (waiting.kept, waiting.warned) = (note.kept, note.warned);
        waiting.last = note.last;
    }

    fn of<'a>(&'a self, site: &'a SiteName) -> impl Iterator<Item = &'a Waiting> {
        let all = self.mail.values().map(|it| &it.waiting);
        all.filter(move |it| it.delivery.site == *site)
    }

    fn head(&self, of: &HeadOf) -> Head {
        let mut all: Vec<&Waiting> = self.of(&of.site).collect();
        all.sort_by_key(|waiting| waiting.position);
        let later = all.iter().filter_map(|it| it.not_before);
        let next_due = later.filter(|at| *at > of.due).min();
        let is_due = |it: &&&Waiting| {
            let after = of.after.is_none_or(|after| it.position > after);
            it.not_before.is_none_or(|at| at <= of.due) && after
        };
        let mut due: Vec<Waiting> = all.iter().filter(is_due).map(|it| (*it).clone()).collect();
        let more = due.len() > of.limit;
        due.truncate(of.limit);
        Head {
            due,
            more,
            next_due,
        }
    }

    fn load(&self, delivery: &DeliveryId) -> Option<Loaded> {
        let stored = self.mail.get(delivery)?;
        Some(Loaded {
            waiting: stored.waiting.clone(),
            envelope: stored.envelope.clone(),
            content: StoredContent::Inline(stored.content.clone()),
        })
    }
}

fn says(report: &Notification) -> String {
    String::from_utf8_lossy(&report.content).into_owned()
}

impl Backing for Queue {
    /// Reports to senders are noted, and go nowhere.
    async fn settle(&self, batch: Vec<Owing<Settlement>>) -> Result<Vec<Waiting>, StoreFailed> {
        tokio::time::sleep(WRITE).await;
        let mut inner = self.lock();
        batch.into_iter().for_each(|owing| inner.settle(owing));
        Ok(Vec::new())
    }

    async fn note(&self, batch: Vec<Owing<Note>>) -> Result<Vec<Waiting>, StoreFailed> {
        tokio::time::sleep(WRITE).await;
        let mut inner = self.lock();
        batch.into_iter().for_each(|owing| inner.note(owing.what));
        Ok(Vec::new())
    }

    async fn accept(&self, _notice: Submission<Spooled>) -> Result<Vec<Waiting>, StoreFailed> {
        Ok(Vec::new())
    }

    fn space(&self) -> Space {
        Space::Enough
    }

    async fn remember_timer(&self, _site: SiteName, _at: Option<Timestamp>) {}

    async fn remember_clock(&self, _news: ClockNews) -> Result<(), StoreFailed> {
        Ok(())
    }

    async fn heads(&self, of: Vec<HeadOf>) -> Result<Vec<Head>, StoreFailed> {
        let inner = self.lock();
        Ok(of.iter().map(|of| inner.head(of)).collect())
    }

    async fn left(&self, site: SiteName, limit: usize) -> Result<Vec<Waiting>, StoreFailed> {
        Ok(self.lock().of(&site).take(limit).cloned().collect())
    }

    async fn load(&self, delivery: DeliveryId) -> Result<Option<Loaded>, NotRead> {
        Ok(self.lock().load(&delivery))
    }

    async fn load_all(&self, deliveries: Vec<DeliveryId>) -> Vec<ReadOf> {
        let inner = self.lock();
        let loaded = |it: DeliveryId| {
            let loaded = inner.load(&it);
            (it, Ok(loaded))
        };
        deliveries.into_iter().map(loaded).collect()
    }

    async fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreFailed> {
        let inner = self.lock();
        let all = inner.mail.values().map(|it| &it.waiting);
        let found = all.filter(|it| it.delivery.message == message);
        Ok(found.cloned().collect())
    }

    fn count(&self, site: &SiteName) -> Count {
        let inner = self.lock();
        inner.of(site).fold(Count::default(), |all, it| Count {
            messages: all.messages + 1,
            bytes: all.bytes + it.bytes,
        })
    }

    fn sites_with_mail(&self) -> Vec<WithMail> {
        let inner = self.lock();
        let mut newest: BTreeMap<&SiteName, Timestamp> = BTreeMap::new();
        for waiting in inner.mail.values().map(|it| &it.waiting) {
            let newest = newest.entry(&waiting.delivery.site);
            let newest = newest.or_insert(waiting.arrived);
            *newest = waiting.arrived.max(*newest);
        }
        let sites = newest.into_iter().map(|(site, newest)| WithMail {
            site: site.clone(),
            next: NextTry::Unknown,
            newest,
        });
        sites.collect()
    }

    fn all_known(&self) -> watch::Receiver<bool> {
        self.0.all_known.subscribe()
    }
}
