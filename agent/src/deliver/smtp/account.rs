//! How sessions begin and end, as the controller is told.

use dd_proto::id::SessionId;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;

use super::Shared;
use crate::live::Live;
use crate::session::{After, Bears};

/// How a session ended, for people and for the controller.
pub(super) struct Close {
    pub(super) proved: Proved,
    pub(super) accepted: u32,
    pub(super) answered: u32,
    pub(super) manner: Manner,
    /// It has met a refusal that was held back.
    pub(super) holds_back: bool,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proved {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Idle, at its limit, or closed by the controller.
    Orderly,
    /// Behind an answer, where a goodbye could be taken for something else.
    Answered,
    /// By the agent, in the middle: there is no goodbye that could not be taken for content.
    Dropped,
    Lost,
}

pub(super) fn manner_of(after: After) -> Manner {
    match after {
        After::Usable => Manner::Orderly,
        After::Spent => Manner::Answered,
        After::Lost => Manner::Lost,
    }
}

impl Close {
    /// It was turned away, before its proof or at its first message, so the site has as many as it bears.
    pub(super) fn came_to_nothing(&self) -> bool {
        let by_the_site = self.manner == Manner::Lost || self.manner == Manner::Answered;
        self.proved == Proved::No || (by_the_site && self.answered == 0)
    }

    pub(super) fn unproved(manner: Manner, detail: String) -> Self {
        Self {
            proved: Proved::No,
            accepted: 0,
            answered: 0,
            manner,
            holds_back: false,
            detail,
        }
    }
}

impl Shared {
    pub(super) fn tell_proved(&self, id: SessionId, live: &Live) {
        self.agent.tell(Event::Proved(Box::new(pb::Proved {
            site: self.plan.site.to_string(),
            session: id.0,
            observed: Some(live.observed.clone().into()),
        })));
    }

    /// Of the session whose place another has taken.
    pub(super) fn tell_over(&self, before: &mut Option<(SessionId, Close)>) {
        if let Some((id, close)) = before.take() {
            self.tell_closed(id, &close);
        }
    }

    pub(super) fn tell_closed(&self, id: SessionId, close: &Close) {
        let lost = self.lock().losses.take_news();
        self.agent.tell(Event::SessionClosed(pb::SessionClosed {
            site: self.plan.site.to_string(),
            session: id.0,
            proved: close.proved == Proved::Yes,
            accepted: close.accepted,
            answered: close.answered,
            orderly: close.manner != Manner::Lost,
            detail: close.detail.clone(),
            lost_together: lost.group == Bears::No,
            lost_behind_dot: lost.behind_dot == Bears::No,
            holds_back: close.holds_back,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_the_site_turned_away_is_told_from_one_that_had_no_work() {
        use Manner::{Answered, Dropped, Lost, Orderly};
        for (proved, answered, manner, expected) in [
            (Proved::No, 0, Lost, true),
            (Proved::No, 0, Orderly, true),
            // 421 to its first MAIL, or a hang-up.
            (Proved::Yes, 0, Answered, true),
            (Proved::Yes, 0, Lost, true),
            (Proved::Yes, 0, Orderly, false),
            (Proved::Yes, 0, Dropped, false),
            (Proved::Yes, 1, Answered, false),
            (Proved::Yes, 1, Lost, false),
        ] {
            let close = Close {
                proved,
                answered,
                ..Close::unproved(manner, String::new())
            };
            assert_eq!(
                close.came_to_nothing(),
                expected,
                "{proved:?} {answered} {manner:?}"
            );
        }
    }
}
