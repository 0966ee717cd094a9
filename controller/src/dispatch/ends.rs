//! What an attempt ended over, as far as its report says it; how a session ended.

use std::sync::Arc;

use dd_proto::id::SessionId;
use dd_proto::name::AgentName;
use dd_proto::report::{Disposition, Outcome, Report, Stage};
use jiff::Timestamp;

use super::lease::Leased;
use super::{Ended, LastAttempt, Proved, Refuses};

/// Agents count their sessions from 1.
const NO_SESSION: SessionId = SessionId(0);

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

/// Whether the agent could not read the assignment: no session was begun for it, so nothing but the message can be meant.
pub(super) fn is_unread(report: &Report) -> bool {
    report.outcome == Outcome::AgentTrouble
        && report.session == NO_SESSION
        && report.stage == Stage::Session
        && report.answers().next().is_none()
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

/// How the attempt is shown to people.
pub(super) fn last_attempt(agent: &AgentName, report: &Report, at: Timestamp) -> LastAttempt {
    let results = || report.answers().map(|result| result.disposition);
    let outcome = match report.outcome {
        Outcome::Transacted if results().any(|d| d == Disposition::Relayed) => "relayed",
        Outcome::Transacted if results().any(|d| d == Disposition::Deferred) => "deferred",
        Outcome::Transacted if report.answers().next().is_none() => "not-sent",
        Outcome::Transacted => "failed",
        Outcome::Unreachable => "unreachable",
        Outcome::WrongHost => "wrong-host",
        Outcome::Refused => "refused",
        Outcome::Busy => "busy",
        Outcome::Broken | Outcome::AgentTrouble => "deferred",
        Outcome::InDoubt => "in-doubt",
    };
    let detail = match is_unread(report) {
        // Of all that waits it is this one.
        true => unread(report),
        false => report.detail.clone(),
    };
    LastAttempt {
        at,
        agent: agent.clone(),
        address: report.observed.peer.clone(),
        outcome,
        detail,
        reason: report
            .observed
            .refusal
            .as_ref()
            .map(|refusal| refusal.reason.clone())
            .unwrap_or_default(),
        peer: report.observed.certificate.clone().map(Arc::new),
    }
}

fn unread(report: &Report) -> String {
    let message = report.lease.delivery.message;
    format!(
        "the agent cannot read what it was assigned for {message}: {}",
        report.detail
    )
}
