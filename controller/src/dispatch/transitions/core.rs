//! The core with one site, stepped by hand, and how its effects are written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease, MessageId, RecipientNumber, SessionId};
use dd_proto::name::SiteName;
use dd_proto::report::{
    Delays, Disposition, Observed, Outcome, RecipientResult, Reply, Report, SaidBy, Stage, Told,
};
use dd_proto::site::Hold;
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::dispatch::event::{Assign, Effect, Event, Now};
use crate::dispatch::in_memory;
use crate::dispatch::release::{Token, Waiter};
use crate::dispatch::simulation::site;
use crate::dispatch::state::State;
use crate::dispatch::whom::Whom;
use crate::dispatch::{
    AgentEvent, AttachmentId, Ended, Hello, Machine, Order, Proved, Refuses, Terms,
};
use crate::dispatch::{ClockMemory, ClockNews};
use crate::store::{Head, HeadOf, NextTry, Waiting, WithMail};

pub(super) const OUT1: AttachmentId = AttachmentId(1);
pub(super) const OUT2: AttachmentId = AttachmentId(2);

/// The core with one site, stepped by hand.
pub(super) struct Core {
    pub(super) state: State,
    pub(super) now: Duration,
    pub(super) rng: StdRng,
    pub(super) effects: Vec<Effect>,
    pub(super) assigned: Vec<Assign>,
    pub(super) mail: u64,
    /// Of messages that are not each from and to somebody else.
    pub(super) whom: BTreeMap<MessageId, Whom>,
    /// The number of the head that was asked for last.
    pub(super) last_read: u64,
    pub(super) last_head: Option<HeadOf>,
    /// The wall clock is wrong by so much.
    pub(super) wall_ahead: Duration,
}

pub(super) fn wall(at: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::try_from(at).unwrap()
}

