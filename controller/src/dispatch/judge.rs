//! What a report, a break, a closed session mean for the message and for its site.
//!
//! # Invariants
//! - What a site accepted is settled, whatever the generation of the lease.
//! - A stale report defers and fails nothing.
//! - Nothing but an attempt by the agent the site belongs to moves the site.
//!
//! # Not here
//! What a reply means: the agent's outcome table has already said it.

use std::time::Duration;

use dd_proto::id::{Generation, Lease, SessionId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Disposition, DotSent, GivenBack, Outcome, Reply, Report};
use jiff::Timestamp;

use super::backoff::{after_break, after_deferral, after_failure, later};
use super::hand::note;
use super::lease::{Dot, Freshness, Leased, Occupies};
use super::release::Fate;
use super::site::{DEFERRED_IN_ROW, Phase, Progress, Rest, Why};
use super::state::{
    Asks, Effect, Line, NotLoaded, Question, Settle, Standing, State, Turn, wall_of,
};
use super::{Ended, LastAttempt, Proved, Released};
use crate::store::{Settled, Settlement, Waiting};

/// The site's sessions are reopened at most so often.
const RECONNECT: Duration = Duration::from_secs(1);
/// After trouble of an agent's own.
const TROUBLE: Duration = Duration::from_secs(5);

/// How a report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// As it happened: the session it names may still be open.
    Live,
    FromTheJournal,
}

impl State {
    pub(super) fn report(
        &mut self,
        agent: &AgentName,
        report: Report,
        came: Came,
        turn: &mut Turn<'_>,
    ) {
        let delivery = report.lease.delivery.clone();
        if self.current(&report.lease, agent).is_none() {
            return self.judge_unheld(agent, report, Standing::Stale, turn);
        }
        let Some(leased) = self.end_lease(&delivery) else {
            return;
        };
        if came == Came::Live {
            self.move_site(agent, &report, &leased, turn);
        }
        match leased.waiting {
            Some(waiting) => self.judge(agent, &report, Standing::Current, waiting, turn),
            None => self.judge_unheld(agent, report, Standing::Current, turn),
        }
        self.let_go(&delivery, turn);
    }

    fn judge_unheld(
        &mut self,
        agent: &AgentName,
        report: Report,
        standing: Standing,
        turn: &mut Turn<'_>,
    ) {
        let asks = Asks::Report(Box::new(report), standing);
        let agent = agent.clone();
        self.ask(Question { agent, asks }, turn);
    }

    /// The store has said whether the delivery is open.
    pub(super) fn found(
        &mut self,
        question: Question,
        waiting: Option<Waiting>,
        turn: &mut Turn<'_>,
    ) {
        let lease = question.lease().clone();
        self.answered(&lease.delivery);
        let Some(waiting) = waiting else {
            if let Asks::Report(report, _) = &question.asks {
                self.counters.duplicates += u64::from(accepted_some(report));
            }
            self.acknowledge(&question.agent, lease.clone(), turn);
            return self.look(&lease.delivery.site, turn);
        };
        if self.hand.contains_key(&lease.delivery) {
            // Another answer was applied in between: this one is old.
            return self.ask(question, turn);
        }
        match &question.asks {
            Asks::Report(report, standing) => {
                self.judge(&question.agent, report, *standing, waiting, turn);
            }
            Asks::Dot(_) => self.doubt(&question.agent, &lease, waiting, turn),
        }
        self.let_go(&lease.delivery, turn);
    }

    /// Settles what was accepted; what is left is put off or goes back.
    fn judge(
        &mut self,
        agent: &AgentName,
        report: &Report,
        standing: Standing,
        mut waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        self.owe(agent, &report.lease);
        self.settle_accepted(agent, report, &mut waiting, turn);
        let delivery = waiting.delivery.clone();
        if waiting.open.is_empty() {
            return;
        }
        if standing == Standing::Current {
            let last = self.put_off(report, &mut waiting, turn);
            self.write(&delivery, Effect::Note(note(&waiting, last)), turn);
        } else if report.outcome == Outcome::InDoubt && !waiting.in_doubt {
            waiting.in_doubt = true;
            self.counters.in_doubt += 1;
            self.write(&delivery, Effect::Note(note(&waiting, None)), turn);
        }
        self.goes_back(waiting, turn.now.wall);
    }

