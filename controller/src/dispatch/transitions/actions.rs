//! What operators do to deliveries and sites, while other things happen.

use super::*;
use crate::dispatch::actions::{Action, Asked, Left};
use crate::dispatch::release::Token;
use crate::store::{Settled, Waiting};

fn asked(action: Action, waiting: &[Waiting]) -> Asked {
    let deliveries = waiting.iter().map(|it| it.delivery.clone());
    Asked::new(Token(1), action, deliveries.collect())
}

impl Core {
    /// What the store is asked for on an operator's behalf.
    fn looks(&self) -> Asked {
        let asked = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Look(asked) => Some(asked.clone()),
            _ => None,
        });
        asked.expect("the store was asked")
    }
}

#[test]
fn nothing_is_done_to_what_is_in_hand() {
    for action in [Action::Retry, Action::Fail, Action::Remove] {
        let mut core = Core::idle();
        let waiting = core.waiting();
        core.apply(Event::Arrived(waiting.clone()));
        core.effects.clear();
        core.apply(Event::Act(asked(action, &[waiting])));
        assert_eq!(core.words(), ["Acted(in hand)"], "{action:?}");
    }
}

#[test]
fn what_is_asked_for_is_not_sent_meanwhile_and_what_was_settled_is_not_sent_again() {
    let mut core = Core::ready();
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    let asked = asked(Action::Retry, std::slice::from_ref(&waiting));
    core.apply(Event::Act(asked));
    let asked = core.looks();
    core.attach(OUT1, "out1");
    core.proved();
    core.read(vec![waiting.clone()]);
    assert!(
        core.assigned
            .iter()
            .all(|it| it.lease.delivery != waiting.delivery)
    );
    // An agent reports from its journal that it was accepted; the store's answer is older than that.
    let mut lease = core.lease();
    lease.delivery = waiting.delivery.clone();
    lease.generation.start = 1;
    let relayed = report(lease, Outcome::Transacted, result(Disposition::Relayed));
    core.said(AgentEvent::Report(Box::new(relayed)));
    let question = core.effects.iter().rev().find_map(|effect| match effect {
        Effect::Find(question) => Some(question.clone()),
        _ => None,
    });
    core.apply(Event::Found {
        question: question.unwrap(),
        waiting: Some(waiting.clone()),
    });
    core.all_written();
    core.apply(Event::Looked {
        asked,
        found: vec![waiting],
    });
    assert!(
        core.words().contains(&"Look".to_owned()),
        "it is looked at again"
    );
    let asked = core.looks();
    core.effects.clear();
    core.apply(Event::Looked {
        asked,
        found: Vec::new(),
    });
    assert!(
        core.words().contains(&"Acted(0)".to_owned()),
        "{:?}",
        core.words()
    );
    assert!(!core.words().contains(&"Note".to_owned()));
}

#[test]
fn mail_that_is_retried_before_its_arrival_is_told_is_sent_once() {
    let mut core = Core::idle();
    let waiting = core.waiting();
    core.apply(Event::Act(asked(
        Action::Retry,
        std::slice::from_ref(&waiting),
    )));
    let (asked, found) = (core.looks(), vec![waiting.clone()]);
    core.apply(Event::Looked { asked, found });
    core.all_written();
    assert_eq!(core.assigned.len(), 1);
    core.apply(Event::Arrived(waiting.clone()));
    core.proved();
    core.read(vec![waiting]);
    assert_eq!(core.assigned.len(), 1);
}

#[test]
fn a_site_is_closed_batch_by_batch_after_what_is_out_has_come_back() {
    let mut core = Core::proving();
    let mut record = site(0);
    record.closing = true;
    record.version.0 += 1;
    core.apply(Event::SiteChanged {
        site: Arc::new(record),
        waiting: 1,
    });
    assert_eq!(core.phase(), "held");
    core.effects.clear();
    core.apply(Event::CloseSite {
        site: name(),
        token: Token(3),
        left: Left::Fail,
    });
    assert!(core.words().is_empty(), "its canary is out");
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    for batch in [2, 1, 0] {
        let read = core.effects.iter().rev().find_map(|effect| match effect {
            Effect::ReadLeft { read, .. } => Some(*read),
            _ => None,
        });
        let found: Vec<Waiting> = (0..batch).map(|_| core.waiting()).collect();
        core.apply(Event::LeftRead {
            site: name(),
            read: read.expect("the next batch is read"),
            found: Some(found),
        });
        let settled = core.effects.iter().filter_map(|effect| match effect {
            Effect::Settle(settle) => Some(settle.settlement.recipients[0].1),
            _ => None,
        });
        assert_eq!(settled.collect::<Vec<_>>(), vec![Settled::Failed; batch]);
        if batch > 0 {
            core.all_written();
        }
    }
    assert!(
        core.words().contains(&"SiteClosed(3)".to_owned()),
        "{:?}",
        core.words()
    );
}

#[test]
fn an_action_does_not_wait_for_company_of_what_is_to_be_written() {
    let mut core = Core::proving();
    let waiting = core.assigned[0].waiting.clone();
    core.report(Outcome::Unreachable, Vec::new());
    let noted: Vec<DeliveryId> = vec![waiting.delivery.clone()];
    core.apply(Event::Act(asked(
        Action::Fail,
        std::slice::from_ref(&waiting),
    )));
    let words = core.words();
    assert!(words.contains(&"WriteNow".to_owned()), "{words:?}");
    assert!(!words.contains(&"Acted(in hand)".to_owned()), "{words:?}");
    for delivery in noted {
        core.apply(Event::Written(delivery));
    }
    let asked = core.looks();
    core.effects.clear();
    core.apply(Event::Looked {
        asked,
        found: vec![waiting],
    });
    assert_eq!(core.words(), ["Settle", "Acted(1)"]);
}
