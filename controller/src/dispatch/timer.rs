//! A site's timer as the next start finds it.
//!
//! # Invariants
//! What is remembered is taken back when the site is proved or has no mail: a start must not take a home that answered
//! for one that did not.

use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::event::{Effect, Turn};
use super::state::State;

/// Whether the store remembers a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Remembered {
    #[default]
    No,
    Yes,
}

impl State {
    pub(super) fn remember_timer(&mut self, name: &SiteName, at: Timestamp, turn: &mut Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.remembered = Remembered::Yes;
        }
        let (site, at) = (name.clone(), Some(at));
        turn.effect(Effect::Timer { site, at });
    }

    pub(super) fn forget_timer(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let queue = self.sites.get_mut(name);
        let before = queue.map(|queue| std::mem::take(&mut queue.remembered));
        if before == Some(Remembered::Yes) {
            let (site, at) = (name.clone(), None);
            turn.effect(Effect::Timer { site, at });
        }
    }
}