impl Core {
    /// All known, nothing waiting, no agent.
    pub(super) fn bare() -> Self {
        let now = Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        };
        let agents = vec![("out1".parse().unwrap(), Terms::default())];
        let mut core = Self {
            state: State::new(
                2,
                ClockMemory::default(),
                vec![Arc::new(site(0))],
                agents,
                now,
            ),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(0),
            effects: Vec::new(),
            assigned: Vec::new(),
            mail: 0,
            whom: BTreeMap::new(),
            last_read: 0,
            last_head: None,
            wall_ahead: Duration::ZERO,
        };
        core.apply(Event::AllKnown(Vec::new()));
        core
    }

    pub(super) fn idle() -> Self {
        let mut core = Self::bare();
        core.attach(OUT1, "out1");
        core
    }

    pub(super) fn ready() -> Self {
        let mut core = Self::bare();
        core.mail();
        core
    }

    pub(super) fn proving() -> Self {
        let mut core = Self::idle();
        core.mail();
        core
    }

    pub(super) fn flowing() -> Self {
        let mut core = Self::proving();
        core.proved();
        core.mail();
        core
    }

    pub(super) fn down() -> Self {
        let mut core = Self::proving();
        core.report(Outcome::Unreachable, Vec::new());
        core
    }

    pub(super) fn refused() -> Self {
        let mut core = Self::proving();
        core.report(Outcome::Refused, Vec::new());
        core
    }

    pub(super) fn busy() -> Self {
        let mut core = Self::proving();
        core.report(Outcome::Busy, Vec::new());
        core
    }

    /// Its only message was put off by the site, whose session is still open.
    pub(super) fn deferred() -> Self {
        let mut core = Self::proving();
        core.proved();
        core.report(Outcome::Transacted, result(Disposition::Deferred));
        core.all_written();
        core.read_with(Vec::new(), Some(wall(Duration::from_secs(300))));
        core
    }

    pub(super) fn held() -> Self {
        let mut core = Self::idle();
        core.hold(None);
        core
    }

    pub(super) fn apply(&mut self, event: Event) {
        let now = Now {
            monotonic: self.now,
            wall: wall(self.now + self.wall_ahead),
        };
        let from = self.effects.len();
        self.state
            .apply(event, now, &mut self.rng, &mut self.effects);
        for effect in &self.effects[from..] {
            match effect {
                Effect::Assign(assign) => {
                    let message = assign.lease.delivery.message;
                    let n = in_memory::number_of(message);
                    let whom = self.whom.get(&message);
                    let whom = whom.cloned().unwrap_or(Whom::made_up(n, n));
                    self.state.is_for(&assign.lease, whom);
                    self.assigned.push(assign.clone());
                }
                Effect::ReadHead { read, of } => {
                    self.last_read = *read;
                    self.last_head = Some(of.clone());
                }
                _ => {}
            }
        }
    }

    pub(super) fn attach(&mut self, id: AttachmentId, agent: &str) {
        let hello = hello(agent);
        self.apply(Event::Attached { id, hello });
    }

    pub(super) fn waiting(&mut self) -> Waiting {
        self.mail += 1;
        in_memory::arrived(self.mail, name(), wall(self.now))
    }

    pub(super) fn mail(&mut self) {
        let waiting = self.waiting();
        self.apply(Event::Arrived(waiting));
    }

    pub(super) fn said(&mut self, event: AgentEvent) {
        self.apply(Event::Said { id: OUT1, event });
    }

    pub(super) fn proved(&mut self) {
        let observed = Observed::default();
        self.said(AgentEvent::Proved {
            site: name(),
            session: SessionId(1),
            observed: Box::new(observed),
        });
    }

    /// The lease that was given last.
    pub(super) fn lease(&self) -> Lease {
        let none = Lease {
            delivery: DeliveryId {
                message: MessageId::new(99, [0; 10]),
                site: name(),
            },
            generation: dd_proto::id::Generation {
                start: 2,
                counter: 99,
            },
        };
        self.assigned
            .last()
            .map_or(none, |assign| assign.lease.clone())
    }

    pub(super) fn report(&mut self, outcome: Outcome, recipients: Vec<RecipientResult>) {
        let report = report(self.lease(), outcome, recipients);
        self.said(AgentEvent::Report(Box::new(report)));
    }

    pub(super) fn closed(&mut self, proved: Proved, accepted: u32, ended: Ended) {
        let (site, session, detail) = (name(), SessionId(1), "over".to_owned());
        self.said(AgentEvent::SessionClosed {
            site,
            session,
            proved,
            accepted,
            answered: accepted,
            ended,
            refuses: Refuses::AtOnce,
            detail,
        });
    }

    pub(super) fn hold(&mut self, until: Option<Timestamp>) {
        let mut record = site(0);
        record.version.0 += 1;
        record.hold = Some(Hold {
            by: "operator".to_owned(),
            until,
            since: wall(self.now),
        });
        self.apply(Event::SiteChanged {
            site: Arc::new(record),
            waiting: 0,
        });
    }

    pub(super) fn release(&mut self) {
        let deadline = self.now + Duration::from_secs(20);
        let waiter = Some(Waiter {
            token: Token(7),
            deadline,
        });
        self.apply(Event::Release {
            site: name(),
            waiting: 1,
            waiter,
        });
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.apply(Event::Time);
    }

    pub(super) fn read(&mut self, due: Vec<Waiting>) {
        self.read_with(due, None);
    }

    /// Answers the read of the head that was asked for last.
    pub(super) fn read_with(&mut self, due: Vec<Waiting>, next_due: Option<Timestamp>) {
        let read = self.last_read;
        self.apply(Event::HeadRead {
            site: name(),
            read,
            head: Head {
                due,
                next_due,
                ..Head::default()
            },
        });
    }

    /// Its agent is there.
    pub(super) fn beats(&mut self) {
        self.said(AgentEvent::Beat { number: 1 });
    }

    /// Answers the walk that was begun last.
    pub(super) fn walk(&mut self, due: Vec<Waiting>) {
        let read = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Walk { read, .. } => Some(*read),
            _ => None,
        });
        self.apply(Event::Walked {
            site: name(),
            read: read.expect("a walk is under way"),
            page: Some(Head {
                due,
                ..Head::default()
            }),
        });
    }

    /// Everything that was handed out to be written is written.
    pub(super) fn all_written(&mut self) {
        let written: Vec<DeliveryId> = self.effects.iter().filter_map(writes).collect();
        self.effects.clear();
        for delivery in written {
            self.apply(Event::Written(delivery));
        }
    }

    pub(super) fn words(&self) -> Vec<String> {
        self.effects.iter().map(word).collect()
    }

    /// Whether one of the effects is this word.
    pub(super) fn has(&self, expected: &str) -> bool {
        self.words().iter().any(|word| word == expected)
    }

    pub(super) fn clock(&self) -> Now {
        Now {
            monotonic: self.now,
            wall: wall(self.now),
        }
    }

    pub(super) fn phase(&self) -> String {
        let now = Now {
            monotonic: self.now,
            wall: wall(self.now),
        };
        let view = self.state.site_view(&name(), now).unwrap();
        match view.why {
            Some(why) => format!("{}({why})", view.state),
            None => view.state.to_owned(),
        }
    }
}

