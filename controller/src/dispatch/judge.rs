//! What a report, a break, a lease given back mean for the message.
//!
//! # Invariants
//! - What a site accepted is settled, whatever the generation of the lease.
//! - A stale report defers and fails nothing.
//!
//! # Not here
//! What it means for the site ([`super::moves`]). What a reply means: the agent's outcome table has already said it.

use std::time::Duration;

use dd_proto::id::Lease;
use dd_proto::name::AgentName;
use dd_proto::report::{Disposition, GivenBack, Outcome, RecipientResult, Report, SaidBy};
use jiff::Timestamp;

use super::LastAttempt;
use super::aside::Attempt;
use super::backoff::later;
use super::event::{
    Asks, By, Effect, Evidence, NotLoaded, Question, Settle, Standing, Telling, Turn,
};
use super::hand::note;
use super::kept::Trust;
use super::lease::{Dot, Leased};
use super::moves::RECONNECT;
use super::release::Fate;
use super::site::Rest;
use super::state::State;
use crate::store::{Settled, Settlement, Waiting};

/// What cannot be read for a reason that passes is tried again so much later.
const NOT_NOW: Duration = Duration::from_secs(60);

/// How a report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// As it happened: the session it names may still be open.
    Live,
    FromTheJournal,
}

/// Whether a 5yz is the last word about its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fails {
    Yes,
    /// Not that of a site of which nothing is known. What the agent did not ask for, no site could have taken.
    OnlyUnasked,
    /// The report is stale.
    No,
}

impl Fails {
    fn fails(self, result: &RecipientResult) -> bool {
        match self {
            Self::Yes => true,
            Self::OnlyUnasked => result.by == SaidBy::TheAgent,
            Self::No => false,
        }
    }
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
        let opens_session = self.opens_session(&report);
        let Some(leased) = self.end_lease(&delivery) else {
            return;
        };
        if came == Came::Live {
            let took = turn.now.monotonic.saturating_sub(leased.since);
            self.measured.reported(&report, took);
            self.move_site(agent, &report, &leased, turn);
        }
        match leased.waiting {
            Some(waiting) => {
                let attempt = Attempt {
                    carried: leased.carried,
                    opens_session,
                    news: self.is_news(&report, &waiting),
                };
                self.judge(agent, &report, Some(attempt), waiting, turn);
            }
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
        self.ask(Question::new(agent, asks), turn);
    }

    /// The store has said whether the delivery is open.
    pub(super) fn found(
        &mut self,
        question: Question,
        waiting: Option<Waiting>,
        turn: &mut Turn<'_>,
    ) {
        let lease = question.lease().clone();
        let stale = self.answered(&lease.delivery, question.number);
        let Some(waiting) = waiting else {
            if let Asks::Report(report, _) = &question.asks {
                self.count_copy(report);
            }
            if question.is_owed() {
                self.acknowledge(&question.agent, lease.clone(), turn);
            }
            return self.look(&lease.delivery.site, turn);
        };
        if stale || self.hand.contains_key(&lease.delivery) {
            // Another answer was applied in between: this one is old.
            return self.ask(question, turn);
        }
        match &question.asks {
            Asks::Report(report, standing) => {
                let attempt = Attempt {
                    carried: None,
                    opens_session: false,
                    news: self.is_news(report, &waiting),
                };
                let attempt = Some(attempt).filter(|_| *standing == Standing::Current);
                self.judge(&question.agent, report, attempt, waiting, turn);
            }
            Asks::Dot(_, telling) => {
                self.doubt(&question.agent, &lease, *telling, waiting, turn);
            }
        }
        self.let_go(&lease.delivery, turn);
    }

