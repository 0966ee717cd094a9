//! A release makes a message due once, reaches what hangs, and is not forgotten; a stranger's makes the site due.

use super::*;
use crate::dispatch::Order;
use crate::store::Waiting;

impl Core {
    fn recalls(&self) -> usize {
        let recalls = self.effects.iter();
        let recall = |it: &&Effect| matches!(it, Effect::Order(_, Order::Recall(_)));
        recalls.filter(recall).count()
    }

    fn recalled(&mut self, lease: Lease) {
        let why = GivenBack::Recalled;
        self.said(AgentEvent::GivenBack { lease, why });
    }

    fn knock(&mut self) {
        self.apply(Event::Knock(name()));
    }
}

#[test]
fn what_broke_since_a_release_has_its_own_time_again() {
    for outcome in [Outcome::Broken, Outcome::InDoubt] {
        let mut core = Core::idle();
        let mut bad: Waiting = core.waiting();
        bad.breaks = 1;
        core.apply(Event::Arrived(bad.clone()));
        core.proved();
        core.release();
        let first = core.lease();
        core.recalled(first);
        core.proved();
        let tries = core.assigned.len();
        core.report(outcome, Vec::new());
        core.all_written();
        bad.breaks = 2;
        bad.not_before = Some(wall(core.now + Duration::from_secs(300)));
        core.closed(Proved::Yes, 0, Ended::Lost);
        for _ in 0..30 {
            core.advance(Duration::from_secs(1));
            core.beats();
            core.read(vec![bad.clone()]);
        }
        assert_eq!(core.assigned.len(), tries, "{outcome:?}: sent again");
    }
}

#[test]
fn what_was_put_off_by_an_attempt_before_the_release_is_due_by_it() {
    let mut core = Core::flowing();
    let (old, delivery) = (core.lease(), core.lease().delivery);
    core.release();
    let told = report(old, Outcome::Transacted, result(Disposition::Deferred));
    core.said(AgentEvent::Report(Box::new(told)));
    core.all_written();
    let mut waiting = core.waiting();
    waiting.delivery = delivery.clone();
    waiting.not_before = Some(wall(core.now + Duration::from_secs(60)));
    for _ in 0..3 {
        core.read(vec![waiting.clone()]);
    }
    assert_eq!(core.lease().delivery, delivery);
}

#[test]
fn a_release_asks_back_what_hangs_and_sends_it_at_once() {
    for make in [Core::proving as fn() -> Core, Core::flowing] {
        let mut core = make();
        let out: Vec<Lease> = core.assigned.iter().map(|it| it.lease.clone()).collect();
        core.effects.clear();
        core.release();
        assert_eq!(core.recalls(), 1);
        core.effects.clear();
        core.recalled(out[0].clone());
        assert!(
            core.words().contains(&"Assign(Fresh)".to_owned()),
            "{:?}",
            core.words()
        );
    }
}

#[test]
fn new_mail_goes_out_on_a_new_connection_while_the_old_one_hangs() {
    let mut core = Core::flowing();
    core.release();
    core.read(Vec::new());
    core.effects.clear();
    core.mail();
    assert!(core.words().contains(&"Assign(Fresh)".to_owned()));
    // What the old one still says moves nothing.
    let old = core.assigned[0].lease.clone();
    let phase = core.phase();
    core.said(AgentEvent::Report(Box::new(report(
        old,
        Outcome::Broken,
        Vec::new(),
    ))));
    core.closed(Proved::Yes, 0, Ended::Lost);
    assert_eq!(core.phase(), phase);
}

#[test]
fn a_release_outlives_the_attempt_it_came_in_whatever_other_sites_do() {
    let mut core = Core::bare();
    let records = vec![Arc::new(site(0)), Arc::new(site(1))];
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    let now = core.clock();
    core.state = State::new(2, ClockMemory::default(), records, agents, now);
    core.apply(Event::AllKnown(Vec::new()));
    core.attach(OUT1, "out1");
    core.mail();
    let hangs = core.lease();
    core.proved();
    core.release();
    let mut other = core.waiting();
    other.delivery.site = site(1).name;
    core.apply(Event::Arrived(other));
    core.said(AgentEvent::Report(Box::new(report(
        hangs,
        Outcome::Broken,
        Vec::new(),
    ))));
    core.closed(Proved::Yes, 0, Ended::Lost);
    assert!(!core.phase().starts_with("waiting"), "{}", core.phase());
}

