//! What an operator does to deliveries: retry, fail, remove; and to a whole site: close it for removal.
//!
//! The store is asked first what is still open. Until it has answered, and again if something happened meanwhile, the
//! deliveries are kept from everybody else: what was settled in between is not touched, and nothing is sent twice.
//!
//! # Invariants
//! - All deliveries of an action are taken, or none if an agent has one. A site is closed a bounded batch at a time.
//! - What is only still to be written about a delivery is written at once, and the action waits for it.

use dd_proto::id::DeliveryId;
use dd_proto::name::SiteName;
use dd_proto::report::{RecipientResult, Reply};
use dd_proto::smtp::status::Status;

use super::InHand;
use super::event::{By, Effect, Turn};
use super::expiry::last_heard;
use super::hand::note;
use super::release::Token;
use super::site::Phase;
use super::state::State;
use crate::store::{Settled, Waiting};

/// Deliveries that are settled at once while a site is closed.
pub(super) const BATCH: usize = 256;

/// What is done to deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Due now, whatever they waited for.
    Retry,
    /// Given up; their senders are told.
    Fail,
    /// Taken away; nobody is told.
    Remove,
}

/// An action whose deliveries the store is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) token: Token,
    pub(crate) action: Action,
    pub(crate) deliveries: Vec<DeliveryId>,
    /// Which time it is asked.
    pub(super) number: u64,
}

impl Asked {
    pub(crate) fn new(token: Token, action: Action, deliveries: Vec<DeliveryId>) -> Self {
        let number = 0;
        Self {
            token,
            action,
            deliveries,
            number,
        }
    }
}

/// What becomes of a site's mail when the site is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its senders are told.
    Fail,
    Discard,
}

/// A site on its way out.
#[derive(Debug)]
pub(super) struct Closing {
    token: Token,
    left: Left,
    settled: u64,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    UnderWay(u64),
}

impl State {
    pub(super) fn act(&mut self, mut asked: Asked, turn: &mut Turn<'_>) {
        if self.refused(&asked, turn) {
            return;
        }
        if self.is_being_written(&asked) {
            self.acting.push(asked);
            return turn.effect(Effect::WriteNow);
        }
        asked.number = self.number();
        for delivery in &asked.deliveries {
            if let Some(queue) = self.sites.get_mut(&delivery.site) {
                queue.drop_from_head(delivery.message);
                queue.rest = super::site::Rest::More;
            }
            self.asking_for(delivery);
        }
        turn.effect(Effect::Look(asked));
    }

    fn refused(&self, asked: &Asked, turn: &mut Turn<'_>) -> bool {
        let mut deliveries = asked.deliveries.iter();
        let busy = deliveries.find(|it| self.is_out(it) || self.asking.contains_key(*it));
        if let Some(delivery) = busy {
            let delivery = delivery.clone();
            turn.effect(Effect::Acted(asked.token, Err(InHand { delivery })));
        }
        busy.is_some()
    }

    /// The store has said which of them are open.
    pub(super) fn looked(&mut self, asked: Asked, found: Vec<Waiting>, turn: &mut Turn<'_>) {
        let mut stale = false;
        for delivery in &asked.deliveries {
            stale |= self.answered(delivery, asked.number);
        }
        if stale || self.is_being_written(&asked) {
            return self.act(asked, turn);
        }
        if self.refused(&asked, turn) {
            return self.look_at_all(&asked, turn);
        }
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        for waiting in found {
            match asked.action {
                Action::Retry => self.retry(waiting, turn),
                Action::Fail => self.give_up(&waiting, asked.token, turn),
                Action::Remove => {
                    let by = By::Operator;
                    self.close(
                        &waiting,
                        Settled::Removed,
                        by,
                        Vec::new(),
                        Some(asked.token),
                        turn,
                    );
                }
            }
        }
        turn.effect(Effect::Acted(asked.token, Ok(count)));
        self.look_at_all(&asked, turn);
    }

    fn is_being_written(&self, asked: &Asked) -> bool {
        let mut deliveries = asked.deliveries.iter();
        deliveries.any(|delivery| self.hand.contains_key(delivery))
    }

    /// Something has been written.
    pub(super) fn acting_goes_on(&mut self, turn: &mut Turn<'_>) {
        for asked in std::mem::take(&mut self.acting) {
            self.act(asked, turn);
        }
    }

    fn look_at_all(&mut self, asked: &Asked, turn: &mut Turn<'_>) {
        for delivery in &asked.deliveries {
            self.look(&delivery.site, turn);
        }
    }

