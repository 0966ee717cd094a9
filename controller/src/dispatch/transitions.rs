//! Every (state, input) pair of a site, as a reviewed table; and the rules that a single pair cannot show.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease, MessageId, RecipientNumber, SessionId};
use dd_proto::name::SiteName;
use dd_proto::report::{
    Delays, Disposition, GivenBack, Observed, Outcome, RecipientResult, Reply, Report, Told,
};
use dd_proto::site::Hold;
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

mod races;

use super::event::{Assign, Effect, Event, Now};
use super::release::{Token, Waiter};
use super::simulation::site;
use super::state::State;
use super::{AgentEvent, AttachmentId, Ended, Hello, Order, Proved, Released};
use crate::store::{Head, Position, Waiting};

const OUT1: AttachmentId = AttachmentId(1);
const OUT2: AttachmentId = AttachmentId(2);

/// The core with one site, stepped by hand.
struct Core {
    state: State,
    now: Duration,
    rng: StdRng,
    effects: Vec<Effect>,
    assigned: Vec<Assign>,
    mail: u64,
}

fn wall(at: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::try_from(at).unwrap()
}

impl Core {
    /// All known, nothing waiting, no agent.
    fn bare() -> Self {
        let now = Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        };
        let agents = vec!["out1".parse().unwrap()];
        let mut core = Self {
            state: State::new(2, vec![Arc::new(site(0))], agents, now),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(0),
            effects: Vec::new(),
            assigned: Vec::new(),
            mail: 0,
        };
        core.apply(Event::AllKnown(Vec::new()));
        core
    }

    fn idle() -> Self {
        let mut core = Self::bare();
        core.attach(OUT1, "out1");
        core
    }

    fn ready() -> Self {
        let mut core = Self::bare();
        core.mail();
        core
    }

    fn proving() -> Self {
        let mut core = Self::idle();
        core.mail();
        core
    }

    fn flowing() -> Self {
        let mut core = Self::proving();
        core.proved();
        core.mail();
        core
    }

    fn down() -> Self {
        let mut core = Self::proving();
        core.report(Outcome::Unreachable, Vec::new());
        core
    }

    fn held() -> Self {
        let mut core = Self::idle();
        core.hold(None);
        core
    }

    fn apply(&mut self, event: Event) {
        let now = Now {
            monotonic: self.now,
            wall: wall(self.now),
        };
        let from = self.effects.len();
        self.state
            .apply(event, now, &mut self.rng, &mut self.effects);
        for effect in &self.effects[from..] {
            if let Effect::Assign(assign) = effect {
                self.assigned.push(assign.clone());
            }
        }
    }

    fn attach(&mut self, id: AttachmentId, agent: &str) {
        let hello = hello(agent);
        self.apply(Event::Attached { id, hello });
    }

    fn waiting(&mut self) -> Waiting {
        self.mail += 1;
        Waiting {
            delivery: DeliveryId {
                message: MessageId::new(self.mail, [0; 10]),
                site: name(),
            },
            position: Position::made_up(0, self.mail),
            arrived: wall(self.now),
            not_before: None,
            attempts: 0,
            breaks: 0,
            in_doubt: false,
            failed: false,
            kept: false,
            warned: false,
            last: String::new(),
            bytes: 1,
            open: vec![RecipientNumber(0)],
            earlier_start: false,
        }
    }

    fn mail(&mut self) {
        let waiting = self.waiting();
        self.apply(Event::Arrived(waiting));
    }

    fn said(&mut self, event: AgentEvent) {
        self.apply(Event::Said { id: OUT1, event });
    }

    fn proved(&mut self) {
        let observed = Observed::default();
        self.said(AgentEvent::Proved {
            site: name(),
            session: SessionId(1),
            observed,
        });
    }

    /// The lease that was given last.
    fn lease(&self) -> Lease {
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

    fn report(&mut self, outcome: Outcome, recipients: Vec<RecipientResult>) {
        let report = report(self.lease(), outcome, recipients);
        self.said(AgentEvent::Report(report));
    }

    fn closed(&mut self, proved: Proved, accepted: u32, ended: Ended) {
        let (site, session, detail) = (name(), SessionId(1), "over".to_owned());
        self.said(AgentEvent::SessionClosed {
            site,
            session,
            proved,
            accepted,
            ended,
            detail,
        });
    }

    fn hold(&mut self, until: Option<Timestamp>) {
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

    fn release(&mut self) {
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

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.apply(Event::Time);
    }

    fn read(&mut self, due: Vec<Waiting>) {
        self.apply(Event::HeadRead {
            site: name(),
            head: Head {
                due,
                ..Head::default()
            },
        });
    }

    fn phase(&self) -> String {
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

fn hello(agent: &str) -> Hello {
    Hello {
        agent: agent.parse().unwrap(),
        version: String::new(),
        slots: 4,
        probes: 4,
        boot_id: "boot".to_owned(),
        work_in_hand: Vec::new(),
        in_doubt: Vec::new(),
        reports: Vec::new(),
    }
}

fn name() -> SiteName {
    site(0).name
}

fn report(lease: Lease, outcome: Outcome, recipients: Vec<RecipientResult>) -> Report {
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
    }
}

fn result(disposition: Disposition) -> Vec<RecipientResult> {
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
    }]
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Order(_, Order::Welcome { .. }) => "Welcome".to_owned(),
        Effect::Order(_, Order::Plan(_)) => "Plan".to_owned(),
        Effect::Order(_, Order::Assign(_)) => "Assign".to_owned(),
        Effect::Order(_, Order::BeatAnswer { .. }) => "BeatAnswer".to_owned(),
        Effect::Order(_, Order::Acknowledged(_)) => "Acknowledged".to_owned(),
        Effect::Order(_, Order::CloseSite(_)) => "CloseSite".to_owned(),
        Effect::Assign(assign) => format!("Assign({:?})", assign.freshness),
        Effect::ReadHead { .. } => "ReadHead".to_owned(),
        Effect::Settle(_) => "Settle".to_owned(),
        Effect::Note(note) if note.failed => "Note(failed)".to_owned(),
        Effect::Note(note) if note.in_doubt => "Note(in doubt)".to_owned(),
        Effect::Note(note) if note.not_before.is_some() => "Note(not before)".to_owned(),
        Effect::Note(_) => "Note".to_owned(),
        Effect::Warn(_) => "Warn".to_owned(),
        Effect::TellContact { .. } => "TellContact".to_owned(),
        Effect::Find(_) => "Find".to_owned(),
        Effect::Timer { .. } => "Timer".to_owned(),
        Effect::Answer(_, released) => format!("Answer({released:?})"),
        Effect::Retried(..) => "Retried".to_owned(),
        Effect::Removing(..) => "Removing".to_owned(),
    }
}

