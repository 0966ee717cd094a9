//! A site that puts everything off: told from messages that are put off each for a reason of its own.
//!
//! # Invariants
//! Only what several different senders and recipients got, alike, with nothing accepted between, is the site's.

use dd_proto::report::{Disposition, Outcome, Report, Stage};

use super::lease::Leased;
use super::whom::Run;

/// So many in a row are the site's doing, not theirs.
const IN_ROW: u32 = 20;
/// Greylisting puts off each triplet of client, sender and recipient for a time (RFC 6647), at RCPT or behind the dot: first
/// offers count less, so that every message has one, and so does what is put off before its content, which costs a line.
/// Mail that the home would take is not held up by either.
const CHEAP_IN_ROW: u32 = 1000;

#[derive(Debug, Default)]
pub(super) struct Moods {
    run: Run,
    cheap: u32,
    /// Outcome and code of the last one.
    like: Option<(Outcome, u16)>,
}

impl Moods {
    pub(super) fn accepted(&mut self) {
        *self = Self::default();
    }

    /// A message was put off, or broke a session that had answered before. True if that is the site's doing by now.
    pub(super) fn put_off(&mut self, report: &Report, leased: &Leased) -> bool {
        let code = report.answers().next().map(|it| it.reply.code);
        let like = Some((report.outcome, code.unwrap_or_default()));
        if self.like != like {
            *self = Self::default();
        }
        self.like = like;
        self.run.add(leased.whom.as_ref());
        let first = leased.waiting.as_ref().is_some_and(|it| it.attempts == 0);
        let without_content = matches!(report.stage, Stage::Mail | Stage::Rcpt | Stage::Data);
        let cheap = report.outcome == Outcome::Transacted && (first || without_content);
        self.cheap += u32::from(cheap);
        let others = self.run.count - self.cheap;
        (others >= IN_ROW || self.run.count >= CHEAP_IN_ROW) && self.run.hits_several()
    }
}

/// Whether it put off all to whom it was sent.
pub(super) fn defers_all(report: &Report) -> bool {
    let mut answers = report.answers().peekable();
    answers.peek().is_some() && answers.all(|result| result.disposition == Disposition::Deferred)
}
