//! What an agent has decided without asking: final for its recipients, and no evidence about the site.

use dd_proto::id::RecipientNumber;
use dd_proto::report::{RecipientResult, SaidBy, Stage};

use super::*;

/// These need what the site does not offer.
pub(super) fn unasked(numbers: std::ops::Range<u16>) -> Vec<RecipientResult> {
    let mut one = result(Disposition::Failed).remove(0);
    one.by = SaidBy::TheAgent;
    one.reply.code = 553;
    one.reply.enhanced = "5.6.7".to_owned();
    let results = numbers.map(|number| RecipientResult {
        number: RecipientNumber(number),
        ..one.clone()
    });
    results.collect()
}

impl Core {
    fn ends_with(&mut self, results: Vec<RecipientResult>) {
        self.effects.clear();
        self.report(Outcome::Transacted, results);
    }

    fn last(&self) -> &'static str {
        let view = self.state.site_view(&name(), self.clock()).unwrap();
        view.last_attempts[0].outcome
    }
}

#[test]
fn it_is_final_where_nothing_is_known_of_the_site_and_makes_nothing_known() {
    let mut core = Core::proving();
    core.proved();
    for _ in 0..5 {
        core.ends_with(unasked(0..1));
        assert!(core.has("Settle") && !core.has("TellContact"));
        assert_eq!(
            (core.last(), core.phase().as_str()),
            ("not-sent", "flowing")
        );
        core.all_written();
        core.mail();
    }
    // Nothing was accepted either: what the site itself refuses is kept.
    core.ends_with(result(Disposition::Failed));
    assert!(!core.has("Settle"));
    assert_eq!(core.last(), "kept");
}

#[test]
fn a_site_is_not_doubted_for_it() {
    let mut core = Core::proving();
    core.proved();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    core.all_written();
    for _ in 0..5 {
        core.mail();
        core.ends_with(unasked(0..1));
        core.all_written();
    }
    core.mail();
    core.ends_with(result(Disposition::Failed));
    assert!(core.has("Settle"));
    assert_eq!(core.last(), "failed");
}

#[test]
fn beside_it_the_sites_own_answers_count() {
    for (disposition, kept) in [
        (Disposition::Failed, "kept"),
        (Disposition::Deferred, "deferred"),
        (Disposition::Relayed, "relayed"),
    ] {
        let mut core = Core::idle();
        let mut waiting = core.waiting();
        waiting.open = (0..2).map(RecipientNumber).collect();
        core.apply(Event::Arrived(waiting));
        core.proved();
        let mut results = unasked(0..1);
        results.extend(result(disposition));
        results[1].number = RecipientNumber(1);
        core.ends_with(results);
        let settled = core.effects.iter().find_map(|effect| match effect {
            Effect::Settle(settle) => Some(settle.settlement.recipients.len()),
            _ => None,
        });
        let relayed = usize::from(disposition == Disposition::Relayed);
        assert_eq!(settled, Some(1 + relayed), "{disposition:?}");
        assert_eq!(core.last(), kept);
    }
}

#[test]
fn it_is_no_answer_of_a_session_that_breaks() {
    let mut core = Core::idle();
    let mut waiting = core.waiting();
    waiting.open = (0..3).map(RecipientNumber).collect();
    core.apply(Event::Arrived(waiting));
    core.proved();
    let mut told = report(core.lease(), Outcome::Broken, unasked(0..1));
    told.stage = Stage::Mail;
    core.said(AgentEvent::Report(Box::new(told)));
    core.all_written();
    core.closed(Proved::Yes, 0, Ended::Lost);
    let queue = &core.state.sites[&name()];
    assert_eq!(format!("{:?}", queue.stumbles), "Stumbles(1)");
}