type StateOf = (&'static str, fn() -> Core);
type Input = (&'static str, fn(&mut Core));

const STATES: [StateOf; 6] = [
    ("idle", Core::idle),
    ("ready", Core::ready),
    ("proving", Core::proving),
    ("flowing", Core::flowing),
    ("waiting(down)", Core::down),
    ("held", Core::held),
];

const INPUTS: [Input; 23] = [
    ("mail", Core::mail),
    ("proved", Core::proved),
    ("relayed", |core| {
        core.report(Outcome::Transacted, result(Disposition::Relayed));
    }),
    ("deferred", |core| {
        core.report(Outcome::Transacted, result(Disposition::Deferred));
    }),
    ("failed", |core| {
        core.report(Outcome::Transacted, result(Disposition::Failed));
    }),
    ("unreachable", |core| {
        core.report(Outcome::Unreachable, Vec::new());
    }),
    ("wrong host", |core| {
        core.report(Outcome::WrongHost, Vec::new());
    }),
    ("refused", |core| core.report(Outcome::Refused, Vec::new())),
    ("busy", |core| core.report(Outcome::Busy, Vec::new())),
    ("broken", |core| core.report(Outcome::Broken, Vec::new())),
    ("in doubt", |core| core.report(Outcome::InDoubt, Vec::new())),
    ("agent trouble", |core| {
        core.report(Outcome::AgentTrouble, Vec::new());
    }),
    ("given back", |core| {
        let (lease, why) = (core.lease(), GivenBack::SessionEnded);
        core.said(AgentEvent::GivenBack { lease, why });
    }),
    ("session lost without progress", |core| {
        core.closed(Proved::Yes, 0, Ended::Lost);
    }),
    ("session lost after progress", |core| {
        core.closed(Proved::Yes, 1, Ended::Lost);
    }),
    ("session at its limit", |core| {
        core.closed(Proved::Yes, 9, Ended::InOrder);
    }),
    ("session not proved", |core| {
        core.closed(Proved::No, 0, Ended::Lost);
    }),
    ("agent gone", |core| core.apply(Event::Detached(OUT1))),
    ("agent draining", |core| core.said(AgentEvent::Draining)),
    ("time", |core| core.advance(Duration::from_secs(70))),
    ("release", Core::release),
    ("hold", |core| core.hold(None)),
    ("record changed", |core| {
        let mut record = site(0);
        record.version.0 += 9;
        core.apply(Event::SiteChanged {
            site: Arc::new(record),
            waiting: 0,
        });
    }),
];

#[test]
fn the_whole_table_is_as_reviewed() {
    let mut text = String::new();
    for (state, make) in STATES {
        for (input, step) in INPUTS {
            let mut core = make();
            assert_eq!(core.phase(), state);
            core.effects.clear();
            step(&mut core);
            let effects: Vec<String> = core.effects.iter().map(word).collect();
            writeln!(
                text,
                "{state} + {input} => {} [{}]",
                core.phase(),
                effects.join(", ")
            )
            .unwrap();
        }
    }
    insta::assert_snapshot!("transitions", text);
}

#[test]
fn an_unproved_site_gets_one_canary_and_a_proved_one_its_window() {
    let mut core = Core::proving();
    for _ in 0..30 {
        core.mail();
    }
    assert_eq!(core.assigned.len(), 1);
    core.proved();
    // One connection: sixteen out.
    assert_eq!(core.assigned.len(), 16);
    let delivered: BTreeSet<_> = core
        .assigned
        .iter()
        .map(|a| a.lease.delivery.clone())
        .collect();
    assert_eq!(delivered.len(), 16);
}

#[test]
fn a_report_is_acknowledged_when_its_settlement_is_written_and_not_before() {
    let mut core = Core::proving();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    let acknowledged = |core: &Core| core.effects.iter().any(|e| word(e) == "Acknowledged");
    assert!(!acknowledged(&core));
    core.apply(Event::Written(core.lease().delivery));
    assert!(acknowledged(&core));
}

#[test]
fn older_mail_waits_at_the_barrier_and_newer_does_not() {
    let mut core = Core::bare();
    core.state = State::new(
        2,
        vec![Arc::new(site(0))],
        vec!["out1".parse().unwrap(), "out2".parse().unwrap()],
        Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        },
    );
    let mut older = core.waiting();
    older.earlier_start = true;
    core.apply(Event::AllKnown(vec![(name(), None)]));
    core.attach(OUT1, "out1");
    assert!(core.assigned.is_empty());
    core.mail();
    assert_eq!(core.assigned.len(), 1, "newer mail goes at once");
    core.proved();
    core.attach(OUT2, "out2");
    core.read(vec![older.clone()]);
    assert_eq!(core.lease().delivery, older.delivery);
    assert!(!core.assigned[1].waiting.in_doubt, "everybody has spoken");
}

#[test]
fn a_barrier_that_time_opens_leaves_doubt() {
    let mut core = Core::bare();
    let mut older = core.waiting();
    older.earlier_start = true;
    core.apply(Event::AllKnown(vec![(name(), None)]));
    core.advance(super::barrier::ENDS);
    core.attach(OUT2, "out2");
    core.read(vec![older]);
    assert!(
        core.assigned[0].waiting.in_doubt,
        "out1 has not said what it holds"
    );
}

#[test]
fn an_older_attempt_does_not_absorb_a_release() {
    let mut core = Core::proving();
    core.release();
    core.report(Outcome::Unreachable, Vec::new());
    assert!(!core.phase().starts_with("waiting"), "{}", core.phase());
    core.apply(Event::Written(core.lease().delivery));
    assert_eq!(
        word(
            core.effects
                .iter()
                .rfind(|e| matches!(e, Effect::Assign(_)))
                .unwrap()
        ),
        "Assign(Fresh)"
    );
    core.report(Outcome::Unreachable, Vec::new());
    assert_eq!(core.phase(), "waiting(down)");
    let answers = core.effects.iter().filter_map(|effect| match effect {
        Effect::Answer(_, released) => Some(released),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    assert!(
        matches!(answers[..], [Released::NotReached { waiting: 1, .. }]),
        "{answers:?}"
    );
}

#[test]
fn a_lease_that_is_not_renewed_goes_elsewhere_in_doubt_and_late() {
    let mut core = Core::flowing();
    let out = core.assigned.len();
    core.apply(Event::Detached(OUT1));
    core.attach(OUT2, "out2");
    core.advance(Duration::from_secs(39));
    assert_eq!(core.assigned.len(), out, "still leased");
    core.said(AgentEvent::Draining);
    core.apply(Event::Said {
        id: OUT2,
        event: AgentEvent::Beat { number: 1 },
    });
    core.advance(Duration::from_secs(1));
    let notes = core
        .effects
        .iter()
        .filter(|effect| word(effect) == "Note(in doubt)");
    assert_eq!(notes.count(), out);
}

#[test]
fn an_acceptance_under_a_stale_lease_is_settled_and_a_failure_is_not() {
    for (disposition, expected) in [(Disposition::Relayed, true), (Disposition::Failed, false)] {
        let mut core = Core::proving();
        let mut stale = core.lease();
        stale.generation.start = 1;
        let settles = |core: &Core| core.effects.iter().any(|e| word(e) == "Settle");
        core.said(AgentEvent::Report(report(
            stale,
            Outcome::Transacted,
            result(disposition),
        )));
        assert_eq!(settles(&core), expected, "{disposition:?}");
        let failed = core.effects.iter().any(|e| word(e) == "Note(failed)");
        assert!(!failed);
    }
}
