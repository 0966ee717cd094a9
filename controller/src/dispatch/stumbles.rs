//! A home that has proved itself and then ends the session over the message that began it: without an answer, or with 421.
//!
//! It is up, and what made it hang up may be that one message. So the next session follows after a second, and begins
//! with another message where there is one. Each that ends so too doubles the wait; when that has come to the site's
//! interval, the site is down, or busy, like one that does not answer at all. From the second on another agent has its turn,
//! for it may be the address that mail comes from.
//! docs/decisions/0102-a-home-that-hangs-up-is-asked-again-at-once.md
//!
//! # Invariants
//! - An answer for anybody ends the series, and nothing else does.
//! - A site is asked again at most once a second.

use std::time::Duration;

use dd_proto::id::Generation;
use dd_proto::name::SiteName;

use super::event::Turn;
use super::moves::RECONNECT;
use super::site::{Phase, SiteQueue, Why};
use super::state::State;

/// Sessions of a site that ended so in a row.
#[derive(Debug, Default)]
pub(super) struct Stumbles(u32);

impl Stumbles {
    /// The site has answered for somebody.
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }

    /// The first may be the message's doing. Another message went the same way: it may be the address that they come from.
    fn are_the_agents(&self) -> bool {
        self.0 > 1
    }

    /// One more; how long the next one waits.
    fn wait(&mut self) -> Duration {
        let wait = RECONNECT.saturating_mul(1 << self.0.min(16));
        self.0 = self.0.saturating_add(1);
        wait
    }
}

impl SiteQueue {
    /// When the site is asked again, if that is sooner than it would be as down. What began before a release says nothing
    /// about the connection that the release asks for.
    fn is_asked_again(&mut self, under: Generation, now: Duration) -> Option<Duration> {
        let release = self.release.as_ref();
        if release.is_some_and(|release| under <= release.since) {
            return None;
        }
        match self.phase {
            Phase::Proving | Phase::Flowing => {}
            // Two sessions that were open at the same time have ended alike: that is one stumble.
            Phase::Ready(from) => return Some(from),
            Phase::Idle | Phase::Waiting(..) | Phase::Held(_) => return None,
        }
        let wait = self.stumbles.wait();
        if wait >= self.site.schedule.retry_interval {
            return None;
        }
        Some(self.reconnects(now).max(now + wait))
    }
}

impl State {
    /// A proved session ended over its first message. True if the site is asked again soon.
    pub(super) fn stumbles(
        &mut self,
        name: &SiteName,
        why: Why,
        detail: &str,
        under: Generation,
        turn: &mut Turn<'_>,
    ) -> bool {
        let now = turn.now;
        let Some(queue) = self.sites.get_mut(name) else {
            return false;
        };
        let Some(from) = queue.is_asked_again(under, now.monotonic) else {
            return false;
        };
        if queue.stumbles.are_the_agents()
            && let Some(carrier) = &queue.carrier
        {
            queue.verdicts.failed(carrier, now.wall, why, detail);
        }
        self.ready(name, from, turn);
        true
    }
}
