//! When a message that was tried and is not settled is tried again: at its own time, or at once with what is left of it.
//!
//! # Invariants
//! - Every way in which a message gets a time of its own goes through [`State::steps_aside`], which tells the release
//!   that is under way.
//! - A message has no time of its own while a recipient of it has not been asked, or may be asked with fewer others.
//!
//! # Not here
//! What is settled ([`super::judge`]), what an attempt means for the site ([`super::moves`]).

use dd_proto::id::{Generation, RecipientNumber};
use dd_proto::report::{Disposition, Outcome, RecipientResult, Report, Stage};
use jiff::Timestamp;

use super::backoff::{UNKNOWN_SITE, after_break, after_deferral, later, until};
use super::ends::is_unread;
use super::event::Turn;
use super::kept::PARKED;
use super::parts::{Breaks, Round};
use super::release::Fate;
use super::state::State;
use crate::dsn::refused;
use crate::store::Waiting;

/// What is known of an attempt beside its report.
#[derive(Debug)]
pub(super) struct Attempt {
    /// None: all that were open.
    pub(super) carried: Option<Vec<RecipientNumber>>,
    /// Its session had answered nothing before it.
    pub(super) opens_session: bool,
    /// Somebody had the first answer in this round.
    pub(super) news: bool,
}

/// Whose doing the end of an attempt was, as far as the message is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// Recipients were answered; those that were not are still open.
    Answered,
    /// The session ended over this message.
    Broke,
    /// The agent could not read the message's assignment, and another one may not either.
    Unread,
    /// The site's, the agent's or another message's.
    NotItsOwn,
    /// The session's, by what it had taken or refused before: the next one may begin with those it had not refused.
    TheSessions,
}

fn blame(report: &Report, attempt: &Attempt) -> Blame {
    // RFC 5321 §3.8: 421 may come at any time. To the first message of a session it is about that message.
    let within = matches!(
        report.stage,
        Stage::Rcpt | Stage::Data | Stage::Content | Stage::EndOfData
    );
    match report.outcome {
        // RFC 5321 §3.8: what a dot is told by a session that closes is about the session, unless that began with it and
        // had refused nobody before.
        Outcome::Transacted
            if is_closing(report) && (!attempt.opens_session || refused_some(report)) =>
        {
            Blame::TheSessions
        }
        Outcome::Transacted => Blame::Answered,
        Outcome::InDoubt => Blame::Broke,
        _ if attempt.news => Blame::Answered,
        Outcome::AgentTrouble if is_unread(report) => Blame::Unread,
        Outcome::Broken => Blame::Broke,
        Outcome::Busy | Outcome::Refused if within && attempt.opens_session => Blame::Broke,
        Outcome::Busy
        | Outcome::Refused
        | Outcome::Unreachable
        | Outcome::WrongHost
        | Outcome::AgentTrouble => Blame::NotItsOwn,
    }
}

/// Whether those that are deferred were told that the session closes.
fn is_closing(report: &Report) -> bool {
    let results = report.recipients.iter();
    let mut deferred = results.filter(|it| it.disposition == Disposition::Deferred);
    deferred.any(|it| it.reply.code == 421)
}

fn refused_some(report: &Report) -> bool {
    let mut answers = report.answers();
    answers.any(|it| it.disposition == Disposition::Failed)
}

/// Whether it broke over the content, which is the same however few recipients it has. What ended behind the dot is not
/// sent again in parts at once: each may be another copy.
fn over_content(report: &Report) -> bool {
    report.outcome == Outcome::InDoubt || matches!(report.stage, Stage::Content | Stage::EndOfData)
}

impl State {
    /// Decides when what was not settled is tried again, and remembers what came of it.
    pub(super) fn put_off(
        &mut self,
        report: &Report,
        attempt: &Attempt,
        waiting: &mut Waiting,
        turn: &mut Turn<'_>,
    ) {
        let blame = blame(report, attempt);
        if blame == Blame::NotItsOwn && report.outcome == Outcome::AgentTrouble {
            return;
        }
        let had_its_time = waiting.not_before.is_some();
        waiting.attempts += 1;
        waiting.last = heard(report, waiting);
        if report.outcome == Outcome::InDoubt {
            waiting.in_doubt = true;
            self.counters.in_doubt += 1;
        }
        match blame {
            Blame::NotItsOwn => {}
            Blame::TheSessions if self.closes_behind(waiting) => {
                self.session_closed_behind(report, waiting);
            }
            Blame::TheSessions => self.was_answered(report, waiting, turn),
            Blame::Answered => self.was_answered(report, waiting, turn),
            // Like one that ends sessions it goes behind all others, and steps aside from the second time on.
            Blame::Unread => {
                waiting.breaks += 1;
                self.after_break(waiting, report.lease.generation, turn);
            }
            Blame::Broke => self.broke(report, attempt, waiting, turn),
        }
        if had_its_time && waiting.not_before.is_none() {
            // It stands where its arrival puts it, in front of what the last walk has seen.
            self.walk_begins_anew(&waiting.delivery.site);
        }
    }

