//! A queue in memory, for tests and simulations: what waits, in which order, and what is left of it.
//!
//! # Invariants
//! - As in the store, mail stands by its own time first, then by its arrival.
//! - A recipient is settled once; whoever settles it twice panics.

use std::collections::BTreeMap;

use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;

use crate::store::{Head, HeadOf, Note, Position, Settlement, Waiting};

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) mail: BTreeMap<DeliveryId, Waiting>,
}

/// The message of this number, which has just arrived for one recipient of a site.
pub(crate) fn arrived(number: u64, site: SiteName, at: Timestamp) -> Waiting {
    Waiting {
        delivery: DeliveryId {
            message: MessageId::new(number, [0; 10]),
            site,
        },
        position: Position::made_up(0, number),
        arrived: at,
        not_before: None,
        attempts: 0,
        breaks: 0,
        in_doubt: false,
        failed: false,
        kept: false,
        warned: false,
        last: String::new(),
        bytes: 1,
        open: vec![RecipientNumber(0)],
        earlier_start: false,
    }
}

/// The number it was made with.
pub(crate) fn number_of(message: MessageId) -> u64 {
    let number = message.as_bytes()[..6].iter();
    number.fold(0, |all, byte| (all << 8) | u64::from(*byte))
}

impl Queue {
    pub(crate) fn takes(&mut self, waiting: Waiting) {
        self.mail.insert(waiting.delivery.clone(), waiting);
    }

    /// What is left of the delivery; None: nothing.
    ///
    /// # Panics
    /// A recipient was settled before.
    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Option<&Waiting> {
        let delivery = &settlement.delivery;
        let waiting = self.mail.get_mut(delivery).expect("settled twice");
        for (number, _) in &settlement.recipients {
            let place = waiting.open.iter().position(|open| open == number);
            waiting.open.remove(place.expect("settled twice"));
        }
        if waiting.open.is_empty() {
            self.mail.remove(delivery);
        }
        self.mail.get(delivery)
    }

    /// What is noted of mail that is settled is nothing.
    pub(crate) fn note(&mut self, note: Note) {
        let Some(waiting) = self.mail.get_mut(&note.delivery) else {
            return;
        };
        let ms = note.not_before.map_or(0, Timestamp::as_millisecond);
        let ms = ms.try_into().expect("mail is not put off to before 1970");
        let number = number_of(note.delivery.message);
        waiting.position = Position::made_up(ms, number);
        waiting.not_before = note.not_before;
        (waiting.attempts, waiting.breaks) = (note.attempts, note.breaks);
        (waiting.in_doubt, waiting.failed) = (note.in_doubt, note.failed);
        (waiting.kept, waiting.warned) = (note.kept, note.warned);
        waiting.last = note.last;
    }

    pub(crate) fn of<'a>(&'a self, site: &'a SiteName) -> impl Iterator<Item = &'a Waiting> {
        let all = self.mail.values();
        all.filter(move |it| it.delivery.site == *site)
    }

    pub(crate) fn head(&self, of: &HeadOf) -> Head {
        let mut all: Vec<&Waiting> = self.of(&of.site).collect();
        all.sort_by_key(|waiting| waiting.position);
        let later = all.iter().filter_map(|it| it.not_before);
        let next_due = later.filter(|at| *at > of.due).min();
        let is_due = |it: &&&Waiting| {
            let after = of.after.is_none_or(|after| it.position > after);
            it.not_before.is_none_or(|at| at <= of.due) && after
        };
        let mut due: Vec<Waiting> = all.iter().filter(is_due).map(|it| (*it).clone()).collect();
        let more = due.len() > of.limit;
        due.truncate(of.limit);
        Head {
            due,
            more,
            next_due,
        }
    }
}