    /// Back to the head when it is due, or at its time.
    fn goes_back(&mut self, waiting: Waiting, wall: Timestamp) {
        match waiting.not_before {
            _ if waiting.failed => {}
            Some(at) if at > wall => {
                if let Some(queue) = self.sites.get_mut(&waiting.delivery.site) {
                    queue.becomes_due(at);
                }
            }
            _ => {
                let delivery = waiting.delivery.clone();
                self.take_in_hand(&delivery).back = Some(waiting);
            }
        }
    }

    fn settle_accepted(
        &mut self,
        agent: &AgentName,
        report: &Report,
        waiting: &mut Waiting,
        turn: &mut Turn<'_>,
    ) {
        let accepted = report.recipients.iter();
        let accepted = accepted.filter(|result| result.disposition == Disposition::Relayed);
        let open: Vec<_> = accepted
            .filter(|r| waiting.open.contains(&r.number))
            .cloned()
            .collect();
        if open.is_empty() {
            self.counters.duplicates += u64::from(accepted_some(report));
            return;
        }
        waiting
            .open
            .retain(|number| open.iter().all(|result| result.number != *number));
        self.count(waiting, Fate::Relayed);
        let settled = open.iter().map(|result| (result.number, Settled::Relayed));
        let settlement = Settlement {
            delivery: waiting.delivery.clone(),
            recipients: settled.collect(),
        };
        let line = Line {
            agent: agent.clone(),
            address: report.observed.peer.clone(),
            proof: report.observed.proof.clone(),
            results: open,
            delays: report.delays,
            waited: super::backoff::until(waiting.arrived, turn.now.wall),
        };
        let settle = Settle {
            settlement,
            line: Some(line),
            token: None,
        };
        let delivery = waiting.delivery.clone();
        self.write(&delivery, Effect::Settle(settle), turn);
    }

    /// Decides when what was not accepted is tried again; gives the reply to show.
    fn put_off(
        &mut self,
        report: &Report,
        waiting: &mut Waiting,
        turn: &Turn<'_>,
    ) -> Option<(Disposition, Reply)> {
        let wall = turn.now.wall;
        match report.outcome {
            Outcome::Transacted => return self.deferred_or_failed(report, waiting, wall),
            Outcome::AgentTrouble => return None,
            Outcome::InDoubt => {
                waiting.in_doubt = true;
                self.counters.in_doubt += 1;
                waiting.breaks += 1;
                waiting.not_before = after_break(waiting.breaks).map(|after| later(wall, after));
            }
            Outcome::Broken => {
                waiting.breaks += 1;
                waiting.not_before = after_break(waiting.breaks).map(|after| later(wall, after));
            }
            Outcome::Unreachable | Outcome::WrongHost | Outcome::Refused | Outcome::Busy => {}
        }
        waiting.attempts += 1;
        report
            .reply
            .clone()
            .map(|reply| (Disposition::Deferred, reply))
    }

    fn deferred_or_failed(
        &mut self,
        report: &Report,
        waiting: &mut Waiting,
        wall: Timestamp,
    ) -> Option<(Disposition, Reply)> {
        waiting.attempts += 1;
        let results = || {
            report
                .recipients
                .iter()
                .filter(|r| waiting.open.contains(&r.number))
        };
        let failed = results()
            .filter(|r| r.disposition == Disposition::Failed)
            .count();
        if failed == waiting.open.len() {
            let last = results()
                .next()
                .map(|r| (Disposition::Failed, r.reply.clone()));
            waiting.failed = true;
            waiting.not_before = None;
            self.count(waiting, Fate::Failed);
            return last;
        }
        let deferred = results().find(|r| r.disposition == Disposition::Deferred);
        let reply = deferred.or(results().next()).map(|r| r.reply.clone());
        let interval = self.sites.get(&waiting.delivery.site);
        let interval = interval.map_or(super::backoff::UNKNOWN_SITE, |q| {
            q.site.schedule.retry_interval
        });
        waiting.not_before = Some(later(wall, after_deferral(interval, waiting.attempts)));
        self.count(waiting, Fate::Deferred);
        reply
            .or(report.reply.clone())
            .map(|reply| (Disposition::Deferred, reply))
    }

