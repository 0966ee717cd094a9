//! What attempts and sessions say about the site they were at.
//!
//! # Invariants
//! Nothing but an attempt by the agent the site belongs to moves the site.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{Generation, SessionId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Disposition, Outcome, PeerCertificate, Report};
use jiff::Timestamp;

use super::backoff::{after_failure, with_others};
use super::event::{Effect, Turn};
use super::kept::Trust;
use super::lease::{Freshness, Leased, Occupies};
use super::site::{DEFERRED_IN_ROW, OldPlan, Phase, Progress, Rest, Seems, Why};
use super::state::{State, wall_of};
use super::verdicts::Turns;
use super::{Ended, LastAttempt, LastRefusal, Proved, Released};

/// The site's sessions are reopened at most so often.
pub(super) const RECONNECT: Duration = Duration::from_secs(1);
/// After trouble of an agent's own.
const TROUBLE: Duration = Duration::from_secs(5);

impl State {
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

    /// What an attempt says about the site.
    pub(super) fn move_site(
        &mut self,
        agent: &AgentName,
        report: &Report,
        leased: &Leased,
        turn: &mut Turn<'_>,
    ) {
        let name = &report.lease.delivery.site;
        let peer = self.has_answered(agent, report, turn);
        if report.outcome != Outcome::AgentTrouble && !report.accepted_all() {
            self.attempt_failed(name, turn);
        }
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        // An attempt under the old record says nothing about the new one.
        if queue.carrier.as_ref() != Some(agent) || queue.old_plan == OldPlan::StillOut {
            return;
        }
        match report.outcome {
            Outcome::Transacted => {
                if report.accepted_some() {
                    queue.progress = Progress::Some;
                    queue.deferred_in_row = 0;
                    if queue.kept.accepted() == Trust::Misconfigured {
                        queue.begins_anew();
                    }
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
                let refused = queue.kept.trust == Trust::Misconfigured;
                self.proved(agent, name, (report.session, peer), turn);
                if refused {
                    self.refuses_all(name, &report.detail, turn);
                }
            }
            Outcome::Busy if is_closing(report) && queue.progress == Progress::Some => {}
            Outcome::Busy => self.site_failed(name, Why::Busy, report, leased, turn),
            Outcome::Unreachable => self.site_failed(name, Why::Down, report, leased, turn),
            Outcome::WrongHost => self.site_failed(name, Why::WrongHost, report, leased, turn),
            Outcome::Refused => self.site_failed(name, Why::Refused, report, leased, turn),
            // It answered, and has broken over this message before: that is the message's doing.
            Outcome::Broken | Outcome::InDoubt if broke_before(leased) => {
                queue.spared = Some(report.session);
                if queue.phase == Phase::Proving {
                    self.ready(name, turn.now.monotonic + RECONNECT, turn);
                }
            }
            Outcome::Broken | Outcome::InDoubt if queue.phase == Phase::Proving => {
                self.site_failed(name, Why::Down, report, leased, turn);
            }
            Outcome::Broken | Outcome::InDoubt => {}
            Outcome::AgentTrouble => {
                let wait = match queue.verdicts.troubled(agent) {
                    Turns::ToAnother => Duration::ZERO,
                    Turns::HadBefore => TROUBLE,
                };
                if matches!(queue.phase, Phase::Proving | Phase::Flowing) {
                    self.ready(name, turn.now.monotonic + wait, turn);
                }
            }
        }
    }

    /// Keeps who answered, and how, for those who ask. Returns the certificate, also where the report does not repeat it.
    fn has_answered(
        &mut self,
        agent: &AgentName,
        report: &Report,
        turn: &Turn<'_>,
    ) -> Option<Arc<PeerCertificate>> {
        let name = &report.lease.delivery.site;
        let queue = self.sites.get_mut(name)?;
        let mut attempt = last_attempt(agent, report, turn.now.wall);
        if queue.carrier.as_ref() == Some(agent) {
            // Behind a proof it stands in what was said then.
            let shown = queue.sessions.get(&report.session);
            attempt.peer = attempt.peer.or_else(|| shown.cloned().flatten());
        }
        let peer = attempt.peer.clone();
        self.measured.attempted(attempt.outcome);
        if report.outcome == Outcome::WrongHost {
            self.strays.refused(name, &attempt);
        }
        queue.remember(attempt);
        if report.observed.refusal.is_some() {
            queue.refusal = Some(Box::new(LastRefusal {
                at: turn.now.wall,
                agent: agent.clone(),
                observed: report.observed.clone(),
            }));
        }
        peer
    }

    fn site_failed(
        &mut self,
        name: &SiteName,
        why: Why,
        report: &Report,
        leased: &Leased,
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if let Some(carrier) = &queue.carrier {
            let at = turn.now.wall;
            queue.verdicts.failed(carrier, at, why, &report.detail);
        }
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
    pub(super) fn site_waits(
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
        if let (Why::Down, Some(release), Some(carrier)) = (why, &mut queue.release, &queue.carrier)
        {
            release.not_reached_by(carrier);
            queue.kept.doubt();
            if self
                .sites
                .get(name)
                .is_some_and(|queue| self.another_may_try(queue))
            {
                // Not reached is what every agent has tried once.
                return self.ready(name, now.monotonic, turn);
            }
        }
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let interval = queue.site.schedule.retry_interval;
        let at = with_others(now.monotonic + after_failure(interval, turn.rng), interval);
        queue.progress = Progress::None;
        queue.seems = Seems::Silent;
        queue.deferred_in_row = 0;
        if matches!(why, Why::Down | Why::WrongHost | Why::Refused) {
            queue.kept.doubt();
        }
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

    /// A session ends at the right machine, which may have shown a certificate.
    pub(super) fn proved(
        &mut self,
        agent: &AgentName,
        name: &SiteName,
        (session, peer): (SessionId, Option<Arc<PeerCertificate>>),
        turn: &mut Turn<'_>,
    ) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.carrier.as_ref() != Some(agent) || queue.old_plan == OldPlan::StillOut {
            return;
        }
        queue.sessions.insert(session, peer);
        queue.seems = Seems::Up;
        queue.verdicts.reached(agent, turn.now.wall);
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
                let took = turn.now.monotonic.saturating_sub(leased.since);
                self.measured.proved.observe_time(took);
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
        let spared = queue.spared.take() == Some(closed.session);
        match (queue.phase, closed.proved) {
            (Phase::Flowing, Proved::Yes)
                if progress || spared || closed.ended == Ended::InOrder =>
            {
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
    #[expect(dead_code, reason = "judged with the next change")]
    pub(super) answered: u32,
    pub(super) ended: Ended,
    pub(super) detail: String,
}

fn broke_before(leased: &Leased) -> bool {
    leased.waiting.as_ref().is_some_and(|it| it.breaks > 0)
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
        reason: report
            .observed
            .refusal
            .as_ref()
            .map(|refusal| refusal.reason.clone())
            .unwrap_or_default(),
        peer: report.observed.certificate.clone().map(Arc::new),
    }
}
