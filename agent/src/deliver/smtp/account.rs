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
    pub(super) fn unproved(manner: Manner, detail: String) -> Self {
        Self {
            proved: Proved::No,
            accepted: 0,
            answered: 0,
            manner,
            detail,
        }
    }
}

impl Shared {
    pub(super) fn tell_proved(&self, id: SessionId, live: &Live) {
        self.agent.tell(Event::Proved(pb::Proved {
            site: self.plan.site.to_string(),
            session: id.0,
            observed: Some(live.observed.clone().into()),
        }));
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
        }));
    }
}
