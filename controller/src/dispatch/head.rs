//! The head of a site's queue: read when it is of use, dropped when it is not, handed to whoever has room.
//!
//! # Invariants
//! What is in hand, was asked about, or left the hand while a read was under way does not come back by that read.

use std::collections::HashSet;
use std::time::Duration;

use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::agents::Attached;
use super::backoff::{later, until};
use super::barrier::Barrier;
use super::batch::SiteIs;
use super::event::{Effect, Turn};
use super::kept::{PARKED, Parked, Trust, Wakes, is_parked};
use super::mail::INLINE;
use super::site::{
    Again, HEAD, Line, Pass, Phase, Progress, Queued, Reading, Rest, SWEEP, Seems, SiteQueue,
    Spread, Sweep, Why,
};
use super::state::{State, wall_of};
use crate::store::{Head, HeadOf, Position, Waiting};

impl SiteQueue {
    /// A message over which sessions ended is no canary while there is another, and a release takes it last.
    fn leaves_for_later(&self, waiting: &Waiting, is_later: Option<Timestamp>) -> bool {
        let now_or_never = self.phase == Phase::Flowing && is_later.is_none();
        self.ends_sessions(waiting) && self.pass == Pass::Sound && !now_or_never
    }

    /// What a read means for the next one. `more_from`: there is more behind it; `useful`: so many came into the head.
    fn has_read(
        &mut self,
        mut reading: Reading,
        more_from: Option<Position>,
        useful: usize,
        barrier: &Barrier,
    ) {
        let more = more_from.is_some();
        if !more && self.head.is_empty() && self.skipped == Progress::Some {
            // Nothing else is to be had.
            (self.pass, self.skipped) = (Pass::All, Progress::None);
            reading.again = Again::Yes;
        }
        let dirty = reading.again == Again::Yes || !reading.touched.is_empty();
        self.sweep.reads += 1;
        self.sweep.brought |= useful > 0;
        self.sweep.brings_more = more && useful > 0;
        let goes_on = useful == 0 || self.sweep.reads < SWEEP;
        self.cursor = more_from.filter(|_| goes_on);
        // What came back meanwhile may lie before the cursor: the last sweep begins in front and brings nothing, or is
        // a single read.
        let behind = self.sweep.brought && self.sweep.reads > 1;
        // What was left out is read again when all else has been tried.
        let skipped = self.skipped == Progress::Some;
        self.rest = match more || dirty || skipped || behind {
            true => Rest::More,
            false => Rest::None,
        };
        if !more && !dirty && !barrier.is_open() {
            // All that is new has been seen; what is old is read when the barrier opens.
            self.rest = Rest::More;
            self.since_start = Progress::None;
        }
    }
}

impl State {
    /// Moves a site on after something about it changed: queues it, reads its head, or finds that nothing is left.
    pub(super) fn look(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.in_hand == 0 && queue.is_due_before_its_timer(turn.now) {
            return self.nothing_due(name, turn);
        }
        let tried = match queue.phase {
            Phase::Ready(from) => from <= now,
            Phase::Flowing => true,
            Phase::Idle | Phase::Proving | Phase::Waiting(..) | Phase::Held(_) => false,
        };
        if !tried {
            return;
        }
        if queue.has_next(&self.barrier) {
            match queue.phase {
                Phase::Flowing if queue.paused_until() > now => self.wakes_at(name),
                _ => self.enqueue(name),
            }
            return self.reads_on(name, turn);
        }
        if queue.reading.is_some() {
            return;
        }
        if queue.rest == Rest::More {
            if self.barrier.is_open() || queue.since_start == Progress::Some {
                self.read_head(name, turn);
            }
            return;
        }
        if queue.in_hand == 0 && queue.asked == 0 && queue.head.is_empty() {
            self.nothing_due(name, turn);
        }
    }

    /// While a site's mail flows the head is read before it is empty, so that nobody waits for the store.
    fn reads_on(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get(name) else {
            return;
        };
        let low = queue.phase == Phase::Flowing && queue.head.len() <= HEAD / 2;
        let more = queue.rest == Rest::More && queue.sweep.brings_more;
        let may = self.barrier.is_open() || queue.since_start == Progress::Some;
        if low && more && may && queue.reading.is_none() {
            self.read_head(name, turn);
        }
    }

