//! Many sites that are dead, beside a few that are not.

use super::*;
use crate::dispatch::{Hello, Terms};
use crate::store::{Head, NextTry, WithMail};
use dd_proto::id::SessionId;
use dd_proto::name::SiteName;

const SITES: u64 = 40;
const PROBES: u32 = 16;
/// What the dead may have of them: an eighth is kept.
const THEIRS: usize = 14;

/// All sites but the first have mail of an earlier start, in which they were down; the agent is there, and has as many
/// of them as it may.
fn crowd() -> Core {
    let mut core = Core::bare();
    core.now = Duration::from_secs(5);
    let records: Vec<_> = (0..SITES).map(|n| Arc::new(site(n))).collect();
    let with_mail = records[1..].iter().map(|record| WithMail {
        site: record.name.clone(),
        next: NextTry::At(wall(Duration::from_secs(1))),
        newest: wall(Duration::ZERO),
    });
    let known = Event::AllKnown(with_mail.collect());
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    core.state = State::new(2, ClockMemory::default(), records, agents, core.clock());
    core.apply(known);
    let hello = Hello {
        probes: PROBES,
        ..hello("out1")
    };
    core.apply(Event::Attached { id: OUT1, hello });
    heads(&mut core);
    core
}

/// Answers every read of a head with one message.
fn heads(core: &mut Core) {
    for effect in std::mem::take(&mut core.effects) {
        let Effect::ReadHead { read, of } = effect else {
            continue;
        };
        let site = of.site;
        let mut waiting = core.waiting();
        waiting.delivery.site = site.clone();
        waiting.earlier_start = true;
        let head = Head {
            due: vec![waiting],
            ..Head::default()
        };
        core.apply(Event::HeadRead { site, read, head });
    }
}

#[test]
fn dead_sites_leave_probes_to_one_that_has_new_mail() {
    let mut core = crowd();
    assert_eq!(core.assigned.len(), THEIRS);
    core.mail();
    assert_eq!(core.assigned.len(), THEIRS + 1);
    assert_eq!(core.lease().delivery.site, name());
}

#[test]
fn a_crowd_that_was_not_tried_yet_leaves_probes_to_one_that_has_new_mail() {
    let mut core = nobody_tried(SITES, PROBES);
    assert_eq!(core.assigned.len(), THEIRS);
    core.mail();
    assert_eq!(core.lease().delivery.site, name());
    for assign in core.assigned.clone() {
        let missed = report(assign.lease, Outcome::Unreachable, Vec::new());
        core.said(AgentEvent::Report(Box::new(missed)));
    }
    let tried: BTreeSet<_> = core
        .assigned
        .iter()
        .map(|it| it.lease.delivery.site.clone())
        .collect();
    assert_eq!(tried.len(), 2 * THEIRS + 1, "and the crowd goes on");
}

#[test]
fn a_crowd_does_not_begin_all_at_once_and_nobody_new_waits_for_it() {
    let mut core = nobody_tried(200, 1000);
    let begun = core.assigned.len();
    assert_eq!(begun, 64);
    core.mail();
    assert_eq!(core.lease().delivery.site, name());
    let mut last = core.now;
    while core.assigned.len() < 200 {
        core.now = core.state.next_deadline().expect("it goes on");
        assert!(core.now > last && core.now < last + Duration::from_millis(10));
        last = core.now;
        core.apply(Event::Time);
    }
    assert!(core.now > Duration::from_millis(200));
}

/// All sites but the first have mail, and then an agent comes.
fn nobody_tried(sites: u64, probes: u32) -> Core {
    let mut core = Core::bare();
    let records: Vec<_> = (0..sites).map(|n| Arc::new(site(n))).collect();
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    let now = core.clock();
    core.state = State::new(2, ClockMemory::default(), records.clone(), agents, now);
    core.apply(Event::AllKnown(Vec::new()));
    for record in &records[1..] {
        let mut waiting = core.waiting();
        waiting.delivery.site = record.name.clone();
        core.apply(Event::Arrived(waiting));
    }
    let hello = Hello {
        probes,
        ..hello("out1")
    };
    core.apply(Event::Attached { id: OUT1, hello });
    core
}

#[test]
fn a_site_that_asks_for_its_mail_does_not_wait_behind_the_dead() {
    let mut core = crowd();
    let last = site(SITES - 1).name;
    assert!(
        core.assigned
            .iter()
            .all(|it| it.lease.delivery.site != last)
    );
    core.apply(Event::Release {
        site: last.clone(),
        waiting: 1,
        waiter: None,
    });
    heads(&mut core);
    assert_eq!(core.lease().delivery.site, last);
}

#[test]
fn when_probes_come_back_every_dead_site_has_its_turn() {
    let mut core = crowd();
    let mut tried = BTreeSet::new();
    let mut next = 0;
    while let Some(assign) = core.assigned.get(next).cloned() {
        tried.insert(assign.lease.delivery.site.clone());
        let missed = report(assign.lease, Outcome::Unreachable, Vec::new());
        core.said(AgentEvent::Report(Box::new(missed)));
        next += 1;
    }
    assert_eq!(tried.len() as u64, SITES - 1, "each once: {next}");
    assert_eq!(next as u64, SITES - 1, "and only once");
}

#[test]
fn homes_that_stand_still_do_not_keep_the_places_of_another() {
    let mut core = Core::bare();
    let mut records: Vec<_> = (0..5).map(site).collect();
    for record in &mut records {
        record.limits.connections = 1;
    }
    let names: Vec<_> = records.iter().map(|record| record.name.clone()).collect();
    let records = records.into_iter().map(Arc::new).collect();
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    core.state = State::new(2, ClockMemory::default(), records, agents, core.clock());
    core.apply(Event::AllKnown(Vec::new()));
    core.attach(OUT1, "out1");
    // Its four slots have 64 places: four homes that leave a dot unanswered have taken them all.
    for name in &names {
        let number = core.mail;
        for _ in 0..20 {
            let mut waiting = core.waiting();
            waiting.delivery.site = name.clone();
            core.apply(Event::Arrived(waiting));
        }
        core.said(AgentEvent::Proved {
            site: name.clone(),
            session: SessionId(number + 1),
            observed: Box::default(),
        });
    }
    let out = |core: &Core, name: &SiteName| {
        let assigned = core.assigned.iter();
        let of_site = assigned.filter(|it| it.lease.delivery.site == *name);
        of_site.count()
    };
    let counts: Vec<_> = names.iter().map(|name| out(&core, name)).collect();
    assert_eq!(counts, [16, 16, 16, 16, 4]);
    let mut given = 4;
    while given < 10 {
        let lease = core.lease();
        assert_eq!(lease.delivery.site, names[4]);
        let mut told = report(lease, Outcome::Transacted, result(Disposition::Relayed));
        told.session = SessionId(81);
        core.said(AgentEvent::Report(Box::new(told)));
        given += 1;
        assert_eq!(out(&core, &names[4]), given, "it flows on");
    }
}
