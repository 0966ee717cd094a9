//! A further session that does not come about: the site takes mail on those that live, and the message waits for one.

use dd_proto::id::SessionId;
use dd_proto::report::Stage;

use super::*;

impl Core {
    /// The newest message's own session came to nothing.
    fn further(&mut self, outcome: Outcome) {
        let mut report = report(self.lease(), outcome, Vec::new());
        report.session = SessionId(2);
        report.stage = Stage::Session;
        self.said(AgentEvent::Report(Box::new(report)));
        self.all_written();
    }
}

#[test]
fn a_message_whose_further_session_is_turned_away_is_not_sent_again_at_once() {
    for outcome in [
        Outcome::Unreachable,
        Outcome::WrongHost,
        Outcome::Busy,
        Outcome::Refused,
        Outcome::Broken,
    ] {
        let mut core = Core::flowing();
        let sent = core.assigned.len();
        for round in 0..3 {
            core.further(outcome);
            assert_eq!(core.phase(), "flowing", "{outcome:?}");
            assert_eq!(core.assigned.len(), sent + round, "{outcome:?}");
            core.advance(Duration::from_millis(999));
            assert_eq!(core.assigned.len(), sent + round, "{outcome:?}");
            core.advance(Duration::from_millis(1));
            assert_eq!(core.assigned.len(), sent + round + 1, "{outcome:?}");
        }
    }
}

#[test]
fn it_goes_out_as_soon_as_a_session_that_lives_has_answered() {
    let mut core = Core::flowing();
    let first = core.assigned[0].lease.clone();
    core.further(Outcome::Busy);
    let sent = core.assigned.len();
    let report = report(first, Outcome::Transacted, result(Disposition::Relayed));
    core.said(AgentEvent::Report(Box::new(report)));
    assert_eq!(core.assigned.len(), sent + 1);
}

#[test]
fn what_a_session_that_was_proved_says_is_the_site_s_word() {
    for (outcome, phase) in [
        (Outcome::Busy, "waiting(busy)"),
        (Outcome::Refused, "waiting(refused)"),
    ] {
        let mut core = Core::flowing();
        core.report(outcome, Vec::new());
        assert_eq!(core.phase(), phase);
    }
}
