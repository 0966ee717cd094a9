//! What is told of older leases of a delivery, and what goes on under a newer one.

use super::races::lease;
use super::*;
use crate::dispatch::Order;
use crate::store::Waiting;
use dd_proto::id::RecipientNumber;
use dd_proto::report::{DotSent, RecipientResult, Report};

/// The first attempt of an earlier start: the site put the message off.
fn first() -> Report {
    let mut first = lease(1, 1);
    first.generation.counter = 98;
    report(first, Outcome::Transacted, result(Disposition::Deferred))
}

/// The second attempt, which runs on over the start.
fn second() -> Lease {
    lease(1, 1)
}

fn dot(lease: Lease) -> DotSent {
    let recipients = vec![RecipientNumber(0)];
    DotSent { lease, recipients }
}

impl Core {
    /// The message of both attempts, as the store has it.
    fn older(&mut self) -> Waiting {
        self.mail = 0;
        let mut older = self.waiting();
        older.earlier_start = true;
        older
    }

    /// The store answers what it was asked last.
    fn finds(&mut self, waiting: &Waiting) {
        let (question, waiting) = (self.asked(), Some(waiting.clone()));
        self.apply(Event::Found { question, waiting });
    }

    /// An agent says Hello; what it still has in hand, its dots and its reports.
    fn says_hello(&mut self, id: AttachmentId, hand: &[Lease], dots: &[Lease], told: &[Report]) {
        let name = if id == OUT1 { "out1" } else { "out2" };
        let mut hello = hello(name);
        hello.work_in_hand = hand.to_vec();
        hello.in_doubt = dots.iter().cloned().map(dot).collect();
        hello.reports = told.to_vec();
        self.apply(Event::Attached { id, hello });
    }

    fn goes_on(&self, lease: &Lease) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Order(_, Order::Welcome { going_on }) => going_on.contains(lease),
            _ => false,
        })
    }

    fn is_acknowledged(&self, lease: &Lease) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Order(_, Order::Acknowledged(told)) => told == lease,
            _ => false,
        })
    }

    /// Whether what is open of the message goes out marked, once the store has been asked and all is written.
    fn goes_out_in_doubt(&mut self, older: &Waiting) -> bool {
        let notes: Vec<bool> = self.effects.iter().filter_map(doubts).collect();
        let mut older = older.clone();
        older.in_doubt |= notes.contains(&true);
        self.all_written();
        self.read(vec![older]);
        self.assigned.last().expect("it goes out").waiting.in_doubt
    }
}

fn doubts(effect: &Effect) -> Option<bool> {
    match effect {
        Effect::Note(note) => Some(note.in_doubt),
        _ => None,
    }
}

/// The other agent's news of an older attempt comes first, and has got so far when the newer lease is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Asked,
    BeingWritten,
    Through,
}

#[test]
fn an_older_report_does_not_free_what_goes_on_under_a_newer_lease() {
    for news in [News::Asked, News::BeingWritten, News::Through] {
        let mut core = Core::two_agents();
        let mut older = core.older();
        older.open.push(RecipientNumber(1));
        let mut told = first();
        if news == News::BeingWritten {
            // One recipient was accepted then, so there is something to settle.
            let accepted = result(Disposition::Relayed).remove(0);
            told.recipients.push(RecipientResult {
                number: RecipientNumber(1),
                ..accepted
            });
        }
        core.apply(Event::AllKnown(vec![with_mail()]));
        core.says_hello(OUT1, &[], &[], &[told]);
        if news != News::Asked {
            core.finds(&older);
        }
        core.says_hello(OUT2, &[second()], &[], &[]);
        assert!(core.goes_on(&second()), "{news:?}");
        if news == News::Asked {
            core.finds(&older);
        }
        core.all_written();
        core.read(vec![older.clone()]);
        core.read(vec![older]);
        assert!(core.assigned.is_empty(), "{news:?}: it is out already");
    }
}

#[test]
fn of_two_leases_that_are_named_the_greater_goes_on() {
    let older = first().lease;
    let mut core = Core::two_agents();
    core.says_hello(OUT1, std::slice::from_ref(&older), &[], &[]);
    assert!(core.goes_on(&older));
    core.says_hello(OUT2, &[second()], &[], &[]);
    assert!(core.goes_on(&second()));
    let mut core = Core::two_agents();
    core.says_hello(OUT2, &[second()], &[], &[]);
    core.says_hello(OUT1, std::slice::from_ref(&older), &[], &[]);
    assert!(!core.goes_on(&older));
}

#[test]
fn a_dot_under_a_lease_that_does_not_go_on_is_in_doubt_and_its_report_is_what_is_acknowledged() {
    let mut core = Core::idle();
    let older = core.older();
    core.apply(Event::AllKnown(vec![with_mail()]));
    core.says_hello(OUT1, &[second()], &[second()], &[]);
    assert!(!core.goes_on(&second()), "the barrier is open");
    core.finds(&older);
    assert!(core.goes_out_in_doubt(&older));
    assert!(!core.is_acknowledged(&second()), "the attempt runs on");
}

#[test]
fn a_dot_that_goes_out_under_a_lease_that_is_not_in_hand_is_in_doubt() {
    let mut core = Core::idle();
    let older = core.older();
    core.apply(Event::AllKnown(vec![with_mail()]));
    core.said(AgentEvent::DotSent(dot(second())));
    core.finds(&older);
    assert!(core.goes_out_in_doubt(&older));
}

#[test]
fn what_goes_on_is_in_doubt_when_its_agent_is_lost_whether_its_dot_was_told_before_or_not() {
    for dots in [&[][..], &[second()][..]] {
        let mut core = Core::two_agents();
        let older = core.older();
        core.apply(Event::AllKnown(vec![with_mail()]));
        core.says_hello(OUT1, &[second()], dots, &[]);
        core.attach(OUT2, "out2");
        core.apply(Event::Detached(OUT1));
        for _ in 0..2 {
            core.advance(Duration::from_secs(20));
            let (id, number) = (OUT2, 1);
            let event = AgentEvent::Beat { number };
            core.apply(Event::Said { id, event });
        }
        core.finds(&older);
        assert!(core.goes_out_in_doubt(&older));
    }
}

#[test]
fn an_agent_that_names_an_older_attempt_has_lost_the_newer_one() {
    let mut core = Core::proving();
    let lost = core.assigned[0].clone();
    let mut older = first();
    older.lease.delivery = lost.lease.delivery.clone();
    core.says_hello(OUT1, &[], &[], &[older]);
    core.finds(&lost.waiting);
    core.read(vec![lost.waiting]);
    assert_ne!(core.lease(), lost.lease, "it goes out again at once");
}