    /// Settles what is final; what is left is put off or goes back. Of a stale report, the attempt is not judged.
    fn judge(
        &mut self,
        agent: &AgentName,
        report: &Report,
        attempt: Option<Attempt>,
        mut waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        self.owe(agent, &report.lease);
        let fails = match attempt {
            Some(_) => self.fails(report),
            None => Fails::No,
        };
        self.settle(agent, report, fails, &mut waiting, turn);
        let delivery = waiting.delivery.clone();
        if waiting.open.is_empty() {
            if let Some(queue) = self.sites.get_mut(&delivery.site) {
                queue.parts.forget(delivery.message);
                queue.parts.deferrals.forget(delivery.message);
            }
            return;
        }
        if let Some(attempt) = attempt {
            self.put_off(report, &attempt, &mut waiting, turn);
            self.write(&delivery, Effect::Note(note(&waiting)), turn);
        } else if report.outcome == Outcome::InDoubt && !waiting.in_doubt {
            waiting.in_doubt = true;
            self.counters.in_doubt += 1;
            self.write(&delivery, Effect::Note(note(&waiting)), turn);
        }
        self.goes_back(waiting, turn.now.wall);
    }

    /// Whether somebody who is open has the first answer of this round.
    fn is_news(&self, report: &Report, waiting: &Waiting) -> bool {
        let Some(queue) = self.sites.get(&waiting.delivery.site) else {
            return false;
        };
        let message = waiting.delivery.message;
        let mut answers = report.answers();
        answers
            .any(|it| waiting.open.contains(&it.number) && queue.parts.is_news(message, it.number))
    }

    /// Whether a 5yz is final: what a recipient was told stands, however the attempt ended.
    pub(super) fn fails(&self, report: &Report) -> Fails {
        let queue = self.sites.get(&report.lease.delivery.site);
        match queue.map_or(Trust::Doubted, |queue| queue.kept.trust) {
            _ if report.accepted_some() => Fails::Yes,
            Trust::Trusted => Fails::Yes,
            Trust::Doubted | Trust::Misconfigured => Fails::OnlyUnasked,
        }
    }

    /// Somebody was accepted who was settled before.
    fn count_copy(&mut self, report: &Report) {
        let start = self.generations.start();
        let is_copy = self.settled_lately.is_copy(&report.lease, start);
        self.counters.duplicates += u64::from(report.accepted_some() && is_copy);
    }

