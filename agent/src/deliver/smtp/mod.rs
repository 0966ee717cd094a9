//! The kind `smtp`: a site's queue of assignments, and up to `connections` verified sessions that pull from it.
//!
//! The first session is opened for the first assignment, the canary. Once it is proved, further ones are opened while
//! there is a backlog. A session is kept while work comes; one that has reached a limit is followed by another in its
//! place, which proves itself like any other.
//!
//! A recall, and the end of the plan, begin a round: sessions of the one before take nothing new, those that are opening are
//! dropped, and so are those that have been still for a second with a message before its dot. What waits for them goes on
//! in the new round, with a new session; behind its dot a message waits for its answer.
//! docs/decisions/0072-what-a-recall-takes-back.md
//!
//! # Invariants
//! - Every assignment taken is reported or given back, whatever becomes of the sessions.
//! - Nothing waits without a session: when the last one ends, what waits is given back.
//! - A session at its limit is closed here before its successor connects, and for the controller after that has been
//!   proved: the site bears no connection more, and is never without a session while work comes.
//! - A message whose envelope was sent ahead is the next one on its session, or the session ends.
//! - What was taken back from a session is nobody's copy: its dot has not gone, and will not.
//! - Another session follows at once one that ended in order behind an answer while work waits; behind one that was lost,
//!   or that got no answer for anybody, it is for the controller to say when.

mod account;
mod course;
mod queue;
mod recall;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dd_proto::id::{Lease, SessionId};
use dd_proto::report::GivenBack;
use tokio::sync::Notify;

use self::account::{Close, Manner, Proved, manner_of};
use self::course::{Course, Fate, Sent, is_put_off};
use self::queue::{Next, Queue, TlsBefore};
use super::{Deliver, Lane};
use crate::agent::{Agent, now};
use crate::attempt::{self, Handed};
use crate::lease::{Boottime, Standing};
use crate::live::Live;
use crate::plan::{Assignment, Plan};
use crate::resolve::Freshness;
use crate::session::{After, AskTls, Ended};

/// How long a session is kept without work.
const IDLE: Duration = Duration::from_secs(10);
/// How long, and for how many messages, a session lives at most.
const MAX_AGE: Duration = Duration::from_secs(600);
const MAX_MESSAGES: u32 = 1000;

#[derive(Debug)]
pub struct Smtp;

impl Deliver for Smtp {
    fn kind(&self) -> &'static str {
        "smtp"
    }

    fn lane(&self, agent: Arc<Agent>, plan: Arc<Plan>) -> Arc<dyn Lane> {
        Arc::new(SmtpLane(Arc::new(Shared {
            agent,
            plan,
            queue: Mutex::default(),
            work_came: Notify::new(),
            turned: Notify::new(),
        })))
    }
}

#[derive(Debug)]
struct SmtpLane(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    agent: Arc<Agent>,
    plan: Arc<Plan>,
    queue: Mutex<Queue>,
    work_came: Notify,
    /// The round is over.
    turned: Notify,
}

/// A session that is over, and what the one that follows it begins with; None: none follows.
struct Over {
    close: Close,
    successor: Option<Box<Assignment>>,
    /// The successor's message was put off: what it is answered now tells whose doing that was.
    put_off: bool,
}

impl From<Close> for Over {
    fn from(close: Close) -> Self {
        Self {
            close,
            successor: None,
            put_off: false,
        }
    }
}

impl Lane for SmtpLane {
    fn assign(&self, assignment: Assignment) {
        let shared = &self.0;
        let mut queue = shared.lock();
        if assignment.tls == AskTls::Expected {
            queue.tls_before = TlsBefore::Shown;
        }
        queue.together = queue.together.and(assignment.together);
        if queue.closed {
            drop(queue);
            return shared
                .agent
                .give_back(&assignment.lease, GivenBack::Closing);
        }
        // The first attempt after a release: a new connection, to where the name points now.
        if assignment.freshness == Freshness::Fresh && !queue.is_anew() {
            shared.turn(&mut queue);
            return shared.begin(&mut queue, Some(assignment));
        }
        if queue.sessions == 0 {
            return shared.begin(&mut queue, Some(assignment));
        }
        queue.waiting.push_back(assignment);
        shared.begin_further(&mut queue);
        shared.work_came.notify_one();
    }

