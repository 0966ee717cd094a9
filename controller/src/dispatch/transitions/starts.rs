//! How sites and agents begin a start.

use super::*;
use crate::dispatch::{Drain, Hello, Joined, Machine, SiteView, Told};
use crate::history::tests::attempt;
use crate::store::{NextTry, WithMail};

const SITES: u64 = 40;

/// Sites that have mail of an earlier start, as dispatch sees them once all is known; the second half is older than
/// an interval.
fn started(next: NextTry) -> (Core, Vec<SiteView>) {
    let mut core = Core::bare();
    core.now = Duration::from_secs(5);
    let (now, records) = (core.clock(), (0..SITES).map(|n| Arc::new(site(n))));
    let records: Vec<_> = records.collect();
    let interval = records[0].schedule.retry_interval;
    let with_mail = (0..).zip(&records).map(|(n, record)| WithMail {
        site: record.name.clone(),
        next,
        newest: match n < SITES / 2 {
            true => now.wall,
            false => now.wall - interval,
        },
    });
    let with_mail = with_mail.collect();
    let names: Vec<_> = records.iter().map(|record| record.name.clone()).collect();
    core.state = State::new(2, ClockMemory::default(), records, Vec::new(), now);
    core.apply(Event::AllKnown(with_mail));
    let views = names.iter().map(|name| core.state.site_view(name, now));
    let views = views.map(Option::unwrap).collect();
    (core, views)
}

#[test]
fn without_timers_sites_with_young_mail_are_ready_at_once_and_the_rest_within_an_interval() {
    let (core, views) = started(NextTry::Unknown);
    let now = core.clock().wall;
    let interval = site(0).schedule.retry_interval;
    let (young, old) = views.split_at(views.len() / 2);
    assert!(young.iter().all(|view| view.next_attempt == Some(now)));
    assert!(old.iter().all(|view| view.state == "ready"));
    let times: BTreeSet<_> = old.iter().map(|view| view.next_attempt.unwrap()).collect();
    assert!(times.iter().all(|at| *at > now && *at < now + interval));
    assert_eq!(times.len(), old.len(), "they do not come all at once");
}

#[test]
fn new_mail_does_not_wait_with_the_old() {
    let (mut core, _) = started(NextTry::Unknown);
    let mut waiting = core.waiting();
    waiting.delivery.site = site(SITES - 1).name;
    core.apply(Event::Arrived(waiting.clone()));
    let view = core.state.site_view(&waiting.delivery.site, core.clock());
    assert_eq!(view.unwrap().next_attempt, Some(core.clock().wall));
}

#[test]
fn with_timers_a_site_that_has_none_is_ready_at_once_however_old_its_mail() {
    let (core, views) = started(NextTry::AtOnce);
    let now = core.clock().wall;
    assert!(views.iter().all(|view| view.next_attempt == Some(now)));
    let at = now + Duration::from_secs(90);
    let (_, views) = started(NextTry::At(at));
    let waits = |view: &SiteView| view.state == "waiting" && view.next_attempt == Some(at);
    assert!(views.iter().all(waits));
}

#[test]
fn a_site_that_was_not_tried_since_the_start_waits_for_what_it_waited_for_before() {
    for (before, why) in [
        (None, "down"),
        (Some("unreachable"), "down"),
        (Some("wrong-host"), "wrong-host"),
        (Some("refused"), "refused"),
        (Some("kept"), "refused"),
        (Some("busy"), "busy"),
        (Some("deferred"), "deferred"),
        (Some("relayed"), "deferred"),
    ] {
        let (core, _) = started(NextTry::At(wall(Duration::from_secs(90))));
        let name = site(0).name;
        if let Some(outcome) = before {
            let attempt = attempt("2026-10-01T10:00:00Z", outcome, "as it was");
            core.state.measured.history.attempted(&name, &attempt);
        }
        let view = core.state.site_view(&name, core.clock()).unwrap();
        assert_eq!((view.state, view.why), ("waiting", Some(why)), "{before:?}");
        let states = core.state.site_states(core.clock());
        let state = states.iter().find(|it| it.site == name).unwrap();
        assert_eq!(state.why, Some(why), "{before:?}");
    }
}

