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

use crate::dispatch::in_memory;
use crate::dispatch::{Backing, ClockNews, NotRead, ReadOf, StoreFailed};
use crate::intake::accept::{Content, Submission};
use crate::intake::policy::Space;
use crate::store::{
    Count, Head, HeadOf, Loaded, NextTry, Note, Notification, Owing, Settled, Settlement, Spooled,
    StoredContent, Waiting, WithMail,
};

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(1);

/// Shared by the world and its controllers.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    all_known: watch::Sender<bool>,
    /// Whether the disk gives anything back.
    reads: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    queue: in_memory::Queue,
    messages: BTreeMap<MessageId, (Envelope, Bytes)>,
    fates: Vec<Fate>,
    /// So many mails of our own are not taken in.
    refuses: u32,
    /// Those that were.
    own: Vec<MessageId>,
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
    pub(crate) fn new(began: Instant) -> Self {
        let inner = Inner {
            began,
            queue: in_memory::Queue::default(),
            messages: BTreeMap::new(),
            fates: Vec::new(),
            refuses: 0,
            own: Vec::new(),
        };
        Self(Arc::new(Shared {
            inner: Mutex::new(inner),
            all_known: watch::Sender::new(true),
            reads: watch::Sender::new(true),
        }))
    }

    /// Nothing is read any more, or all that waited for it. Who asks for one message is told so at once.
    pub(crate) fn set_reads(&self, reads: bool) {
        self.0.reads.send_replace(reads);
    }

    /// The disk is full when mail of our own comes, so many times.
    pub(crate) fn refuse_own(&self, times: u32) {
        self.lock().refuses = times;
    }

    /// Mail of our own that was taken in.
    pub(crate) fn own(&self) -> Vec<MessageId> {
        self.lock().own.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in.
    pub(crate) fn take(&self, submission: Submission<Spooled>) -> Vec<Waiting> {
        let Content::Inline(content) = submission.content else {
            panic!("messages of the zoo are small");
        };
        let mut inner = self.lock();
        let number = in_memory::number_of(submission.id);
        let mut accepted = Vec::new();
        for (site, open) in submission.deliveries {
            let waiting = Waiting {
                bytes: content.len() as u64,
                open,
                ..in_memory::arrived(number, site, submission.arrived)
            };
            inner.queue.takes(waiting.clone());
            accepted.push(waiting);
        }
        let message = (submission.envelope, content);
        inner.messages.insert(submission.id, message);
        accepted
    }

    /// A controller begins: everything is of an earlier start.
    pub(crate) fn starts(&self) {
        for waiting in self.lock().queue.mail.values_mut() {
            waiting.earlier_start = true;
        }
    }

    pub(super) fn fates(&self) -> Vec<Fate> {
        self.lock().fates.clone()
    }

    pub(super) fn left(&self) -> Vec<Waiting> {
        self.lock().queue.mail.values().cloned().collect()
    }
}

impl Inner {
    fn settle(&mut self, owing: Owing<Settlement>) {
        let told = owing.dsn.as_ref().map(says);
        let at = self.began.elapsed();
        self.queue.settle(&owing.what);
        for (number, settled) in owing.what.recipients {
            self.fates.push(Fate {
                delivery: owing.what.delivery.clone(),
                number,
                settled,
                at,
                told: told.clone(),
            });
        }
    }

    fn load(&self, delivery: &DeliveryId) -> Option<Loaded> {
        let waiting = self.queue.mail.get(delivery)?;
        let (envelope, content) = self.messages.get(&delivery.message)?;
        Some(Loaded {
            waiting: waiting.clone(),
            envelope: envelope.clone(),
            content: StoredContent::Inline(content.clone()),
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
        let notes = batch.into_iter().map(|owing| owing.what);
        notes.for_each(|note| inner.queue.note(note));
        Ok(Vec::new())
    }

    /// It goes nowhere.
    async fn accept(&self, notice: Submission<Spooled>) -> Result<Vec<Waiting>, StoreFailed> {
        let mut inner = self.lock();
        match inner.refuses.checked_sub(1) {
            Some(left) => {
                inner.refuses = left;
                Err(StoreFailed("no space left on device".to_owned()))
            }
            None => {
                inner.own.push(notice.id);
                Ok(Vec::new())
            }
        }
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
        Ok(of.iter().map(|of| inner.queue.head(of)).collect())
    }

    async fn left(&self, site: SiteName, limit: usize) -> Result<Vec<Waiting>, StoreFailed> {
        let inner = self.lock();
        Ok(inner.queue.of(&site).take(limit).cloned().collect())
    }

    async fn load(&self, delivery: DeliveryId) -> Result<Option<Loaded>, NotRead> {
        match *self.0.reads.borrow() {
            true => Ok(self.lock().load(&delivery)),
            false => Err(NotRead::NotNow("the disk says nothing".to_owned())),
        }
    }

    async fn load_all(&self, deliveries: Vec<DeliveryId>) -> Vec<ReadOf> {
        let mut reads = self.0.reads.subscribe();
        let _ = reads.wait_for(|reads| *reads).await;
        let inner = self.lock();
        let loaded = |it: DeliveryId| {
            let loaded = inner.load(&it);
            (it, Ok(loaded))
        };
        deliveries.into_iter().map(loaded).collect()
    }

    async fn find(&self, message: MessageId) -> Result<Vec<Waiting>, StoreFailed> {
        let inner = self.lock();
        let all = inner.queue.mail.values();
        let found = all.filter(|it| it.delivery.message == message);
        Ok(found.cloned().collect())
    }

    fn count(&self, site: &SiteName) -> Count {
        let inner = self.lock();
        inner
            .queue
            .of(site)
            .fold(Count::default(), |all, it| Count {
                messages: all.messages + 1,
                bytes: all.bytes + it.bytes,
            })
    }

    fn sites_with_mail(&self) -> Vec<WithMail> {
        let inner = self.lock();
        let mut newest: BTreeMap<&SiteName, Timestamp> = BTreeMap::new();
        for waiting in inner.queue.mail.values() {
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
