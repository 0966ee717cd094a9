//! Events that cross on their way, and what is still under way when something else changes.

use dd_proto::id::Generation;

use super::super::event::{NotLoaded, Question};
use super::*;
use dd_proto::report::Reply;

fn now() -> Now {
    Now {
        monotonic: Duration::ZERO,
        wall: wall(Duration::ZERO),
    }
}

impl Core {
    /// A start after which two agents have to say Hello; nothing is known yet.
    pub(super) fn two_agents() -> Self {
        let mut core = Self::bare();
        let agents = vec![
            ("out1".parse().unwrap(), Terms::default()),
            ("out2".parse().unwrap(), Terms::default()),
        ];
        core.state = State::new(
            2,
            ClockMemory::default(),
            vec![Arc::new(site(0))],
            agents,
            now(),
        );
        core
    }

    pub(super) fn asked(&self) -> Question {
        let asked = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Find(question) => Some(question.clone()),
            _ => None,
        });
        asked.expect("the store was asked")
    }

    pub(super) fn written(&mut self, delivery: &DeliveryId) {
        self.apply(Event::Written(delivery.clone()));
    }
}

pub(super) fn lease(message: u64, start: u64) -> Lease {
    Lease {
        delivery: DeliveryId {
            message: MessageId::new(message, [0; 10]),
            site: name(),
        },
        generation: Generation { start, counter: 99 },
    }
}

#[test]
fn mail_that_a_read_has_shown_is_not_sent_again_when_its_arrival_is_told() {
    let mut core = Core::proving();
    core.proved();
    core.release();
    let waiting = core.waiting();
    core.read(vec![waiting.clone()]);
    assert_eq!(core.assigned.len(), 2);
    core.apply(Event::Arrived(waiting));
    assert_eq!(core.assigned.len(), 2, "it is out already");
}

#[test]
fn a_read_before_the_note_is_written_does_not_forget_when_the_message_is_due() {
    let mut core = Core::flowing();
    let (first, second) = (core.assigned[0].lease.clone(), core.lease());
    core.report(Outcome::Transacted, result(Disposition::Deferred));
    // Something else makes the head be read while the note is on its way.
    let stale = report(
        lease(77, 2),
        Outcome::Transacted,
        result(Disposition::Relayed),
    );
    core.said(AgentEvent::Report(Box::new(stale)));
    let question = core.asked();
    core.apply(Event::Found {
        question,
        waiting: None,
    });
    core.read(Vec::new());
    core.written(&second.delivery);
    let relayed = report(
        first.clone(),
        Outcome::Transacted,
        result(Disposition::Relayed),
    );
    core.said(AgentEvent::Report(Box::new(relayed)));
    core.written(&first.delivery);
    assert_eq!(core.phase(), "waiting(deferred)");
}

#[test]
fn a_site_is_not_idle_while_the_store_is_asked_about_its_mail() {
    let mut core = Core::two_agents();
    let earlier = lease(1, 1);
    let mut hello = hello("out1");
    hello.work_in_hand = vec![earlier.clone()];
    core.apply(Event::Attached { id: OUT1, hello });
    core.apply(Event::AllKnown(vec![with_mail()]));
    let deferred = report(
        earlier.clone(),
        Outcome::Transacted,
        result(Disposition::Deferred),
    );
    core.said(AgentEvent::Report(Box::new(deferred)));
    let question = core.asked();
    core.attach(OUT2, "out2");
    // What is due, what may have been parked before the start, and what came meanwhile.
    for _ in 0..3 {
        core.read(Vec::new());
    }
    assert_eq!(core.phase(), "ready");
    let mut waiting = core.waiting();
    waiting.delivery = earlier.delivery.clone();
    core.apply(Event::Found {
        question,
        waiting: Some(waiting),
    });
    core.written(&earlier.delivery);
    // The first began before the note was written, and counts for nothing.
    for _ in 0..4 {
        core.read_with(Vec::new(), Some(wall(Duration::from_secs(300))));
    }
    assert_eq!(core.phase(), "waiting(deferred)");
}

#[test]
fn earlier_mail_does_not_wait_for_newer_mail_that_was_deferred() {
    let mut core = Core::two_agents();
    core.attach(OUT1, "out1");
    core.mail();
    core.report(Outcome::Transacted, result(Disposition::Deferred));
    core.written(&core.lease().delivery);
    assert_eq!(core.phase(), "waiting(deferred)");
    core.apply(Event::AllKnown(vec![with_mail()]));
    core.effects.clear();
    core.attach(OUT2, "out2");
    assert_eq!(core.phase(), "flowing");
    assert!(core.effects.iter().any(|effect| word(effect) == "ReadHead"));
}

