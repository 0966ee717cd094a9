//! Every (state, input) pair of a site, as a reviewed table; and the rules that a single pair cannot show.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease, MessageId};
use dd_proto::report::{Disposition, GivenBack, Outcome};

mod actions;
mod agents;
mod answers;
mod breaks;
mod core;
mod crowd;
mod expiry;
mod features;
mod kept;
mod older;
mod races;
mod reads;
mod releases;
mod starts;
mod stumbles;
mod turned_away;
mod unasked;
mod unread;

use core::{Core, OUT1, OUT2, hello, name, report, result, wall, with_mail, word};

use super::event::{Effect, Event, Now};
use super::simulation::site;
use super::state::State;
use super::{AgentEvent, AttachmentId, ClockMemory, Ended, Proved, Refuses, Released, Terms};

type StateOf = (&'static str, fn() -> Core);
type Input = (&'static str, fn(&mut Core));

const STATES: [StateOf; 9] = [
    ("idle", Core::idle),
    ("ready", Core::ready),
    ("proving", Core::proving),
    ("flowing", Core::flowing),
    ("waiting(down)", Core::down),
    ("waiting(refused)", Core::refused),
    ("waiting(busy)", Core::busy),
    ("waiting(deferred)", Core::deferred),
    ("held", Core::held),
];

const INPUTS: [Input; 27] = [
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
    ("not asked", |core| {
        core.report(Outcome::Transacted, unasked::unasked(0..1));
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
    ("agent drained by an operator", |core| core.drain("out1")),
    ("agent unhealthy", |core| core.unhealthy("it cannot bind")),
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
    ("authority changed", |core| {
        let mut record = site(0);
        record.version.0 += 9;
        core.apply(Event::PlansChanged(vec![Arc::new(record)]));
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
fn a_place_is_taken_again_before_the_settlement_of_what_had_it_is_written() {
    let mut core = Core::proving();
    for _ in 0..16 {
        core.mail();
    }
    core.proved();
    assert_eq!(core.assigned.len(), 16);
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    assert_eq!(core.assigned.len(), 17);
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
        ClockMemory::default(),
        vec![Arc::new(site(0))],
        vec![
            ("out1".parse().unwrap(), Terms::default()),
            ("out2".parse().unwrap(), Terms::default()),
        ],
        Now {
            monotonic: Duration::ZERO,
            wall: wall(Duration::ZERO),
        },
    );
    let mut older = core.waiting();
    older.earlier_start = true;
    core.apply(Event::AllKnown(vec![with_mail()]));
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
    core.apply(Event::AllKnown(vec![with_mail()]));
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
        core.said(AgentEvent::Report(Box::new(report(
            stale,
            Outcome::Transacted,
            result(disposition),
        ))));
        assert_eq!(settles(&core), expected, "{disposition:?}");
        let failed = core.effects.iter().any(|e| word(e) == "Note(failed)");
        assert!(!failed);
    }
}