fn writes(effect: &Effect) -> Option<DeliveryId> {
    match effect {
        Effect::Settle(settle) => Some(settle.settlement.delivery.clone()),
        Effect::Note(note) => Some(note.delivery.clone()),
        Effect::Warn(warn) => Some(warn.note.delivery.clone()),
        _ => None,
    }
}

pub(super) fn hello(agent: &str) -> Hello {
    Hello {
        agent: agent.parse().unwrap(),
        version: String::new(),
        slots: 4,
        probes: 4,
        boot_id: "boot".to_owned(),
        machine: Machine::AsBefore,
        trouble: String::new(),
        features: Default::default(),
        work_in_hand: Vec::new(),
        in_doubt: Vec::new(),
        reports: Vec::new(),
    }
}

/// The site has mail of an earlier start, and nothing was known against it.
pub(super) fn with_mail() -> WithMail {
    WithMail {
        site: name(),
        next: NextTry::AtOnce,
        newest: Timestamp::UNIX_EPOCH,
    }
}

pub(super) fn name() -> SiteName {
    site(0).name
}

pub(super) fn report(lease: Lease, outcome: Outcome, recipients: Vec<RecipientResult>) -> Report {
    Report {
        lease,
        session: SessionId(1),
        outcome,
        detail: format!("{outcome:?}"),
        observed: Observed::default(),
        recipients,
        dot_sent: outcome == Outcome::InDoubt,
        reply: None,
        delays: Delays::default(),
        at: Timestamp::UNIX_EPOCH,
        stage: Stage::Unknown,
    }
}

pub(super) fn result(disposition: Disposition) -> Vec<RecipientResult> {
    let code = match disposition {
        Disposition::Relayed => 250,
        Disposition::Deferred => 450,
        Disposition::Failed => 550,
    };
    let reply = Reply {
        code,
        enhanced: String::new(),
        text: String::new(),
    };
    vec![RecipientResult {
        number: RecipientNumber(0),
        disposition,
        reply,
        told: Told::NotPassedOn,
        by: SaidBy::TheSite,
    }]
}

pub(super) fn word(effect: &Effect) -> String {
    match effect {
        Effect::Order(_, Order::Welcome { .. }) => "Welcome".to_owned(),
        Effect::Order(_, Order::Plan(_)) => "Plan".to_owned(),
        Effect::Order(_, Order::Assign(_)) => "Assign".to_owned(),
        Effect::Order(_, Order::BeatAnswer { .. }) => "BeatAnswer".to_owned(),
        Effect::Order(_, Order::Acknowledged(_)) => "Acknowledged".to_owned(),
        Effect::Order(_, Order::CloseSite(_)) => "CloseSite".to_owned(),
        Effect::Order(_, Order::Recall(_)) => "Recall".to_owned(),
        Effect::Assign(assign) => format!("Assign({:?})", assign.freshness),
        Effect::ReadHead { .. } => "ReadHead".to_owned(),
        Effect::ReadAhead(_) => "ReadAhead".to_owned(),
        Effect::Settle(_) => "Settle".to_owned(),
        Effect::Note(note) if note.failed => "Note(failed)".to_owned(),
        Effect::Note(note) if note.in_doubt => "Note(in doubt)".to_owned(),
        Effect::Note(note) if note.not_before.is_some() => "Note(not before)".to_owned(),
        Effect::Note(_) => "Note".to_owned(),
        Effect::Warn(_) => "Warn".to_owned(),
        Effect::TellContact { .. } => "TellContact".to_owned(),
        Effect::Find(_) => "Find".to_owned(),
        Effect::Timer { at: None, .. } => "Timer(none)".to_owned(),
        Effect::Timer { .. } => "Timer".to_owned(),
        Effect::Answer(_, released) => format!("Answer({released:?})"),
        Effect::DrainEnded => "DrainEnded".to_owned(),
        Effect::Walk { .. } => "Walk".to_owned(),
        Effect::ReadLeft { .. } => "ReadLeft".to_owned(),
        Effect::Clock(ClockNews::Alarm(_)) => "ClockAlarm".to_owned(),
        Effect::Clock(ClockNews::Confirmed(_)) => "ClockConfirmed".to_owned(),
        Effect::WriteNow => "WriteNow".to_owned(),
        Effect::Look(_) => "Look".to_owned(),
        Effect::Acted(_, Ok(n)) => format!("Acted({n})"),
        Effect::Acted(_, Err(_)) => "Acted(in hand)".to_owned(),
        Effect::SiteClosed(_, n) => format!("SiteClosed({n})"),
    }
}