#[test]
fn a_421_at_the_greeting_is_no_progress_whatever_the_session_before_did() {
    let mut core = Core::proving();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    core.written(&core.lease().delivery);
    core.closed(Proved::Yes, 1, Ended::InOrder);
    core.mail();
    assert_eq!(core.phase(), "proving");
    let mut busy = report(core.lease(), Outcome::Busy, Vec::new());
    busy.reply = Some(Reply {
        code: 421,
        enhanced: String::new(),
        text: String::new(),
    });
    core.said(AgentEvent::Report(Box::new(busy)));
    assert_eq!(core.phase(), "waiting(busy)");
}

#[test]
fn a_failure_under_the_old_record_does_not_delay_the_new_one() {
    let mut core = Core::proving();
    let mut record = site(0);
    record.version.0 += 9;
    core.apply(Event::SiteChanged {
        site: Arc::new(record),
        waiting: 1,
    });
    core.report(Outcome::Unreachable, Vec::new());
    core.written(&core.lease().delivery);
    assert_eq!(core.phase(), "proving");
    assert_eq!(core.assigned.len(), 2);
}

#[test]
fn what_a_silent_agent_held_is_in_doubt_although_its_stream_stands() {
    let mut core = Core::flowing();
    let out = core.assigned.len();
    core.attach(OUT2, "out2");
    core.advance(Duration::from_secs(25));
    core.apply(Event::Said {
        id: OUT2,
        event: AgentEvent::Beat { number: 1 },
    });
    core.advance(Duration::from_secs(15));
    let notes = core
        .effects
        .iter()
        .filter(|effect| word(effect) == "Note(in doubt)");
    assert_eq!(notes.count(), out);
    for delivery in core.assigned.clone().into_iter().map(|a| a.lease.delivery) {
        core.written(&delivery);
    }
    core.read(Vec::new());
    assert_eq!(
        core.assigned.last().unwrap().to,
        OUT2,
        "and goes elsewhere at once"
    );
}

#[test]
fn a_read_that_fails_does_not_move_a_site_that_is_being_proved() {
    let mut core = Core::proving();
    core.apply(Event::HeadNotRead {
        site: name(),
        read: core.last_read,
    });
    assert_eq!(core.phase(), "proving");
}

#[test]
fn a_new_site_is_idle_unless_mail_is_kept_for_it() {
    for (waiting, expected) in [(0, "idle"), (1, "ready")] {
        let mut core = Core::bare();
        core.apply(Event::SiteRemoved(name()));
        core.apply(Event::SiteChanged {
            site: Arc::new(site(0)),
            waiting,
        });
        assert_eq!(core.phase(), expected);
    }
}

#[test]
fn a_site_that_comes_back_knows_what_is_still_out() {
    let mut core = Core::flowing();
    core.apply(Event::SiteRemoved(name()));
    core.apply(Event::SiteChanged {
        site: Arc::new(site(0)),
        waiting: 0,
    });
    let view = core.state.site_view(&name(), now()).unwrap();
    assert_eq!(view.out, 2);
    core.mail();
    assert_eq!(core.assigned.len(), 3, "nothing waits for what hangs there");
}

#[test]
fn a_release_before_all_is_known_is_repeated_when_all_is_known() {
    let mut core = Core::two_agents();
    let agents = vec![("out1".parse().unwrap(), Terms::default())];
    core.state = State::new(
        2,
        ClockMemory::default(),
        vec![Arc::new(site(0))],
        agents,
        now(),
    );
    core.attach(OUT1, "out1");
    core.release();
    core.mail();
    assert_eq!(core.assigned.len(), 1, "new mail goes at once");
    core.report(Outcome::Unreachable, Vec::new());
    assert_eq!(core.phase(), "waiting(down)", "it absorbed the release");
    core.apply(Event::AllKnown(vec![with_mail()]));
    assert!(!core.phase().starts_with("waiting"), "{}", core.phase());
    let mut older = core.waiting();
    older.earlier_start = true;
    core.read(vec![older.clone()]);
    assert_eq!(core.lease().delivery, older.delivery);
}

#[test]
fn what_is_settled_by_an_older_report_while_it_is_out_does_not_come_back() {
    let not_loaded = |lease| Event::NotLoaded {
        lease,
        why: NotLoaded::Told,
    };
    let given_back = |lease| Event::Said {
        id: OUT1,
        event: AgentEvent::GivenBack {
            lease,
            why: GivenBack::SessionEnded,
        },
    };
    for ends in [not_loaded, given_back] {
        let mut core = Core::proving();
        let lease = core.lease();
        let mut older = lease.clone();
        older.generation.counter -= 1;
        let relayed = result(Disposition::Relayed);
        let told = report(older, Outcome::Transacted, relayed);
        core.said(AgentEvent::Report(Box::new(told)));
        let out = core.state.leased_now(&lease, core.now);
        assert_eq!(out.map(|waiting| waiting.open.len()), Some(0));
        core.apply(ends(lease.clone()));
        core.written(&lease.delivery);
        core.advance(Duration::from_secs(2));
        assert_eq!(core.assigned.len(), 1);
        assert!(!core.state.is_out(&lease.delivery));
    }
}
