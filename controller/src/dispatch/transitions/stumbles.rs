//! A home that hangs up on the mail of one address takes it from another.

use dd_proto::id::SessionId;
use dd_proto::report::{Observed, Reply, Stage};

use super::*;

impl Core {
    /// The session of the agent that has the newest assignment proves itself, and ends over the message.
    fn hangs_up(&mut self, outcome: Outcome) {
        let (agent, site, session) = (self.carrier(), name(), SessionId(1));
        let observed = Observed::default();
        let proved = AgentEvent::Proved {
            site: site.clone(),
            session,
            observed: Box::new(observed),
        };
        self.says(agent, proved);
        let mut told = report(self.lease(), outcome, Vec::new());
        told.stage = Stage::Mail;
        told.reply = (outcome == Outcome::Busy).then(|| Reply {
            code: 421,
            enhanced: String::new(),
            text: "not from there".to_owned(),
        });
        self.says(agent, AgentEvent::Report(Box::new(told)));
        let closed = AgentEvent::SessionClosed {
            site,
            session,
            proved: Proved::Yes,
            accepted: 0,
            answered: 0,
            ended: Ended::Lost,
            refuses: Refuses::AtOnce,
            detail: "over".to_owned(),
        };
        self.says(agent, closed);
        self.all_written();
    }
}

#[test]
fn from_the_second_hang_up_in_a_row_on_another_agent_has_its_turn() {
    for outcome in [Outcome::Busy, Outcome::Broken] {
        let mut core = Core::two();
        core.mail();
        let mut through = vec![core.carrier()];
        for wait in [1, 2] {
            core.hangs_up(outcome);
            core.advance(Duration::from_secs(wait));
            let next = core.waiting();
            core.apply(Event::Arrived(next.clone()));
            for _ in 0..3 {
                core.read(vec![next.clone()]);
            }
            through.push(core.carrier());
        }
        assert_eq!(core.assigned.len(), 3, "{outcome:?}");
        assert_eq!(through[0], through[1], "{outcome:?}");
        assert_ne!(through[1], through[2], "{outcome:?}");
    }
}
