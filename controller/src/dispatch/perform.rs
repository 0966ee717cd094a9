//! Carries effects out: orders down the streams, writes and reads as futures whose results come back.
//!
//! # Invariants
//! All settlements of one turn are one batch, and so are all notes.
//!
//! # Not here
//! What an assignment needs besides, and how it is read: [`super::ahead`].

use dd_proto::name::SiteName;
use jiff::Timestamp;
use rand::RngExt as _;

use super::actions::Asked;
use super::ahead::VISIT;
use super::backing::Backing;
use super::batch::Batch;
use super::clock::Clock;
use super::event::{Effect, Event, Settle, Warn};
use super::mail::Mail;
use super::notify::{Pen, Pending};
use super::release::Token;
use super::run::{Dispatch, Done};
use super::{AttachmentId, ClockNews, InHand, Order, actions, expiry};
use crate::store::{HeadOf, Position};

impl<S: Backing, C: Clock> Dispatch<S, C> {
    pub(super) fn perform(&mut self) {
        let (now, mut heads) = (self.clock.monotonic(), Vec::new());
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Settle(settle) => {
                        self.awaited(&settle);
                        self.batch.settle(settle, now);
                    }
                    Effect::Note(note) => {
                        let site = self.state.is_waiting(&note.delivery.site);
                        self.batch.note(note, site, now);
                    }
                    Effect::WriteNow => self.batch.hurries(now),
                    Effect::Warn(warn) => self.batch.warn(warn, now),
                    Effect::Order(to, order) => self.send(to, order),
                    Effect::Assign(assign) => self.complete(assign),
                    Effect::ReadAhead(deliveries) => self.read_ahead(deliveries),
                    Effect::ReadHead { read, of } => heads.push((read, of)),
                    other => self.perform_one(other),
                }
            }
        }
        if let Some(batch) = self.batch.take_due(now) {
            self.write(batch);
        }
        self.read_heads(&heads);
        self.begin_reads();
    }

    fn write(&mut self, batch: Batch) {
        let Batch {
            settles,
            notes,
            warns,
            ..
        } = batch;
        if !settles.is_empty() {
            self.settle(settles);
        }
        if !notes.is_empty() || !warns.is_empty() {
            let warns = warns.into_iter().map(|warn| self.pending_warn(warn));
            let warns = warns.collect();
            self.done.spawn(self.pen().note(notes, warns));
        }
    }

    /// For what is written from now on.
    fn pen(&self) -> Pen<S> {
        Pen {
            store: self.store.clone(),
            notifier: self.notifier.clone(),
            now: self.now(),
            clock_saving: self.saving.first_try(),
        }
    }

    /// With what is in memory of its message.
    fn pending<T>(&mut self, what: T, cached: Option<Mail>) -> Pending<T> {
        Pending {
            what,
            cached,
            random: self.rng.random(),
        }
    }

    fn pending_warn(&mut self, warn: Warn) -> Pending<Warn> {
        let delivery = warn.note.delivery.clone();
        tracing::info!(
            target: "mail",
            id = %delivery.message,
            site = %delivery.site,
            reply = warn.note.last,
            waited = ?warn.waited,
            until = %warn.until,
            "late"
        );
        let cached = self.cache.look_up(&delivery).cloned();
        self.pending(warn, cached)
    }

    fn perform_one(&mut self, effect: Effect) {
        let store = self.store.clone();
        match effect {
            Effect::Find(question) => {
                self.done.spawn(async move {
                    let delivery = question.lease().delivery.clone();
                    match store.find(delivery.message).await {
                        Ok(open) => {
                            let waiting = open.into_iter().find(|w| w.delivery == delivery);
                            Done::Event(Box::new(Event::Found { question, waiting }))
                        }
                        Err(error) => Done::StoreFailed(error),
                    }
                });
            }
            Effect::Timer { site, at } => {
                self.done.spawn(async move {
                    store.remember_timer(site, at).await;
                    Done::Nothing
                });
            }
            Effect::Answer(token, released) => {
                if let Some(waiter) = self.waiters.remove(&token) {
                    let _ = waiter.send(released);
                }
            }
            Effect::DrainEnded => self.drain_ended.notify_one(),
            Effect::Walk { site, read, after } => self.walk(site, read, after),
            Effect::ReadLeft { site, read } => {
                self.done.spawn(async move {
                    let found = match store.left(site.clone(), actions::BATCH).await {
                        Ok(found) => Some(found),
                        Err(error) => {
                            tracing::error!(%error, %site, "what is left of a site cannot be read");
                            None
                        }
                    };
                    Done::Event(Box::new(Event::LeftRead { site, read, found }))
                });
            }
            Effect::Clock(news) => {
                match &news {
                    ClockNews::Alarm(alarm) => {
                        tracing::error!(%alarm, "nothing expires until the clock is confirmed");
                    }
                    ClockNews::Confirmed(_) => tracing::info!("the wall clock is confirmed"),
                }
                let confirming = match &news {
                    ClockNews::Alarm(_) => Vec::new(),
                    ClockNews::Confirmed(_) => std::mem::take(&mut self.confirming),
                };
                let remember = move |news| {
                    let store = store.clone();
                    async move { store.remember_clock(news).await }
                };
                let saving = self.saving.begin(news, confirming, remember);
                self.done.spawn(async move {
                    saving.await;
                    Done::Nothing
                });
            }
            Effect::Look(asked) => self.look(asked),
            Effect::Acted(token, result) => self.acting(token, result),
            Effect::SiteClosed(token, settled) => {
                if let Some(answer) = self.closings.remove(&token) {
                    let _ = answer.send(settled);
                }
            }
            Effect::TellContact { site, reply } => {
                let random = self.rng.random();
                self.done
                    .spawn(self.pen().tell_contact(site, reply, random));
            }
            Effect::WriteNow
            | Effect::Settle(_)
            | Effect::Note(_)
            | Effect::Warn(_)
            | Effect::Order(..)
            | Effect::Assign(_)
            | Effect::ReadAhead(_)
            | Effect::ReadHead { .. } => {}
        }
    }

    fn read_heads(&mut self, heads: &[(u64, HeadOf)]) {
        for visit in heads.chunks(VISIT) {
            let (store, asked) = (self.store.clone(), visit.to_vec());
            self.done.spawn(async move {
                let of = asked.iter().map(|(_, of)| of.clone()).collect();
                let read = store.heads(of).await;
                Done::HeadsRead(asked, read)
            });
        }
    }

    /// A page of a queue, whatever is due in it.
    fn walk(&mut self, site: SiteName, read: u64, after: Option<Position>) {
        let store = self.store.clone();
        self.done.spawn(async move {
            let of = HeadOf {
                site: site.clone(),
                after,
                due: Timestamp::MAX,
                limit: expiry::PAGE,
            };
            let page = match store.heads(vec![of]).await {
                Ok(mut read) => read.pop(),
                Err(error) => {
                    tracing::error!(%error, %site, "a queue cannot be read");
                    None
                }
            };
            Done::Event(Box::new(Event::Walked { site, read, page }))
        });
    }

    /// What of these is open.
    fn look(&mut self, asked: Asked) {
        let store = self.store.clone();
        self.done.spawn(async move {
            let mut found = Vec::new();
            for delivery in &asked.deliveries {
                match store.find(delivery.message).await {
                    Ok(open) => found.extend(open.into_iter().filter(|w| w.delivery == *delivery)),
                    Err(error) => return Done::StoreFailed(error),
                }
            }
            Done::Event(Box::new(Event::Looked { asked, found }))
        });
    }

    /// What an action came to. Its settlements stand in front of it; it is through when they are durable.
    fn acting(&mut self, token: Token, result: Result<u64, InHand>) {
        match result {
            Ok(count) => {
                if let Some(acting) = self.actions.get_mut(&token) {
                    acting.count = count;
                }
                self.acted(token);
            }
            Err(error) => {
                if let Some(acting) = self.actions.remove(&token) {
                    let _ = acting.answer.send(Err(error));
                }
            }
        }
    }

    fn awaited(&mut self, settle: &Settle) {
        let acting = settle.token.and_then(|token| self.actions.get_mut(&token));
        if let Some(acting) = acting {
            acting.left += 1;
        }
    }

    pub(super) fn acted(&mut self, token: Token) {
        if self
            .actions
            .get(&token)
            .is_some_and(|acting| acting.left == 0)
            && let Some(acting) = self.actions.remove(&token)
        {
            let _ = acting.answer.send(Ok(acting.count));
        }
    }

    fn settle(&mut self, settles: Vec<Settle>) {
        let pending = settles.into_iter().map(|settle| {
            // What is settled is not needed again; of a part that is left it is read.
            let cached = self.cache.take(&settle.settlement.delivery);
            self.pending(settle, cached)
        });
        let pending = pending.collect();
        self.done.spawn(self.pen().settle(pending));
    }

    /// An agent that is so far behind is not with us any more.
    pub(super) fn send(&mut self, to: AttachmentId, order: Order) {
        let Some(stream) = self.streams.get(&to) else {
            return;
        };
        if stream.try_send(order).is_err() {
            self.streams.remove(&to);
            self.apply(Event::Detached(to));
        }
    }
}
