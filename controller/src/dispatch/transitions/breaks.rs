//! Messages that break sessions, sites that defer everything, and the order in which all that is tried.

use dd_proto::report::Stage;

use super::*;
use crate::store::Waiting;

impl Core {
    fn broken(&mut self, times: u32) -> Waiting {
        let mut waiting = self.waiting();
        waiting.breaks = times;
        waiting
    }

    /// Ready, with mail that the store knows.
    fn coming_back() -> Self {
        let mut core = Self::bare();
        let (site, waiting) = (Arc::new(site(0)), 1);
        core.apply(Event::SiteChanged { site, waiting });
        core
    }

    fn not_before(&self) -> Option<Duration> {
        let noted = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Note(note) => Some(note.not_before),
            _ => None,
        });
        let at = noted.expect("a note was written")?;
        Some(Duration::try_from(at.duration_since(wall(self.now))).unwrap())
    }
}

#[test]
fn from_the_second_break_on_the_message_steps_aside_and_the_site_is_not_down() {
    for (before, after, phase) in [
        (0, None, "proving"),
        (1, Some(300), "waiting(deferred)"),
        (2, Some(600), "waiting(deferred)"),
        (20, Some(6 * 3600), "waiting(deferred)"),
    ] {
        let mut core = Core::idle();
        let waiting = core.broken(before);
        core.apply(Event::Arrived(waiting.clone()));
        core.proved();
        core.report(Outcome::Broken, Vec::new());
        let noted = core.not_before();
        assert_eq!(noted, after.map(Duration::from_secs), "{before}");
        core.all_written();
        core.closed(Proved::Yes, 0, Ended::Lost);
        core.advance(Duration::from_secs(1));
        let next_due = after.map(|after| wall(core.now + Duration::from_secs(after)));
        let due = after.is_none().then_some(waiting);
        for _ in 0..3 {
            core.read_with(due.iter().cloned().collect(), next_due);
        }
        assert_eq!(core.phase(), phase, "{before}");
    }
}

#[test]
fn what_broke_twice_is_the_canary_only_when_nothing_else_waits() {
    let mut core = Core::coming_back();
    let (bad, good) = (core.broken(2), core.waiting());
    core.attach(OUT1, "out1");
    core.read(vec![bad.clone(), good.clone()]);
    assert_eq!(core.lease().delivery, good.delivery);
    core.proved();
    core.read(vec![bad.clone()]);
    assert_eq!(core.lease().delivery, bad.delivery, "not forgotten");
    let mut core = Core::coming_back();
    core.attach(OUT1, "out1");
    core.read(vec![bad.clone()]);
    assert!(core.assigned.is_empty());
    // Nothing else was found, so it is read again.
    core.read(vec![bad.clone()]);
    assert_eq!(core.lease().delivery, bad.delivery);
}

#[test]
fn a_release_takes_what_broke_twice_last() {
    let mut core = Core::flowing();
    let (mut bad, mut late) = (core.broken(2), core.waiting());
    let later = wall(core.now + Duration::from_secs(7000));
    (bad.not_before, late.not_before) = (Some(later), Some(later));
    core.release();
    core.read(vec![bad.clone(), late.clone()]);
    assert_eq!(core.lease().delivery, late.delivery);
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    core.all_written();
    for _ in 0..3 {
        core.read(vec![bad.clone()]);
    }
    assert_eq!(core.lease().delivery, bad.delivery);
}

/// How many in a row it takes until a site counts as busy.
fn deferred_in_a_row(attempts: u32, stage: Stage) -> usize {
    let mut core = Core::proving();
    core.proved();
    for n in 0.. {
        if core.phase() != "flowing" {
            assert_eq!(core.phase(), "waiting(busy)");
            return n;
        }
        let mut report = report(
            core.lease(),
            Outcome::Transacted,
            result(Disposition::Deferred),
        );
        report.stage = stage;
        core.said(AgentEvent::Report(Box::new(report)));
        let mut next = core.waiting();
        next.attempts = attempts;
        core.apply(Event::Arrived(next));
    }
    unreachable!()
}

#[test]
fn twenty_deferred_in_a_row_are_the_sites_doing() {
    // The first of them is a first offer.
    assert_eq!(deferred_in_a_row(1, Stage::EndOfData), 21);
    assert_eq!(deferred_in_a_row(1, Stage::Unknown), 21);
}

#[test]
fn greylisting_is_no_mood_of_the_site() {
    for stage in [Stage::Rcpt, Stage::Data, Stage::EndOfData] {
        assert_eq!(deferred_in_a_row(0, stage), 1000, "{stage:?}");
    }
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data] {
        assert_eq!(deferred_in_a_row(1, stage), 1000, "{stage:?}");
    }
}

#[test]
fn a_release_right_after_a_deferral_that_is_not_written_tries_it_again() {
    let mut core = Core::proving();
    let delivery = core.lease().delivery;
    core.proved();
    core.report(Outcome::Transacted, result(Disposition::Deferred));
    core.release();
    core.read(Vec::new());
    core.effects.clear();
    core.apply(Event::Written(delivery));
    assert!(
        core.words().contains(&"ReadHead".to_owned()),
        "{:?}",
        core.words()
    );
}