    fn retry(&mut self, mut waiting: Waiting, turn: &mut Turn<'_>) {
        let delivery = waiting.delivery.clone();
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.shown(&waiting);
        }
        waiting.failed = false;
        waiting.not_before = None;
        self.walk_begins_anew(&delivery.site);
        self.write(&delivery, Effect::Note(note(&waiting)), turn);
        self.take_in_hand(&delivery).back = Some(waiting);
        // Due now is also now for a site that waits for its next try.
        let queue = self.sites.get(&delivery.site);
        if queue.is_some_and(|queue| matches!(queue.phase, Phase::Waiting(..))) {
            self.ready(&delivery.site, turn.now.monotonic, turn);
        }
    }

    fn give_up(&mut self, waiting: &Waiting, token: Token, turn: &mut Turn<'_>) {
        let results = given_up(waiting);
        self.close(
            waiting,
            Settled::Failed,
            By::Operator,
            results,
            Some(token),
            turn,
        );
    }

    /// Settles all that waits for a site; its record says that it is closing, so nothing comes in and nothing goes out.
    pub(super) fn close_site_for_good(
        &mut self,
        name: &SiteName,
        token: Token,
        left: Left,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return turn.effect(Effect::SiteClosed(token, 0));
        };
        if let Some(before) = queue.closing.take() {
            turn.effect(Effect::SiteClosed(before.token, before.settled));
        }
        queue.closing = Some(Closing {
            token,
            left,
            settled: 0,
            reading: Reading::No,
        });
        self.closing_goes_on(name, turn);
    }

    /// Reads the next batch once nothing is in hand.
    pub(super) fn closing_goes_on(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let read = self.number();
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let quiet = queue.in_hand == 0;
        let Some(closing) = &mut queue.closing else {
            return;
        };
        if quiet && closing.reading == Reading::No {
            closing.reading = Reading::UnderWay(read);
            turn.effect(Effect::ReadLeft {
                site: name.clone(),
                read,
            });
        }
    }

    /// A batch of what is left has come; none left: it is done.
    pub(super) fn left_read(
        &mut self,
        name: &SiteName,
        read: u64,
        found: Option<Vec<Waiting>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let quiet = queue.in_hand == 0;
        let Some(closing) = &mut queue.closing else {
            return;
        };
        if closing.reading != Reading::UnderWay(read) {
            return;
        }
        closing.reading = Reading::No;
        let Some(found) = found else {
            let (token, settled) = (closing.token, closing.settled);
            queue.closing = None;
            return turn.effect(Effect::SiteClosed(token, settled));
        };
        if !quiet {
            // It goes on when that has left the hand.
            return;
        }
        if found.is_empty() {
            let (token, settled) = (closing.token, closing.settled);
            queue.closing = None;
            return turn.effect(Effect::SiteClosed(token, settled));
        }
        let left = closing.left;
        closing.settled += u64::try_from(found.len()).unwrap_or(u64::MAX);
        for waiting in found {
            match left {
                Left::Fail => {
                    let results = given_up(&waiting);
                    self.close(&waiting, Settled::Failed, By::Operator, results, None, turn);
                }
                Left::Discard => {
                    let by = By::Operator;
                    self.close(&waiting, Settled::Removed, by, Vec::new(), None, turn);
                }
            }
        }
    }

    /// Whoever waits for a site that is gone is told.
    pub(super) fn closing_is_over(&self, closing: Option<Closing>, turn: &mut Turn<'_>) {
        if let Some(closing) = closing {
            turn.effect(Effect::SiteClosed(closing.token, closing.settled));
        }
    }
}

/// The site's last 5yz stands where there is one; else the decision is ours.
fn given_up(waiting: &Waiting) -> Vec<RecipientResult> {
    let mut results = last_heard(waiting);
    for result in &mut results {
        if !result.reply.is_permanent() {
            let last = match waiting.last.as_str() {
                "" => String::new(),
                last => format!("; what was heard last: {last}"),
            };
            // Where a proof was withheld its status says so.
            let status = result.reply.enhanced.parse::<Status>().ok();
            let status = status.filter(|status| result.reply.code == 0 && status.is_security());
            let status = status.map_or(Status::new(5, 0, 0), Status::permanent);
            result.reply = Reply {
                code: 0,
                enhanced: status.to_string(),
                text: format!("given up by the operator{last}"),
            };
        }
    }
    results
}
