//! A site's record is new, has changed, holds its mail, or is gone; or what it has to show has changed.
//!
//! # Invariants
//! A change ends open sessions after the transaction in hand; nothing goes out under the new record before what was
//! out under the old one has come back.

use std::sync::Arc;

use dd_proto::name::SiteName;
use dd_proto::site::Site;

use super::backoff::until;
use super::event::{Effect, Now, Turn};
use super::site::{OldPlan, Phase, Queued, Rest, SiteQueue, Why};
use super::state::State;
use super::{Order, Released};

impl State {
    pub(super) fn site_changed(&mut self, site: Arc<Site>, waiting: u64, turn: &mut Turn<'_>) {
        let name = site.name.clone();
        let held = held(&site, turn.now);
        let is_new = match self.sites.get_mut(&name) {
            Some(queue) => {
                queue.site = site;
                queue.kept.record_changed();
                if queue.queued == Queued::ForAgent {
                    queue.queued = Queued::No;
                }
                false
            }
            None => {
                self.site_added(site);
                true
            }
        };
        self.close_site(&name, turn);
        match held {
            Some(held) => self.hold(&name, held, turn),
            None if is_new && waiting == 0 && self.knows_all() => {
                if let Some(queue) = self.sites.get_mut(&name) {
                    queue.rest = Rest::None;
                }
            }
            None => self.ready(&name, turn.now.monotonic, turn),
        }
    }

    /// What they have to show is another thing now: no session that was proved before goes on. That says nothing of a
    /// site that is down, refuses or is busy, so its timer stays; one that was taken for another host is asked again.
    pub(super) fn plans_changed(&mut self, sites: Vec<Arc<Site>>, turn: &mut Turn<'_>) {
        for site in sites {
            let name = site.name.clone();
            let Some(queue) = self.sites.get_mut(&name) else {
                continue;
            };
            queue.site = site;
            let phase = queue.phase;
            self.close_site(&name, turn);
            if let Phase::Proving | Phase::Flowing | Phase::Waiting(Why::WrongHost, _) = phase {
                self.ready(&name, turn.now.monotonic, turn);
            }
        }
    }

    /// A name may come back with mail that was kept for it, and before all that was out under it has come back.
    fn site_added(&mut self, site: Arc<Site>) {
        let name = site.name.clone();
        let mut queue = SiteQueue::new(site, Rest::More);
        for (_, hand) in self.hand.iter().filter(|(it, _)| it.site == name) {
            queue.in_hand += 1;
            queue.out += u32::from(hand.leased.is_some());
        }
        let asked = self.asking.keys().filter(|it| it.site == name).count();
        queue.asked = u32::try_from(asked).unwrap_or(u32::MAX);
        self.sites.insert(name, queue);
    }

    fn hold(&mut self, name: &SiteName, held: Phase, turn: &mut Turn<'_>) {
        self.set_phase(name, held);
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.drop_head();
        queue.rest = Rest::More;
        let by = queue
            .site
            .hold
            .as_ref()
            .map(|hold| hold.by.clone())
            .unwrap_or_default();
        if let Some(release) = queue.release.take() {
            self.released.remove(name);
            let waiting = release.waiting();
            for token in release.waiters() {
                let by = by.clone();
                turn.effect(Effect::Answer(token, Released::Held { waiting, by }));
            }
        }
    }

    /// Ends the sessions of a site after the transaction in hand.
    pub(super) fn close_site(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        for agent in self.agents.values_mut() {
            let Some(attached) = &mut agent.attached else {
                continue;
            };
            if attached.plans.remove(name).is_some() {
                turn.order(attached.id, Order::CloseSite(name.clone()));
            }
        }
        if let Some(queue) = self.sites.get_mut(name) {
            queue.sessions.clear();
            queue.old_plan = if queue.out > 0 {
                OldPlan::StillOut
            } else {
                OldPlan::Over
            };
        }
    }

    pub(super) fn site_removed(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        self.close_site(name, turn);
        self.released.remove(name);
        let Some(queue) = self.sites.remove(name) else {
            return;
        };
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, name.clone()));
        }
        self.closing_is_over(queue.closing, turn);
        for token in queue.release.iter().flat_map(|release| release.waiters()) {
            turn.effect(Effect::Answer(token, Released::NothingWaiting));
        }
    }
}

/// The state of a site that its record holds now.
pub(super) fn held(site: &Site, now: Now) -> Option<Phase> {
    if site.closing {
        return Some(Phase::Held(None));
    }
    let hold = site.hold.as_ref()?;
    match hold.until {
        None => Some(Phase::Held(None)),
        Some(at) if at > now.wall => Some(Phase::Held(Some(now.monotonic + until(now.wall, at)))),
        Some(_) => None,
    }
}
