//! A made-up agent: lanes, sessions, leases and a journal, as docs/agent-protocol.md promises them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dd_proto::id::{Lease, RecipientNumber, SessionId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{
    Delays, Disposition, DotSent, GivenBack, Observed, Outcome, RecipientResult, Reply, Report,
    Told,
};
use jiff::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::dispatch::lease::LEASE;
use crate::dispatch::{AgentEvent, AttachmentId, Ended, Hello, Proved};

/// How a site behaves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Up,
    /// Answers, but breaks, defers and closes now and then.
    Shaky,
    Down,
    Impostor,
    Busy,
    Refuses,
    /// Proved, and says 5yz to all mail.
    NotSetUp,
}

#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) lease: Lease,
    pub(crate) open: Vec<RecipientNumber>,
    pub(crate) until: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) waiting: VecDeque<Work>,
    pub(crate) session: Option<SessionId>,
    accepted: u32,
}

#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub(crate) name: AgentName,
    pub(crate) attachment: Option<AttachmentId>,
    pub(crate) lanes: BTreeMap<SiteName, Lane>,
    pub(crate) journal: BTreeMap<Lease2, Entry>,
    /// When the last answered beat was sent.
    pub(crate) renewed: Duration,
    next_session: u64,
    /// Its process has just ended.
    pub(crate) life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Runs,
    Ended,
}

/// A lease as a sortable key.
type Lease2 = (dd_proto::id::DeliveryId, dd_proto::id::Generation);

#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once or twice and gone; a box would cost more"
)]
pub(crate) enum Entry {
    Dot(DotSent),
    Report(Report),
}

/// What a site has received: counted for each recipient.
pub(crate) type Received = BTreeMap<(dd_proto::id::DeliveryId, RecipientNumber), u32>;

impl FakeAgent {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.parse().unwrap(),
            attachment: None,
            lanes: BTreeMap::new(),
            journal: BTreeMap::new(),
            renewed: Duration::ZERO,
            next_session: 0,
            life: Life::Runs,
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        let in_hand = self.lanes.values().flat_map(|lane| &lane.waiting);
        let entries = || self.journal.values().cloned();
        Hello {
            agent: self.name.clone(),
            version: "0".to_owned(),
            slots: 4,
            probes: 8,
            boot_id: "boot".to_owned(),
            trouble: String::new(),
            work_in_hand: in_hand.map(|work| work.lease.clone()).collect(),
            in_doubt: entries()
                .filter_map(|entry| match entry {
                    Entry::Dot(dot) => Some(dot),
                    Entry::Report(_) => None,
                })
                .collect(),
            reports: entries()
                .filter_map(|entry| match entry {
                    Entry::Report(report) => Some(report),
                    Entry::Dot(_) => None,
                })
                .collect(),
        }
    }

    pub(crate) fn welcome(&mut self, going_on: &[Lease], sent: Duration) {
        self.renewed = sent;
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|work| going_on.contains(&work.lease));
            for work in &mut lane.waiting {
                work.until = sent + LEASE;
            }
        }
    }

    pub(crate) fn beat_answered(&mut self, sent: Duration, now: Duration) {
        self.renewed = sent;
        let work = self.lanes.values_mut().flat_map(|lane| &mut lane.waiting);
        for work in work.filter(|work| work.until > now) {
            work.until = work.until.max(sent + LEASE);
        }
    }

    /// Leases that are valid by the agent's own clock.
    pub(crate) fn holds(&self, delivery: &dd_proto::id::DeliveryId, now: Duration) -> bool {
        let mut work = self.lanes.values().flat_map(|lane| &lane.waiting);
        work.any(|work| work.lease.delivery == *delivery && work.until > now)
    }

    pub(crate) fn close(&mut self, site: &SiteName) -> Vec<AgentEvent> {
        let Some(mut lane) = self.lanes.remove(site) else {
            return Vec::new();
        };
        let mut events = give_back(&mut lane, GivenBack::Closing);
        events.extend(closed(site, &mut lane, Ended::InOrder));
        events
    }

    /// Does one thing for a site: opens a session, or hands one message over, or ends an idle session.
    pub(crate) fn step(
        &mut self,
        site: &SiteName,
        behaviour: Behaviour,
        now: Duration,
        received: &mut Received,
        rng: &mut StdRng,
    ) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let next_session = &mut self.next_session;
        let Some(lane) = self.lanes.get_mut(site) else {
            return events;
        };
        while lane.waiting.front().is_some_and(|work| work.until <= now) {
            let lease = lane.waiting.pop_front().unwrap().lease;
            events.push(AgentEvent::GivenBack {
                lease,
                why: GivenBack::LeaseExpired,
            });
        }
        let Some(session) = lane.session else {
            let Some(canary) = lane.waiting.front().cloned() else {
                return events;
            };
            *next_session += 1;
            let session = SessionId(*next_session);
            let outcome = match behaviour {
                Behaviour::Up | Behaviour::Shaky | Behaviour::NotSetUp => {
                    lane.session = Some(session);
                    events.push(AgentEvent::Proved {
                        site: site.clone(),
                        session,
                        observed: Observed::default(),
                    });
                    return events;
                }
                Behaviour::Down => Outcome::Unreachable,
                Behaviour::Impostor => Outcome::WrongHost,
                Behaviour::Busy => Outcome::Busy,
                Behaviour::Refuses => Outcome::Refused,
            };
            lane.waiting.pop_front();
            let report = report(&canary, session, outcome, Vec::new());
            self.journal
                .insert(key(&canary.lease), Entry::Report(report.clone()));
            events.push(AgentEvent::Report(report));
            events.push(AgentEvent::SessionClosed {
                site: site.clone(),
                session,
                proved: Proved::No,
                accepted: 0,
                ended: Ended::Lost,
                detail: "not proved".to_owned(),
            });
            events.extend(give_back(lane, GivenBack::SessionEnded));
            return events;
        };
        let Some(work) = lane.waiting.pop_front() else {
            events.extend(closed(site, lane, Ended::InOrder));
            return events;
        };
        let answers = [Behaviour::Up, Behaviour::Shaky, Behaviour::NotSetUp];
        let ends = !answers.contains(&behaviour);
        let dice = if ends {
            0
        } else if behaviour == Behaviour::Up {
            99
        } else if behaviour == Behaviour::NotSetUp {
            9
        } else {
            rng.random_range(0..20)
        };
        let (outcome, results) = match dice {
            0 => (Outcome::Broken, Vec::new()),
            1 => (Outcome::InDoubt, Vec::new()),
            2 => (Outcome::Busy, Vec::new()),
            3..6 => (
                Outcome::Transacted,
                results(&work, Disposition::Deferred, None),
            ),
            6..8 => (
                Outcome::Transacted,
                results(&work, Disposition::Relayed, Some(Disposition::Deferred)),
            ),
            8 => (Outcome::AgentTrouble, Vec::new()),
            9 => (
                Outcome::Transacted,
                results(&work, Disposition::Failed, None),
            ),
            10 => (
                Outcome::Transacted,
                results(&work, Disposition::Relayed, Some(Disposition::Failed)),
            ),
            _ => (
                Outcome::Transacted,
                results(&work, Disposition::Relayed, None),
            ),
        };
        let arrives = outcome == Outcome::InDoubt && rng.random_bool(0.5);
        for number in &work.open {
            let relayed = results
                .iter()
                .any(|r| r.number == *number && r.disposition == Disposition::Relayed);
            if relayed || arrives {
                *received
                    .entry((work.lease.delivery.clone(), *number))
                    .or_default() += 1;
            }
        }
        let accepted = results
            .iter()
            .any(|it| it.disposition == Disposition::Relayed);
        lane.accepted += u32::from(accepted);
        let report = report(&work, session, outcome, results);
        // Now and then the agent ends between dot and report; its journal has only the dot then.
        let only_dot = outcome == Outcome::InDoubt && rng.random_bool(0.3);
        let dot = DotSent {
            lease: work.lease.clone(),
            recipients: work.open.clone(),
        };
        let entry = if only_dot {
            Entry::Dot(dot.clone())
        } else {
            Entry::Report(report.clone())
        };
        self.journal.insert(key(&work.lease), entry);
        if report.dot_sent {
            events.push(AgentEvent::DotSent(dot));
        }
        if only_dot {
            self.life = Life::Ended;
        } else {
            events.push(AgentEvent::Report(report));
        }
        if matches!(outcome, Outcome::Broken | Outcome::InDoubt | Outcome::Busy) {
            events.extend(closed(site, lane, Ended::Lost));
            events.extend(give_back(lane, GivenBack::SessionEnded));
        }
        events
    }

    pub(crate) fn acknowledged(&mut self, lease: &Lease) -> Option<Entry> {
        self.journal.remove(&key(lease))
    }

    /// Sites with something to do.
    pub(crate) fn busy(&self) -> BTreeSet<SiteName> {
        let busy = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.session.is_some() || !lane.waiting.is_empty());
        busy.map(|(site, _)| site.clone()).collect()
    }
}