#[test]
fn an_agent_gets_no_work_before_its_date() {
    let mut core = Core::bare();
    let from = Duration::from_secs(60);
    let registered = Event::AgentRegistered("out1".parse().unwrap(), terms(wall(from)));
    core.apply(registered);
    core.attach(OUT1, "out1");
    core.mail();
    for _ in 0..2 {
        core.advance(Duration::from_millis(29_999));
        core.beats();
    }
    assert!(core.assigned.is_empty());
    assert!(core.state.next_deadline() <= Some(from));
    core.now = from;
    core.apply(Event::Time);
    assert_eq!(core.assigned.len(), 1);
}

#[test]
fn an_agent_whose_date_is_put_off_gives_its_sites_to_another_one() {
    let mut core = Core::flowing();
    core.attach(OUT2, "out2");
    let later = terms(wall(Duration::from_secs(3600)));
    core.apply(Event::AgentRegistered("out1".parse().unwrap(), later));
    let waiting = core.waiting();
    core.read(vec![waiting]);
    assert_eq!(core.assigned.last().unwrap().to, OUT2);
}

#[test]
fn the_barrier_does_not_wait_for_an_agent_that_is_removed() {
    let mut core = Core::bare();
    let agents = ["out1", "out2"].map(|name| (name.parse().unwrap(), Terms::default()));
    let records = vec![Arc::new(site(0))];
    let now = core.clock();
    core.state = State::new(2, ClockMemory::default(), records, agents.into(), now);
    let mut older = core.waiting();
    older.earlier_start = true;
    core.apply(Event::AllKnown(vec![with_mail()]));
    core.attach(OUT1, "out1");
    assert!(core.assigned.is_empty());
    core.apply(Event::AgentRemoved("out2".parse().unwrap()));
    core.read(vec![older]);
    assert_eq!(core.assigned.len(), 1);
    assert!(!core.assigned[0].waiting.in_doubt);
}

#[test]
fn the_barrier_waits_for_an_agent_that_may_hold_mail() {
    for (drain, joined, told, waits) in [
        (Drain::Works, Joined::Once, Told::NotAll, true),
        (Drain::Drains, Joined::Once, Told::NotAll, true),
        (Drain::Ended, Joined::Once, Told::NotAll, false),
        // Announced to members, and never there.
        (Drain::Works, Joined::Never, Told::NotAll, false),
        // The earlier start stopped in order, and this agent had nothing in hand then.
        (Drain::Works, Joined::Once, Told::All, false),
    ] {
        let mut core = Core::bare();
        let terms = |drain, joined, told| Terms {
            drain,
            joined,
            told,
            ..Terms::default()
        };
        let agents = [
            ("out1", terms(Drain::Works, Joined::Once, Told::NotAll)),
            ("out2", terms(drain, joined, told)),
        ];
        let agents = agents.map(|(name, terms)| (name.parse().unwrap(), terms));
        let records = vec![Arc::new(site(0))];
        core.state = State::new(
            2,
            ClockMemory::default(),
            records,
            agents.into(),
            core.clock(),
        );
        let mut older = core.waiting();
        older.earlier_start = true;
        core.apply(Event::AllKnown(vec![with_mail()]));
        core.effects.clear();
        core.attach(OUT1, "out1");
        let reads = core.words().contains(&"ReadHead".to_owned());
        assert_eq!(reads, !waits, "{drain:?} {joined:?} {told:?}");
        if !waits {
            core.read(vec![older]);
            assert!(!core.assigned[0].waiting.in_doubt);
        }
    }
}

