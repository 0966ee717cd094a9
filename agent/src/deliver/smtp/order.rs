//! Whose turn it is among the messages that wait at a site which holds its refusals back.
//!
//! A refusal that comes after eight seconds takes a session for as long. With no more sessions than the site bears, twenty
//! unknown recipients would keep whoever is behind them waiting for minutes. So a message for somebody who has had mail
//! here before goes first, and waits for one refusal at most. Nothing tells a new mailbox from none: all others keep their
//! order.
//!
//! # Invariants
//! - Where refusals come at once, nothing overtakes anything.
//! - The message in front is passed over [`MOST_PASSED`] times in a row at most.
//! - Memory is bounded; it is lost with the lane, and what is forgotten costs time and nothing else.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use dd_proto::envelope::{Envelope, Recipient};
use dd_proto::report::Disposition;

use crate::plan::Assignment;
use crate::session::Ended;

/// How long it is remembered that a site holds refusals back.
const LASTS: Duration = Duration::from_secs(24 * 3600);
/// Recipients that are remembered; most homes have a few mailboxes.
const MOST_TAKEN: usize = 128;
const MOST_PASSED: u32 = 32;

#[derive(Debug, Default)]
pub(super) struct Order {
    /// Digests of recipients who had mail.
    taken: VecDeque<u64>,
    held_back_at: Option<Instant>,
    /// So often in a row another one went before the message in front.
    passed: u32,
}

impl Order {
    /// What became of a message. `holds_back`: its session has met a refusal that was held back.
    pub(super) fn learn(
        &mut self,
        envelope: &Envelope,
        ended: &Ended,
        holds_back: bool,
        now: Instant,
    ) {
        if holds_back {
            self.held_back_at = Some(now);
        }
        let relayed = ended.recipients.iter();
        let relayed = relayed.filter(|it| it.disposition == Disposition::Relayed);
        for result in relayed {
            let mut recipients = envelope.recipients.iter();
            if let Some(recipient) = recipients.find(|it| it.number == result.number) {
                self.has_taken(digest(recipient));
            }
        }
    }

    fn has_taken(&mut self, recipient: u64) {
        if self.taken.contains(&recipient) {
            return;
        }
        if self.taken.len() == MOST_TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back(recipient);
    }

    /// The place of the message whose turn it is.
    pub(super) fn first(&mut self, waiting: &VecDeque<Assignment>, now: Instant) -> usize {
        let at = match self.holds_back(now) && self.passed < MOST_PASSED {
            true => waiting
                .iter()
                .position(|it| self.knows_one_of(&it.envelope)),
            false => None,
        };
        let at = at.unwrap_or(0);
        self.passed = if at > 0 { self.passed + 1 } else { 0 };
        at
    }

    fn holds_back(&self, now: Instant) -> bool {
        let at = self.held_back_at;
        at.is_some_and(|at| now.saturating_duration_since(at) < LASTS)
    }

    fn knows_one_of(&self, envelope: &Envelope) -> bool {
        let mut recipients = envelope.recipients.iter();
        recipients.any(|it| self.taken.contains(&digest(it)))
    }
}

fn digest(recipient: &Recipient) -> u64 {
    let mut hasher = DefaultHasher::new();
    recipient
        .path
        .as_str()
        .to_ascii_lowercase()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::now;
    use crate::session::After;
    use crate::session::outcome::Phase;
    use dd_proto::id::{DeliveryId, Generation, Lease, MessageId, RecipientNumber};
    use dd_proto::pb;
    use dd_proto::report::{Outcome, RecipientResult, Reply, SaidBy, Told};

    fn assignment(to: &str) -> Assignment {
        let recipient = pb::Recipient {
            forward_path: to.to_owned(),
            ..Default::default()
        };
        let envelope = pb::Envelope {
            recipients: vec![recipient],
            ..Default::default()
        };
        let lease = Lease {
            delivery: DeliveryId {
                message: MessageId::new(1, [0; 10]),
                site: "home".parse().unwrap(),
            },
            generation: Generation {
                start: 1,
                counter: 1,
            },
        };
        let assignment = pb::Assignment {
            lease: Some(lease.into()),
            site_version: 1,
            envelope: Some(envelope),
            content_bytes: 1,
            content: Some("x".into()),
            ..Default::default()
        };
        Assignment::parse(assignment, now()).unwrap()
    }

    fn ended(disposition: Disposition) -> Ended {
        let reply = Reply {
            code: 250,
            enhanced: String::new(),
            text: String::new(),
        };
        Ended {
            outcome: Outcome::Transacted,
            recipients: vec![RecipientResult {
                number: RecipientNumber(0),
                disposition,
                reply,
                told: Told::NotPassedOn,
                by: SaidBy::TheSite,
            }],
            reply: None,
            detail: String::new(),
            dot_sent: true,
            after: After::Usable,
            phase: Phase::EndOfData,
            lost_together: false,
            hand_over_refused: false,
        }
    }

    fn waiting(to: &[&str]) -> VecDeque<Assignment> {
        to.iter().map(|to| assignment(to)).collect()
    }

    #[test]
    fn who_has_had_mail_goes_first_where_refusals_are_held_back() {
        let (mut order, begun) = (Order::default(), now());
        let known = assignment("Me@home.example");
        order.learn(&known.envelope, &ended(Disposition::Relayed), false, begun);
        let all = waiting(&["x@home.example", "y@home.example", "me@home.example"]);
        assert_eq!(order.first(&all, begun), 0, "no refusal was held back");
        let unknown = assignment("x@home.example");
        order.learn(&unknown.envelope, &ended(Disposition::Failed), true, begun);
        assert_eq!(order.first(&all, begun), 2);
        assert_eq!(order.first(&waiting(&["x@home.example"]), begun), 0);
        assert_eq!(order.first(&VecDeque::new(), begun), 0);
        assert_eq!(order.first(&all, begun + LASTS), 0, "it may have changed");
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let (mut order, begun) = (Order::default(), now());
        let known = assignment("me@home.example");
        order.learn(&known.envelope, &ended(Disposition::Relayed), true, begun);
        let all = waiting(&["x@home.example", "me@home.example"]);
        let turns = (0..=MOST_PASSED).map(|_| order.first(&all, begun));
        let turns: Vec<_> = turns.collect();
        assert_eq!(turns.iter().filter(|at| **at == 0).count(), 1);
        assert_eq!(turns.last(), Some(&0));
    }

    #[test]
    fn of_many_mailboxes_the_last_are_remembered() {
        let mut order = Order::default();
        (0..1000).for_each(|recipient| order.has_taken(recipient));
        assert_eq!(order.taken.len(), MOST_TAKEN);
        assert_eq!(order.taken.back(), Some(&999));
    }
}