    fn was_answered(&mut self, report: &Report, waiting: &mut Waiting, turn: &mut Turn<'_>) {
        let round = self.round(report, waiting);
        let under = report.lease.generation;
        match round {
            Round::Open => waiting.not_before = None,
            Round::AllRefused => {
                waiting.kept = true;
                self.steps_aside(waiting, PARKED, under);
                self.parked(waiting);
            }
            Round::SomeDeferred => {
                let (message, attempts) = (waiting.delivery.message, waiting.attempts);
                let queue = self.sites.get_mut(&waiting.delivery.site);
                let (interval, times) = queue.map_or((UNKNOWN_SITE, attempts), |queue| {
                    let times = queue.parts.deferrals.count(message, attempts);
                    (queue.site.schedule.retry_interval, times)
                });
                let age = until(waiting.arrived, turn.now.wall);
                let aside = after_deferral(interval, times, age);
                let at = later(turn.now.wall, aside);
                self.steps_aside(waiting, at, under);
            }
            Round::OnlyBreaking => self.after_break(waiting, under, turn),
        }
    }

    /// Whether a session may close behind this message once more without its having a time of its own.
    fn closes_behind(&mut self, waiting: &Waiting) -> bool {
        let queue = self.sites.get_mut(&waiting.delivery.site);
        queue.is_some_and(|queue| queue.parts.closed(waiting.delivery.message))
    }

    /// A home that bears so many errors in a session ends it at the dot of a message with as many refused recipients,
    /// whatever it thinks of the message: the next session gets it for the others alone.
    fn session_closed_behind(&mut self, report: &Report, waiting: &mut Waiting) {
        waiting.not_before = None;
        let Some(queue) = self.sites.get_mut(&waiting.delivery.site) else {
            return;
        };
        let refused = report.recipients.iter();
        let refused = refused.filter(|it| it.disposition == Disposition::Failed);
        let refused: Vec<_> = refused
            .map(|it| (it.number, false))
            .filter(|(number, _)| waiting.open.contains(number))
            .collect();
        if !refused.is_empty() {
            let message = waiting.delivery.message;
            let refused = refused.into_iter();
            queue.parts.answered(message, refused, &waiting.open);
        }
    }

    /// Remembers who was answered.
    fn round(&mut self, report: &Report, waiting: &Waiting) -> Round {
        let Some(queue) = self.sites.get_mut(&waiting.delivery.site) else {
            return Round::SomeDeferred;
        };
        let open = |result: &&RecipientResult| waiting.open.contains(&result.number);
        let answered = report.recipients.iter().filter(open);
        let answered = answered.map(|it| (it.number, it.disposition == Disposition::Deferred));
        let message = waiting.delivery.message;
        queue.parts.answered(message, answered, &waiting.open)
    }

    fn broke(
        &mut self,
        report: &Report,
        attempt: &Attempt,
        waiting: &mut Waiting,
        turn: &mut Turn<'_>,
    ) {
        // Nothing of the message had been said: what broke was the session, and the site bears it.
        if report.stage == Stage::Session {
            waiting.not_before = None;
            return;
        }
        let under = report.lease.generation;
        if over_content(report) {
            waiting.breaks += 1;
            if !report.recipients.is_empty() {
                self.round(report, waiting);
            }
            return self.after_break(waiting, under, turn);
        }
        let carried = attempt.carried.as_ref().unwrap_or(&waiting.open);
        let queue = self.sites.get_mut(&waiting.delivery.site);
        let breaks = queue.map_or(Breaks::StepsAside, |queue| {
            let message = waiting.delivery.message;
            queue.parts.broke(message, carried, &waiting.open)
        });
        match breaks {
            // All steps of a halving are one break.
            Breaks::GoesOn => {
                waiting.breaks = waiting.breaks.max(1);
                waiting.not_before = None;
            }
            Breaks::StepsAside => {
                waiting.breaks += 1;
                self.after_break(waiting, under, turn);
            }
        }
    }

    fn after_break(&mut self, waiting: &mut Waiting, under: Generation, turn: &mut Turn<'_>) {
        match after_break(waiting.breaks) {
            Some(after) => self.steps_aside(waiting, later(turn.now.wall, after), under),
            None => waiting.not_before = None,
        }
    }

    /// The message was tried, under this generation, and has a time of its own now.
    pub(super) fn steps_aside(&mut self, waiting: &mut Waiting, at: Timestamp, under: Generation) {
        waiting.not_before = Some(at);
        let queue = self.sites.get_mut(&waiting.delivery.site);
        if let Some(release) = queue.and_then(|queue| queue.release.as_mut()) {
            release.stepped_aside(waiting.delivery.message, under);
        }
    }

    /// A message is settled.
    pub(super) fn count(&mut self, waiting: &Waiting, fate: Fate) {
        let queue = self.sites.get_mut(&waiting.delivery.site);
        if let Some(release) = queue.and_then(|queue| queue.release.as_mut()) {
            release.count(fate);
        }
    }
}

/// What is remembered of an attempt: what a recipient was told who is still open, else what ended it.
fn heard(report: &Report, waiting: &Waiting) -> String {
    let mut results = report.recipients.iter();
    if let Some(open) = results.find(|result| waiting.open.contains(&result.number)) {
        return open.reply.to_string();
    }
    let refusal = report.observed.refusal.as_ref();
    match (&report.reply, refusal) {
        // What a stranger answers is no reply of the site.
        (_, Some(refusal)) if report.outcome == Outcome::WrongHost => {
            format!("{} {}", refused::status(&refusal.reason), report.detail)
        }
        (Some(reply), _) => reply.to_string(),
        // Others were answered; those who wait were before.
        (None, _) if report.outcome == Outcome::Transacted && !waiting.last.is_empty() => {
            waiting.last.clone()
        }
        (None, _) => report.detail.clone(),
    }
}
