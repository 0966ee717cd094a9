//! Requests of those who have not proved to be the site: they make it due, and no message that has a time of its own.
//!
//! # Invariants
//! - However many ask, a site is due by them once in ten seconds.
//! - None is lost: one that comes too soon, or while an attempt is under way, takes effect when it may.

use std::time::Duration;

use dd_proto::name::SiteName;

use super::event::Turn;
use super::site::{Phase, Why};
use super::state::State;

const APART: Duration = Duration::from_secs(10);

/// Whether the next attempt does not trust what was looked up before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LooksAnew {
    #[default]
    No,
    Yes,
}

#[derive(Debug, Default)]
pub(super) struct Knocks {
    /// When one took effect last; monotonic.
    last: Option<Duration>,
    /// One has come while the site was being tried.
    pending: bool,
}

impl Knocks {
    /// One takes effect now, or as soon as it may: says when.
    fn takes_effect(&mut self, now: Duration) -> Duration {
        let at = self.last.map_or(now, |last| now.max(last + APART));
        self.last = Some(at);
        at
    }

    /// The attempt has failed: when the next one is due by a request that came during it.
    pub(super) fn after_attempt(&mut self, now: Duration) -> Option<Duration> {
        std::mem::take(&mut self.pending).then(|| self.takes_effect(now))
    }

    /// The site answers.
    pub(super) fn are_served(&mut self) {
        self.pending = false;
    }
}

impl State {
    pub(super) fn knocked(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let until = match queue.phase {
            Phase::Waiting(why, until) if why != Why::Deferred => until,
            Phase::Ready(from) => from,
            Phase::Proving => {
                queue.knocks.pending = true;
                return;
            }
            Phase::Idle => {
                queue.looks_anew = LooksAnew::Yes;
                return;
            }
            Phase::Waiting(..) | Phase::Flowing | Phase::Held(_) => return,
        };
        let last = queue.knocks.last;
        if until <= now || last.is_some_and(|last| last > now) {
            // It is due, or will be by an earlier request.
            return;
        }
        let at = queue.knocks.takes_effect(now);
        if at >= until {
            queue.knocks.last = last;
            return;
        }
        queue.looks_anew = LooksAnew::Yes;
        match queue.phase {
            Phase::Waiting(why, _) if at > now => self.set_phase(name, Phase::Waiting(why, at)),
            Phase::Ready(_) if at > now => self.set_phase(name, Phase::Ready(at)),
            _ => {
                queue.kept.is_probed();
                self.ready(name, now, turn);
            }
        }
    }
}
