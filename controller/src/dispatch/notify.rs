//! Settlements, delay warnings and their notifications on the way into the log.
//!
//! # Invariants
//! - A report goes into the record of the settlement that owes it, or neither does.
//! - A recipient whose sender cannot be found out is not failed: nobody could be told. It stays, and is shown, until an
//!   operator decides.
//! - What owes nothing costs no read beyond the one for its log line.
//! - Nothing that has a time of a clock that has jumped is written before the alarm: the next start would take it for true.
//!
//! # Not here
//! Who is owed what, and the words: [`crate::dsn`].

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::report::{RecipientResult, Reply, SaidBy, Told};
use dd_proto::site::Site;
use tokio::sync::watch;

use super::Arrived;
use super::backing::{Backing, NotRead};
use super::event::{By, Now, Settle, Warn};
use super::mail::Mail;
use super::run::Done;
use super::saving::AGAIN;
use crate::dsn::notice::{self, Language, Notice};
use crate::dsn::whether::{self, Fate, What};
use crate::dsn::{About, MAX_RETURNED, Moment, Notifier};
use crate::store::{Note, Notification, Owing, Settled, StoredContent, Waiting};

/// What it takes to write to somebody.
#[derive(Debug, Clone)]
pub(super) struct Pen<S> {
    pub(super) store: S,
    pub(super) notifier: Notifier,
    pub(super) now: Now,
    /// Ends once what dispatch has seen of the wall clock is durable, or could not be.
    pub(super) clock_saving: Option<watch::Receiver<()>>,
}

/// Something that is about to be written, with what is in memory of its message and the bits for a report's id.
#[derive(Debug)]
pub(super) struct Pending<T> {
    pub(super) what: T,
    pub(super) cached: Option<Mail>,
    pub(super) random: [u8; 10],
}

/// What is known of a message.
enum Found {
    Mail(Mail),
    /// It is settled already.
    Gone,
    Unreadable,
    /// For a reason that passes.
    NotNow,
}

/// How often what cannot be read now is waited for, by all that is settled together: agents wait for theirs beside it.
const PATIENCE: u32 = 3;

impl<S: Backing> Pen<S> {
    pub(super) async fn settle(mut self, pending: Vec<Pending<Settle>>) -> Done {
        self.clock_saved().await;
        let mut batch = Vec::with_capacity(pending.len());
        let mut owing = Vec::with_capacity(pending.len());
        let mut patience = PATIENCE;
        for Pending {
            mut what,
            cached,
            random,
        } in pending
        {
            let delivery = what.settlement.delivery.clone();
            // After the settlement nobody could be asked any more.
            let found = self.find_for(&what, cached, &mut patience).await;
            let mut dsn = None;
            match &found {
                Found::Mail(mail) => {
                    let fates = fates(&what);
                    let (arrived, peer) = (self.arrived(what.evidence.waited), peer(&what));
                    dsn = self
                        .report(&delivery, mail, &fates, arrived, peer, random)
                        .await;
                }
                Found::Gone => {}
                Found::Unreadable | Found::NotNow => give_up_nothing(&mut what),
            }
            owing.push(Owing {
                what: what.settlement.clone(),
                dsn,
            });
            let mail = match found {
                Found::Mail(mail) => Some(mail),
                Found::Gone | Found::Unreadable | Found::NotNow => None,
            };
            batch.push((what, mail));
        }
        let dsns = notifications(&owing);
        match self.store.settle(owing).await {
            Ok(waiting) => Done::Settled(batch, arrivals(waiting, &dsns)),
            Err(error) => Done::StoreFailed(error),
        }
    }

    pub(super) async fn note(mut self, notes: Vec<Note>, warns: Vec<Pending<Warn>>) -> Done {
        self.clock_saved().await;
        let mut owing: Vec<Owing<Note>> = notes.into_iter().map(Into::into).collect();
        for Pending {
            what: warn,
            cached,
            random,
        } in warns
        {
            let delivery = warn.note.delivery.clone();
            let dsn = match self.find(&delivery, cached).await {
                Found::Mail(mail) => {
                    let fates = late(&warn);
                    let arrived = self.arrived(warn.waited);
                    self.report(&delivery, &mail, &fates, arrived, None, random)
                        .await
                }
                Found::Gone | Found::Unreadable | Found::NotNow => None,
            };
            owing.push(Owing {
                what: warn.note,
                dsn,
            });
        }
        let deliveries = owing.iter().map(|it| it.what.delivery.clone()).collect();
        let dsns = notifications(&owing);
        match self.store.note(owing).await {
            Ok(waiting) => Done::Noted(deliveries, arrivals(waiting, &dsns)),
            Err(error) => Done::StoreFailed(error),
        }
    }

    async fn clock_saved(&mut self) {
        if let Some(saving) = &mut self.clock_saving {
            // Nothing is ever sent: it ends.
            let _ = saving.changed().await;
        }
    }

