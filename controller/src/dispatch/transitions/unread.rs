//! An assignment that an agent cannot read costs its message tries, and nobody else's mail.

use dd_proto::id::SessionId;
use dd_proto::report::Stage;

use super::*;

impl Core {
    /// The agent that has the newest assignment cannot read it.
    fn cannot_read(&mut self) {
        let mut told = report(self.lease(), Outcome::AgentTrouble, Vec::new());
        (told.session, told.stage) = (SessionId(0), Stage::Session);
        let event = AgentEvent::Report(Box::new(told));
        self.says(self.carrier(), event);
    }
}

#[test]
fn what_an_agent_cannot_read_goes_behind_all_others_and_steps_aside_from_the_second_time_on() {
    let mut core = Core::idle();
    let bad = core.waiting();
    core.apply(Event::Arrived(bad.clone()));
    core.cannot_read();
    let view = core.state.site_view(&name(), core.clock()).unwrap();
    let message = bad.delivery.message.to_string();
    assert!(view.last_attempts[0].detail.contains(&message));
    core.all_written();
    let good = core.waiting();
    core.apply(Event::Arrived(good.clone()));
    let mut tried = bad.clone();
    (tried.attempts, tried.breaks) = (1, 1);
    core.advance(Duration::from_secs(1));
    core.read(vec![tried.clone(), good.clone()]);
    assert_eq!(core.lease().delivery, good.delivery);
    core.proved();
    core.report(Outcome::Transacted, result(Disposition::Relayed));
    core.all_written();
    for _ in 0..3 {
        core.read(vec![tried.clone()]);
    }
    assert_eq!(core.lease().delivery, bad.delivery);
    assert_eq!(core.assigned.last().unwrap().waiting.attempts, 1);
    core.effects.clear();
    core.cannot_read();
    assert_eq!(core.phase(), "flowing", "that is about the message only");
    let at = core.effects.iter().find_map(|effect| match effect {
        Effect::Note(note) => Some((note.attempts, note.not_before)),
        _ => None,
    });
    let later = wall(core.now + Duration::from_secs(300));
    assert_eq!(at, Some((2, Some(later))));
}

#[test]
fn another_agent_may_read_it() {
    let mut core = Core::two();
    let bad = core.waiting();
    core.apply(Event::Arrived(bad.clone()));
    let first = core.carrier();
    core.cannot_read();
    core.all_written();
    core.advance(Duration::from_secs(1));
    for _ in 0..3 {
        core.read(vec![bad.clone()]);
    }
    assert_eq!(core.assigned.len(), 2);
    assert_ne!(core.carrier(), first);
}

#[test]
fn trouble_of_a_session_is_the_agent_s_and_costs_no_try() {
    let mut core = Core::proving();
    let mut told = report(core.lease(), Outcome::AgentTrouble, Vec::new());
    told.stage = Stage::Session;
    core.said(AgentEvent::Report(Box::new(told)));
    core.all_written();
    core.advance(Duration::from_secs(5));
    assert_eq!(core.assigned.len(), 2);
    assert_eq!(core.assigned[1].waiting.attempts, 0);
}