    fn recall(&self) {
        for host in &self.0.plan.hosts {
            self.0.agent.resolver.forget(&host.name);
        }
        let mut queue = self.0.lock();
        self.0.turn(&mut queue);
        queue.ask_anew();
        if let Some(first) = queue.waiting.pop_front() {
            self.0.begin(&mut queue, Some(first));
        }
    }

    fn close(&self) {
        let waiting = {
            let mut queue = self.0.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.0.wake_all();
        for assignment in waiting {
            self.0
                .agent
                .give_back(&assignment.lease, GivenBack::Closing);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are open are of an earlier round.
    fn turn(&self, queue: &mut Queue) {
        queue.begin_round();
        self.wake_all();
    }

    fn wake_all(&self) {
        self.work_came.notify_waiters();
        self.turned.notify_waiters();
    }

    fn begin(self: &Arc<Self>, queue: &mut Queue, mut canary: Option<Assignment>) {
        if let Some(canary) = &mut canary
            && queue.asks_anew()
        {
            canary.freshness = Freshness::Fresh;
        }
        queue.sessions += 1;
        let round = queue.round;
        let shared = Arc::clone(self);
        self.agent
            .start(async move { shared.session(round, canary).await });
    }

    fn begin_further(self: &Arc<Self>, queue: &mut Queue) {
        if queue.wants_further(self.plan.connections, now()) {
            self.begin(queue, None);
        }
    }

    /// The life of a session, and of those that follow it in its place.
    async fn session(self: Arc<Self>, round: u64, canary: Option<Assignment>) {
        let (mut canary, mut before, mut put_off) = (canary, None, false);
        loop {
            let id = self.agent.next_session();
            let over = self
                .one_session(id, round, canary, put_off, &mut before)
                .await;
            put_off = over.put_off;
            match over.successor.and_then(|it| self.follow(round, it)) {
                Some(first) => {
                    before = Some((id, over.close));
                    canary = Some(first);
                }
                None => return self.over(round, id, &over.close),
            }
        }
    }

    /// Another session takes the place of one that is over, unless the round is over too.
    fn follow(&self, round: u64, first: Box<Assignment>) -> Option<Assignment> {
        let mut queue = self.lock();
        if queue.is_over(round) {
            drop(queue);
            self.take_back(first);
            return None;
        }
        queue.proved -= 1;
        Some(*first)
    }

    /// `before`: the session whose place it takes.
    async fn one_session(
        self: &Arc<Self>,
        id: SessionId,
        round: u64,
        canary: Option<Assignment>,
        put_off: bool,
        before: &mut Option<(SessionId, Close)>,
    ) -> Over {
        let freshness = canary.as_ref().map_or(Freshness::Cached, |c| c.freshness);
        let tls = match self.lock().tls_before {
            TlsBefore::Shown => AskTls::Expected,
            TlsBefore::Never => AskTls::WhereOffered,
        };
        let opening = Box::pin(attempt::open(&self.agent, &self.plan, freshness, tls));
        let opened = tokio::select! {
            biased;
            opened = opening => Some(opened),
            () = self.round_is_over(round) => None,
        };
        match opened {
            None => {
                self.recalled_while_opening(canary);
                self.tell_over(before);
                closed_before_work()
            }
            // The plan it was proved by may not be the present one, whose authority may have revoked what was shown; or the
            // site may be at another address now.
            Some(Ok(live)) if self.lock().is_over(round) => {
                self.recalled_while_opening(canary);
                self.tell_over(before);
                live.quit().await;
                closed_before_work()
            }
            Some(Ok(live)) => {
                if live.session.seen().is_secured() {
                    self.lock().tls_before = TlsBefore::Shown;
                }
                self.tell_proved(id, &live);
                self.tell_over(before);
                self.proved(round);
                Box::pin(self.work(id, round, live, canary, put_off)).await
            }
            Some(Err(missed)) => {
                let detail = missed.detail.clone();
                if let Some(canary) = canary.filter(|canary| self.may_go_out(&canary.lease)) {
                    attempt::report_missed(&self.agent, id, &canary, missed).await;
                }
                self.tell_over(before);
                Over::from(Close::unproved(Manner::Lost, detail))
            }
        }
    }

    /// One message after the other, until there is a reason to stop. `put_off`: the first was, on the session before.
    async fn work(
        self: &Arc<Self>,
        id: SessionId,
        round: u64,
        mut live: Live,
        canary: Option<Assignment>,
        mut put_off: bool,
    ) -> Over {
        let mut next = canary.map(Box::new);
        let mut course = Course::default();
        let mut successor = None;
        let (manner, detail) = loop {
            let assignment = match next.take() {
                Some(assignment) => assignment,
                None => match self.wait_for_work(round, &mut live).await {
                    Ok(assignment) => match limit(&live, course.messages) {
                        Some(limit) => {
                            successor = Some(assignment);
                            break (Manner::Orderly, limit.to_owned());
                        }
                        None => assignment,
                    },
                    Err((manner, ended)) => break (manner, ended.to_owned()),
                },
            };
            if !self.may_go_out(&assignment.lease) {
                match live.session.is_ahead() {
                    true => {
                        break (
                            Manner::Answered,
                            "ended by a lease that was over".to_owned(),
                        );
                    }
                    false => {
                        put_off = false;
                        continue;
                    }
                }
            }
            let sent = match course.messages {
                0 => Sent::First,
                _ if live.session.is_ahead() => Sent::Ahead,
                _ => Sent::InTurn,
            };
            course.messages += 1;
            live.session.learn(self.lock().together);
            let more = limit(&live, course.messages).is_none();
            let may_send_ahead = more && live.session.sends_ahead();
            let ahead = Mutex::new(None);
            let from_the_queue = || {
                let next = may_send_ahead.then(|| self.next_ahead(round)).flatten();
                let mut ahead = ahead.lock().unwrap_or_else(PoisonError::into_inner);
                *ahead = next;
                ahead.as_deref().map(Assignment::to_be_sent)
            };
            let (agent, pulse) = (&self.agent, Arc::clone(live.wire.pulse()));
            let handing = attempt::hand_over(agent, &mut live, &assignment, from_the_queue);
            let handed = tokio::select! {
                biased;
                handed = Box::pin(handing) => handed,
                why = self.recalled(round, &pulse, &ahead) => Handed::GivenUp(why),
            };
            next = ahead.into_inner().unwrap_or_else(PoisonError::into_inner);
            let ended = match handed {
                Handed::Ended(ended) => ended,
                Handed::GivenUp(why) => {
                    agent.give_back(&assignment.lease, why);
                    break given_up(why);
                }
            };
            let fate = self.fate(&course, sent, &live, &ended, put_off);
            put_off = fate == Fate::PutOff;
            let after = ended.after;
            if fate != Fate::Counts {
                successor = Some(assignment);
                break (
                    manner_of(after),
                    format!("ended before a message was tried: {}", ended.detail),
                );
            }
            course.count(&ended);
            attempt::report(agent, id, &live, &assignment, ended).await;
            match after {
                After::Usable if next.is_some() && self.lock().is_over(round) => {
                    break (Manner::Orderly, "closed by the controller".to_owned());
                }
                After::Usable => continue,
                After::Spent | After::Lost => {}
            }
            break (
                manner_of(after),
                "ended by what became of a message".to_owned(),
            );
        };
        if successor.is_none()
            && !matches!(manner, Manner::Lost | Manner::Dropped)
            && course.answered > 0
        {
            successor = self.goes_on(round, &mut next);
        }
        if let Some(untried) = next {
            self.take_back(untried);
        }
        if manner == Manner::Orderly {
            live.quit().await;
        }
        let close = Close {
            proved: Proved::Yes,
            accepted: course.accepted,
            answered: course.answered,
            manner,
            detail,
        };
        Over {
            close,
            successor,
            put_off,
        }
    }

    /// Whether what became of a message says something about it; and what the lane learns from it.
    fn fate(
        &self,
        course: &Course,
        sent: Sent,
        live: &Live,
        ended: &Ended,
        asked_again: bool,
    ) -> Fate {
        let mut queue = self.lock();
        queue.learn(live.session.together(), ended);
        if sent == Sent::First && asked_again {
            queue.asked_again(is_put_off(ended), now());
        }
        course.fate(sent, ended, queue.is_own(now()))
    }

    /// What a session that follows begins with, if work waits.
    fn goes_on(&self, round: u64, next: &mut Option<Box<Assignment>>) -> Option<Box<Assignment>> {
        let mut queue = self.lock();
        if queue.is_over(round) {
            return None;
        }
        next.take()
            .or_else(|| queue.waiting.pop_front().map(Box::new))
    }

    /// The next assignment, or why there is no point in waiting for one.
    async fn wait_for_work(
        &self,
        round: u64,
        live: &mut Live,
    ) -> Result<Box<Assignment>, (Manner, &'static str)> {
        let deadline = now() + IDLE;
        loop {
            // Made before the look into the queue, so that work that comes in between is not missed.
            let came = self.work_came.notified();
            let next = self.lock().next(round);
            match next {
                Next::Work(assignment) => {
                    return Ok(assignment);
                }
                Next::Retire => return Err((Manner::Orderly, "closed by the controller")),
                Next::Wait => {}
            }
            live.wire.rests();
            self.idle(round, 1);
            let ended = tokio::select! {
                () = came => None,
                () = live.wire.disturbed() => Some((Manner::Orderly, "ended by the site while idle")),
                () = tokio::time::sleep_until(deadline.into()) => Some((Manner::Orderly, "idle")),
            };
            self.idle(round, -1);
            if let Some(ended) = ended {
                return Err(ended);
            }
        }
    }

    /// The message whose envelope may go out before the one in hand is answered.
    fn next_ahead(&self, round: u64) -> Option<Box<Assignment>> {
        loop {
            let next = self.lock().next_ahead(round)?;
            if self.may_go_out(&next.lease) {
                return Some(next);
            }
        }
    }

    /// A session ends behind which a message's envelope was sent ahead: another one sees to it, or it goes back.
    fn take_back(&self, assignment: Box<Assignment>) {
        let left = self.lock().take_back(assignment);
        match left {
            None => self.work_came.notify_one(),
            Some(assignment) => self
                .agent
                .give_back(&assignment.lease, GivenBack::SessionEnded),
        }
    }

    fn idle(&self, round: u64, change: isize) {
        let mut queue = self.lock();
        if queue.round == round {
            queue.idle = queue.idle.saturating_add_signed(change);
        }
    }

    /// An expired lease goes back, and any where no dot could be noted; one that the controller has dropped is forgotten.
    fn may_go_out(&self, lease: &Lease) -> bool {
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

    fn proved(self: &Arc<Self>, round: u64) {
        let mut queue = self.lock();
        if queue.round == round {
            queue.proved += 1;
            self.begin_further(&mut queue);
        }
    }

    /// A session is over. Without another one, nothing may wait.
    fn over(&self, round: u64, id: SessionId, close: &Close) {
        self.tell_closed(id, close);
        let waiting = {
            let mut queue = self.lock();
            if queue.round != round {
                return;
            }
            queue.sessions -= 1;
            if close.proved == Proved::Yes {
                queue.proved -= 1;
            }
            if close.proved == Proved::No {
                queue.put_off_further(now());
            }
            match queue.sessions {
                0 => std::mem::take(&mut queue.waiting),
                _ => VecDeque::new(),
            }
        };
        for assignment in waiting {
            self.agent
                .give_back(&assignment.lease, GivenBack::SessionEnded);
        }
    }
}

/// A session whose round was over before it had work.
fn closed_before_work() -> Over {
    Over::from(Close::unproved(
        Manner::Orderly,
        "closed by the controller".to_owned(),
    ))
}

fn given_up(why: GivenBack) -> (Manner, String) {
    let detail = match why {
        GivenBack::LeaseExpired => "ended by a lease that was over",
        _ => "it was silent, and its message recalled",
    };
    (Manner::Dropped, detail.to_owned())
}

/// Why a session takes no message more.
fn limit(live: &Live, messages: u32) -> Option<&'static str> {
    if messages >= MAX_MESSAGES {
        return Some("at its limit of messages");
    }
    if live.session.is_worn() {
        return Some("near the number of refusals that servers bear");
    }
    let age = now().saturating_duration_since(live.proved);
    (age >= MAX_AGE).then_some("at its age limit")
}
