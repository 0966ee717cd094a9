//! Places that all sites share: slots for handoffs that move, probes for everything that may hang.
//!
//! A slot is worth something only while bytes move. So it is given to sessions that have proved to end at a site, and a
//! handoff that has been still for [`STILL`] gives it up, goes on waiting for the far end on a probe, and takes a slot again
//! before it sends more. Whatever any number of sites do or leave undone, the others find a slot within that time. Those that
//! move take turns, a message each.
//! docs/decisions/0071-a-slot-is-for-what-moves.md
//!
//! # Invariants
//! - A handoff holds a slot or a probe, so no more of them hang than there are of both. Where no probe is free it keeps its
//!   slot.
//! - That all are taken is said in the log, once in [`TELL_AGAIN`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::agent::now;

/// A handoff in which neither a reply nor a block was completed for so long is still. Longer than a reply takes over any
/// line, and short: it is what one that has just fallen silent costs the others. A home that looks into a message for longer
/// before it answers loses nothing, for an answer needs no slot.
pub const STILL: Duration = Duration::from_secs(1);
/// Whoever waits for so long does not wait for a short crowd.
const TELL_AFTER: Duration = Duration::from_secs(1);
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// All places of a kind.
#[derive(Debug)]
pub struct Places {
    what: &'static str,
    count: u32,
    free: Arc<Semaphore>,
    told: Mutex<Option<Instant>>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

impl Places {
    /// Handoffs that may move at once.
    pub fn slots(count: u32) -> Arc<Self> {
        Self::new("slots", count)
    }

    /// Connects, openings and still handoffs that may hang at once.
    pub fn probes(count: u32) -> Arc<Self> {
        Self::new("probes", count)
    }

    fn new(what: &'static str, count: u32) -> Arc<Self> {
        Arc::new(Self {
            what,
            count,
            free: Arc::new(Semaphore::new(count as usize)),
            told: Mutex::default(),
        })
    }

    /// Waits for a free one.
    pub async fn take(&self) -> Place {
        if let Some(place) = self.take_now() {
            return place;
        }
        let mut waiting = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        let permit = tokio::select! {
            biased;
            permit = &mut waiting => permit,
            () = tokio::time::sleep(TELL_AFTER) => {
                self.tell(now());
                waiting.await
            }
        };
        Place(permit.expect("the semaphore is never closed"))
    }

    /// One that is free at once.
    pub fn take_now(&self) -> Option<Place> {
        let free = Arc::clone(&self.free);
        free.try_acquire_owned().ok().map(Place)
    }

    fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    fn tell(&self, now: Instant) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN) {
            *told = Some(now);
            tracing::warn!(
                count = self.count,
                "all {} are taken: what is due waits; set more `{}` if the machine and its line bear them",
                self.what,
                self.what
            );
        }
    }
}

/// What one proved session holds.
#[derive(Debug)]
pub struct Holding {
    slots: Arc<Places>,
    probes: Arc<Places>,
    /// None between two messages.
    held: Option<(Kind, Place)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Slot,
    /// It hangs.
    Probe,
}

impl Holding {
    pub fn new(slots: Arc<Places>, probes: Arc<Places>) -> Self {
        Self {
            slots,
            probes,
            held: None,
        }
    }

    /// Whether it was given a slot just now: it may send.
    pub async fn moves(&mut self) -> bool {
        if self.has_slot() {
            return false;
        }
        self.held = Some((Kind::Slot, self.slots.take().await));
        true
    }

    /// It hangs; what it waits for may come all the same.
    pub fn hangs(&mut self) {
        if !self.has_slot() {
            return;
        }
        match self.probes.take_now() {
            Some(probe) => self.held = Some((Kind::Probe, probe)),
            None => self.probes.tell(now()),
        }
    }

    /// Between two messages a slot goes to whoever waits for one; its turn comes again behind them. Otherwise a site with a
    /// long queue would keep it for as long as its session lasts.
    pub fn yields(&mut self) {
        if self.has_slot() && self.slots.are_taken() {
            self.held = None;
        }
    }

    /// Nothing is in hand.
    pub fn rests(&mut self) {
        self.held = None;
    }

    pub fn has_slot(&self) -> bool {
        matches!(self.held, Some((Kind::Slot, _)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_hangs_leaves_its_slot_to_others_as_long_as_a_probe_is_free() {
        let (slots, probes) = (Places::slots(1), Places::probes(1));
        let holding = || Holding::new(Arc::clone(&slots), Arc::clone(&probes));
        let (mut first, mut second) = (holding(), holding());
        assert!(first.moves().await);
        assert!(!first.moves().await);
        assert!(slots.take_now().is_none());
        first.hangs();
        assert!(!first.has_slot() && probes.take_now().is_none());
        assert!(second.moves().await);
        // No probe is left: it keeps the slot, so that no more hang than there are places.
        second.hangs();
        assert!(second.has_slot());
        first.rests();
        second.hangs();
        assert!(!second.has_slot() && slots.take_now().is_some());
    }

    #[tokio::test]
    async fn who_moves_takes_turns_and_keeps_a_slot_that_nobody_wants() {
        let (slots, probes) = (Places::slots(2), Places::probes(1));
        let holding = || Holding::new(Arc::clone(&slots), Arc::clone(&probes));
        let (mut first, mut second, mut third) = (holding(), holding(), holding());
        assert!(first.moves().await);
        first.yields();
        assert!(first.has_slot());
        assert!(second.moves().await);
        let mut waits = std::pin::pin!(third.moves());
        let too_early = tokio::select! {
            biased;
            _ = &mut waits => true,
            () = std::future::ready(()) => false,
        };
        assert!(!too_early);
        first.yields();
        assert!(!first.has_slot() && waits.await);
        second.yields();
        assert!(first.moves().await);
    }
}
