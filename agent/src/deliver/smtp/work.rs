//! A proved session at work: one message after the other, until there is a reason to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dd_proto::id::{Lease, SessionId};
use dd_proto::report::GivenBack;

use super::account::{Close, Manner, Proved, manner_of};
use super::course::{Course, Fate, Sent, is_put_off};
use super::queue::Next;
use super::{Over, Shared};
use crate::agent::now;
use crate::alarm::Alarm;
use crate::attempt::{self, Handed};
use crate::lease::{Boottime, Standing};
use crate::live::Live;
use crate::plan::Assignment;
use crate::session::{After, Ended};

/// How long a session is kept without work.
const IDLE: Duration = Duration::from_secs(10);
/// How long, and for how many messages, a session lives at most.
const MAX_AGE: Duration = Duration::from_secs(600);
const MAX_MESSAGES: u32 = 1000;

/// A session at work.
pub(super) struct Work {
    shared: Arc<Shared>,
    id: SessionId,
    round: u64,
    live: Live,
    course: Course,
    /// What is handed over next, its envelope perhaps sent ahead.
    next: Option<Box<Assignment>>,
    /// The message before was put off, as the last on its session: what it is answered now tells whose doing that was.
    put_off: bool,
    /// For what it waits for beside the far end.
    alarm: Alarm,
}

/// Why a session stops.
struct Stop {
    manner: Manner,
    detail: String,
    /// What it did not try, for the session that follows.
    successor: Option<Box<Assignment>>,
}

impl Stop {
    fn new(manner: Manner, detail: impl Into<String>) -> Self {
        Self {
            manner,
            detail: detail.into(),
            successor: None,
        }
    }

    /// The session goes on with it, in a successor.
    fn before(assignment: Box<Assignment>, manner: Manner, detail: String) -> Self {
        Self {
            successor: Some(assignment),
            ..Self::new(manner, detail)
        }
    }

    /// A message is on its way that goes no further.
    fn midway(why: GivenBack) -> Self {
        let detail = match why {
            GivenBack::LeaseExpired => "ended by a lease that was over",
            _ => "it was silent, and its message recalled",
        };
        Self::new(Manner::Dropped, detail)
    }
}