    /// Tells whoever looks after a site. Where nobody does, the log has to do.
    pub(super) async fn tell_contact(
        self,
        site: Arc<Site>,
        reply: String,
        random: [u8; 10],
    ) -> Done {
        tracing::warn!(
            site = %site.name,
            contact = site.contact.as_ref().map(ToString::to_string),
            reply,
            "the site's own server refuses everything: its mail waits"
        );
        let notice = Notice {
            language: Language::of(&site),
            what: notice::What::RefusesEverything { reply },
        };
        loop {
            let notice = self.notifier.notice(&site, &notice, self.now.wall, random);
            let Some(submission) = notice else {
                return Done::Nothing;
            };
            let mail = Mail::of(&submission);
            match self.store.accept(submission).await {
                Ok(waiting) => {
                    self.notifier.notice_written();
                    return Done::Arrived(mail.arrived(waiting));
                }
                // A full disk is no reason to end; a log that has failed for good ends the process by itself.
                Err(error) => {
                    tracing::error!(%error, site = %site.name, "the site's contact is not told yet; it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// What an operator decides is done, and its sender told: a failure that passes is waited for.
    async fn find_for(&self, settle: &Settle, cached: Option<Mail>, patience: &mut u32) -> Found {
        let delivery = &settle.settlement.delivery;
        let mut found = self.find(delivery, cached).await;
        let decided = matches!(settle.evidence.by, By::Operator);
        while decided && *patience > 0 && matches!(found, Found::NotNow) {
            *patience -= 1;
            tokio::time::sleep(AGAIN).await;
            found = self.find(delivery, None).await;
        }
        found
    }

    async fn find(&self, delivery: &DeliveryId, cached: Option<Mail>) -> Found {
        match cached {
            Some(mail) => Found::Mail(mail),
            None => Box::pin(self.read(delivery)).await,
        }
    }

    async fn read(&self, delivery: &DeliveryId) -> Found {
        match self.store.load(delivery.clone()).await {
            Ok(Some(loaded)) => Found::Mail(Mail::read(loaded).await),
            Ok(None) => Found::Gone,
            Err(error) => {
                tracing::error!(%error, %delivery, "cannot be read: nobody can be told what becomes of it");
                match error {
                    NotRead::Damaged(_) => Found::Unreadable,
                    NotRead::NotNow(_) => Found::NotNow,
                }
            }
        }
    }

    async fn report(
        &self,
        delivery: &DeliveryId,
        mail: &Mail,
        fates: &[Fate],
        arrived: jiff::Timestamp,
        peer: Option<&str>,
        random: [u8; 10],
    ) -> Option<Notification> {
        if whether::owed(&mail.envelope, fates).is_empty() {
            return None;
        }
        // In a box, as the other one that reads: few settlements come to it, and each would be as large.
        Box::pin(self.written(delivery, mail, fates, arrived, peer, random)).await
    }

    async fn written(
        &self,
        delivery: &DeliveryId,
        mail: &Mail,
        fates: &[Fate],
        arrived: jiff::Timestamp,
        peer: Option<&str>,
        random: [u8; 10],
    ) -> Option<Notification> {
        let (content, bytes) = self.content(delivery, mail).await;
        let about = About {
            id: delivery.message,
            envelope: &mail.envelope,
            arrived,
            content: &content,
            bytes,
            peer,
        };
        let moment = Moment {
            now: self.now.wall,
            since_start: self.now.monotonic,
            space: self.store.space(),
        };
        self.notifier.report(&about, fates, moment, random)
    }

    /// Its beginning, and how long it is in all; empty where it cannot be read.
    async fn content(&self, delivery: &DeliveryId, mail: &Mail) -> (Bytes, u64) {
        if let Some(content) = mail.content.clone() {
            let bytes = content.len() as u64;
            return (content, bytes);
        }
        let loaded = match self.store.load(delivery.clone()).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(%error, %delivery, "the content cannot be read; the report goes without it");
                None
            }
        };
        let Some(loaded) = loaded else {
            return (Bytes::new(), 0);
        };
        let content = beginning(loaded.content).await.unwrap_or_default();
        (content, loaded.waiting.bytes)
    }

    fn arrived(&self, waited: std::time::Duration) -> jiff::Timestamp {
        self.now
            .wall
            .saturating_sub(waited)
            .unwrap_or(self.now.wall)
    }
}

/// As much of a content as is ever returned.
async fn beginning(content: StoredContent) -> std::io::Result<Bytes> {
    match content {
        StoredContent::Inline(content) => Ok(content.slice(..content.len().min(MAX_RETURNED))),
        StoredContent::File(mut file) => file.next(MAX_RETURNED).await,
    }
}

/// Of what cannot be read. An operator has seen it in the queue, and what they decide is done.
fn give_up_nothing(settle: &mut Settle) {
    if matches!(settle.evidence.by, By::Operator) {
        return;
    }
    let settled = &mut settle.settlement.recipients;
    settled.retain(|(_, what)| matches!(what, Settled::Relayed | Settled::Removed));
}

fn fates(settle: &Settle) -> Vec<Fate> {
    let evidence = &settle.evidence;
    let fate = |(number, settled): &(_, Settled)| {
        let mut results = evidence.results.iter();
        let result = results.find(|result| result.number == *number);
        let what = match (settled, &evidence.by) {
            (Settled::Relayed, _) => {
                What::Relayed(result.map_or(Told::NotPassedOn, |result| result.told))
            }
            (Settled::Failed, By::Operator) => What::GivenUp,
            (Settled::Failed, By::Site { .. } | By::Lifetime) => What::Failed,
            (Settled::Expired, _) => What::Expired,
            (Settled::Removed, _) => What::Removed,
        };
        Fate {
            number: *number,
            what,
            reply: result.map(said),
        }
    };
    settle.settlement.recipients.iter().map(fate).collect()
}

fn late(warn: &Warn) -> Vec<Fate> {
    let until = warn.until;
    let fate = |result: &RecipientResult| Fate {
        number: result.number,
        what: What::Delayed { until },
        reply: Some(said(result)),
    };
    warn.results.iter().map(fate).collect()
}

/// What an agent has decided without asking is no reply of the site's: it has a sentence and no code.
fn said(result: &RecipientResult) -> Reply {
    let mut reply = result.reply.clone();
    if result.by == SaidBy::TheAgent {
        reply.code = 0;
    }
    reply
}

fn peer(settle: &Settle) -> Option<&str> {
    match &settle.evidence.by {
        By::Site { address, .. } => Some(address.as_str()).filter(|it| !it.is_empty()),
        By::Lifetime | By::Operator => None,
    }
}

fn notifications<T>(owing: &[Owing<T>]) -> Vec<(MessageId, Mail)> {
    let dsns = owing.iter().filter_map(|it| it.dsn.as_ref());
    dsns.map(|dsn| (dsn.id, Mail::ours(dsn))).collect()
}

/// They go out like mail that has just come in.
fn arrivals(waiting: Vec<Waiting>, dsns: &[(MessageId, Mail)]) -> Vec<Arrived> {
    let arrived = |waiting: Waiting| {
        let mut dsns = dsns.iter();
        let (_, mail) = dsns.find(|(id, _)| *id == waiting.delivery.message)?;
        let mail = mail.clone();
        Some(Arrived { waiting, mail })
    };
    waiting.into_iter().filter_map(arrived).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dd_proto::id::RecipientNumber;
    use jiff::Timestamp;

    use super::super::event::Evidence;
    use super::super::run_tests::submission;
    use super::*;
    use crate::store::Settlement;
    use crate::zoo::queue::Queue;

    fn given_up(waiting: Waiting) -> Pending<Settle> {
        let settlement = Settlement {
            delivery: waiting.delivery,
            recipients: vec![(RecipientNumber(0), Settled::Failed)],
        };
        let evidence = Evidence {
            by: By::Operator,
            results: Vec::new(),
            waited: Duration::ZERO,
        };
        Pending {
            what: Settle {
                settlement,
                evidence,
                token: None,
            },
            cached: None,
            random: [0; 10],
        }
    }

    fn pen(store: Queue) -> Pen<Queue> {
        let now = Now {
            monotonic: Duration::ZERO,
            wall: Timestamp::UNIX_EPOCH,
        };
        Pen {
            store,
            notifier: crate::dsn::samples::notifier(),
            now,
            clock_saving: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_contact_has_to_know_waits_for_room_and_is_written_once() {
        let began = tokio::time::Instant::now();
        let store = Queue::new(began);
        store.refuse_own(3);
        let pen = pen(store.clone());
        let notifier = pen.notifier.clone();
        let site = Arc::new(Site {
            contact: Some("anna@elsewhere.example".parse().unwrap()),
            ..super::super::simulation::site(0)
        });
        let reply = "554 5.7.1 not here".to_owned();
        let done = pen.tell_contact(site, reply, [0; 10]).await;
        assert!(matches!(done, Done::Arrived(_)));
        assert_eq!(began.elapsed(), AGAIN * 3);
        assert_eq!((store.own().len(), notifier.counters().notices), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_waited_for_once_by_all_that_is_settled_together() {
        let began = tokio::time::Instant::now();
        let store = Queue::new(began);
        let mail = (1..=256).flat_map(|n| store.take(submission("", n, Bytes::new())));
        let given_up = mail.map(given_up).collect();
        store.set_reads(false);
        let done = pen(store).settle(given_up).await;
        assert!(matches!(done, Done::Settled(batch, _) if batch.len() == 256));
        assert!(
            began.elapsed() < AGAIN * (PATIENCE + 1),
            "{:?}",
            began.elapsed()
        );
    }
}
