//! What attempts and sessions say about the site they were at.
//!
//! # Invariants
//! Nothing but an attempt by the agent the site belongs to moves the site.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{Generation, SessionId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{Disposition, Outcome, PeerCertificate, RecipientResult, Report, Stage};

use super::backoff::{after_failure, with_others};
use super::ends::{
    Closed, broke_before, came_to_nothing, ends_session, is_closing, is_unread, last_attempt,
    over_message,
};
use super::event::{Effect, Turn};
use super::judge::Fails;
use super::kept::Wakes;
use super::lease::{Freshness, Leased, Occupies};
use super::moods::{Moods, defers_all};
use super::release::Begun;
use super::site::{Phase, Progress, Rest, Seems, Session, SiteQueue, Why};
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
        let attempt = self.has_answered(agent, report, turn);
        let peer = attempt.as_ref().and_then(|it| it.peer.clone());
        self.moves(agent, report, leased, peer, turn);
        if let Some(attempt) = attempt {
            self.remember(attempt, report);
        }
    }

    fn moves(
        &mut self,
        agent: &AgentName,
        report: &Report,
        leased: &Leased,
        peer: Option<Arc<PeerCertificate>>,
        turn: &mut Turn<'_>,
    ) {
        let name = &report.lease.delivery.site;
        if (report.outcome != Outcome::AgentTrouble || is_unread(report)) && !report.accepted_all()
        {
            self.attempt_failed(name, turn);
        }
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.carrier.as_ref() != Some(agent) || leased.generation <= queue.outdated {
            // It speaks for a record, a connection or an agent that is the site's no more.
            return;
        }
        let progress = queue.hears(report, leased, turn.now.monotonic);
        if Self::refused_for_good(report, leased) && self.was_refused(name, report, leased, turn) {
            return;
        }
        match report.outcome {
            Outcome::Transacted => self.transacted(agent, report, leased, peer, turn),
            Outcome::Busy if is_closing(report) && progress => {
                // RFC 5321 §3.8: it closes; what it has not answered goes to the next session.
                self.reconnects_if_proving(name, turn);
            }
            Outcome::Busy
                if over_message(report)
                    && self.stumbles(name, Why::Busy, &report.detail, leased.generation, turn) => {}
            Outcome::Busy => self.site_failed(name, Why::Busy, report, leased, turn),
            Outcome::Unreachable => self.site_failed(name, Why::Down, report, leased, turn),
            Outcome::WrongHost => self.site_failed(name, Why::WrongHost, report, leased, turn),
            Outcome::Refused => self.site_failed(name, Why::Refused, report, leased, turn),
            Outcome::Broken | Outcome::InDoubt => self.broke_off(report, leased, progress, turn),
            Outcome::AgentTrouble if is_unread(report) => {
                let delivery = &report.lease.delivery;
                let why = &report.detail;
                tracing::error!(%agent, %delivery, why, "the agent cannot read what it was assigned");
                self.was_unread(agent, name, turn);
            }
            Outcome::AgentTrouble => self.agent_had_trouble(agent, name, turn),
        }
    }

    fn transacted(
        &mut self,
        agent: &AgentName,
        report: &Report,
        leased: &Leased,
        peer: Option<Arc<PeerCertificate>>,
        turn: &mut Turn<'_>,
    ) {
        let name = &report.lease.delivery.site;
        let queue = self.sites.get_mut(name);
        if queue.is_some_and(|it| defers_all(report) && it.moods.put_off(report, leased)) {
            return self.site_failed(name, Why::Busy, report, leased, turn);
        }
        self.proved(agent, name, (report.session, peer), turn);
    }

    /// The session is lost.
    fn broke_off(&mut self, report: &Report, leased: &Leased, progress: bool, turn: &mut Turn<'_>) {
        let name = &report.lease.delivery.site;
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if report.outcome == Outcome::Broken && progress && queue.moods.put_off(report, leased) {
            return self.site_failed(name, Why::Busy, report, leased, turn);
        }
        // It answered, or has broken over this message before: that is the message's doing.
        if progress || (broke_before(leased) && report.stage != Stage::Session) {
            queue.spared = Some(report.session);
            self.reconnects_if_proving(name, turn);
        } else if queue.phase == Phase::Proving {
            self.site_failed(name, Why::Down, report, leased, turn);
        }
    }

    fn agent_had_trouble(&mut self, agent: &AgentName, name: &SiteName, turn: &mut Turn<'_>) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        let wait = match queue.verdicts.troubled(agent) {
            Turns::ToAnother => Duration::ZERO,
            Turns::HadBefore => TROUBLE,
        };
        if matches!(queue.phase, Phase::Proving | Phase::Flowing) {
            self.ready(name, turn.now.monotonic + wait, turn);
        }
    }

    /// That is about one message: what flows goes on. A canary is looked for anew, and another agent may read this one.
    fn was_unread(&mut self, agent: &AgentName, name: &SiteName, turn: &mut Turn<'_>) {
        let queue = self.sites.get_mut(name);
        if let Some(queue) = queue.filter(|it| it.phase == Phase::Proving) {
            queue.verdicts.troubled(agent);
            self.reconnects_if_proving(name, turn);
        }
    }

    fn reconnects_if_proving(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let queue = self.sites.get_mut(name);
        if let Some(queue) = queue.filter(|it| it.phase == Phase::Proving) {
            let from = queue.reconnects(turn.now.monotonic);
            self.ready(name, from, turn);
        }
    }

    /// Whether all that it says of recipients is that they are refused.
    fn refused_for_good(report: &Report, leased: &Leased) -> bool {
        let mut answers = report.answers().peekable();
        let failed = |result: &RecipientResult| result.disposition == Disposition::Failed;
        leased.waiting.is_some() && answers.peek().is_some() && answers.all(failed)
    }

    /// Whether it is the first message of its session, as far as is known.
    pub(super) fn opens_session(&self, report: &Report) -> bool {
        let queue = self.sites.get(&report.lease.delivery.site);
        let session = queue.and_then(|queue| queue.sessions.get(&report.session));
        session.is_none_or(|session| session.answered == 0)
    }

    /// Who answered, and how; with the certificate, also where the report does not repeat it.
    fn has_answered(
        &mut self,
        agent: &AgentName,
        report: &Report,
        turn: &Turn<'_>,
    ) -> Option<LastAttempt> {
        let name = &report.lease.delivery.site;
        let queue = self.sites.get_mut(name)?;
        let mut attempt = last_attempt(agent, report, turn.now.wall);
        if queue.carrier.as_ref() == Some(agent) {
            // Behind a proof it stands in what was said then.
            let shown = queue.sessions.get(&report.session);
            let shown = shown.and_then(|session| session.peer.clone());
            attempt.peer = attempt.peer.or(shown);
        }
        if report.outcome == Outcome::WrongHost {
            self.strays.refused(name, &attempt);
        }
        if report.observed.refusal.is_some() {
            queue.refusal = Some(Box::new(LastRefusal {
                at: turn.now.wall,
                agent: agent.clone(),
                observed: report.observed.clone(),
            }));
        }
        Some(attempt)
    }

    /// For those who ask. Whether a refusal is final is known when the site has moved: one too many is not.
    fn remember(&mut self, mut attempt: LastAttempt, report: &Report) {
        if attempt.outcome == "failed" && self.fails(report) == Fails::OnlyUnasked {
            attempt.outcome = "kept";
        }
        let name = &report.lease.delivery.site;
        self.measured.attempted(name, &attempt);
        if let Some(queue) = self.sites.get_mut(name) {
            queue.remember(attempt);
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
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if let Some(carrier) = &queue.carrier {
            let at = turn.now.wall;
            queue.verdicts.failed(carrier, at, why, &report.detail);
        }
        // A further session that does not come about is closed; those that are proved go on. An attempt after a release
        // has already ended the older ones. A home that takes so many sessions says 421 to the next one, or 554.
        let further = match why {
            Why::Down | Why::WrongHost => true,
            Why::Busy | Why::Refused => {
                came_to_nothing(report) && !queue.sessions.contains_key(&report.session)
            }
            Why::Deferred => false,
        };
        let others_go_on = queue.phase == Phase::Flowing
            && !queue.sessions.is_empty()
            && leased.freshness == Freshness::Any
            && further;
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
        let at = queue
            .knocks
            .after_attempt(now.monotonic)
            .map_or(at, |knock| knock.min(at));
        queue.progress = Progress::None;
        queue.recalled_proofs = 0;
        queue.seems = Seems::Silent;
        queue.moods = Moods::default();
        queue.kept.wakes = Wakes::No;
        if matches!(why, Why::Down | Why::WrongHost | Why::Refused) {
            queue.kept.doubt();
        }
        let release = queue.release.take();
        self.set_phase(name, Phase::Waiting(why, at));
        if let Some(queue) = self.sites.get_mut(name) {
            queue.drop_head();
            queue.rest = Rest::More;
        }
        self.remember_timer(name, wall_of(now, at), turn);
        let Some(release) = release else {
            return;
        };
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
        if queue.carrier.as_ref() != Some(agent) || queue.recalled.contains(&session) {
            return;
        }
        let since = queue.newest;
        let known = queue.sessions.entry(session).or_insert(Session {
            peer: None,
            since,
            answered: 0,
        });
        known.peer = peer.or_else(|| known.peer.take());
        queue.seems = Seems::Up;
        queue.verdicts.reached(agent, turn.now.wall);
        self.forget_timer(name, turn);
        let Some(queue) = self
            .sites
            .get_mut(name)
            .filter(|it| it.phase == Phase::Proving)
        else {
            return;
        };
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
        if let Some(queue) = self.sites.get_mut(name) {
            queue.recalled_proofs = 0;
            queue.knocks.are_served();
            if let Some(release) = &mut queue.release {
                // A release that came meanwhile has waited for just that.
                release.begun = Begun::Yes;
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
        queue.refuses = queue.refuses.max(closed.refuses);
        if queue.recalled.contains(&closed.session) {
            return;
        }
        let session = queue.sessions.remove(&closed.session);
        if !queue.sessions.is_empty() {
            return;
        }
        // What a proved home has answered is no silence, whatever the answer was.
        let answered = closed.accepted.max(closed.answered) > 0;
        let progress = queue.progress == Progress::Some || answered;
        let spared = queue.spared.take() == Some(closed.session);
        match (queue.phase, closed.proved) {
            (Phase::Flowing, Proved::Yes)
                if progress || spared || closed.ended == Ended::InOrder =>
            {
                let from = queue.reconnects(turn.now.monotonic);
                self.ready(name, from, turn);
            }
            (Phase::Flowing, _) => {
                // What other sites were given meanwhile says nothing about what was on this session.
                let generation = session.map_or(queue.newest, |session| session.since);
                let (why, detail) = (Why::Down, &closed.detail);
                if closed.proved == Proved::Yes
                    && self.stumbles(name, why, detail, generation, turn)
                {
                    return;
                }
                self.site_waits(name, why, detail, generation, turn);
            }
            (Phase::Proving, _) if queue.canary.is_none() => {
                self.ready(name, turn.now.monotonic + RECONNECT, turn);
            }
            _ => {}
        }
    }
}

impl SiteQueue {
    /// Remembers what an attempt says of its session and its message. Returns whether the session had an answer for
    /// anybody.
    fn hears(&mut self, report: &Report, leased: &Leased, now: Duration) -> bool {
        // An agent that was asked for another session and does not know of that has gone on with the old one.
        self.recalled.retain(|session| *session != report.session);
        if report.accepted_some() {
            self.accepted(report, leased);
        }
        let answered = report.answers().next().is_some();
        let mut of_session = 0;
        if let Some(session) = self.sessions.get_mut(&report.session) {
            session.answered += u32::from(answered);
            of_session = session.answered;
        }
        if answered {
            self.progress = Progress::Some;
            self.stumbles.end();
            self.turned_away = Duration::ZERO;
        } else if came_to_nothing(report) {
            // Else an agent whose further session is turned away gets the same message back at once, without end.
            self.turned_away = now + RECONNECT;
        }
        if ends_session(report) {
            self.ended_over(report.lease.delivery.message);
            if self.sessions.len() < 2 {
                // Its end is about to be told: nothing goes out on it.
                self.pause = self.pause.max(now + RECONNECT);
            }
        }
        of_session > 0 || (answered && report.outcome != Outcome::AgentTrouble)
    }
}
