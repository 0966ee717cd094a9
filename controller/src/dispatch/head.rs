//! The head of a site's queue: read when it is of use, dropped when it is not, handed to whoever has room.
//!
//! # Invariants
//! What is in hand, was asked about, or left the hand while a read was under way does not come back by that read.

use std::time::Duration;

use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::backoff::until;
use super::event::{Effect, Turn};
use super::site::{Again, OldPlan, Phase, Progress, Queued, Reading, Rest, SiteQueue, Why};
use super::state::State;
use crate::store::{Head, Waiting};

impl State {
    /// Moves a site on after something about it changed: queues it, reads its head, or finds that nothing is left.
    pub(super) fn look(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.old_plan == OldPlan::StillOut && queue.out == 0 {
            queue.old_plan = OldPlan::Over;
        }
        if queue.in_hand == 0 && queue.is_due_before_its_timer(turn.now) {
            return self.nothing_due(name, turn);
        }
        let tried = match queue.phase {
            Phase::Ready(from) => from <= now && queue.old_plan == OldPlan::Over,
            Phase::Flowing => true,
            Phase::Idle | Phase::Proving | Phase::Waiting(..) | Phase::Held(_) => false,
        };
        if !tried {
            return;
        }
        if queue.has_next(&self.barrier) {
            return self.enqueue(name);
        }
        if queue.reading.is_some() {
            return;
        }
        if queue.rest == Rest::More {
            if self.barrier.is_open() || queue.since_start == Progress::Some {
                Self::read_head(queue, turn);
            }
            return;
        }
        if queue.in_hand == 0 && queue.head.is_empty() {
            self.nothing_due(name, turn);
        }
    }

    fn read_head(queue: &mut SiteQueue, turn: &mut Turn<'_>) {
        // What was put off and is not written yet, or stands before the cursor, the read does not tell.
        let carried = queue.in_hand > 0 || queue.cursor.is_some();
        queue.reading = Some(Reading {
            next_due: queue.next_due.filter(|_| carried),
            ..Reading::default()
        });
        let all_due = queue
            .release
            .as_ref()
            .is_some_and(super::release::Release::makes_all_due);
        let due = if all_due {
            Timestamp::MAX
        } else {
            turn.now.wall
        };
        turn.effects.push(Effect::ReadHead {
            site: queue.site.name.clone(),
            after: queue.cursor,
            due,
            limit: queue.read_limit(),
        });
    }

    pub(super) fn head_read(&mut self, name: &SiteName, head: Head, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let Some(reading) = queue.reading.take() else {
            return;
        };
        let wall = turn.now.wall;
        let last = head.due.last().map(|waiting| waiting.position);
        queue.next_due = [head.next_due, reading.next_due]
            .into_iter()
            .flatten()
            .min();
        let mut useful = 0;
        for waiting in head.due {
            queue.shown(&waiting);
            let message = waiting.delivery.message;
            let busy = self.hand.contains_key(&waiting.delivery)
                || self.asking.contains_key(&waiting.delivery)
                || reading.touched.contains(&message)
                || queue
                    .head
                    .iter()
                    .any(|known| known.delivery == waiting.delivery);
            if busy || waiting.failed {
                continue;
            }
            let put_off = |release: &super::release::Release| release.was_put_off(message);
            match waiting.not_before {
                Some(at) if at > wall && queue.release.as_ref().is_none_or(put_off) => {
                    queue.becomes_due(at);
                }
                _ if self.barrier.lets_pass(&waiting) => {
                    useful += 1;
                    queue.head.push_back(waiting);
                }
                // It is read again when the barrier opens.
                _ => {}
            }
        }
        let dirty = reading.again == Again::Yes || !reading.touched.is_empty();
        queue.cursor = last.filter(|_| useful == 0 && head.more);
        queue.rest = if head.more || dirty {
            Rest::More
        } else {
            Rest::None
        };
        if !head.more && !dirty && !self.barrier.is_open() {
            // All that is new has been seen; what is old is read when the barrier opens.
            queue.rest = Rest::More;
            queue.since_start = Progress::None;
        }
        if !matches!(
            queue.phase,
            Phase::Ready(_) | Phase::Flowing | Phase::Proving
        ) {
            queue.drop_head();
        }
        self.look(name, turn);
    }

    pub(super) fn head_not_read(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.reading = None;
            queue.rest = Rest::More;
            let from = turn.now.monotonic + Duration::from_secs(5);
            // All others read again when they become Ready.
            if matches!(queue.phase, Phase::Ready(_) | Phase::Flowing) {
                self.set_phase(name, Phase::Ready(from));
            }
        }
    }

    /// All that is due was tried.
    pub(super) fn nothing_due(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let next_due = queue.next_due;
        if let Some(release) = queue.release.take() {
            self.released.remove(name);
            for token in release.waiters() {
                turn.effect(Effect::Answer(token, release.worked()));
            }
        }
        match next_due {
            None => self.set_phase(name, Phase::Idle),
            Some(at) => {
                let wait = until(turn.now.wall, at).max(Duration::from_millis(1));
                let phase = Phase::Waiting(Why::Deferred, turn.now.monotonic + wait);
                self.set_phase(name, phase);
                turn.effect(Effect::Timer {
                    site: name.clone(),
                    at,
                });
            }
        }
    }

    pub(super) fn arrived(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        let name = waiting.delivery.site.clone();
        let Some(queue) = self.sites.get_mut(&name) else {
            return;
        };
        // A notification over its sender's cap has its own time from the start.
        if let Some(at) = waiting.not_before.filter(|at| *at > turn.now.wall) {
            queue.becomes_due(at);
            return self.look(&name, turn);
        }
        queue.arrived(waiting, &self.barrier);
        match queue.phase {
            Phase::Idle | Phase::Waiting(Why::Deferred, _) => self.wake(&name, turn),
            _ => self.look(&name, turn),
        }
    }

    /// Puts a site into the queue for the room it needs.
    pub(super) fn enqueue(&mut self, name: &SiteName) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        match queue.phase {
            Phase::Ready(_) if queue.queued != Queued::ForProbe => {
                queue.queued = Queued::ForProbe;
                match queue.answered {
                    Progress::Some => self.answering.push_back(name.clone()),
                    Progress::None => self.silent.push_back(name.clone()),
                }
            }
            Phase::Flowing if queue.queued != Queued::ForPlace => {
                let carrier = queue.carrier.as_ref().and_then(|c| self.agents.get_mut(c));
                if let Some(attached) = carrier.and_then(|agent| agent.attached.as_mut()) {
                    queue.queued = Queued::ForPlace;
                    attached.turns.push_back(name.clone());
                }
            }
            _ => {}
        }
    }
}