    fn read_head(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let read = self.number();
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        // What was put off and is not written yet, or stands before the cursor, the read does not tell.
        if queue.cursor.is_none() {
            queue.skipped = Progress::None;
            queue.sweep = Sweep::default();
        }
        let parked_from = queue.kept.reads_from();
        let carried = queue.in_hand > 0 || queue.cursor.is_some() || parked_from.is_some();
        queue.reading = Some(Reading {
            read,
            next_due: queue.next_due.filter(|_| carried),
            ..Reading::default()
        });
        let all_due = queue
            .release
            .as_ref()
            .is_some_and(super::release::Release::makes_all_due);
        let due = if all_due || parked_from.is_some() {
            Timestamp::MAX
        } else {
            turn.now.wall
        };
        let of = HeadOf {
            site: name.clone(),
            after: queue.cursor.or(parked_from),
            due,
            limit: queue.read_limit(),
        };
        turn.effects.push(Effect::ReadHead { read, of });
    }

    pub(super) fn head_read(
        &mut self,
        name: &SiteName,
        read: u64,
        head: Head,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        // Else it was read for a site that has been removed since.
        let Some(reading) = queue.reading.take_if(|reading| reading.read == read) else {
            return;
        };
        if head.next_due.is_some_and(|at| at >= PARKED) {
            queue.kept.parked = Parked::Maybe;
            queue.kept.has_seen = true;
        }
        queue.next_due = [head.next_due, reading.next_due]
            .into_iter()
            .flatten()
            .min();
        let last = head.due.last().map(|waiting| waiting.position);
        let more_from = last.filter(|last| head.more && !queue.kept.ends_before(*last));
        let useful = self.sift(name, &reading, head.due, turn.now.wall);
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.phase == Phase::Flowing && useful > 0 {
            let new = queue.head.range(queue.head.len() - useful..);
            let inline = new.filter(|waiting| waiting.bytes <= INLINE as u64);
            let deliveries = inline.map(|waiting| waiting.delivery.clone()).collect();
            turn.effect(Effect::ReadAhead(deliveries));
        }
        queue.has_read(reading, more_from, useful, &self.barrier);
        if !matches!(
            queue.phase,
            Phase::Ready(_) | Phase::Flowing | Phase::Proving
        ) {
            queue.drop_head();
        }
        self.look(name, turn);
    }

    /// Puts what can be assigned now into the head, and says how much that is.
    fn sift(
        &mut self,
        name: &SiteName,
        reading: &Reading,
        due: Vec<Waiting>,
        wall: Timestamp,
    ) -> usize {
        let Some(queue) = self.sites.get_mut(name) else {
            return 0;
        };
        let known: HashSet<MessageId> = queue.head.iter().map(|it| it.delivery.message).collect();
        let mut useful = 0;
        for waiting in due {
            queue.shown(&waiting);
            let message = waiting.delivery.message;
            let busy = self.hand.contains_key(&waiting.delivery)
                || self.asking.contains_key(&waiting.delivery)
                || reading.touched.contains(&message)
                || known.contains(&message);
            if busy || waiting.failed {
                continue;
            }
            let put_off = |release: &super::release::Release| release.was_put_off(message);
            let is_later = waiting.not_before.filter(|at| *at > wall);
            match waiting.not_before {
                Some(at) if !queue.kept.lets_pass(&waiting) => queue.becomes_due(at),
                Some(at)
                    if !is_parked(&waiting)
                        && is_later.is_some()
                        && queue.release.as_ref().is_none_or(put_off) =>
                {
                    queue.becomes_due(at);
                }
                _ if queue.leaves_for_later(&waiting, is_later) => {
                    queue.skipped = Progress::Some;
                }
                _ if self.barrier.lets_pass(&waiting) => {
                    useful += 1;
                    queue.head.push_back(waiting);
                }
                // It is read again when the barrier opens.
                _ => {}
            }
        }
        useful
    }

    /// Whether an agent is at it: what comes for it goes out soon.
    pub(super) fn is_being_tried(&self, name: &SiteName) -> bool {
        let queue = self.sites.get(name);
        queue.is_some_and(|queue| matches!(queue.phase, Phase::Proving | Phase::Flowing))
    }

    /// Whether it waits for its timer, so that nothing of it is due.
    pub(super) fn is_waiting(&self, name: &SiteName) -> SiteIs {
        match self.sites.get(name).map(|queue| queue.phase) {
            Some(Phase::Waiting(..)) => SiteIs::Waiting,
            _ => SiteIs::Tried,
        }
    }

    /// Whether it stands in its site's head.
    pub(super) fn will_assign(&self, delivery: &DeliveryId) -> bool {
        let queue = self.sites.get(&delivery.site);
        let mut head = queue.iter().flat_map(|queue| &queue.head);
        head.any(|waiting| waiting.delivery.message == delivery.message)
    }

