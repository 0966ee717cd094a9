//! An answer is about what it answers: a recipient, a message, a session; and each attempt leaves fewer open.

use dd_proto::id::{RecipientNumber, SessionId};
use dd_proto::report::{RecipientResult, Reply, Report, Stage};

use super::*;
use crate::store::Waiting;

impl Core {
    /// A site that takes mail, with a message to so many out, and its lease.
    fn with_message_to(recipients: u16) -> (Self, Waiting) {
        let mut core = Self::flowing();
        core.report(Outcome::Transacted, result(Disposition::Relayed));
        core.all_written();
        let mut waiting = core.waiting();
        waiting.open = (0..recipients).map(RecipientNumber).collect();
        core.apply(Event::Arrived(waiting.clone()));
        assert_eq!(core.lease().delivery, waiting.delivery);
        (core, waiting)
    }

    fn carried(&self) -> Vec<u16> {
        let last = self.assigned.last().unwrap();
        last.waiting.open.iter().map(|it| it.0).collect()
    }

    fn ends(&mut self, outcome: Outcome, stage: Stage, results: Vec<RecipientResult>) {
        let mut told = report(self.lease(), outcome, results);
        told.stage = stage;
        told.reply = closing(outcome);
        self.hears(told);
    }

    fn hears(&mut self, told: Report) {
        self.said(AgentEvent::Report(Box::new(told)));
        self.all_written();
    }

    /// The session ends, and another one is proved.
    fn next_session(&mut self, answered: u32, head: &[Waiting]) {
        let (site, session, detail) = (name(), SessionId(1), "over".to_owned());
        self.said(AgentEvent::SessionClosed {
            site,
            session,
            proved: Proved::Yes,
            accepted: 0,
            answered,
            ended: Ended::Lost,
            refuses: Refuses::AtOnce,
            detail,
        });
        self.advance(Duration::from_secs(1));
        self.beats();
        for _ in 0..3 {
            self.read(head.to_vec());
        }
        self.proved();
    }
}

fn closing(outcome: Outcome) -> Option<Reply> {
    (outcome == Outcome::Busy).then(|| Reply {
        code: 421,
        enhanced: "4.7.0".to_owned(),
        text: "too many errors".to_owned(),
    })
}

fn refused(numbers: std::ops::Range<u16>) -> Vec<RecipientResult> {
    answered(numbers, Disposition::Failed)
}

fn answered(numbers: std::ops::Range<u16>, disposition: Disposition) -> Vec<RecipientResult> {
    let one = result(disposition).remove(0);
    let results = numbers.map(|number| RecipientResult {
        number: RecipientNumber(number),
        ..one.clone()
    });
    results.collect()
}

#[test]
fn what_recipients_were_told_stands_however_the_attempt_ended() {
    for (outcome, stage) in [
        (Outcome::Busy, Stage::Rcpt),
        (Outcome::Broken, Stage::Rcpt),
        (Outcome::Broken, Stage::Data),
        (Outcome::InDoubt, Stage::EndOfData),
        (Outcome::AgentTrouble, Stage::Rcpt),
    ] {
        let (mut core, mut waiting) = Core::with_message_to(28);
        core.effects.clear();
        let mut told = report(core.lease(), outcome, refused(0..20));
        told.stage = stage;
        told.reply = closing(outcome);
        core.said(AgentEvent::Report(Box::new(told)));
        let settled = core.effects.iter().find_map(|effect| match effect {
            Effect::Settle(settle) => Some(settle.settlement.recipients.len()),
            _ => None,
        });
        assert_eq!(settled, Some(20), "{outcome:?}");
        core.all_written();
        waiting.open.drain(..20);
        core.next_session(1, &[waiting]);
        let rest: Vec<u16> = (20..28).collect();
        assert_eq!(core.carried(), rest, "{outcome:?}");
    }
}

/// chasquid says 421 to the third error of a session, and to a dot it is the third for its own trouble of the moment.
#[test]
fn a_421_behind_a_dot_is_not_about_those_who_were_taken_where_others_were_refused() {
    let mut core = Core::bare();
    let (site, waiting) = (Arc::new(site(0)), 1);
    core.apply(Event::SiteChanged { site, waiting });
    let mut waiting = core.waiting();
    waiting.open = (0..3).map(RecipientNumber).collect();
    core.attach(OUT1, "out1");
    core.read(vec![waiting.clone()]);
    core.proved();
    let mut closes = answered(2..3, Disposition::Deferred);
    closes[0].reply = closing(Outcome::Busy).unwrap();
    let results = [refused(0..2), closes.clone()].concat();
    core.ends(Outcome::Transacted, Stage::EndOfData, results);
    core.next_session(1, std::slice::from_ref(&waiting));
    assert_eq!(core.carried(), [2], "at once, and for nobody else");
    // Alone it is the message's.
    let assigned = core.assigned.len();
    core.ends(Outcome::Transacted, Stage::EndOfData, closes);
    core.next_session(1, &[]);
    assert_eq!(core.assigned.len(), assigned);
}

