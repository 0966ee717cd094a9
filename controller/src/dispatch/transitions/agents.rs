//! Which agent tries a site, what becomes of one that goes or falls silent, and what cannot be assigned.

use super::*;
use crate::dispatch::event::NotLoaded;

impl Core {
    fn two() -> Self {
        let mut core = Self::idle();
        core.attach(OUT2, "out2");
        core
    }

    /// Who got the last assignment.
    fn carrier(&self) -> AttachmentId {
        self.assigned.last().expect("something was assigned").to
    }

    fn says(&mut self, id: AttachmentId, event: AgentEvent) {
        self.apply(Event::Said { id, event });
    }

    /// The agent that has the canary did not reach the site.
    fn unreachable(&mut self) {
        let event = AgentEvent::Report(report(self.lease(), Outcome::Unreachable, Vec::new()));
        self.says(self.carrier(), event);
        self.all_written();
    }

    fn answers(&self) -> Vec<&Released> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Answer(_, released) => Some(released),
            _ => None,
        });
        answers.collect()
    }
}

#[test]
fn after_down_the_next_try_goes_through_another_agent_and_the_difference_is_shown() {
    let mut core = Core::two();
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    let first = core.carrier();
    core.unreachable();
    core.advance(Duration::from_secs(20));
    core.says(OUT1, AgentEvent::Beat { number: 1 });
    core.says(OUT2, AgentEvent::Beat { number: 1 });
    core.advance(Duration::from_secs(50));
    core.says(OUT1, AgentEvent::Beat { number: 2 });
    core.says(OUT2, AgentEvent::Beat { number: 2 });
    core.read(vec![waiting]);
    let second = core.carrier();
    assert_ne!(first, second);
    let (site, session, observed) = (name(), dd_proto::id::SessionId(2), Default::default());
    core.says(
        second,
        AgentEvent::Proved {
            site,
            session,
            observed,
        },
    );
    let now = Now {
        monotonic: core.now,
        wall: wall(core.now),
    };
    let view = core.state.site_view(&name(), now).unwrap();
    let found: Vec<_> = view.agents_differ.iter().map(|it| it.found).collect();
    assert_eq!(found, ["down", "reached"]);
}

#[test]
fn not_reached_is_what_every_attached_agent_has_tried() {
    let mut core = Core::two();
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.unreachable();
    core.release();
    core.read(vec![waiting.clone()]);
    let first = core.carrier();
    core.effects.clear();
    core.unreachable();
    assert!(core.answers().is_empty(), "the other one has not tried");
    core.read(vec![waiting]);
    assert_ne!(core.carrier(), first);
    let event = AgentEvent::Report(report(core.lease(), Outcome::Unreachable, Vec::new()));
    core.says(core.carrier(), event);
    assert!(matches!(
        core.answers()[..],
        [Released::NotReached { waiting: 1, .. }]
    ));
}

#[test]
fn the_site_of_a_silent_agent_goes_to_another_though_its_stream_stands() {
    let mut core = Core::flowing();
    core.attach(OUT2, "out2");
    core.advance(Duration::from_secs(20));
    core.says(OUT2, AgentEvent::Beat { number: 1 });
    core.mail();
    assert_eq!(core.phase(), "flowing");
    assert_eq!(core.state.next_deadline(), Some(Duration::from_secs(30)));
    core.advance(Duration::from_secs(10));
    core.read(Vec::new());
    core.mail();
    assert_eq!(core.phase(), "proving");
    assert_eq!(core.carrier(), OUT2);
}

#[test]
fn an_agent_that_was_removed_is_forgotten_when_nothing_of_it_is_out() {
    let mut core = Core::proving();
    core.apply(Event::AgentRemoved("out1".parse().unwrap()));
    assert!(core.state.agent_views(core.clock()).is_empty());
    assert!(core.state.is_out(&core.lease().delivery), "it stays leased");
    core.advance(Duration::from_secs(41));
    assert!(!core.state.is_out(&core.lease().delivery));
    assert!(core.state.agents.is_empty());
}

#[test]
fn only_damage_takes_a_message_out_of_the_queue() {
    for (why, expected) in [
        (NotLoaded::Damaged, "Note(failed)"),
        (NotLoaded::NotNow, "Note(not before)"),
    ] {
        let mut core = Core::proving();
        let lease = core.lease();
        core.effects.clear();
        core.apply(Event::NotLoaded { lease, why });
        assert!(core.words().contains(&expected.to_owned()), "{why:?}");
    }
}

#[test]
fn what_is_given_back_waits_for_a_moment() {
    let mut core = Core::flowing();
    let (lease, why) = (core.lease(), GivenBack::SessionEnded);
    let out = core.assigned.len();
    core.said(AgentEvent::GivenBack { lease, why });
    assert_eq!(core.assigned.len(), out);
    assert_eq!(core.state.next_deadline(), Some(Duration::from_secs(1)));
    core.advance(Duration::from_secs(1));
    assert_eq!(core.assigned.len(), out + 1);
}

#[test]
fn nothing_goes_out_at_the_end_and_what_is_out_comes_back() {
    let mut core = Core::flowing();
    core.effects.clear();
    core.apply(Event::Stop);
    assert_eq!(core.words(), ["CloseSite"]);
    core.mail();
    assert!(!core.words().contains(&"Assign(Any)".to_owned()));
    assert!(!core.state.is_drained());
    for assign in core.assigned.clone() {
        let (lease, why) = (assign.lease, GivenBack::Closing);
        core.said(AgentEvent::GivenBack { lease, why });
    }
    assert!(core.state.is_drained());
}