#[test]
fn who_holds_nothing_at_a_stop_has_told_all() {
    let untold = |core: &Core| -> Vec<String> {
        let agents = core.state.untold_agents().into_iter();
        agents.map(|name| name.to_string()).collect()
    };
    let mut core = Core::bare();
    let agents = ["out1", "out2"].map(|name| (name.parse().unwrap(), Terms::default()));
    let records = vec![Arc::new(site(0))];
    let now = core.clock();
    core.state = State::new(2, ClockMemory::default(), records, agents.into(), now);
    core.apply(Event::AllKnown(Vec::new()));
    assert_eq!(untold(&core), ["out1", "out2"], "nobody has been heard");
    core.attach(OUT1, "out1");
    assert_eq!(untold(&core), ["out2"]);
    core.attach(OUT2, "out2");
    assert!(untold(&core).is_empty());
    core.apply(Event::Detached(OUT2));
    assert!(untold(&core).is_empty(), "it was away, and held nothing");
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting));
    assert_eq!(untold(&core), ["out1"], "it holds a lease");
    core.apply(Event::Detached(OUT1));
    assert_eq!(untold(&core), ["out1"], "and may have handed it over");
    core.advance(Duration::from_secs(40));
    assert!(!untold(&core).is_empty(), "the doubt is not written yet");
    core.all_written();
    assert!(untold(&core).is_empty());
}

#[test]
fn mail_of_this_start_is_tried_again_though_the_barrier_is_closed() {
    let mut core = Core::bare();
    let agents = ["out1", "out2"].map(|name| (name.parse().unwrap(), Terms::default()));
    let records = vec![Arc::new(site(0))];
    let now = core.clock();
    core.state = State::new(2, ClockMemory::default(), records, agents.into(), now);
    core.apply(Event::AllKnown(Vec::new()));
    core.attach(OUT1, "out1");
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    core.effects.clear();
    core.release();
    assert!(core.has("ReadHead"), "{:?}", core.words());
    core.read(vec![waiting]);
    assert_eq!(core.phase(), "proving");
}

fn terms(from: jiff::Timestamp) -> Terms {
    Terms {
        from: Some(from),
        ..Terms::default()
    }
}

#[test]
fn old_mail_is_in_doubt_where_the_machine_of_an_agent_went_down_since() {
    for (machine, told, in_doubt) in [
        (Machine::AsBefore, Told::NotAll, false),
        (Machine::Rebooted, Told::NotAll, true),
        // At the clean stop before this start it held nothing, and owed nothing.
        (Machine::Rebooted, Told::All, false),
    ] {
        let mut core = Core::bare();
        let terms = Terms {
            told,
            ..Terms::default()
        };
        let agents = vec![("out1".parse().unwrap(), terms)];
        let records = vec![Arc::new(site(0))];
        core.state = State::new(2, ClockMemory::default(), records, agents, core.clock());
        let mut older = core.waiting();
        older.earlier_start = true;
        core.apply(Event::AllKnown(vec![with_mail()]));
        let hello = Hello {
            machine,
            ..hello("out1")
        };
        core.apply(Event::Attached { id: OUT1, hello });
        core.read(vec![older]);
        assert_eq!(core.assigned[0].waiting.in_doubt, in_doubt, "{machine:?}");
        core.proved();
        core.mail();
        assert_eq!(core.assigned.len(), 2);
        assert!(
            !core.assigned[1].waiting.in_doubt,
            "it came since the start"
        );
    }
}

#[test]
fn an_agent_has_left_in_order_that_said_so_and_holds_nothing() {
    for (says, holds, left) in [
        (true, false, true),
        (false, false, false),
        (true, true, false),
    ] {
        let mut core = match holds {
            true => Core::proving(),
            false => Core::idle(),
        };
        if says {
            core.said(AgentEvent::Draining);
        }
        core.effects.clear();
        core.apply(Event::Detached(OUT1));
        assert_eq!(core.has("DrainEnded"), left, "{says} {holds}");
        assert_eq!(!core.state.agents_that_left().is_empty(), left);
        core.attach(OUT1, "out1");
        assert!(core.state.agents_that_left().is_empty(), "it is back");
    }
}

#[test]
fn an_agent_has_not_left_in_order_before_what_it_told_is_written() {
    let mut core = Core::proving();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    core.said(AgentEvent::Draining);
    core.apply(Event::Detached(OUT1));
    assert!(core.state.agents_that_left().is_empty());
    assert!(!core.has("DrainEnded"));
    core.apply(Event::Written(core.lease().delivery));
    assert_eq!(core.state.agents_that_left().len(), 1);
    assert!(core.has("DrainEnded"));
}
