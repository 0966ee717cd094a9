//! Late mail, mail whose time is over, and the clock that says so.

use super::*;
use dd_proto::hold::HoldPeriod;
use dd_proto::report::Stage;

use crate::dispatch::event::By;
use crate::store::{Settled, Waiting};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

impl Core {
    /// A site that is down, with one message, and what the store knows of it.
    fn down_with_mail() -> (Self, Waiting) {
        let mut core = Self::idle();
        let mut waiting = core.waiting();
        core.apply(Event::Arrived(waiting.clone()));
        core.report(Outcome::Unreachable, Vec::new());
        core.all_written();
        waiting.attempts = 1;
        waiting.last = "Unreachable".to_owned();
        (core, waiting)
    }

    /// Lets time pass and answers the three stages of the walk that it begins.
    fn walks_after(&mut self, time: Duration, queue: &[Waiting]) {
        self.effects.clear();
        self.advance(time);
        for _ in 0..3 {
            if self
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::Walk { .. }))
            {
                self.walk(queue.to_vec());
            }
        }
    }

    /// The hold that began at `since` is over.
    fn resume_held(&mut self, since: Duration) {
        let mut record = site(0);
        record.version.0 += 2;
        let held = HoldPeriod::new(wall(since), wall(self.now));
        record.held_before = held.into_iter().collect();
        let (site, waiting) = (Arc::new(record), 1);
        self.apply(Event::SiteChanged { site, waiting });
    }

    fn settled(&self) -> Vec<Settled> {
        let settles = self.effects.iter().filter_map(|effect| match effect {
            Effect::Settle(settle) => Some(settle.settlement.recipients[0].1),
            _ => None,
        });
        settles.collect()
    }
}

#[test]
fn mail_is_late_once_and_expires_at_its_lifetime_and_not_before() {
    let (mut core, mut waiting) = Core::down_with_mail();
    core.walks_after(
        HOUR - Duration::from_secs(1),
        std::slice::from_ref(&waiting),
    );
    assert!(!core.has("Warn"), "{:?}", core.words());
    core.walks_after(Duration::from_secs(2), std::slice::from_ref(&waiting));
    assert!(core.has("Warn"), "{:?}", core.words());
    waiting.warned = true;
    core.all_written();
    core.walks_after(
        DAY - HOUR - Duration::from_secs(2),
        std::slice::from_ref(&waiting),
    );
    assert!(!core.has("Warn") && core.settled().is_empty());
    core.walks_after(Duration::from_secs(2), &[waiting]);
    assert_eq!(core.settled(), [Settled::Expired]);
    let evidence = core.effects.iter().find_map(|effect| match effect {
        Effect::Settle(settle) => Some(&settle.evidence),
        _ => None,
    });
    let evidence = evidence.unwrap();
    assert!(matches!(evidence.by, By::Lifetime));
    let reply = &evidence.results[0].reply;
    assert_eq!((reply.code, reply.text.as_str()), (0, "Unreachable"));
}

#[test]
fn nothing_expires_without_an_attempt_that_failed_since_the_start() {
    let mut core = Core::idle();
    core.apply(Event::Detached(OUT1));
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.walks_after(2 * DAY, std::slice::from_ref(&waiting));
    assert!(core.settled().is_empty());
    assert!(core.has("Warn"), "its sender is told all the same");
    core.all_written();
    core.attach(OUT1, "out1");
    core.read(vec![waiting.clone()]);
    core.report(Outcome::Unreachable, Vec::new());
    core.all_written();
    core.walks_after(Duration::from_secs(2), &[waiting]);
    assert_eq!(core.settled(), [Settled::Expired]);
}

#[test]
fn nothing_expires_while_a_site_is_held() {
    let (mut core, waiting) = Core::down_with_mail();
    core.hold(None);
    core.walks_after(2 * DAY, &[waiting]);
    assert!(
        core.settled().is_empty() && !core.has("Warn"),
        "{:?}",
        core.words()
    );
}

