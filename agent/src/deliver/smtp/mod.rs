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
//! - Nothing waits without a session: when the last one ends, what waits is given back; what a session of an earlier round
//!   leaves behind goes on in the new one.
//! - Nothing waits behind a session that is still while another one could take it.
//! - A session at its limit is closed here before its successor connects, and for the controller after that has been
//!   proved: the site bears no connection more, and is never without a session while work comes.
//! - A message whose envelope was sent ahead is the next one on its session, or the session ends, and the message goes to
//!   another.
//! - What was taken back from a session is nobody's copy: its dot has not gone, and will not.
//! - Another session follows at once one that ended in order behind an answer while work waits; behind one that was lost,
//!   or that got no answer for anybody, it is for the controller to say when.

mod account;
mod course;
mod losses;
mod order;
mod queue;
mod recall;
mod split;
mod work;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::id::SessionId;
use dd_proto::report::GivenBack;
use tokio::sync::Notify;

use self::account::{Close, Manner, Proved};
use self::queue::{Queue, TlsBefore};
use self::work::Work;
use super::{Deliver, Lane};
use crate::agent::{Agent, now};
use crate::attempt;
use crate::plan::{Assignment, Plan};
use crate::resolve::Freshness;
use crate::session::AskTls;

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
        queue.losses.told(assignment.together);
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
        if let Some(first) = queue.take_first(now()) {
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
            match over.successor.and_then(|it| self.follow(round, *it)) {
                Some(first) => {
                    before = Some((id, over.close));
                    canary = Some(first);
                }
                None => return self.over(round, id, &over.close),
            }
        }
    }

    /// Another session takes the place of one that is over, unless the round is over too.
    fn follow(self: &Arc<Self>, round: u64, first: Assignment) -> Option<Assignment> {
        let mut queue = self.lock();
        if queue.is_over(round) {
            drop(queue);
            self.hand_on(first);
            return None;
        }
        queue.proved -= 1;
        Some(first)
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
                Box::pin(Work::new(self, id, round, live, canary, put_off).run()).await
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

    /// A session ends behind which a message's envelope was sent ahead: another one sees to it, or it goes back with what
    /// waits when the last one ends.
    fn take_back(self: &Arc<Self>, round: u64, assignment: Assignment) {
        let mut queue = self.lock();
        if queue.is_over(round) {
            drop(queue);
            return self.hand_on(assignment);
        }
        queue.waiting.push_front(assignment);
        self.work_came.notify_one();
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
            if close.came_to_nothing() {
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
