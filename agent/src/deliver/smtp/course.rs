//! The course of one session: what came of its messages, and which of them say something about the message.
//!
//! Servers end what they take of one session in many ways: 421, or a closed connection, or 503, or 4yz to MAIL, RCPT or
//! DATA of every message beyond the tenth, the hundredth. Such an answer is the session's. So the message goes to the next
//! session, as if it had not been tried, and there it counts.
//!
//! # Invariants
//! - What happens to the first message of a session counts. So no message goes from session to session.
//! - An answer for a single recipient that is final is never dropped.

use dd_proto::report::{Disposition, Outcome};

use crate::session::outcome::Phase;
use crate::session::{After, Ended};

#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) messages: u32,
    pub(super) accepted: u32,
    /// Messages for which the site had an answer.
    pub(super) answered: u32,
    /// The message before was put off with 4yz.
    put_off: bool,
}

/// How a message's envelope came to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// As the first on its session.
    First,
    /// When everything before it was answered.
    InTurn,
    /// Together with the dot of the message before.
    Ahead,
}

/// Whether the end says something about the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Counts,
    /// Another session is asked, which begins with this message.
    NextSession,
    /// The same; it was put off, so the next answer tells whose doing that was.
    PutOff,
}

impl Course {
    /// `own`: 4yz behind accepted messages was the message's own when it was last tried out.
    pub(super) fn fate(&self, sent: Sent, ended: &Ended, own: bool) -> Fate {
        let nobody_told = ended.answers().next().is_none();
        if ended.lost_together && nobody_told {
            return Fate::NextSession;
        }
        // What the site is not told any more cannot end the next session.
        if ended.hand_over_refused && nobody_told && !ended.dot_sent {
            return Fate::NextSession;
        }
        if sent == Sent::First || ended.dot_sent {
            return Fate::Counts;
        }
        match ended.outcome {
            // The site ended a kept session between two messages.
            Outcome::Broken if ended.phase == Phase::Mail => Fate::NextSession,
            // 502, 503 and 530 to MAIL say that the session is not where it should be: a new one is.
            Outcome::Refused if nobody_told && ended.phase == Phase::Mail => Fate::NextSession,
            // RFC 5321 §3.8: 421 is about the service.
            Outcome::Busy if nobody_told => Fate::NextSession,
            Outcome::Transacted if self.accepted > 0 && is_put_off(ended) => {
                // Two in a row look like the session again.
                match own && !self.put_off {
                    true => Fate::Counts,
                    false => Fate::PutOff,
                }
            }
            _ => Fate::Counts,
        }
    }

    /// A message whose end counts.
    pub(super) fn count(&mut self, ended: &Ended) {
        let relayed = |disposition| disposition == Disposition::Relayed;
        let mut results = ended.recipients.iter();
        self.accepted += u32::from(results.any(|it| relayed(it.disposition)));
        self.answered += u32::from(ended.answers().next().is_some());
        self.put_off = is_put_off(ended);
    }
}

/// Whether a message got 4yz for all its recipients, before its content was sent.
pub(super) fn is_put_off(ended: &Ended) -> bool {
    let mut answers = ended.answers().peekable();
    ended.outcome == Outcome::Transacted
        && !ended.dot_sent
        && answers.peek().is_some()
        && answers.all(|it| it.disposition == Disposition::Deferred)
}

