//! A long queue of a flowing site: how its head is read on.

use std::collections::VecDeque;

use super::*;
use crate::dispatch::site::{HEAD, SWEEP};
use crate::store::{Head, Position, Waiting, WithMail};

const LONG: usize = 2 * HEAD * SWEEP as usize;

/// A flowing site, and what the store still holds for it.
struct Flow {
    core: Core,
    stored: VecDeque<Waiting>,
    /// Where each read was to begin.
    reads: Vec<Option<Position>>,
    /// The first that was not reported.
    next: usize,
}

impl Flow {
    fn begin() -> Self {
        let mut core = Core::bare();
        let stored: VecDeque<_> = (0..LONG).map(|_| core.waiting()).collect();
        let found = vec![WithMail {
            newest: wall(Duration::ZERO),
            ..with_mail()
        }];
        core.apply(Event::AllKnown(found));
        core.attach(OUT1, "out1");
        let mut flow = Self {
            core,
            stored,
            reads: Vec::new(),
            next: 0,
        };
        assert!(flow.answer());
        flow.core.proved();
        flow
    }

    /// Answers the read that is under way, if one is.
    fn answer(&mut self) -> bool {
        let asked = self.core.effects.iter().find_map(|effect| match effect {
            Effect::ReadHead { of, .. } => Some((of.after, of.limit)),
            _ => None,
        });
        let Some((after, limit)) = asked else {
            return false;
        };
        let behind = |it: &&Waiting| after.is_none_or(|after| it.position > after);
        let mut due: Vec<_> = self.stored.iter().filter(behind).cloned().collect();
        let more = due.len() > limit;
        due.truncate(limit);
        self.reads.push(after);
        self.core.effects.clear();
        let head = Head {
            due,
            more,
            next_due: None,
        };
        let (site, read) = (name(), self.core.last_read);
        self.core.apply(Event::HeadRead { site, read, head });
        true
    }

    /// The site takes the oldest of what is out.
    fn relay(&mut self) {
        let lease = self.core.assigned[self.next].lease.clone();
        self.next += 1;
        self.stored.retain(|it| it.delivery != lease.delivery);
        let delivery = lease.delivery.clone();
        let relayed = report(lease, Outcome::Transacted, result(Disposition::Relayed));
        self.core.said(AgentEvent::Report(Box::new(relayed)));
        self.core.apply(Event::Written(delivery));
    }

    fn out(&self) -> usize {
        self.core.assigned.len() - self.next
    }
}

#[test]
fn the_head_of_a_flowing_site_is_read_on_before_it_is_empty() {
    let mut flow = Flow::begin();
    while flow.answer() {}
    let is_reading = |flow: &Flow| flow.core.words().contains(&"ReadHead".to_owned());
    while !is_reading(&flow) {
        flow.relay();
    }
    let window = flow.out();
    for _ in 0..window {
        flow.relay();
    }
    assert_eq!(flow.out(), window, "nobody waits for the store");
    assert!(flow.core.words().contains(&"ReadHead".to_owned()));
    assert!(flow.answer());
    assert!(flow.core.words().contains(&"ReadAhead".to_owned()));
}

#[test]
fn reads_go_on_behind_each_other_and_begin_in_front_again() {
    let mut flow = Flow::begin();
    while flow.next < LONG {
        if !flow.answer() {
            flow.relay();
        }
    }
    while flow.answer() {}
    assert_eq!(flow.core.phase(), "idle");
    assert_eq!(flow.core.assigned.len(), LONG, "each once");
    let in_front = |from: usize| flow.reads[from..].iter().position(Option::is_none);
    assert_eq!(in_front(0), Some(0));
    let again = in_front(1).expect("a second sweep") + 1;
    assert_eq!(again, SWEEP as usize);
    assert!(flow.reads[1..again].is_sorted(), "{:?}", flow.reads);
    assert_eq!(flow.reads.last(), Some(&None), "the last look is in front");
}