#[test]
fn a_changed_record_does_not_wait_for_what_hangs() {
    let mut core = Core::flowing();
    let mut record = site(0);
    record.version.0 += 9;
    let (site, waiting) = (Arc::new(record), 1);
    core.effects.clear();
    core.apply(Event::SiteChanged { site, waiting });
    assert_eq!(core.recalls(), 1);
    let waiting = core.waiting();
    core.read(vec![waiting.clone()]);
    assert_eq!(core.lease().delivery, waiting.delivery);
}

#[test]
fn a_stranger_makes_the_site_due_and_no_message() {
    let mut core = Core::deferred();
    core.effects.clear();
    core.knock();
    assert_eq!(core.phase(), "waiting(deferred)");
    let mut core = Core::down();
    core.knock();
    assert_eq!(core.phase(), "ready");
}

#[test]
fn strangers_make_a_site_due_once_in_ten_seconds() {
    let mut core = Core::down();
    let mut waiting = core.waiting();
    waiting.delivery = core.lease().delivery;
    core.all_written();
    core.knock();
    core.read(vec![waiting]);
    assert_eq!(core.phase(), "proving");
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    for seconds in 1..=10 {
        core.advance(Duration::from_secs(1));
        core.knock();
        let expected = if seconds < 10 {
            "waiting(down)"
        } else {
            "ready"
        };
        assert_eq!(core.phase(), expected, "{seconds}");
    }
}

#[test]
fn whoever_wakes_a_site_without_mail_has_the_next_mail_where_he_is_now() {
    let wakes: [fn(&mut Core); 3] = [
        |core| {
            core.apply(Event::Release {
                site: name(),
                waiting: 0,
                waiter: None,
            });
        },
        |core| core.knock(),
        |core| {
            core.hold(None);
            let mut resumed = site(0);
            resumed.version.0 += 2;
            core.apply(Event::SiteChanged {
                site: Arc::new(resumed),
                waiting: 0,
            });
            core.read(Vec::new());
        },
    ];
    for wake in wakes {
        let mut core = Core::idle();
        wake(&mut core);
        core.effects.clear();
        core.mail();
        assert!(core.has("Assign(Fresh)"), "{:?}", core.words());
    }
}

#[test]
fn a_timer_is_forgotten_once_the_site_is_proved() {
    let mut core = Core::down();
    let mut waiting = core.waiting();
    waiting.delivery = core.lease().delivery;
    core.all_written();
    core.advance(Duration::from_secs(70));
    core.beats();
    core.read(vec![waiting]);
    core.effects.clear();
    core.proved();
    assert!(core.words().contains(&"Timer(none)".to_owned()));
}

#[test]
fn an_agent_that_beats_and_says_nothing_of_a_probe_does_not_keep_the_site() {
    let mut core = Core::proving();
    core.attach(OUT2, "out2");
    for _ in 0..200 {
        core.advance(Duration::from_secs(10));
        core.beats();
        core.apply(Event::Said {
            id: OUT2,
            event: AgentEvent::Beat { number: 1 },
        });
    }
    assert_ne!(core.phase(), "proving");
    let words = core.words();
    assert!(words.contains(&"Note(in doubt)".to_owned()));
    let waiting = core.assigned[0].waiting.clone();
    core.all_written();
    core.read(vec![waiting]);
    assert_eq!(core.assigned.last().unwrap().to, OUT2);
}

impl Core {
    /// A release has begun a proof a moment ago.
    fn proving_by_a_release() -> Self {
        let mut core = Self::proving();
        let hangs = core.lease();
        core.release();
        core.recalled(hangs);
        assert_eq!(core.phase(), "proving");
        core.all_written();
        core
    }