#[test]
fn a_421_behind_answers_is_no_mood_of_the_site() {
    let (mut core, _) = Core::with_message_to(28);
    core.ends(Outcome::Busy, Stage::Rcpt, refused(0..20));
    assert!(!core.phase().starts_with("waiting"), "{}", core.phase());
}

#[test]
fn a_session_that_answered_anything_was_not_silent() {
    let mut core = Core::proving();
    core.proved();
    core.report(Outcome::Broken, Vec::new());
    core.all_written();
    let (site, session, detail) = (name(), SessionId(1), "over".to_owned());
    core.said(AgentEvent::SessionClosed {
        site,
        session,
        proved: Proved::Yes,
        accepted: 0,
        answered: 1,
        ended: Ended::Lost,
        refuses: Refuses::AtOnce,
        detail,
    });
    assert_eq!(core.phase(), "ready");
}

#[test]
fn a_message_that_ends_sessions_is_halved_until_one_is_alone_and_steps_aside() {
    let (mut core, mut waiting) = Core::with_message_to(8);
    let mut attempts = 0;
    // The home closes at the fifth of them.
    while !waiting.open.is_empty() && attempts < 20 {
        attempts += 1;
        let carried = core.carried();
        if carried.contains(&4) {
            core.ends(Outcome::Broken, Stage::Rcpt, Vec::new());
            waiting.breaks += 1;
            core.next_session(1, &[waiting.clone()]);
        } else {
            let (first, last) = (carried[0], carried[carried.len() - 1]);
            core.ends(
                Outcome::Transacted,
                Stage::EndOfData,
                answered(first..last + 1, Disposition::Relayed),
            );
            waiting.open.retain(|it| !carried.contains(&it.0));
            if waiting.open.len() == 1 {
                break;
            }
            core.read(vec![waiting.clone()]);
        }
    }
    assert_eq!(waiting.open, [RecipientNumber(4)]);
    assert!(attempts <= 7, "{attempts}");
}

#[test]
fn a_reply_to_mail_is_the_messages() {
    for (disposition, expected) in [
        (Disposition::Failed, "Settle"),
        (Disposition::Deferred, "Note(not before)"),
    ] {
        let (mut core, _) = Core::with_message_to(1);
        core.effects.clear();
        let mut told = report(core.lease(), Outcome::Transacted, result(disposition));
        told.stage = Stage::Mail;
        core.said(AgentEvent::Report(Box::new(told)));
        assert!(core.words().contains(&expected.to_owned()));
        assert_eq!(core.phase(), "flowing");
    }
}

#[test]
fn a_message_the_site_was_turned_away_from_is_no_canary_while_another_is_due() {
    for outcome in [Outcome::Busy, Outcome::Refused, Outcome::Broken] {
        let mut core = Core::proving();
        core.proved();
        let mut bad = core.waiting();
        bad.delivery = core.lease().delivery;
        core.ends(outcome, Stage::Mail, Vec::new());
        core.closed(Proved::Yes, 0, Ended::Lost);
        let good = core.waiting();
        core.advance(Duration::from_secs(70));
        core.beats();
        bad.attempts = 1;
        core.read(vec![bad, good.clone()]);
        assert_eq!(core.lease().delivery, good.delivery, "{outcome:?}");
    }
}

#[test]
fn deferrals_of_one_recipient_are_no_mood_of_the_site() {
    let mut core = Core::proving();
    core.proved();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    let waiting = core.waiting();
    let whom = crate::dispatch::whom::Whom::made_up(99, 5);
    core.whom.insert(waiting.delivery.message, whom);
    core.apply(Event::Arrived(waiting));
    for n in 0..30 {
        core.report(Outcome::Transacted, result(Disposition::Deferred));
        assert_eq!(core.phase(), "flowing", "{n}");
        let waiting = core.waiting();
        let whom = crate::dispatch::whom::Whom::made_up(n, 5);
        core.whom.insert(waiting.delivery.message, whom);
        core.apply(Event::Arrived(waiting));
    }
}