    fn count(&mut self, waiting: &Waiting, fate: Fate) {
        let queue = self.sites.get_mut(&waiting.delivery.site);
        if let Some(release) = queue.and_then(|queue| queue.release.as_mut()) {
            release.count(waiting.delivery.message, fate);
        }
    }

    /// Marks a delivery of which a dot may have gone out, and lets it be tried again.
    pub(super) fn doubt(
        &mut self,
        agent: &AgentName,
        lease: &Lease,
        waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        self.owe(agent, lease);
        self.mark_in_doubt(waiting, turn);
    }

    pub(super) fn mark_in_doubt(&mut self, mut waiting: Waiting, turn: &mut Turn<'_>) {
        waiting.in_doubt = true;
        self.counters.in_doubt += 1;
        let delivery = waiting.delivery.clone();
        self.write(&delivery, Effect::Note(note(&waiting, None)), turn);
        self.goes_back(waiting, turn.now.wall);
    }

    /// News about an older lease of a delivery that is out under a newer one.
    pub(super) fn told_while_out(
        &mut self,
        question: &Question,
        mut waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        let delivery = waiting.delivery.clone();
        self.owe(&question.agent, question.lease());
        let in_doubt = match &question.asks {
            Asks::Report(report, _) => {
                self.settle_accepted(&question.agent, report, &mut waiting, turn);
                report.outcome == Outcome::InDoubt
            }
            Asks::Dot(_) => true,
        };
        if in_doubt && !waiting.in_doubt {
            waiting.in_doubt = true;
            self.counters.in_doubt += 1;
            self.write(&delivery, Effect::Note(note(&waiting, None)), turn);
        }
        if let Some(leased) = self.take_in_hand(&delivery).leased.as_mut() {
            leased.waiting = Some(waiting);
        }
        self.let_go(&delivery, turn);
    }

    pub(super) fn dot_sent(&mut self, agent: &AgentName, dot: &DotSent) {
        if let Some(leased) = self.current(&dot.lease, agent) {
            leased.dot = Dot::Sent;
        }
    }

    pub(super) fn given_back(
        &mut self,
        agent: &AgentName,
        lease: &Lease,
        why: GivenBack,
        turn: &mut Turn<'_>,
    ) {
        if self.current(lease, agent).is_none() {
            return;
        }
        let was_canary = self.is_canary(lease);
        let Some(leased) = self.end_lease(&lease.delivery) else {
            return;
        };
        if why == GivenBack::StalePlan
            && let Some(attached) = self.agents.get_mut(agent).and_then(|a| a.attached.as_mut())
        {
            attached.plans.remove(&lease.delivery.site);
        }
        self.returns(leased, lease);
        if was_canary {
            let from = turn.now.monotonic + RECONNECT;
            self.probe_is_off(&lease.delivery.site, from, turn);
        }
        self.let_go(&lease.delivery, turn);
    }

    /// A lease ended and nothing was tried.
    pub(super) fn returns(&mut self, leased: Leased, lease: &Lease) {
        match leased.waiting {
            Some(waiting) => self.goes_back(waiting, Timestamp::MAX),
            None => {
                if let Some(queue) = self.sites.get_mut(&lease.delivery.site) {
                    queue.rest = Rest::More;
                }
            }
        }
    }

    pub(super) fn is_canary(&self, lease: &Lease) -> bool {
        let queue = self.sites.get(&lease.delivery.site);
        queue.is_some_and(|queue| queue.canary.as_ref() == Some(&lease.delivery))
    }

    /// The canary came back without a word about the site.
    pub(super) fn probe_is_off(&mut self, name: &SiteName, from: Duration, turn: &mut Turn<'_>) {
        if self
            .sites
            .get(name)
            .is_some_and(|queue| queue.phase == Phase::Proving)
        {
            self.ready(name, from, turn);
        }
    }

