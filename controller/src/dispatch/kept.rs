//! A 5yz that may be the home's fault and not the mail's: kept, and sent again once the home takes mail.
//!
//! Trust is evidence since this start. Nothing is known of a new site, after a start, after an absence or with another
//! record: what it refuses is *parked* behind all mail that is ever due, until it has accepted something. Then each that
//! is parked is sent again, and a 5yz is final. A trusted home that refuses several different senders and recipients
//! alike, with nothing accepted between, is doubted from the third on.
//!
//! What a reply is about decides how far that goes. Refusals of a recipient or a sender (5.1.x, 5.2.x, whatever is
//! answered to MAIL) say little about the home: the session goes on to the next message, so that any number of them
//! costs the one behind them seconds. Three that are about neither, to different recipients, are a misconfigured home: it
//! waits as refused, and its contact is told, once.
//!
//! A doubted home is probed at its interval with what is due and with what is parked, by turns; what is parked goes on
//! where the last probe ended, so that every probe carries another message. From the end it goes on in front, up to where
//! it began: what stands at the end may be a single message that no home would take, which says nothing about this one.
//!
//! # Invariants
//! - A 5yz of a site fails a recipient only where something was accepted since the site was doubted last.
//! - Mail that is parked is sent only when it is its turn, never because a time has come; while the home is doubted not
//!   before an interval after it had its turn last, or a release.
//!
//! # Not here
//! Mail that cannot be read: it is `failed`, and not tried at all.

use std::time::Duration;

use dd_proto::name::SiteName;
use dd_proto::report::{Disposition, Report};
use jiff::Timestamp;

use super::event::{Effect, Turn};
use super::lease::Leased;
use super::refusals::{About, Refusals, TOO_MANY, about};
use super::site::{Rest, SiteQueue, Why};
use super::state::State;
use crate::store::{Position, Waiting};

/// Behind every time at which mail becomes due.
pub(super) const PARKED: Timestamp = Timestamp::constant(221_845_392_000, 0);
/// A probe of a doubted home goes on as long, where its refusals are about recipients and senders.
const MOST_IN_A_ROUND: u32 = 1000;

/// What a site's queue knows of its parked mail, and of what it refuses.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) trust: Trust,
    pub(super) parked: Parked,
    /// Some of it was seen since this start, and `parked` is no mere possibility.
    pub(super) has_seen: bool,
    pub(super) turn_of: TurnOf,
    pub(super) wakes: Wakes,
    /// With nothing accepted between.
    refusals: Refusals,
    /// When the last of them came that counts for the next turn of what is parked; monotonic.
    last: Option<Duration>,
    round: Round,
    /// The next probe begins with what is parked.
    starts: TurnOf,
    /// Where the next turn of what is parked goes on.
    goes_on: Option<Position>,
    lap: Lap,
}

/// A turn of what is parked offers each once, wherever it begins.
#[derive(Debug, Clone, Copy, Default)]
struct Lap {
    /// It began behind this one, and has not come to the end yet.
    began: Option<Position>,
    /// It has, and goes on from the front up to this one.
    until: Option<Position>,
}

/// Refusals since the site was last looked at from its front.
#[derive(Debug, Default)]
struct Round {
    all: u32,
    of_home: u32,
}

/// How a 5yz is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trust {
    /// Nothing was accepted since the start, an absence, a change of the record, or a run of refusals.
    #[default]
    Doubted,
    /// It is about the mail.
    Trusted,
    /// The home is not set up: one message at a time goes out to see whether it is now.
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
    /// Parked mail had its turn; what is left of it is busy, or was refused again.
    DueAgain,
}

/// Whether new mail is offered at once to a home that waits as refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wakes {
    #[default]
    No,
    /// What it refused was about recipients and senders.
    Yes,
}

/// What a refusal means for the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoesOn,
    /// Enough for now.
    Waits,
    /// The home is not set up, which is news.
    Misconfigured,
}

impl Kept {
    /// An absence: what the site refuses now may be its own fault.
    pub(super) fn doubt(&mut self) {
        if self.trust == Trust::Trusted {
            self.forget_refusals();
            self.trust = Trust::Doubted;
        }
    }

    /// The record is another one: it is looked at anew.
    pub(super) fn record_changed(&mut self) {
        *self = Self {
            parked: self.parked,
            ..Self::default()
        };
    }

    fn forget_refusals(&mut self) {
        self.refusals.forget();
        self.last = None;
        self.round = Round::default();
    }