    /// Back to the head when it is due, or at its time. What was settled while it was out does not.
    pub(super) fn goes_back(&mut self, waiting: Waiting, wall: Timestamp) {
        match waiting.not_before {
            _ if waiting.failed || waiting.open.is_empty() => {}
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

    /// Settles the recipients that were accepted, and those that failed if that is final: together, in one record.
    fn settle(
        &mut self,
        agent: &AgentName,
        report: &Report,
        fails: Fails,
        waiting: &mut Waiting,
        turn: &mut Turn<'_>,
    ) {
        let open = |result: &&RecipientResult| waiting.open.contains(&result.number);
        let results = report.recipients.iter().filter(open);
        let results: Vec<_> = results
            .filter(|result| match result.disposition {
                Disposition::Relayed => true,
                Disposition::Failed => fails.fails(result),
                Disposition::Deferred => false,
            })
            .cloned()
            .collect();
        let relayed = |result: &RecipientResult| result.disposition == Disposition::Relayed;
        let news = results.iter().any(relayed);
        if !news {
            self.count_copy(report);
        }
        if results.is_empty() {
            return;
        }
        let is_settled = |number| results.iter().any(|result| result.number == number);
        waiting.open.retain(|number| !is_settled(*number));
        if news {
            self.settled_lately.settled(&report.lease);
        }
        let fate = if news { Fate::Relayed } else { Fate::Failed };
        self.count(waiting, fate);
        let settled = results.iter().map(|result| match relayed(result) {
            true => (result.number, Settled::Relayed),
            false => (result.number, Settled::Failed),
        });
        let settlement = Settlement {
            delivery: waiting.delivery.clone(),
            recipients: settled.collect(),
        };
        let by = By::Site {
            agent: agent.clone(),
            address: report.observed.peer.clone(),
            proof: report.observed.proof.clone(),
            delays: report.delays,
            told: turn.now.monotonic,
        };
        let evidence = Evidence {
            by,
            results,
            waited: super::backoff::until(waiting.arrived, turn.now.wall),
        };
        let settle = Settle {
            settlement,
            evidence,
            token: None,
        };
        let delivery = waiting.delivery.clone();
        self.write(&delivery, Effect::Settle(settle), turn);
    }

    /// Marks a delivery of which a dot may have gone out, and lets it be tried again.
    pub(super) fn doubt(
        &mut self,
        agent: &AgentName,
        lease: &Lease,
        telling: Telling,
        waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        if telling == Telling::All {
            self.owe(agent, lease);
        } else if waiting.in_doubt {
            // It was told before.
            return self.goes_back(waiting, turn.now.wall);
        }
        self.mark_in_doubt(agent, waiting, turn);
    }

    /// The agent is gone, or was, and its dot may have reached the site.
    pub(super) fn mark_in_doubt(
        &mut self,
        agent: &AgentName,
        mut waiting: Waiting,
        turn: &mut Turn<'_>,
    ) {
        waiting.in_doubt = true;
        self.counters.in_doubt += 1;
        let delivery = waiting.delivery.clone();
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.remember(LastAttempt {
                at: turn.now.wall,
                agent: agent.clone(),
                address: String::new(),
                outcome: "in-doubt",
                detail: format!(
                    "the agent ended before it had an answer to the final dot of {}: the site may have it, and gets it again",
                    delivery.message
                ),
                reason: String::new(),
                peer: None,
            });
        }
        self.write(&delivery, Effect::Note(note(&waiting)), turn);
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
        if question.is_owed() {
            self.owe(&question.agent, question.lease());
        }
        let in_doubt = match &question.asks {
            Asks::Report(report, _) => {
                self.settle(&question.agent, report, Fails::No, &mut waiting, turn);
                report.outcome == Outcome::InDoubt
            }
            Asks::Dot(..) => true,
        };
        if in_doubt && !waiting.in_doubt {
            waiting.in_doubt = true;
            self.counters.in_doubt += 1;
            self.write(&delivery, Effect::Note(note(&waiting)), turn);
        }
        if let Some(leased) = self.take_in_hand(&delivery).leased.as_mut() {
            leased.waiting = Some(waiting);
        }
        self.let_go(&delivery, turn);
    }

    /// A dot goes out. Under a lease that is not the one in hand, what may go out again is in doubt.
    pub(super) fn dot_sent(&mut self, agent: &AgentName, lease: &Lease, turn: &mut Turn<'_>) {
        if let Some(leased) = self.current(lease, agent) {
            leased.dot = Dot::Sent;
            return;
        }
        let agent = agent.clone();
        let asks = Asks::Dot(lease.clone(), Telling::NotAll);
        self.ask(Question::new(agent, asks), turn);
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
        let now = turn.now.monotonic;
        let from = match why {
            // It was asked back to be sent at once.
            GivenBack::Recalled => now,
            _ => now + RECONNECT,
        };
        if let Some(queue) = self.sites.get_mut(&lease.delivery.site)
            && queue.carrier.as_ref() == Some(agent)
        {
            // Whatever made it come back is not over in the same moment; at another agent it is nothing to wait for.
            queue.pause = queue.pause.max(from);
        }
        if was_canary {
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
        // Nothing is left of what was settled meanwhile.
        let waiting = leased
            .and_then(|leased| leased.waiting)
            .filter(|waiting| !waiting.open.is_empty());
        if let Some(mut waiting) = waiting {
            match why {
                NotLoaded::Gone => {}
                NotLoaded::Told => self.goes_back(waiting, turn.now.wall),
                NotLoaded::Damaged => {
                    waiting.failed = true;
                    self.write(&lease.delivery, Effect::Note(note(&waiting)), turn);
                }
                NotLoaded::NotNow => {
                    let at = later(turn.now.wall, NOT_NOW);
                    self.steps_aside(&mut waiting, at, lease.generation);
                    self.write(&lease.delivery, Effect::Note(note(&waiting)), turn);
                    self.goes_back(waiting, turn.now.wall);
                }
            }
        }
        if was_canary {
            self.probe_is_off(&lease.delivery.site, turn.now.monotonic, turn);
        }
        self.let_go(&lease.delivery, turn);
    }
}