/// Whether MAIL was taken, as far as the end tells.
pub(super) fn got_beyond_mail(ended: &Ended) -> bool {
    ended.phase > Phase::Mail && ended.after != After::Lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use dd_proto::id::RecipientNumber;
    use dd_proto::report::{RecipientResult, Reply, SaidBy, Told};

    fn ended(outcome: Outcome, phase: Phase, results: &[Disposition]) -> Ended {
        let result = |disposition: &Disposition| RecipientResult {
            number: RecipientNumber(0),
            disposition: *disposition,
            reply: Reply {
                code: 450,
                enhanced: String::new(),
                text: String::new(),
            },
            told: Told::NotPassedOn,
            by: SaidBy::TheSite,
        };
        Ended {
            outcome,
            recipients: results.iter().map(result).collect(),
            reply: None,
            detail: String::new(),
            dot_sent: phase == Phase::EndOfData,
            after: After::Usable,
            phase,
            lost_together: false,
            hand_over_refused: false,
        }
    }

    #[test]
    fn only_what_may_be_the_sessions_doing_goes_to_the_next_one() {
        use Disposition::{Deferred, Failed};
        use Outcome::{Broken, Busy, InDoubt, Refused, Transacted};
        for (outcome, phase, results, fate) in [
            (Broken, Phase::Mail, &[][..], Fate::NextSession),
            (Broken, Phase::Rcpt, &[], Fate::Counts),
            (Broken, Phase::Data, &[Failed], Fate::Counts),
            (Busy, Phase::Mail, &[], Fate::NextSession),
            (Busy, Phase::Data, &[], Fate::NextSession),
            (Busy, Phase::Rcpt, &[Failed], Fate::Counts),
            (Refused, Phase::Mail, &[], Fate::NextSession),
            (Transacted, Phase::Mail, &[Deferred, Deferred], Fate::PutOff),
            (Transacted, Phase::Rcpt, &[Deferred], Fate::PutOff),
            (Transacted, Phase::Data, &[Deferred], Fate::PutOff),
            (Transacted, Phase::Rcpt, &[Deferred, Failed], Fate::Counts),
            (Transacted, Phase::Mail, &[Failed], Fate::Counts),
            (Transacted, Phase::EndOfData, &[Deferred], Fate::Counts),
            (InDoubt, Phase::EndOfData, &[], Fate::Counts),
        ] {
            let ended = ended(outcome, phase, results);
            let mut course = Course::default();
            assert_eq!(course.fate(Sent::First, &ended, false), Fate::Counts);
            course.accepted = 1;
            for sent in [Sent::InTurn, Sent::Ahead] {
                assert_eq!(course.fate(sent, &ended, false), fate, "{ended:?}");
            }
        }
    }

    #[test]
    fn mail_that_is_put_off_for_its_own_sake_costs_no_session_each() {
        let good = ended(
            Outcome::Transacted,
            Phase::EndOfData,
            &[Disposition::Relayed],
        );
        let off = ended(Outcome::Transacted, Phase::Rcpt, &[Disposition::Deferred]);
        let mut course = Course::default();
        // Without a message that was taken there is no limit to have reached.
        assert_eq!(course.fate(Sent::InTurn, &off, false), Fate::Counts);
        course.count(&good);
        assert_eq!(course.fate(Sent::InTurn, &off, false), Fate::PutOff);
        // The next session said the same: for a while it counts where it stands alone.
        for _ in 0..3 {
            assert_eq!(course.fate(Sent::InTurn, &off, true), Fate::Counts);
            course.count(&off);
            assert_eq!(course.fate(Sent::InTurn, &off, true), Fate::PutOff);
            course.count(&good);
        }
    }

    #[test]
    fn a_message_at_which_the_hand_over_was_refused_is_asked_again_without() {
        let mut refused = ended(Outcome::Broken, Phase::Mail, &[]);
        refused.hand_over_refused = true;
        let course = Course::default();
        assert_eq!(course.fate(Sent::First, &refused, false), Fate::NextSession);
        let mut taken = ended(Outcome::InDoubt, Phase::EndOfData, &[]);
        taken.hand_over_refused = true;
        assert_eq!(course.fate(Sent::First, &taken, false), Fate::Counts);
    }

    #[test]
    fn what_travelled_together_and_was_lost_is_asked_again_even_as_the_first() {
        let mut lost = ended(Outcome::Broken, Phase::Rcpt, &[]);
        lost.lost_together = true;
        let course = Course::default();
        assert_eq!(course.fate(Sent::First, &lost, false), Fate::NextSession);
    }
}