    pub(super) fn not_loaded(&mut self, lease: &Lease, why: NotLoaded, turn: &mut Turn<'_>) {
        let in_hand = self
            .hand
            .get(&lease.delivery)
            .and_then(|hand| hand.leased.as_ref());
        if in_hand.is_none_or(|leased| leased.generation != lease.generation) {
            return;
        }
        let was_canary = self.is_canary(lease);
        let leased = self.end_lease(&lease.delivery);
        if let (NotLoaded::Unreadable, Some(mut waiting)) = (why, leased.and_then(|l| l.waiting)) {
            waiting.failed = true;
            self.write(&lease.delivery, Effect::Note(note(&waiting, None)), turn);
        }
        if was_canary {
            self.probe_is_off(&lease.delivery.site, turn.now.monotonic, turn);
        }
        self.let_go(&lease.delivery, turn);
    }

    /// What an attempt says about the site.
    fn move_site(
        &mut self,
        agent: &AgentName,
        report: &Report,
        leased: &Leased,
        turn: &mut Turn<'_>,
    ) {
        let name = &report.lease.delivery.site;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        queue.remember(last_attempt(agent, report, turn.now.wall));
        if queue.carrier.as_ref() != Some(agent) {
            return;
        }
        match report.outcome {
            Outcome::Transacted => {
                if accepted_some(report) {
                    queue.progress = Progress::Some;
                    queue.deferred_in_row = 0;
                } else if report
                    .recipients
                    .iter()
                    .all(|r| r.disposition == Disposition::Deferred)
                {
                    queue.deferred_in_row += 1;
                }
                if queue.deferred_in_row >= DEFERRED_IN_ROW {
                    return self.site_failed(name, Why::Busy, report, leased, turn);
                }
                self.proved(agent, name, report.session, turn);
            }
            Outcome::Busy if is_closing(report) && queue.progress == Progress::Some => {}
            Outcome::Busy => self.site_failed(name, Why::Busy, report, leased, turn),
            Outcome::Unreachable => self.site_failed(name, Why::Down, report, leased, turn),
            Outcome::WrongHost => self.site_failed(name, Why::WrongHost, report, leased, turn),
            Outcome::Refused => self.site_failed(name, Why::Refused, report, leased, turn),
            Outcome::Broken | Outcome::InDoubt if queue.phase == Phase::Proving => {
                self.site_failed(name, Why::Down, report, leased, turn);
            }
            Outcome::Broken | Outcome::InDoubt => {}
            Outcome::AgentTrouble => {
                if matches!(queue.phase, Phase::Proving | Phase::Flowing) {
                    self.ready(name, turn.now.monotonic + TROUBLE, turn);
                }
            }
        }
    }

    fn site_failed(
        &mut self,
        name: &SiteName,
        why: Why,
        report: &Report,
        leased: &Leased,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get(name) else {
            return;
        };
        // A further session that is not proved is closed; those that are proved go on. An attempt after a release has
        // already ended the older ones.
        let others_go_on = queue.phase == Phase::Flowing
            && !queue.sessions.is_empty()
            && leased.freshness == Freshness::Any
            && matches!(why, Why::Down | Why::WrongHost);
        if !others_go_on {
            self.site_waits(name, why, &report.detail, leased.generation, turn);
        }
    }

    /// Nobody is reached, or nobody who may have the mail.
    fn site_waits(
        &mut self,
        name: &SiteName,
        why: Why,
        detail: &str,
        generation: Generation,
        turn: &mut Turn<'_>,
    ) {
        let now = turn.now;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if !matches!(
            queue.phase,
            Phase::Ready(_) | Phase::Proving | Phase::Flowing
        ) {
            return;
        }
        if queue
            .release
            .as_ref()
            .is_some_and(|release| generation <= release.since)
        {
            // It began before the release; the release asks for one that begins after it.
            return self.ready(name, now.monotonic, turn);
        }
        let wait = after_failure(queue.site.schedule.retry_interval, turn.rng);
        let at = now.monotonic + wait;
        queue.progress = Progress::None;
        queue.answered = Progress::None;
        queue.deferred_in_row = 0;
        let release = queue.release.take();
        self.set_phase(name, Phase::Waiting(why, at));
        if let Some(queue) = self.sites.get_mut(name) {
            queue.drop_head();
            queue.rest = Rest::More;
        }
        turn.effect(Effect::Timer {
            site: name.clone(),
            at: wall_of(now, at),
        });
        let Some(release) = release else {
            return;
        };
        self.released.remove(name);
        let (waiting, detail) = (release.waiting(), detail.to_owned());
        let outcome = match why {
            Why::Down => Released::NotReached { waiting, detail },
            Why::WrongHost => Released::NotProved { waiting, detail },
            Why::Refused => Released::Refused { waiting, detail },
            Why::Busy | Why::Deferred => release.pending(),
        };
        for token in release.waiters() {
            turn.effect(Effect::Answer(token, outcome.clone()));
        }
    }

