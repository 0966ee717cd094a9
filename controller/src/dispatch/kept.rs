//! A 5yz that may be the home's fault and not the mail's: kept, and sent once more.
//!
//! A member who comes back after an absence, or with a new record, may have a mail server that refuses everything
//! because it is not set up yet. What it refuses is *parked* behind all mail that is ever due. Once the site has
//! accepted something, or nothing else waits, each is sent once more, and a 5yz then is final. Three parked, to two
//! recipients or more, with nothing accepted, are no bad mail: the site waits as refused, and its probes carry the
//! oldest of them.
//!
//! # Invariants
//! - A 5yz fails a recipient only where the site is trusted, or where the same delivery was parked before.
//! - Mail that is parked is sent only when it is its turn, never because a time has come.
//!
//! # Not here
//! Mail that cannot be read: it is `failed`, and not tried at all.

use std::collections::BTreeSet;

use dd_proto::id::DeliveryId;
use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::event::{Effect, Turn};
use super::site::{Rest, SiteQueue, Why};
use super::state::State;
use crate::store::{Position, Waiting};

/// Behind every time at which mail becomes due.
pub(super) const PARKED: Timestamp = Timestamp::constant(221_845_392_000, 0);
/// So many parked, to so many recipients, are the home's doing.
const TOO_MANY: u32 = 3;
const TOO_MANY_TO: usize = 2;

/// What a site's queue knows of its parked mail.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) trust: Trust,
    pub(super) parked: Parked,
    pub(super) turn_of: TurnOf,
    /// Since the site was last trusted.
    count: u32,
    /// No more than matter.
    recipients: BTreeSet<String>,
}

/// How a 5yz is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trust {
    /// It is about the mail.
    #[default]
    Trusted,
    /// Nothing was accepted since an absence or a change of the record.
    Doubted,
    /// The home is not set up: nothing but a probe goes out.
    Misconfigured,
}

/// Whether the store may hold parked mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Parked {
    #[default]
    None,
    Maybe,
}

/// Which mail the head is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TurnOf {
    #[default]
    Due,
    Parked,
    /// Parked mail had its turn; what is left of it is busy.
    DueAgain,
}

impl Kept {
    /// An absence, or a changed record: what the site refuses now may be its own fault.
    pub(super) fn doubt(&mut self) {
        if self.trust == Trust::Trusted {
            self.trust = Trust::Doubted;
        }
    }

    /// The record is another one: it is looked at anew.
    pub(super) fn record_changed(&mut self) {
        *self = Self {
            trust: Trust::Doubted,
            parked: self.parked,
            ..Self::default()
        };
    }

    /// The site has accepted something. Returns how it stood before.
    pub(super) fn accepted(&mut self) -> Trust {
        let before = self.trust;
        *self = Self {
            parked: self.parked,
            turn_of: self.turn_of,
            ..Self::default()
        };
        before
    }

    fn is_too_much(&self) -> bool {
        self.count >= TOO_MANY && self.recipients.len() >= TOO_MANY_TO
    }

    /// Where a read begins that is for parked mail.
    pub(super) fn reads_from(&self) -> Option<Position> {
        (self.turn_of == TurnOf::Parked).then(|| Position::before(PARKED))
    }

    pub(super) fn lets_pass(&self, waiting: &Waiting) -> bool {
        !is_parked(waiting) || self.turn_of == TurnOf::Parked
    }
}

pub(super) fn is_parked(waiting: &Waiting) -> bool {
    waiting.not_before.is_some_and(|at| at >= PARKED)
}

/// Parks a delivery whose recipients were all refused.
pub(super) fn park(waiting: &mut Waiting) {
    waiting.kept = true;
    waiting.not_before = Some(PARKED);
}

impl SiteQueue {
    /// Before a site is tried: a misconfigured home gets its oldest parked mail, every other what is due.
    pub(super) fn whose_turn(&mut self) {
        let turn_of = match self.kept.trust {
            Trust::Misconfigured => TurnOf::Parked,
            Trust::Trusted | Trust::Doubted => TurnOf::Due,
        };
        if (turn_of == TurnOf::Parked) != (self.kept.turn_of == TurnOf::Parked) {
            self.reading = None;
            self.cursor = None;
            self.rest = Rest::More;
        }
        self.kept.turn_of = turn_of;
    }

    /// All that is due has been tried. True if it is the turn of parked mail now, which is to be read.
    pub(super) fn turns_to_parked(&mut self) -> bool {
        let left = self.next_due.is_some_and(|at| at < PARKED);
        let only_parked = !left && self.next_due.is_some();
        let known = self.kept.parked == Parked::Maybe && self.kept.trust == Trust::Trusted;
        match self.kept.turn_of {
            TurnOf::Due if only_parked || known => {
                self.kept.turn_of = TurnOf::Parked;
                self.rest = Rest::More;
                self.cursor = None;
                true
            }
            TurnOf::Parked => {
                // None of it is left, or what is left is on its way. Meanwhile other mail may have come.
                self.kept.parked = Parked::None;
                self.kept.turn_of = TurnOf::DueAgain;
                if self.kept.trust == Trust::Misconfigured {
                    self.kept.trust = Trust::Doubted;
                }
                self.rest = Rest::More;
                self.cursor = None;
                true
            }
            TurnOf::Due | TurnOf::DueAgain => false,
        }
    }
}

impl State {
    /// A delivery is parked: whom it was for is asked, and it is in hand until that is known.
    pub(super) fn parked(&mut self, waiting: &Waiting, turn: &mut Turn<'_>) {
        let delivery = &waiting.delivery;
        let Some(queue) = self.sites.get_mut(&delivery.site) else {
            return;
        };
        queue.kept.parked = Parked::Maybe;
        if queue.kept.turn_of == TurnOf::DueAgain {
            queue.kept.turn_of = TurnOf::Due;
        }
        if queue.kept.trust == Trust::Doubted {
            let open = waiting.open.clone();
            let effect = Effect::Name(delivery.clone(), open, waiting.last.clone());
            self.write(delivery, effect, turn);
        }
    }

    /// The recipients of a parked delivery.
    pub(super) fn named(
        &mut self,
        delivery: &DeliveryId,
        recipients: Vec<String>,
        reply: &str,
        turn: &mut Turn<'_>,
    ) {
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            let kept = &mut queue.kept;
            if kept.trust == Trust::Doubted {
                kept.count += 1;
                for recipient in recipients {
                    if kept.recipients.len() < TOO_MANY_TO {
                        kept.recipients.insert(recipient);
                    }
                }
            }
            if kept.trust == Trust::Doubted && kept.is_too_much() {
                kept.trust = Trust::Misconfigured;
                turn.effects.push(Effect::TellContact {
                    site: queue.site.clone(),
                    reply: reply.to_owned(),
                });
                self.refuses_all(&delivery.site, reply, turn);
            }
        }
        self.written(delivery, turn);
    }

    /// A misconfigured home has refused once more.
    pub(super) fn refuses_all(&mut self, name: &SiteName, reply: &str, turn: &mut Turn<'_>) {
        let detail = format!("it refuses all its mail, which is kept: {reply}");
        let generation = self.generations.last();
        self.site_waits(name, Why::Refused, &detail, generation, turn);
    }
}