    /// The site has accepted these recipients. Returns how it stood before.
    pub(super) fn accepted(&mut self, taken: &[u64]) -> Trust {
        self.forget_refusals();
        self.refusals.accepted(taken);
        (self.goes_on, self.lap) = (None, Lap::default());
        std::mem::replace(&mut self.trust, Trust::Trusted)
    }

    /// The site has refused a message for good, and nothing of it was accepted.
    fn refused(&mut self, report: &Report, leased: &Leased, now: Duration) -> Verdict {
        let was_kept = leased.waiting.as_ref().is_some_and(|it| it.kept);
        let about = about(report);
        if self.trust == Trust::Trusted && was_kept && about == About::TheMail {
            // It was refused while nothing was accepted, and now again while others are. A reply that is about the home
            // counts all the same, for the home may have gone back to what it was.
            return Verdict::GoesOn;
        }
        self.round.all += 1;
        self.round.of_home += u32::from(about == About::TheHome);
        // What is due may be refused every minute: that puts off nobody's turn.
        if self.turn_of == TurnOf::Parked || self.last.is_none() {
            self.last = Some(now);
        }
        if self.trust != Trust::Trusted {
            self.refusals.of_untrusted(report, leased, now);
        } else if self.refusals.of_trusted(report, leased, now) {
            self.trust = Trust::Doubted;
            self.last = Some(now);
        }
        match self.trust {
            Trust::Doubted if about == About::TheHome && self.refusals.are_the_homes() => {
                Verdict::Misconfigured
            }
            Trust::Misconfigured if self.round.of_home >= TOO_MANY => Verdict::Waits,
            Trust::Trusted => Verdict::GoesOn,
            _ if self.round.all >= MOST_IN_A_ROUND => Verdict::Waits,
            _ => Verdict::GoesOn,
        }
    }

    /// All that may be offered was, and all was refused: whether that is the home's doing though every refusal was about
    /// a recipient or a sender.
    fn is_long(&self, now: Duration) -> bool {
        self.trust == Trust::Doubted && self.refusals.are_too_long(now)
    }

    /// Where a read begins that is for parked mail.
    pub(super) fn reads_from(&self) -> Option<Position> {
        let front = Position::before(PARKED);
        (self.turn_of == TurnOf::Parked).then(|| self.goes_on.unwrap_or(front))
    }

    pub(super) fn lets_pass(&self, waiting: &Waiting) -> bool {
        let had_its_turn = self.ends_before(waiting.position);
        !is_parked(waiting) || (self.turn_of == TurnOf::Parked && !had_its_turn)
    }

    /// Whether what stands there was offered already when the turn began.
    pub(super) fn ends_before(&self, position: Position) -> bool {
        let until = self.lap.until;
        self.turn_of == TurnOf::Parked && until.is_some_and(|until| position > until)
    }

    fn begins(&mut self, turn_of: TurnOf) {
        self.turn_of = turn_of;
        self.lap = Lap {
            began: self.goes_on,
            until: None,
        };
    }

    /// It goes out as a probe: the next turn goes on behind it.
    pub(super) fn offers(&mut self, waiting: &Waiting) {
        if is_parked(waiting) && self.trust != Trust::Trusted {
            self.goes_on = Some(waiting.position);
        }
    }

    /// The site is tried at its time: what is due and what is parked begin by turns.
    pub(super) fn is_probed(&mut self) {
        if self.trust == Trust::Trusted || self.parked == Parked::None {
            return;
        }
        self.starts = match self.turn_of {
            TurnOf::Parked | TurnOf::DueAgain => TurnOf::Due,
            TurnOf::Due => TurnOf::Parked,
        };
    }

    /// The site says that it is ready: what is parked is offered without waiting for an interval.
    pub(super) fn is_released(&mut self) {
        self.last = None;
    }

    /// From when on parked mail may go out again; None: now.
    fn parked_from(&self, interval: Duration) -> Option<Duration> {
        match self.trust {
            Trust::Trusted => None,
            Trust::Doubted | Trust::Misconfigured => self.last.map(|last| last + interval),
        }
    }
}

/// Whether it is kept because of a refusal that may be its home's own fault: it has no time of its own then.
pub(crate) fn is_parked(waiting: &Waiting) -> bool {
    waiting.not_before.is_some_and(|at| at >= PARKED)
}