impl Work {
    /// `first`: what the session was opened for. `put_off`: that was, on the session before.
    pub(super) fn new(
        shared: &Arc<Shared>,
        id: SessionId,
        round: u64,
        live: Live,
        first: Option<Assignment>,
        put_off: bool,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            id,
            round,
            live,
            course: Course::default(),
            next: first.map(Box::new),
            put_off,
            alarm: Alarm::new(),
        }
    }

    pub(super) async fn run(mut self) -> Over {
        let stop = loop {
            let handed = match self.next_message().await {
                Ok(assignment) => self.hand_over(assignment).await,
                Err(stop) => Err(stop),
            };
            if let Err(stop) = handed {
                break stop;
            }
            // Others who wait for a slot come first.
            self.live.wire.yields();
        };
        self.end(stop).await
    }

    /// The next one that may go out.
    async fn next_message(&mut self) -> Result<Box<Assignment>, Stop> {
        loop {
            let assignment = match self.next.take() {
                Some(assignment) => assignment,
                None => {
                    let assignment = self.wait().await?;
                    if let Some(limit) = self.limit() {
                        return Err(Stop::before(assignment, Manner::Orderly, limit.to_owned()));
                    }
                    assignment
                }
            };
            if self.shared.may_go_out(&assignment.lease) {
                return Ok(assignment);
            }
            if self.live.session.is_ahead() {
                return Err(Stop::midway(GivenBack::LeaseExpired));
            }
            self.put_off = false;
        }
    }

    /// The next assignment, or why there is no point in waiting for one.
    async fn wait(&mut self) -> Result<Box<Assignment>, Stop> {
        let (shared, round) = (&self.shared, self.round);
        let deadline = now() + IDLE;
        loop {
            // Made before the look into the queue, so that work that comes in between is not missed.
            let came = shared.work_came.notified();
            let next = shared.lock().next(round, now());
            match next {
                Next::Work(assignment) => return Ok(assignment),
                Next::Retire => return Err(Stop::new(Manner::Orderly, "closed by the controller")),
                Next::Wait => {}
            }
            self.live.wire.rests();
            shared.idle(round, 1);
            let ended = tokio::select! {
                () = came => None,
                () = self.live.wire.disturbed() => Some("ended by the site while idle"),
                () = self.alarm.at(deadline) => Some("idle"),
            };
            shared.idle(round, -1);
            if let Some(ended) = ended {
                return Err(Stop::new(Manner::Orderly, ended));
            }
        }
    }

    async fn hand_over(&mut self, assignment: Box<Assignment>) -> Result<(), Stop> {
        let session = &self.live.session;
        if !session.is_ahead() && !session.is_for_client_of(&assignment.envelope) {
            let detail = "it was told of another client than the next message has".to_owned();
            return Err(Stop::before(assignment, Manner::Orderly, detail));
        }
        let sent = match self.course.messages {
            0 => Sent::First,
            _ if self.live.session.is_ahead() => Sent::Ahead,
            _ => Sent::InTurn,
        };
        self.course.messages += 1;
        let (together, hand_over) = self.shared.lock().known(&self.shared.plan.way, now());
        self.live.session.learn(together);
        self.live.session.hands_over(hand_over);
        let ended = match self.transact(&assignment).await {
            Handed::Ended(ended) => ended,
            Handed::GivenUp(why) => {
                self.shared.agent.give_back(&assignment.lease, why);
                return Err(Stop::midway(why));
            }
        };
        let fate = self.fate(&assignment, sent, &ended);
        self.put_off = fate == Fate::PutOff;
        let after = ended.after;
        if fate != Fate::Counts {
            let detail = format!("ended before a message was tried: {}", ended.detail);
            return Err(Stop::before(assignment, manner_of(after), detail));
        }
        self.course.count(&ended);
        let (agent, id) = (&self.shared.agent, self.id);
        attempt::report(agent, id, &self.live, &assignment, ended).await;
        match after {
            After::Usable => self.goes_on(),
            After::Spent | After::Lost => Err(Stop::new(
                manner_of(after),
                "ended by what became of a message",
            )),
        }
    }

    /// One transaction. What is sent ahead with its dot is the next one afterwards, unless it has gone to another session.
    async fn transact(&mut self, assignment: &Assignment) -> Handed {
        let (shared, round) = (&self.shared, self.round);
        let may_send_ahead = self.limit().is_none() && self.live.session.sends_ahead();
        let ahead = Mutex::new(None);
        let from_the_queue = || {
            let next = may_send_ahead.then(|| shared.next_ahead(round)).flatten();
            let mut ahead = ahead.lock().unwrap_or_else(PoisonError::into_inner);
            *ahead = next;
            ahead.as_deref().map(Assignment::to_be_sent)
        };
        let pulse = Arc::clone(self.live.wire.pulse());
        let handing = attempt::hand_over(&shared.agent, &mut self.live, assignment, from_the_queue);
        let handed = tokio::select! {
            biased;
            handed = handing => handed,
            why = shared.recalled(round, &pulse, &ahead) => Handed::GivenUp(why),
            never = shared.splits_off(round, &pulse, &ahead, &mut self.alarm) => match never {},
        };
        self.next = ahead.into_inner().unwrap_or_else(PoisonError::into_inner);
        handed
    }

    /// Whether the message behind it can follow on this session.
    fn goes_on(&self) -> Result<(), Stop> {
        match (&self.next, self.live.session.is_ahead()) {
            (Some(_), _) if self.shared.lock().is_over(self.round) => {
                Err(Stop::new(Manner::Orderly, "closed by the controller"))
            }
            (None, true) => Err(Stop::new(
                Manner::Answered,
                "ended because another session took what was sent ahead",
            )),
            _ => Ok(()),
        }
    }

    /// Whether what became of a message says something about it; and what the lane learns from it.
    fn fate(&self, assignment: &Assignment, sent: Sent, ended: &Ended) -> Fate {
        let mut queue = self.shared.lock();
        let holds_back = self.live.session.is_held_back();
        queue
            .order
            .learn(&assignment.envelope, ended, holds_back, now());
        queue
            .losses
            .learn(self.live.session.together(), ended, now());
        if ended.hand_over_refused {
            let (site, hand_over) = (&self.shared.plan.site, self.shared.plan.way.hand_over);
            tracing::warn!(%site, %hand_over, "the site does not take what it announces; it is told nothing of clients for a day");
            queue.refuses_hand_over(now());
        }
        if sent == Sent::First && self.put_off {
            queue.asked_again(is_put_off(ended), now());
        }
        self.course.fate(sent, ended, queue.is_own(now()))
    }

    /// Why the session takes no message more.
    fn limit(&self) -> Option<&'static str> {
        if self.course.messages >= MAX_MESSAGES {
            return Some("at its limit of messages");
        }
        if self.live.session.is_worn() {
            return Some("at as many refusals as servers bear");
        }
        let age = now().saturating_duration_since(self.live.proved);
        (age >= MAX_AGE).then_some("at its age limit")
    }

    /// Sees to what it leaves behind.
    async fn end(mut self, stop: Stop) -> Over {
        let Stop {
            manner,
            detail,
            mut successor,
        } = stop;
        if successor.is_none() && manner != Manner::Lost && self.course.answered > 0 {
            successor = self.next_for_a_successor();
        }
        if let Some(untried) = self.next.take() {
            self.shared.take_back(self.round, *untried);
        }
        let holds_back = self.live.session.is_held_back();
        if manner == Manner::Orderly {
            self.live.quit().await;
        }
        Over {
            close: Close {
                proved: Proved::Yes,
                accepted: self.course.accepted,
                answered: self.course.answered,
                manner,
                holds_back,
                detail,
            },
            successor,
            put_off: self.put_off,
        }
    }

    /// What a session that follows begins with, if work waits.
    fn next_for_a_successor(&mut self) -> Option<Box<Assignment>> {
        loop {
            let next = {
                let mut queue = self.shared.lock();
                if queue.is_over(self.round) {
                    return None;
                }
                let waiting = || queue.take_first(now()).map(Box::new);
                self.next.take().or_else(waiting)?
            };
            if self.shared.may_go_out(&next.lease) {
                return Some(next);
            }
        }
    }
}

impl Shared {
    /// The message whose envelope may go out before the one in hand is answered.
    fn next_ahead(&self, round: u64) -> Option<Box<Assignment>> {
        loop {
            let next = self.lock().next_ahead(round, now())?;
            if self.may_go_out(&next.lease) {
                return Some(next);
            }
        }
    }

    fn idle(&self, round: u64, change: isize) {
        let mut queue = self.lock();
        if queue.round == round {
            queue.idle = queue.idle.saturating_add_signed(change);
        }
    }

    /// An expired lease goes back, and any where no dot could be noted; one that the controller has dropped is forgotten.
    pub(super) fn may_go_out(&self, lease: &Lease) -> bool {
        match self.agent.leases.standing(lease, Boottime::now()) {
            Standing::Held if self.agent.journal.is_failing() => {
                self.agent.give_back(lease, GivenBack::Closing);
                false
            }
            Standing::Held => true,
            Standing::Gone => false,
            Standing::Expired => {
                self.agent.give_back(lease, GivenBack::LeaseExpired);
                false
            }
        }
    }
}
