//! What an attempt ended over, as far as its report says it; how a session ended.

use dd_proto::id::SessionId;
use dd_proto::report::{Outcome, Report, Stage};

use super::lease::Leased;
use super::{Ended, Proved, Refuses};

/// A session that is over.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) session: SessionId,
    pub(super) proved: Proved,
    pub(super) accepted: u32,
    pub(super) answered: u32,
    pub(super) ended: Ended,
    pub(super) refuses: Refuses,
    pub(super) detail: String,
}

/// Whether the session, or the site's patience, ended over the message that it is about.
pub(super) fn ends_session(report: &Report) -> bool {
    match report.outcome {
        Outcome::Broken | Outcome::InDoubt => true,
        Outcome::Busy | Outcome::Refused => report.stage != Stage::Session,
        Outcome::Transacted | Outcome::Unreachable | Outcome::WrongHost | Outcome::AgentTrouble => {
            false
        }
    }
}

/// Whether what ended it was said to a command that carries something of the message.
pub(super) fn over_message(report: &Report) -> bool {
    !matches!(report.stage, Stage::Session | Stage::Unknown)
}

/// Whether no session came about for the message, of which nothing was said: so it stays due, with no time of its own.
pub(super) fn came_to_nothing(report: &Report) -> bool {
    report.answers().next().is_none()
        && match report.outcome {
            Outcome::Unreachable | Outcome::WrongHost => true,
            Outcome::Busy | Outcome::Refused => {
                matches!(report.stage, Stage::Session | Stage::Unknown)
            }
            Outcome::Broken => report.stage == Stage::Session,
            Outcome::Transacted | Outcome::InDoubt | Outcome::AgentTrouble => false,
        }
}

pub(super) fn broke_before(leased: &Leased) -> bool {
    leased.waiting.as_ref().is_some_and(|it| it.breaks > 0)
}

/// RFC 5321 §3.8: 421 closes the session, whatever it answers.
pub(super) fn is_closing(report: &Report) -> bool {
    report.reply.as_ref().is_some_and(|reply| reply.code == 421)
}