impl SiteQueue {
    /// The site has accepted a message, or some recipients of it.
    pub(super) fn accepted(&mut self, report: &Report, leased: &Leased) {
        self.moods.accepted();
        self.ended.remove(&report.lease.delivery.message);
        let taken = report.recipients.iter();
        let taken = taken.filter(|it| it.disposition == Disposition::Relayed);
        let taken = taken.map(|it| it.number);
        let whom = leased.whom.as_ref();
        let taken = whom.map(|whom| whom.recipients(taken)).unwrap_or_default();
        let refused = self.kept.refusals.are_any() || self.kept.turn_of != TurnOf::Due;
        let before = self.kept.accepted(&taken);
        if refused && before != Trust::Trusted && self.kept.parked == Parked::Maybe {
            // What it refused has its turn.
            self.begins_anew();
        }
    }

    /// Before a site is tried.
    pub(super) fn whose_turn(&mut self) {
        let turn_of = std::mem::take(&mut self.kept.starts);
        if (turn_of == TurnOf::Parked) != (self.kept.turn_of == TurnOf::Parked) {
            self.reading = None;
            self.cursor = None;
            self.rest = Rest::More;
        }
        self.kept.begins(turn_of);
        self.kept.round = Round::default();
    }

    /// All that is due has been tried. True if it is the turn of other mail now, which is to be read.
    pub(super) fn turns_to_parked(&mut self, now: Duration) -> bool {
        let maybe = self.kept.parked == Parked::Maybe;
        let from = self.kept.parked_from(self.site.schedule.retry_interval);
        match self.kept.turn_of {
            TurnOf::Due if maybe && from.is_none_or(|from| from <= now) => {
                self.kept.begins(TurnOf::Parked);
            }
            TurnOf::Parked => {
                let behind = self.kept.goes_on.take();
                let began = self.kept.lap.began.take();
                if began.is_some() || (behind.is_some() && self.kept.round.all == 0) {
                    // This was the end. What stands in front of where it began has not had its turn.
                    self.kept.lap.until = began;
                    self.rest = Rest::More;
                    self.cursor = None;
                    return true;
                }
                // None of it is left, or what is left is on its way. Meanwhile other mail may have come.
                if self.kept.round.all == 0 {
                    self.kept.parked = Parked::None;
                    self.kept.has_seen = false;
                    if self.kept.trust == Trust::Misconfigured {
                        self.kept.forget_refusals();
                        self.kept.trust = Trust::Doubted;
                    }
                }
                self.kept.turn_of = TurnOf::DueAgain;
            }
            TurnOf::Due | TurnOf::DueAgain => return false,
        }
        self.rest = Rest::More;
        self.cursor = None;
        true
    }

    /// When parked mail has its next turn, where nothing else is left.
    pub(super) fn next_turn(&self, now: Duration) -> Duration {
        let interval = self.site.schedule.retry_interval;
        match self.kept.parked_from(interval) {
            Some(from) if from > now => from,
            // It has had its turn, or had it been its turn it would have it.
            _ => now + interval,
        }
    }
}

impl State {
    /// A delivery is parked.
    pub(super) fn parked(&mut self, waiting: &Waiting) {
        let Some(queue) = self.sites.get_mut(&waiting.delivery.site) else {
            return;
        };
        queue.kept.parked = Parked::Maybe;
        queue.kept.has_seen = true;
    }

    /// A message was refused for good, for all to whom it was sent. True if the site waits.
    pub(super) fn was_refused(
        &mut self,
        name: &SiteName,
        report: &Report,
        leased: &Leased,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(queue) = self.sites.get_mut(name) else {
            return false;
        };
        let reply = report
            .answers()
            .find(|it| it.disposition == Disposition::Failed);
        let reply = reply.map(|it| it.reply.to_string()).unwrap_or_default();
        match queue.kept.refused(report, leased, turn.now.monotonic) {
            Verdict::GoesOn => return false,
            Verdict::Waits => {}
            Verdict::Misconfigured => self.is_misconfigured(name, &reply, turn),
        }
        let detail = format!("it refuses all its mail, which is kept: {reply}");
        self.site_waits(name, Why::Refused, &detail, leased.generation, turn);
        true
    }

    fn is_misconfigured(&mut self, name: &SiteName, reply: &str, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.kept.trust = Trust::Misconfigured;
        turn.effect(Effect::TellContact {
            site: queue.site.clone(),
            reply: reply.to_owned(),
        });
    }

    /// Nothing is left but what a doubted home has refused.
    pub(super) fn only_refused_is_left(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.kept.wakes = Wakes::Yes;
        if queue.kept.is_long(turn.now.monotonic) {
            let reply = queue.kept.refusals.last();
            self.is_misconfigured(name, &reply, turn);
        }
    }
}