fn key(lease: &Lease) -> Lease2 {
    (lease.delivery.clone(), lease.generation)
}

fn give_back(lane: &mut Lane, why: GivenBack) -> Vec<AgentEvent> {
    let waiting = lane.waiting.drain(..);
    waiting
        .map(|work| AgentEvent::GivenBack {
            lease: work.lease,
            why,
        })
        .collect()
}

fn closed(site: &SiteName, lane: &mut Lane, ended: Ended) -> Option<AgentEvent> {
    let session = lane.session.take()?;
    let accepted = std::mem::take(&mut lane.accepted);
    Some(AgentEvent::SessionClosed {
        site: site.clone(),
        session,
        proved: Proved::Yes,
        accepted,
        ended,
        detail: "over".to_owned(),
    })
}

fn results(work: &Work, first: Disposition, others: Option<Disposition>) -> Vec<RecipientResult> {
    let results = work.open.iter().enumerate().map(|(i, number)| {
        let disposition = if i == 0 {
            first
        } else {
            others.unwrap_or(first)
        };
        let code = match disposition {
            Disposition::Relayed => 250,
            Disposition::Deferred => 450,
            Disposition::Failed => 550,
        };
        RecipientResult {
            number: *number,
            disposition,
            reply: reply(code),
            told: Told::NotPassedOn,
        }
    });
    results.collect()
}

fn reply(code: u16) -> Reply {
    Reply {
        code,
        enhanced: String::new(),
        text: "so".to_owned(),
    }
}

pub(crate) fn report(
    work: &Work,
    session: SessionId,
    outcome: Outcome,
    recipients: Vec<RecipientResult>,
) -> Report {
    let relayed = recipients
        .iter()
        .any(|r| r.disposition == Disposition::Relayed);
    Report {
        lease: work.lease.clone(),
        session,
        outcome,
        detail: format!("{outcome:?}"),
        observed: Observed::default(),
        recipients,
        dot_sent: outcome == Outcome::InDoubt || relayed,
        reply: (outcome == Outcome::Busy).then(|| reply(421)),
        delays: Delays::default(),
        at: Timestamp::UNIX_EPOCH,
    }
}