    /// A session ends at the right machine.
    pub(super) fn proved(
        &mut self,
        agent: &AgentName,
        name: &SiteName,
        session: SessionId,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.carrier.as_ref() != Some(agent) || queue.old_plan == super::site::OldPlan::StillOut
        {
            return;
        }
        queue.sessions.insert(session);
        queue.answered = Progress::Some;
        if queue.phase != Phase::Proving {
            return;
        }
        if let Some(canary) = queue.canary.take() {
            let leased = self
                .hand
                .get_mut(&canary)
                .and_then(|hand| hand.leased.as_mut());
            if let Some(leased) = leased {
                leased.occupies = Occupies::Place;
                let agent = self.agents.get_mut(agent);
                if let Some(attached) = agent.and_then(|agent| agent.attached.as_mut()) {
                    attached.free(Occupies::Probe);
                    attached.take(Occupies::Place);
                }
            }
        }
        self.set_phase(name, Phase::Flowing);
        self.look(name, turn);
    }

    pub(super) fn session_closed(
        &mut self,
        agent: &AgentName,
        name: &SiteName,
        closed: &Closed,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.carrier.as_ref() != Some(agent) {
            return;
        }
        queue.sessions.remove(&closed.session);
        if !queue.sessions.is_empty() {
            return;
        }
        let progress = queue.progress == Progress::Some || closed.accepted > 0;
        match (queue.phase, closed.proved) {
            (Phase::Flowing, Proved::Yes) if progress || closed.ended == Ended::InOrder => {
                let now = turn.now.monotonic;
                let from = queue
                    .reconnected
                    .map_or(now, |last| now.max(last + RECONNECT));
                queue.reconnected = Some(from);
                self.ready(name, from, turn);
            }
            (Phase::Flowing, _) => {
                let generation = self.generations.last();
                self.site_waits(name, Why::Down, &closed.detail, generation, turn);
            }
            (Phase::Proving, _) if queue.canary.is_none() => {
                self.ready(name, turn.now.monotonic + RECONNECT, turn);
            }
            _ => {}
        }
    }
}

/// A session that is over.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) session: SessionId,
    pub(super) proved: Proved,
    pub(super) accepted: u32,
    pub(super) ended: Ended,
    pub(super) detail: String,
}

fn accepted_some(report: &Report) -> bool {
    let mut results = report.recipients.iter();
    results.any(|result| result.disposition == Disposition::Relayed)
}

/// RFC 5321 §3.8: 421 closes the session, whatever it answers.
fn is_closing(report: &Report) -> bool {
    report.reply.as_ref().is_some_and(|reply| reply.code == 421)
}

fn last_attempt(agent: &AgentName, report: &Report, at: Timestamp) -> LastAttempt {
    let results = || report.recipients.iter().map(|result| result.disposition);
    let outcome = match report.outcome {
        Outcome::Transacted if results().any(|d| d == Disposition::Relayed) => "relayed",
        Outcome::Transacted if results().any(|d| d == Disposition::Deferred) => "deferred",
        Outcome::Transacted => "failed",
        Outcome::Unreachable => "unreachable",
        Outcome::WrongHost => "wrong-host",
        Outcome::Refused => "refused",
        Outcome::Busy => "busy",
        Outcome::Broken | Outcome::AgentTrouble => "deferred",
        Outcome::InDoubt => "in-doubt",
    };
    LastAttempt {
        at,
        agent: agent.clone(),
        address: report.observed.peer.clone(),
        outcome,
        detail: report.detail.clone(),
        peer: report.observed.certificate.clone(),
    }
}