#[test]
fn time_on_hold_does_not_count_towards_a_lifetime_nor_towards_being_late() {
    let (mut core, mut waiting) = Core::down_with_mail();
    core.hold(None);
    core.advance(2 * DAY);
    core.resume_held(Duration::ZERO);
    core.read(vec![waiting.clone()]);
    let rest = Duration::from_secs(2);
    core.walks_after(rest, std::slice::from_ref(&waiting));
    assert!(!core.has("Warn") && core.settled().is_empty());
    core.walks_after(HOUR, std::slice::from_ref(&waiting));
    assert!(core.has("Warn"), "{:?}", core.words());
    let until = core.effects.iter().find_map(|effect| match effect {
        Effect::Warn(warn) => Some(warn.until),
        _ => None,
    });
    assert_eq!(until, Some(wall(3 * DAY)), "its sender is told so");
    waiting.warned = true;
    core.all_written();
    core.walks_after(DAY - HOUR - 2 * rest, std::slice::from_ref(&waiting));
    assert!(core.settled().is_empty(), "{:?}", core.words());
    core.walks_after(2 * rest, &[waiting]);
    assert_eq!(core.settled(), [Settled::Expired]);
}

#[test]
fn nothing_expires_while_the_clock_is_in_doubt() {
    let (mut core, waiting) = Core::down_with_mail();
    core.wall_ahead = 365 * DAY;
    core.walks_after(Duration::from_secs(3600), std::slice::from_ref(&waiting));
    assert!(
        core.settled().is_empty() && !core.has("Warn"),
        "{:?}",
        core.words()
    );
    assert!(core.state.clock_alarm().is_some());
    core.effects.clear();
    core.apply(Event::ClockConfirmed);
    assert_eq!(core.state.clock_alarm(), None);
    for _ in 0..3 {
        core.walk(vec![waiting.clone()]);
    }
    let words = core.words();
    assert!(core.settled().is_empty(), "it lives anew: {words:?}");
    core.walks_after(2 * DAY, &[waiting]);
    assert_eq!(core.settled(), [Settled::Expired]);
}

#[test]
fn what_is_out_at_an_agent_does_not_expire() {
    let (mut core, waiting) = Core::down_with_mail();
    core.advance(Duration::from_secs(70));
    core.beats();
    core.read(vec![waiting.clone()]);
    assert_eq!(core.phase(), "proving");

    core.walks_after(2 * DAY, &[waiting]);
    assert!(core.settled().is_empty());
}

#[test]
fn a_walk_that_is_due_while_another_is_under_way_is_not_forgotten() {
    let (mut core, _) = Core::down_with_mail();
    core.effects.clear();
    core.advance(HOUR);
    assert!(core.has("Walk"));
    core.mail();
    core.advance(HOUR + HOUR / 60);
    for _ in 0..3 {
        core.walk(Vec::new());
    }
    core.effects.clear();
    core.advance(Duration::from_secs(2));
    assert!(core.has("Walk"));
}

#[test]
fn what_is_due_again_after_it_was_put_off_is_not_passed_by() {
    let (mut core, mut put_off) = Core::down_with_mail();
    // The walk has seen what came after it, as far as that is late.
    let mut behind = core.waiting();
    behind.arrived = wall(Duration::ZERO);
    core.effects.clear();
    core.advance(HOUR + Duration::from_secs(70));
    core.walk(vec![behind.clone()]);
    core.walk(vec![behind.clone()]);
    assert!(core.has("Warn"), "{:?}", core.words());
    core.walk(Vec::new());
    core.all_written();
    // It is tried again, and its session breaks before anything was said of it: it is due by its arrival.
    core.beats();
    put_off.not_before = Some(wall(core.now));
    core.read(vec![put_off]);
    core.proved();
    let mut broken = report(core.lease(), Outcome::Broken, Vec::new());
    broken.stage = Stage::Session;
    core.said(AgentEvent::Report(Box::new(broken)));
    core.all_written();
    core.mail();
    core.effects.clear();
    core.advance(HOUR);
    let after = core.effects.iter().find_map(|effect| match effect {
        Effect::Walk { after, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(after, Some(None));
    core.walk(vec![behind]);
    let after = core.effects.iter().rev().find_map(|effect| match effect {
        Effect::Walk { after, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(
        after,
        Some(None),
        "the walk of what is late begins in front"
    );
}