    fn released_again_after(&mut self, time: Duration) -> usize {
        self.effects.clear();
        self.advance(time);
        self.beats();
        self.release();
        self.recalls()
    }
}

#[test]
fn releases_that_come_faster_than_a_proof_are_served_by_it() {
    let mut core = Core::proving_by_a_release();
    assert_eq!(core.released_again_after(Duration::from_secs(1)), 0);
    core.proved();
    assert_eq!(core.phase(), "flowing");
    core.effects.clear();
    let waiting = core.waiting();
    core.read(vec![waiting]);
    assert!(
        core.words().contains(&"Assign(Any)".to_owned()),
        "on the session that has just been proved: {:?}",
        core.words()
    );
}

#[test]
fn a_release_waits_for_a_proof_no_longer_than_it_has_to() {
    let mut core = Core::proving_by_a_release();
    assert_eq!(core.released_again_after(Duration::from_secs(1)), 0);
    core.effects.clear();
    core.advance(Duration::from_secs(1));
    assert_eq!(core.recalls(), 1, "it may hang at the old address");
    // The next one has twice as long, so however slow a home is, and however often it asks, one comes to its end.
    let hangs = core.lease();
    core.recalled(hangs);
    for _ in 0..3 {
        assert_eq!(core.released_again_after(Duration::from_secs(1)), 0);
    }
    core.proved();
    assert_eq!(core.phase(), "flowing");
}

#[test]
fn a_release_that_waited_for_a_proof_begins_another_one_when_that_fails() {
    let mut core = Core::proving_by_a_release();
    core.released_again_after(Duration::from_secs(1));
    let mut waiting = core.waiting();
    waiting.delivery = core.lease().delivery;
    let tries = core.assigned.len();
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    core.read(vec![waiting]);
    assert_eq!(core.assigned.len(), tries + 1, "{}", core.phase());
    core.report(Outcome::Unreachable, Vec::new());
    assert_eq!(core.phase(), "waiting(down)", "once");
}

#[test]
fn a_stranger_who_asks_too_soon_or_while_the_site_is_tried_is_not_forgotten() {
    let mut core = Core::down();
    let mut waiting = core.waiting();
    waiting.delivery = core.lease().delivery;
    core.all_written();
    core.knock();
    core.read(vec![waiting.clone()]);
    assert_eq!(core.phase(), "proving");
    core.knock();
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    for _ in 0..2 {
        for _ in 0..9 {
            core.advance(Duration::from_secs(1));
            core.beats();
            assert_eq!(core.phase(), "waiting(down)");
        }
        core.advance(Duration::from_secs(1));
        core.read(vec![waiting.clone()]);
        assert_eq!(core.phase(), "proving");
        core.report(Outcome::Unreachable, Vec::new());
        core.all_written();
        core.knock();
    }
}

/// Whoever waits is looked for by the time at which their patience ends, not by site.
#[test]
fn those_who_wait_for_a_release_are_told_each_at_their_own_time() {
    let mut core = Core::bare();
    let records: Vec<_> = (0..50).map(|n| Arc::new(site(n))).collect();
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    core.state = State::new(2, ClockMemory::default(), records, agents, core.clock());
    core.apply(Event::AllKnown(Vec::new()));
    for n in 0..50 {
        let waiter = Some(crate::dispatch::release::Waiter {
            token: crate::dispatch::release::Token(n),
            deadline: Duration::from_secs(100 - n),
        });
        let site = site(n).name;
        core.apply(Event::Release {
            site,
            waiting: 1,
            waiter,
        });
    }
    let told = |core: &Core| {
        let told = core.effects.iter().filter_map(|effect| match effect {
            Effect::Answer(token, _) => Some(token.0),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    for n in (0..50).rev() {
        let deadline = Duration::from_secs(100 - n);
        let first = core.state.released.first();
        assert_eq!(first.map(|(at, _)| *at), Some(deadline));
        core.effects.clear();
        core.advance(deadline - core.now - Duration::from_millis(1));
        assert_eq!(told(&core), [0; 0]);
        core.advance(Duration::from_millis(1));
        assert_eq!(told(&core), [n]);
    }
    assert!(core.state.released.is_empty());
}
