//! A lane's assignments, and the account of its sessions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dd_proto::report::GivenBack;
use dd_proto::site::{HandOver, Way};

use super::losses::Losses;
use super::order::Order;
use crate::plan::Assignment;
use crate::session::Together;

/// A further session that came to nothing is not tried again before.
const FURTHER: Duration = Duration::from_secs(60);
/// How long it is remembered that 4yz behind accepted messages was meant for the message, and for no limit of a session.
const OWN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Assignment>,
    /// Sessions of the current round, opening ones included.
    pub(super) sessions: usize,
    pub(super) proved: usize,
    pub(super) idle: usize,
    /// No further session is opened before.
    further_from: Option<Instant>,
    pub(super) losses: Losses,
    /// Until then the site is told nothing of clients, for it did not take that.
    no_hand_over_until: Option<Instant>,
    pub(super) order: Order,
    /// Until then 4yz is taken for the message's, wherever on a session it comes.
    own_until: Option<Instant>,
    /// Counts releases: sessions of an earlier round end after the transaction in hand.
    pub(super) round: u64,
    pub(super) closed: bool,
    /// The round was begun by a recall: the assignment that the release brings belongs to it.
    anew: bool,
    /// And no session was begun in it, so the next one asks DNS anew.
    ask_anew: bool,
    /// The controller recalls, so it knows the word when it is given something back for that.
    recalls: bool,
    pub(super) tls_before: TlsBefore,
}

/// How long it is remembered that the site announces XFORWARD or XCLIENT and does not take it.
const NO_HAND_OVER: Duration = Duration::from_secs(24 * 3600);

/// Whether the site has shown TLS when it proved itself, here or to any agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TlsBefore {
    #[default]
    Never,
    Shown,
}

/// What a session finds when it asks for work.
pub(super) enum Next {
    Work(Box<Assignment>),
    /// There is none at the moment.
    Wait,
    /// The lane is closed, or a release has begun a new round.
    Retire,
}

impl Queue {
    /// A release: sessions that are open are of an earlier round.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        self.sessions = 0;
        self.proved = 0;
        self.idle = 0;
    }

    /// The round that has begun is a recall's.
    pub(super) fn ask_anew(&mut self) {
        self.anew = true;
        self.ask_anew = true;
        self.recalls = true;
    }

    /// Why what was out in a round that is over goes back.
    pub(super) fn why_over(&self) -> GivenBack {
        match (self.closed, self.recalls) {
            (true, _) => GivenBack::Closing,
            (false, true) => GivenBack::Recalled,
            (false, false) => GivenBack::SessionEnded,
        }
    }

    /// Whether the first attempt after a release has its round already; asked once for each.
    pub(super) fn is_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }

    /// Whether the session that begins now asks DNS anew; asked once for each.
    pub(super) fn asks_anew(&mut self) -> bool {
        std::mem::take(&mut self.ask_anew)
    }

    pub(super) fn next(&mut self, round: u64, now: Instant) -> Next {
        if self.is_over(round) {
            return Next::Retire;
        }
        match self.take_first(now) {
            Some(assignment) => Next::Work(Box::new(assignment)),
            None => Next::Wait,
        }
    }

    /// One whose envelope may be sent before the message in hand is answered. What an idle session can have waits for
    /// nobody.
    pub(super) fn next_ahead(&mut self, round: u64, now: Instant) -> Option<Box<Assignment>> {
        if self.is_over(round) || self.waiting.len() <= self.idle {
            return None;
        }
        self.take_first(now).map(Box::new)
    }

    /// The one whose turn it is.
    pub(super) fn take_first(&mut self, now: Instant) -> Option<Assignment> {
        let first = self.order.first(&self.waiting, now);
        self.waiting.remove(first)
    }

    /// Whether sessions of this round end after the transaction in hand.
    pub(super) fn is_over(&self, round: u64) -> bool {
        self.closed || self.round != round
    }

    /// Whether there is reason for another session: one is proved, all are busy, and work waits.
    pub(super) fn wants_further(&self, connections: usize, now: Instant) -> bool {
        self.waiting.len() > self.free() && self.may_open(connections, now)
    }

    /// Whether a message that waits behind a still one could go out elsewhere.
    pub(super) fn has_room(&self, connections: usize, now: Instant) -> bool {
        self.free() > self.waiting.len() || self.may_open(connections, now)
    }

    /// Sessions that take the next message that comes.
    fn free(&self) -> usize {
        self.idle + self.sessions - self.proved
    }

    fn may_open(&self, connections: usize, now: Instant) -> bool {
        let may = self.further_from.is_none_or(|from| from <= now);
        may && self.proved > 0 && self.sessions < connections
    }

    pub(super) fn put_off_further(&mut self, now: Instant) {
        self.further_from = Some(now + FURTHER);
    }

    /// What a session goes by when it begins a message.
    pub(super) fn known(&mut self, way: &Way, now: Instant) -> (Together, HandOver) {
        let hand_over = match self.no_hand_over_until {
            Some(until) if now < until => HandOver::None,
            _ => way.hand_over,
        };
        (self.losses.together(now), hand_over)
    }

    pub(super) fn refuses_hand_over(&mut self, now: Instant) {
        self.no_hand_over_until = Some(now + NO_HAND_OVER);
    }

    pub(super) fn is_own(&self, now: Instant) -> bool {
        self.own_until.is_some_and(|until| now < until)
    }

    /// A message was put off behind accepted ones, and asked again as the first of a session: whether it was put off again.
    pub(super) fn asked_again(&mut self, put_off: bool, now: Instant) {
        self.own_until = put_off.then(|| now + OWN);
    }
}
