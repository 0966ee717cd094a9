//! What the site does with commands that travel together, as the controller tells it and as the lane has seen it.
//!
//! # Invariants
//! - What was lost here is told once, and counts here for [`LASTS`] at most. So it is for the controller, which tells it
//!   again with each assignment, to say when the site is tried anew.
//! - Within that time nothing that an assignment says undoes it: one that was on its way when it was found does not know it
//!   yet, and would lose the same again.

use std::time::{Duration, Instant};

use super::course::got_beyond_mail;
use crate::session::{Ended, Together};

/// Longer than it takes until every assignment knows of it, also where the controller is away for some time.
const LASTS: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// As the last assignment had it.
    told: Together,
    /// Seen here.
    shown: Together,
    /// When it last lost some here.
    lost_at: Option<Instant>,
    /// Lost here, and not told yet; what was only told to us is no news.
    news: Together,
    /// It takes one at a time what it has lost: that was the reason.
    confirmed: bool,
}

impl Losses {
    /// By an assignment.
    pub(super) fn told(&mut self, together: Together) {
        self.told = together;
    }

    pub(super) fn together(&mut self, now: Instant) -> Together {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= LASTS;
        if self.lost_at.is_some_and(is_over) {
            (self.shown, self.lost_at) = (Together::default(), None);
        }
        self.shown.and(self.told)
    }

    /// What a message has shown on a session that knows so much.
    pub(super) fn learn(&mut self, session: Together, ended: &Ended, now: Instant) {
        let known = self.together(now);
        if ended.lost_together {
            self.news = self.news.and(session.beyond(known));
            self.shown = self.shown.and(session);
            self.lost_at = Some(now);
            return;
        }
        self.shown = self.shown.and(session.without_losses());
        // Taken in its turn what was lost in company; a server that says 503 to everything has lost nothing.
        self.confirmed |= self.news.has_lost() && got_beyond_mail(ended);
    }

    /// What the controller has to know; once.
    pub(super) fn take_news(&mut self) -> Together {
        if !self.confirmed {
            return Together::default();
        }
        self.confirmed = false;
        std::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::now;
    use crate::session::outcome::Phase;
    use crate::session::{After, Bears};
    use dd_proto::report::Outcome;

    fn ended(lost_together: bool) -> Ended {
        Ended {
            outcome: Outcome::Transacted,
            recipients: Vec::new(),
            reply: None,
            detail: String::new(),
            dot_sent: false,
            after: After::Usable,
            phase: Phase::Rcpt,
            lost_together,
            hand_over_refused: false,
        }
    }

    #[test]
    fn a_loss_is_told_once_and_forgotten_when_the_controller_has_long_known_it() {
        let (mut losses, begun) = (Losses::default(), now());
        let none = Together::default();
        let lost = Together::of_order(false, true);
        losses.learn(lost, &ended(true), begun);
        assert_eq!(losses.take_news(), none);
        losses.learn(lost, &ended(false), begun);
        assert_eq!(losses.take_news(), lost);
        // The same session goes on, and ends later than another one.
        losses.learn(lost, &ended(false), begun);
        assert_eq!(losses.take_news(), none);
        // What comes from before the controller knew it does not send the envelope ahead again.
        losses.told(none);
        assert_eq!(losses.together(begun + LASTS / 2).behind_dot, Bears::No);
        losses.told(lost);
        assert_eq!(losses.together(begun + LASTS), lost);
        // It is for the controller to say when it is tried again.
        losses.told(none);
        assert_eq!(losses.together(begun + LASTS), none);
    }

    #[test]
    fn what_was_told_is_no_news() {
        let (mut losses, begun) = (Losses::default(), now());
        let lost = Together::of_order(true, false);
        losses.told(lost);
        losses.learn(lost, &ended(false), begun);
        assert_eq!(losses.take_news(), Together::default());
        losses.told(Together::default());
        assert_eq!(losses.together(begun), Together::default());
    }
}
