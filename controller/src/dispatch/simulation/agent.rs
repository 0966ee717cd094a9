//! A made-up agent: lanes, sessions, leases and a journal, as docs/agent-protocol.md promises them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dd_proto::id::{Lease, RecipientNumber, SessionId};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::{
    Delays, Disposition, DotSent, GivenBack, Observed, Outcome, RecipientResult, Reply, Report,
    SaidBy, Stage, Told,
};
use jiff::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::received::Received;
use crate::dispatch::lease::LEASE;
use crate::dispatch::{AgentEvent, AttachmentId, Ended, Hello, Machine, Proved, Refuses};

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
    /// As the assignment was marked.
    pub(crate) in_doubt: bool,
}

/// A message whose dot is out.
#[derive(Debug)]
pub(crate) struct Handing {
    work: Work,
    /// What it will report.
    report: Report,
}

/// When a session is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Closes {
    #[default]
    WithoutWork,
    AfterTheReply,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) waiting: VecDeque<Work>,
    pub(crate) session: Option<SessionId>,
    handing: Option<Handing>,
    closes: Closes,
    accepted: u32,
}

impl Lane {
    /// Leases that the agent names in its Hello.
    fn in_hand(&self) -> impl Iterator<Item = &Work> {
        let handing = self.handing.iter().map(|handing| &handing.work);
        self.waiting.iter().chain(handing)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.handing.is_none()
    }
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
    /// It is switched off.
    pub(crate) away_until: Duration,
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
            away_until: Duration::ZERO,
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        let in_hand = self.lanes.values().flat_map(Lane::in_hand);
        let entries = || self.journal.values().cloned();
        Hello {
            agent: self.name.clone(),
            version: "0".to_owned(),
            slots: 4,
            probes: 8,
            boot_id: "boot".to_owned(),
            machine: Machine::AsBefore,
            trouble: String::new(),
            features: Default::default(),
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

    pub(crate) fn welcome(&mut self, going_on: &[Lease], sent: Duration, now: Duration) {
        self.renewed = sent;
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|work| going_on.contains(&work.lease));
            let handing = lane.handing.iter_mut().map(|handing| &mut handing.work);
            for work in lane.waiting.iter_mut().chain(handing) {
                // The attempt goes on, for its dot is out; its lease may not.
                let goes_on = going_on.contains(&work.lease) && work.until > now;
                work.until = if goes_on {
                    sent + LEASE
                } else {
                    Duration::ZERO
                };
            }
        }
    }

    pub(crate) fn beat_answered(&mut self, sent: Duration, now: Duration) {
        self.renewed = sent;
        let lanes = self.lanes.values_mut();
        let work = lanes.flat_map(|lane| {
            let handing = lane.handing.iter_mut().map(|handing| &mut handing.work);
            lane.waiting.iter_mut().chain(handing)
        });
        for work in work.filter(|work| work.until > now) {
            work.until = work.until.max(sent + LEASE);
        }
    }

    /// Leases that are valid by the agent's own clock.
    pub(crate) fn holds(&self, delivery: &dd_proto::id::DeliveryId, now: Duration) -> bool {
        let mut work = self.lanes.values().flat_map(Lane::in_hand);
        work.any(|work| work.lease.delivery == *delivery && work.until > now)
    }

    /// Ends the session after the transaction in hand.
    pub(crate) fn close(&mut self, site: &SiteName) -> Vec<AgentEvent> {
        let Some(lane) = self.lanes.get_mut(site) else {
            return Vec::new();
        };
        let mut events = give_back(lane, GivenBack::Closing);
        if lane.handing.is_some() {
            lane.closes = Closes::AfterTheReply;
        } else {
            events.extend(closed(site, lane, Ended::InOrder));
            self.lanes.remove(site);
        }
        events
    }

    /// What has not begun comes back; the session ends after the transaction in hand, and the next assignment begins a
    /// new one.
    pub(crate) fn recall(&mut self, site: &SiteName) -> Vec<AgentEvent> {
        let Some(lane) = self.lanes.get_mut(site) else {
            return Vec::new();
        };
        let mut events = give_back(lane, GivenBack::Recalled);
        if lane.handing.is_some() {
            lane.closes = Closes::AfterTheReply;
        } else {
            events.extend(closed(site, lane, Ended::InOrder));
        }
        events
    }

    /// Its process ends; its journal stays.
    pub(crate) fn ends(&mut self) {
        self.lanes.clear();
        self.life = Life::Runs;
    }

    /// Does one thing for a site: opens a session, hands one message over, hears the reply, or ends an idle session.
    pub(crate) fn step(
        &mut self,
        site: &SiteName,
        behaviour: Behaviour,
        now: Duration,
        received: &mut Received,
        rng: &mut StdRng,
    ) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let Some(lane) = self.lanes.get_mut(site) else {
            return events;
        };
        if let Some(handing) = lane.handing.take() {
            return self.reply_comes(site, handing, rng);
        }
        while lane.waiting.front().is_some_and(|work| work.until <= now) {
            let lease = lane.waiting.pop_front().unwrap().lease;
            events.push(AgentEvent::GivenBack {
                lease,
                why: GivenBack::LeaseExpired,
            });
        }
        let Some(session) = lane.session else {
            events.extend(self.opens(site, behaviour));
            return events;
        };
        let Some(work) = lane.waiting.pop_front() else {
            events.extend(closed(site, lane, Ended::InOrder));
            return events;
        };
        events.extend(self.hands_over(site, session, work, (behaviour, received), rng));
        events
    }

    fn opens(&mut self, site: &SiteName, behaviour: Behaviour) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        let lane = self.lanes.get_mut(site).unwrap();
        let Some(canary) = lane.waiting.front().cloned() else {
            return events;
        };
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let outcome = match behaviour {
            Behaviour::Up | Behaviour::Shaky | Behaviour::NotSetUp => {
                lane.session = Some(session);
                events.push(AgentEvent::Proved {
                    site: site.clone(),
                    session,
                    observed: Box::default(),
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
        events.push(AgentEvent::Report(Box::new(report)));
        events.push(AgentEvent::SessionClosed {
            site: site.clone(),
            session,
            proved: Proved::No,
            accepted: 0,
            answered: 0,
            ended: Ended::Lost,
            refuses: Refuses::AtOnce,
            detail: "not proved".to_owned(),
        });
        events.extend(give_back(lane, GivenBack::SessionEnded));
        events
    }

    /// What the site will answer. If a dot goes out, the site has what it accepts before anybody hears of it.
    fn hands_over(
        &mut self,
        site: &SiteName,
        session: SessionId,
        work: Work,
        (behaviour, received): (Behaviour, &mut Received),
        rng: &mut StdRng,
    ) -> Vec<AgentEvent> {
        let (outcome, results) = answers(&work, behaviour, rng);
        let arrives = outcome == Outcome::InDoubt && rng.random_bool(0.5);
        for number in &work.open {
            let relayed = results
                .iter()
                .any(|r| r.number == *number && r.disposition == Disposition::Relayed);
            if relayed || arrives {
                received.comes((work.lease.delivery.clone(), *number), &work);
            }
        }
        let report = report(&work, session, outcome, results);
        let handing = Handing { work, report };
        if !handing.report.dot_sent {
            return self.reply_comes(site, handing, rng);
        }
        let dot = DotSent {
            lease: handing.work.lease.clone(),
            recipients: handing.work.open.clone(),
        };
        let entry = Entry::Dot(dot.clone());
        self.journal.insert(key(&handing.work.lease), entry);
        self.lanes.get_mut(site).unwrap().handing = Some(handing);
        match rng.random_bool(0.5) {
            true => vec![AgentEvent::DotSent(dot)],
            // The reply comes before it is told.
            false => Vec::new(),
        }
    }

    fn reply_comes(
        &mut self,
        site: &SiteName,
        Handing { work, report }: Handing,
        rng: &mut StdRng,
    ) -> Vec<AgentEvent> {
        if report.dot_sent && rng.random_bool(0.03) {
            // It ends with nothing but the dot in its journal.
            self.life = Life::Ended;
            return Vec::new();
        }
        let lane = self.lanes.get_mut(site).unwrap();
        let mut results = report.recipients.iter();
        let accepted = results.any(|it| it.disposition == Disposition::Relayed);
        lane.accepted += u32::from(accepted);
        let outcome = report.outcome;
        let entry = Entry::Report(report.clone());
        self.journal.insert(key(&work.lease), entry);
        let mut events = vec![AgentEvent::Report(Box::new(report))];
        let closes = std::mem::take(&mut lane.closes);
        if matches!(outcome, Outcome::Broken | Outcome::InDoubt | Outcome::Busy) {
            events.extend(closed(site, lane, Ended::Lost));
            events.extend(give_back(lane, GivenBack::SessionEnded));
        } else if closes == Closes::AfterTheReply {
            events.extend(closed(site, lane, Ended::InOrder));
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
            .filter(|(_, lane)| lane.session.is_some() || !lane.is_idle());
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
        answered: accepted,
        ended,
        refuses: Refuses::AtOnce,
        detail: "over".to_owned(),
    })
}

/// What becomes of a message at a site.
fn answers(work: &Work, behaviour: Behaviour, rng: &mut StdRng) -> (Outcome, Vec<RecipientResult>) {
    let dice = match behaviour {
        Behaviour::Up => 99,
        Behaviour::NotSetUp => 9,
        Behaviour::Shaky => rng.random_range(0..20),
        Behaviour::Down | Behaviour::Impostor | Behaviour::Busy | Behaviour::Refuses => 0,
    };
    let results = |first, others| results(work, first, others);
    let (relayed, deferred) = (Disposition::Relayed, Disposition::Deferred);
    match dice {
        0 => (Outcome::Broken, Vec::new()),
        1 => (Outcome::InDoubt, Vec::new()),
        2 => (Outcome::Busy, Vec::new()),
        3..6 => (Outcome::Transacted, results(deferred, None)),
        6..8 => (Outcome::Transacted, results(relayed, Some(deferred))),
        8 => (Outcome::AgentTrouble, Vec::new()),
        9 => (Outcome::Transacted, results(Disposition::Failed, None)),
        10 => {
            let failed = Some(Disposition::Failed);
            (Outcome::Transacted, results(relayed, failed))
        }
        _ => (Outcome::Transacted, results(relayed, None)),
    }
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
            by: SaidBy::TheSite,
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
        stage: Stage::Unknown,
    }
}
