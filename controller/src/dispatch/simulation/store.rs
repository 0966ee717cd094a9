//! The made-up store: what is accepted, settled, noted and read, without anything that lasts.

use std::time::Duration;

use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;
use rand::RngExt as _;

use super::world::{Happening, World, message_number};
use crate::dispatch::event::{By, Event, Settle, Warn};
use crate::store::{Head, Note, Position, Settled, Waiting};

impl World {
    pub(super) fn arrive(&mut self) {
        self.number += 1;
        let site = self.sites[self.rng.random_range(0..5)].0.name.clone();
        let delivery = DeliveryId {
            message: MessageId::new(self.number, [0; 10]),
            site,
        };
        let recipients = self.rng.random_range(1..4);
        let waiting = Waiting {
            delivery: delivery.clone(),
            position: Position::made_up(0, self.number),
            arrived: self.wall(),
            not_before: None,
            attempts: 0,
            breaks: 0,
            in_doubt: false,
            failed: false,
            kept: false,
            warned: false,
            last: String::new(),
            bytes: 1,
            open: (0..recipients).map(RecipientNumber).collect(),
            earlier_start: false,
        };
        self.accepted += 1;
        self.newest = self.wall();
        self.accepted_at.insert(delivery.clone(), self.now);
        self.mail.insert(delivery, waiting.clone());
        self.apply(Event::Arrived(waiting));
    }

    pub(super) fn settle(&mut self, settle: &Settle) {
        let delivery = &settle.settlement.delivery;
        let waiting = self.mail.get_mut(delivery).expect("settled twice");
        for (number, settled) in &settle.settlement.recipients {
            let place = waiting.open.iter().position(|open| open == number);
            waiting.open.remove(place.expect("settled twice"));
            let operator = matches!(settle.evidence.by, By::Operator);
            match settled {
                Settled::Relayed => {
                    let received = self.received.has(&(delivery.clone(), *number));
                    assert!(received, "settled, and the site never had it");
                    self.relayed += 1;
                }
                Settled::Failed if !operator => {
                    let refusals = self.refusals.get(delivery).copied().unwrap_or_default();
                    assert!(
                        refusals > u32::from(waiting.kept),
                        "kept, and not sent again"
                    );
                }
                Settled::Expired => {
                    let site = self.sites.iter().find(|(it, _)| it.name == delivery.site);
                    let lifetime = site.unwrap().0.schedule.lifetime;
                    let age = self.now - self.accepted_at[delivery];
                    // It was written a moment ago.
                    assert!(age >= lifetime, "expired after {age:?} of {lifetime:?}");
                    self.expired += 1;
                }
                Settled::Failed | Settled::Removed => assert!(operator),
            }
        }
        if waiting.open.is_empty() {
            self.mail.remove(delivery);
        }
        self.soon(
            10,
            Happening::Core(Box::new(Event::Written(delivery.clone()))),
        );
    }

    pub(super) fn warn(&mut self, warn: Warn) {
        let delivery = &warn.note.delivery;
        if let Some(waiting) = self.mail.get(delivery) {
            assert!(!waiting.warned, "warned twice");
            let age = self.now - self.accepted_at[delivery];
            assert!(age >= Duration::from_secs(200), "late after {age:?}");
            self.warned += 1;
        }
        self.note(warn.note);
    }

    pub(super) fn note(&mut self, note: Note) {
        if let Some(waiting) = self.mail.get_mut(&note.delivery) {
            let sequence = message_number(&waiting.delivery);
            let ms = note
                .not_before
                .map_or(0, |at| at.as_millisecond().try_into().unwrap());
            waiting.position = Position::made_up(ms, sequence);
            waiting.not_before = note.not_before;
            waiting.attempts = note.attempts;
            waiting.breaks = note.breaks;
            waiting.in_doubt = note.in_doubt;
            waiting.failed = note.failed;
            (waiting.kept, waiting.warned) = (note.kept, note.warned);
            waiting.last = note.last;
        }
        self.soon(10, Happening::Core(Box::new(Event::Written(note.delivery))));
    }

    pub(super) fn head(
        &self,
        site: &SiteName,
        after: Option<Position>,
        due: Timestamp,
        limit: usize,
    ) -> Head {
        let mut all: Vec<_> = self
            .mail
            .values()
            .filter(|w| w.delivery.site == *site)
            .collect();
        all.sort_by_key(|waiting| waiting.position);
        let next_due = all
            .iter()
            .filter_map(|w| w.not_before)
            .filter(|at| *at > due)
            .min();
        let is_due = |w: &&&Waiting| {
            w.not_before.is_none_or(|at| at <= due) && after.is_none_or(|after| w.position > after)
        };
        let mut due: Vec<Waiting> = all.iter().filter(is_due).map(|w| (*w).clone()).collect();
        let more = due.len() > limit;
        due.truncate(limit);
        Head {
            due,
            more,
            next_due,
        }
    }
}