    pub(super) fn head_not_read(&mut self, name: &SiteName, read: u64, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name)
            && queue
                .reading
                .take_if(|reading| reading.read == read)
                .is_some()
        {
            queue.rest = Rest::More;
            let from = turn.now.monotonic + Duration::from_secs(5);
            // All others read again when they become Ready.
            if matches!(queue.phase, Phase::Ready(_) | Phase::Flowing) {
                self.set_phase(name, Phase::Ready(from));
            }
        }
    }

    /// A pause of a flowing site has one timer, too.
    fn wakes_at(&mut self, name: &SiteName) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.timer.is_none() {
            let at = queue.paused_until();
            queue.timer = Some(at);
            self.timers.insert((at, name.clone()));
        }
    }

    /// All that is due was tried.
    pub(super) fn nothing_due(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        // Where it is not tried, nobody reads what has its turn now.
        let tried = matches!(queue.phase, Phase::Ready(_) | Phase::Flowing);
        if tried && self.barrier.is_open() && queue.turns_to_parked(turn.now.monotonic) {
            return self.look(name, turn);
        }
        let next_due = queue.next_due;
        let trusted = queue.kept.trust == Trust::Trusted;
        if let Some(release) = queue.release.take() {
            for token in release.waiters() {
                turn.effect(Effect::Answer(token, release.worked()));
            }
        }
        match next_due {
            None => {
                self.forget_timer(name, turn);
                self.set_phase(name, Phase::Idle);
            }
            Some(at) if at >= PARKED && !trusted => {
                let at = queue.next_turn(turn.now.monotonic);
                self.only_refused_is_left(name, turn);
                self.set_phase(name, Phase::Waiting(Why::Refused, at));
                self.remember_timer(name, wall_of(turn.now, at), turn);
            }
            Some(at) => {
                // Parked mail is there, and busy: its turn comes again.
                let interval = later(turn.now.wall, queue.site.schedule.retry_interval);
                let at = if at >= PARKED { interval } else { at };
                // It does not wait for one that was put off for longer.
                let at = match queue.kept.parked {
                    Parked::Maybe => at.min(wall_of(turn.now, queue.next_turn(turn.now.monotonic))),
                    Parked::None => at,
                };
                let wait = until(turn.now.wall, at).max(Duration::from_millis(1));
                let phase = Phase::Waiting(Why::Deferred, turn.now.monotonic + wait);
                self.set_phase(name, phase);
                self.remember_timer(name, at, turn);
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
        self.will_be_late(&name, turn);
        let Some(queue) = self.sites.get_mut(&name) else {
            return;
        };
        match queue.phase {
            Phase::Idle | Phase::Waiting(Why::Deferred, _) => self.wake(&name, turn),
            Phase::Waiting(Why::Refused, _) if queue.kept.wakes == Wakes::Yes => {
                let from = queue.reconnects(turn.now.monotonic);
                self.ready(&name, from, turn);
            }
            Phase::Ready(_) if queue.spread == Spread::Yes => {
                self.ready(&name, turn.now.monotonic, turn);
            }
            _ => self.look(&name, turn),
        }
    }

    /// Something new may be alive, so it does not wait behind a crowd of which nothing is known: it has one of the
    /// probes that the crowd leaves, as long as there is one.
    fn line_for(&self, seems: Seems) -> Line {
        match seems {
            Seems::Up => Line::First,
            Seems::Silent => Line::Silent,
            Seems::Unknown => {
                let attached = self.agents.values().filter_map(|it| it.attached.as_ref());
                let free: u32 = attached.map(Attached::free_probes).sum();
                let free = usize::try_from(free).unwrap_or(usize::MAX);
                match self.lines[&Line::First].len() < free {
                    true => Line::First,
                    false => Line::Untried,
                }
            }
        }
    }

    fn stand_in(&mut self, line: Line, name: &SiteName) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.queued = Queued::ForProbe(line);
        }
        self.lines.entry(line).or_default().push_back(name.clone());
    }

    /// Puts a site into the queue for the room it needs.
    pub(super) fn enqueue(&mut self, name: &SiteName) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        match queue.phase {
            // Those that are pinned come back when one of their agents can take them.
            Phase::Ready(_) if queue.queued != Queued::ForAgent => {
                let (seems, before) = (queue.seems(), queue.queued);
                let line = self.line_for(seems);
                // One that is asked for meanwhile does not wait among the others any more.
                let queues = match before {
                    Queued::ForProbe(before) => line < before && seems == Seems::Up,
                    _ => true,
                };
                if queues {
                    self.stand_in(line, name);
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
