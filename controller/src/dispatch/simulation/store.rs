//! The made-up store: what is accepted, settled, noted and read, without anything that lasts.

use std::time::Duration;

use dd_proto::id::RecipientNumber;
use rand::RngExt as _;

use super::world::{Happening, World};
use crate::dispatch::event::{By, Event, Settle, Warn};
use crate::dispatch::in_memory;
use crate::store::{Note, Settled, Waiting};

impl World {
    pub(super) fn arrive(&mut self) {
        self.number += 1;
        let site = self.sites[self.rng.random_range(0..5)].0.name.clone();
        let recipients = self.rng.random_range(1..4);
        let waiting = Waiting {
            open: (0..recipients).map(RecipientNumber).collect(),
            ..in_memory::arrived(self.number, site, self.wall())
        };
        self.accepted += 1;
        self.newest = self.wall();
        self.accepted_at.insert(waiting.delivery.clone(), self.now);
        self.stored.takes(waiting.clone());
        self.apply(Event::Arrived(waiting));
    }

    pub(super) fn settle(&mut self, settle: &Settle) {
        let delivery = &settle.settlement.delivery;
        let was_kept = self.stored.mail.get(delivery).is_some_and(|it| it.kept);
        self.stored.settle(&settle.settlement);
        for (number, settled) in &settle.settlement.recipients {
            let operator = matches!(settle.evidence.by, By::Operator);
            match settled {
                Settled::Relayed => {
                    let received = self.received.has(&(delivery.clone(), *number));
                    assert!(received, "settled, and the site never had it");
                    self.relayed += 1;
                }
                Settled::Failed if !operator => {
                    let refusals = self.refusals.get(delivery).copied().unwrap_or_default();
                    assert!(refusals > u32::from(was_kept), "kept, and not sent again");
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
        self.soon(
            10,
            Happening::Core(Box::new(Event::Written(delivery.clone()))),
        );
    }

    pub(super) fn warn(&mut self, warn: Warn) {
        let delivery = &warn.note.delivery;
        if let Some(waiting) = self.stored.mail.get(delivery) {
            assert!(!waiting.warned, "warned twice");
            let age = self.now - self.accepted_at[delivery];
            assert!(age >= Duration::from_secs(200), "late after {age:?}");
            self.warned += 1;
        }
        self.note(warn.note);
    }

    pub(super) fn note(&mut self, note: Note) {
        let delivery = note.delivery.clone();
        self.stored.note(note);
        self.soon(10, Happening::Core(Box::new(Event::Written(delivery))));
    }
}
