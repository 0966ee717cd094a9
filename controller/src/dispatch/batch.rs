//! What waits to be written: settlements and notes go together, so that they share a commit and its sync.
//!
//! The message itself has gone out, or is put off for minutes, or its site is. What somebody waits for, and what is due at
//! once, goes with the turn it came in, and takes the rest along.
//!
//! # Invariants
//! What came first is written first, among its kind. Nothing stays longer than it may.

use std::time::Duration;

use super::event::{Settle, Warn};
use crate::store::Note;

/// A site's place is free from the report on ([`super::hand`]), so nobody waits for this.
const SETTLED: Duration = Duration::from_millis(10);
/// Fifty sites that are down and tried in a second share ten commits.
const PUT_OFF: Duration = Duration::from_millis(100);

/// Whether what is noted may be due at once, as far as its site is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SiteIs {
    Tried,
    /// It waits for its timer.
    Waiting,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) settles: Vec<Settle>,
    pub(super) notes: Vec<Note>,
    pub(super) warns: Vec<Warn>,
    /// Monotonic.
    due: Option<Duration>,
}

impl Batch {
    pub(super) fn settle(&mut self, settle: Settle, now: Duration) {
        let patience = match settle.token {
            Some(_) => Duration::ZERO,
            None => SETTLED,
        };
        self.goes_by(now + patience);
        self.settles.push(settle);
    }

    pub(super) fn note(&mut self, note: Note, site: SiteIs, now: Duration) {
        let patience = match (note.not_before, site) {
            // It may be due at once.
            (None, SiteIs::Tried) => Duration::ZERO,
            // It goes out once more: nobody shall have to guess why.
            _ if note.in_doubt => Duration::ZERO,
            (Some(_), _) | (None, SiteIs::Waiting) => PUT_OFF,
        };
        self.goes_by(now + patience);
        self.notes.push(note);
    }

    /// Somebody waits for what there is.
    pub(super) fn hurries(&mut self, now: Duration) {
        if self.due.is_some() {
            self.goes_by(now);
        }
    }

    pub(super) fn warn(&mut self, warn: Warn, now: Duration) {
        self.goes_by(now + PUT_OFF);
        self.warns.push(warn);
    }

    fn goes_by(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When it is to be written; None: there is nothing.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn take_due(&mut self, now: Duration) -> Option<Self> {
        let due = self.due.is_some_and(|due| due <= now);
        due.then(|| std::mem::take(self))
    }
}

#[cfg(test)]
mod tests {
    use dd_proto::id::{DeliveryId, MessageId};
    use jiff::Timestamp;

    use super::super::event::{By, Evidence};
    use super::super::release::Token;
    use super::*;
    use crate::store::Settlement;

    fn delivery(n: u64) -> DeliveryId {
        DeliveryId {
            message: MessageId::new(n, [0; 10]),
            site: "home".parse().unwrap(),
        }
    }

    fn settle(n: u64, token: Option<Token>) -> Settle {
        Settle {
            settlement: Settlement {
                delivery: delivery(n),
                recipients: Vec::new(),
            },
            evidence: Evidence {
                by: By::Operator,
                results: Vec::new(),
                waited: Duration::ZERO,
            },
            token,
        }
    }

    fn note(n: u64, not_before: Option<Timestamp>) -> Note {
        Note {
            delivery: delivery(n),
            attempts: 1,
            breaks: 0,
            in_doubt: false,
            failed: false,
            kept: false,
            warned: false,
            not_before,
            last: String::new(),
        }
    }

    const AT: Duration = Duration::from_secs(7);

    #[test]
    fn a_settlement_takes_along_what_is_put_off_when_its_time_has_come() {
        let mut batch = Batch::default();
        batch.note(note(1, Some(Timestamp::UNIX_EPOCH)), SiteIs::Tried, AT);
        assert_eq!(batch.due(), Some(AT + PUT_OFF));
        batch.settle(settle(2, None), AT);
        batch.settle(settle(3, None), AT + SETTLED / 2);
        assert_eq!(batch.due(), Some(AT + SETTLED));
        assert!(batch.take_due(AT + SETTLED / 2).is_none());
        let taken = batch.take_due(AT + SETTLED).unwrap();
        let settled: Vec<_> = taken
            .settles
            .iter()
            .map(|it| &it.settlement.delivery)
            .collect();
        assert_eq!(settled, [&delivery(2), &delivery(3)]);
        assert_eq!(taken.notes.len(), 1);
        assert_eq!(batch.due(), None);
    }

    #[test]
    fn what_somebody_waits_for_or_is_due_goes_at_once() {
        let mut batch = Batch::default();
        batch.settle(settle(1, Some(Token(1))), AT);
        assert!(batch.take_due(AT).is_some());
        batch.note(note(1, None), SiteIs::Tried, AT);
        assert!(batch.take_due(AT).is_some());
        let doubted = Note {
            in_doubt: true,
            ..note(1, None)
        };
        batch.note(doubted, SiteIs::Waiting, AT);
        assert!(batch.take_due(AT).is_some());
    }

    #[test]
    fn fifty_probes_of_dead_sites_share_a_commit_unless_somebody_waits() {
        let mut batch = Batch::default();
        for n in 0..50 {
            batch.note(note(n, None), SiteIs::Waiting, AT);
            assert!(batch.take_due(AT).is_none());
        }
        batch.hurries(AT);
        assert_eq!(batch.take_due(AT).unwrap().notes.len(), 50);
        batch.hurries(AT);
        assert!(batch.take_due(AT).is_none(), "there is nothing");
    }
}