#[test]
fn an_acceptance_that_is_told_again_is_no_duplicate() {
    let mut core = Core::flowing();
    let told = report(
        core.lease(),
        Outcome::Transacted,
        result(Disposition::Relayed),
    );
    core.hears(told.clone());
    let again = |core: &mut Core, told: Report| {
        core.said(AgentEvent::Report(Box::new(told)));
        let question = core.asked();
        let waiting = None;
        core.apply(Event::Found { question, waiting });
        core.state.counters().duplicates
    };
    assert_eq!(again(&mut core, told.clone()), 0);
    let mut other = told;
    other.lease.generation.counter += 50;
    assert_eq!(again(&mut core, other), 1);
}

#[test]
fn a_421_behind_a_dot_is_about_the_session_unless_it_began_with_the_message() {
    for (began, expected) in [(false, "Note"), (true, "Note(not before)")] {
        let mut core = Core::flowing();
        if !began {
            core.report(Outcome::Transacted, result(Disposition::Relayed));
            core.all_written();
            core.mail();
        }
        core.effects.clear();
        let mut results = result(Disposition::Deferred);
        results[0].reply.code = 421;
        let mut told = report(core.lease(), Outcome::Transacted, results);
        told.stage = Stage::EndOfData;
        core.said(AgentEvent::Report(Box::new(told)));
        assert!(
            core.words().contains(&expected.to_owned()),
            "{:?}",
            core.words()
        );
    }
}

#[test]
fn a_message_that_was_the_probe_of_a_dead_home_is_put_off_no_longer_than_others() {
    let (mut core, waiting) = Core::with_message_to(1);
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    let mut probe = core.waiting();
    probe.delivery.message = dd_proto::id::MessageId::new(99, [0; 10]);
    probe.arrived = waiting.arrived;
    probe.attempts = 40;
    core.now += Duration::from_secs(7200);
    core.beats();
    core.apply(Event::Arrived(probe));
    core.effects.clear();
    core.report(Outcome::Transacted, result(Disposition::Deferred));
    let noted = core.effects.iter().find_map(|effect| match effect {
        Effect::Note(note) => note.not_before,
        _ => None,
    });
    let interval = site(0).schedule.retry_interval;
    assert_eq!(noted, Some(super::core::wall(core.now + interval)));
}

#[test]
fn a_home_that_hangs_up_over_first_messages_is_asked_again_after_one_two_four_seconds() {
    for (outcome, at_last) in [
        (Outcome::Broken, "waiting(down)"),
        (Outcome::Busy, "waiting(busy)"),
    ] {
        let (mut core, mut waits) = (Core::proving(), Vec::new());
        loop {
            core.proved();
            core.ends(outcome, Stage::Mail, Vec::new());
            core.closed(Proved::Yes, 0, Ended::Lost);
            if core.phase() == at_last {
                break;
            }
            let (next, assigned) = (core.waiting(), core.assigned.len());
            core.apply(Event::Arrived(next.clone()));
            let mut wait = 0;
            while core.assigned.len() == assigned {
                core.advance(Duration::from_secs(1));
                core.beats();
                for _ in 0..3 {
                    core.read(vec![next.clone()]);
                }
                wait += 1;
            }
            assert_eq!(core.lease().delivery, next.delivery, "another begins");
            waits.push(wait);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32], "{outcome:?}");
    }
}

#[test]
fn an_answer_ends_the_series_of_hang_ups() {
    let mut core = Core::proving();
    for _ in 0..20 {
        core.proved();
        core.report(Outcome::Transacted, result(Disposition::Relayed));
        core.all_written();
        core.mail();
        core.ends(Outcome::Broken, Stage::Mail, Vec::new());
        core.closed(Proved::Yes, 1, Ended::Lost);
        let next = core.waiting();
        core.apply(Event::Arrived(next.clone()));
        core.next_session(0, &[next]);
        assert_eq!(core.phase(), "flowing");
    }
}

#[test]
fn two_sessions_that_are_turned_away_together_are_one_stumble() {
    let mut core = Core::proving();
    core.mail();
    core.proved();
    let out: Vec<_> = core.assigned.iter().map(|it| it.lease.clone()).collect();
    assert_eq!(out.len(), 2);
    for lease in out {
        let mut told = report(lease, Outcome::Busy, Vec::new());
        told.stage = Stage::Mail;
        told.reply = closing(Outcome::Busy);
        core.hears(told);
        assert_eq!(core.phase(), "ready");
    }
}
