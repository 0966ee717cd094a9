//! Which agent tries a site, what becomes of one that goes or falls silent, and what cannot be assigned.

use super::*;
use crate::dispatch::event::NotLoaded;
use crate::dispatch::lease::Occupies;
use crate::dispatch::site::Why;
use crate::dispatch::{Drain, Hello, Order};

impl Core {
    pub(super) fn two() -> Self {
        let mut core = Self::idle();
        core.attach(OUT2, "out2");
        core
    }

    /// Who got the last assignment.
    pub(super) fn carrier(&self) -> AttachmentId {
        self.assigned.last().expect("something was assigned").to
    }

    pub(super) fn says(&mut self, id: AttachmentId, event: AgentEvent) {
        self.apply(Event::Said { id, event });
    }

    /// The agent that has the canary did not reach the site.
    fn unreachable(&mut self) {
        let event = AgentEvent::Report(Box::new(report(
            self.lease(),
            Outcome::Unreachable,
            Vec::new(),
        )));
        self.says(self.carrier(), event);
        self.all_written();
    }

    pub(super) fn drain(&mut self, agent: &str) {
        self.terms(agent, Drain::Drains);
    }

    fn terms(&mut self, agent: &str, drain: Drain) {
        let terms = Terms {
            drain,
            ..Terms::default()
        };
        self.apply(Event::AgentRegistered(agent.parse().unwrap(), terms));
    }

    pub(super) fn unhealthy(&mut self, trouble: &str) {
        let trouble = trouble.to_owned();
        self.said(AgentEvent::Health { trouble });
    }

    fn agent(&self, name: &str) -> crate::dispatch::AgentView {
        let views = self.state.agent_views(self.clock()).into_iter();
        let mut views = views.filter(|view| view.name.as_str() == name);
        views.next().expect("it is registered")
    }

    fn pin(&mut self, agents: &[&str]) {
        let mut record = site(0);
        record.version.0 += 1;
        record.agents = agents.iter().map(|name| name.parse().unwrap()).collect();
        let (site, waiting) = (Arc::new(record), 0);
        self.apply(Event::SiteChanged { site, waiting });
    }

    fn burden(&mut self, agent: &str, load: &Load) {
        let name: dd_proto::name::AgentName = agent.parse().unwrap();
        let attached = self.state.agents.get_mut(&name).unwrap().attached.as_mut();
        let attached = attached.unwrap();
        for _ in 0..load.1 {
            attached.take(Occupies::Place);
        }
        for _ in 0..load.2 {
            attached.take(Occupies::Probe);
        }
        if load.3 == Found::Unreached {
            let queue = self.state.sites.get_mut(&self::name()).unwrap();
            let at = jiff::Timestamp::UNIX_EPOCH;
            queue.verdicts.failed(&name, at, Why::WrongHost, "");
        }
    }

    pub(super) fn no_agent(&self) -> String {
        self.state
            .site_view(&name(), self.clock())
            .unwrap()
            .no_agent
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
    let event = AgentEvent::Report(Box::new(report(
        core.lease(),
        Outcome::Unreachable,
        Vec::new(),
    )));
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

#[test]
fn a_drained_agent_gets_nothing_more_and_its_site_goes_on_at_another_at_once() {
    let mut core = Core::flowing();
    let (held, out) = (core.lease(), core.assigned.len());
    core.drain("out1");
    assert_eq!(core.agent("out1").state, "draining");
    assert!(
        core.words().contains(&"CloseSite".to_owned()),
        "{:?}",
        core.words()
    );
    assert!(core.state.is_out(&held.delivery), "what it has it finishes");
    core.mail();
    assert_eq!(core.assigned.len(), out, "nobody else is there");
    core.attach(OUT2, "out2");
    let waiting = core.waiting();
    core.read(vec![waiting]);
    assert_eq!(core.carrier(), OUT2);
    let given = core.assigned.len();
    // What it gives back does not hold the site up.
    let why = GivenBack::Closing;
    core.says(OUT1, AgentEvent::GivenBack { lease: held, why });
    let (site, session, observed) = (name(), dd_proto::id::SessionId(7), Default::default());
    core.says(
        OUT2,
        AgentEvent::Proved {
            site,
            session,
            observed,
        },
    );
    assert!(core.assigned.len() > given);
    assert_eq!(core.carrier(), OUT2);
}

#[test]
fn a_drain_outlives_the_agents_stream_and_ends_when_it_is_resumed() {
    let mut core = Core::idle();
    core.drain("out1");
    core.apply(Event::Detached(OUT1));
    core.attach(OUT1, "out1");
    core.mail();
    assert!(core.assigned.is_empty());
    assert_eq!(core.no_agent(), "no agent works: out1 is draining");
    core.terms("out1", Drain::Works);
    assert_eq!(core.assigned.len(), 1);
    assert_eq!(core.no_agent(), "");
}

fn ends_of_drains(core: &Core) -> usize {
    let words = core.words();
    words.iter().filter(|word| *word == "DrainEnded").count()
}

/// Reports as relayed what is out.
fn all_relayed(core: &mut Core) {
    for assign in core.assigned.clone() {
        let relayed = result(Disposition::Relayed);
        let report = report(assign.lease, Outcome::Transacted, relayed);
        core.said(AgentEvent::Report(Box::new(report)));
    }
}

#[test]
fn a_drain_ends_when_nothing_is_out_and_all_that_was_told_is_written_and_not_before() {
    let mut core = Core::flowing();
    core.drain("out1");
    assert_eq!(ends_of_drains(&core), 0, "two are out");
    all_relayed(&mut core);
    assert_eq!(ends_of_drains(&core), 0, "nothing is written");
    core.all_written();
    assert_eq!(ends_of_drains(&core), 1);
    assert_eq!(core.state.drained_agents(), ["out1".parse().unwrap()]);
    core.advance(Duration::from_secs(1));
    assert_eq!(ends_of_drains(&core), 1, "it ends once");
    core.terms("out1", Drain::Works);
    assert!(core.state.drained_agents().is_empty());
    core.drain("out1");
    assert_eq!(ends_of_drains(&core), 2, "and once more after a resume");
}

#[test]
fn a_drain_does_not_end_while_the_agent_may_hold_what_is_not_known() {
    let mut core = Core::flowing();
    core.drain("out1");
    core.effects.clear();
    // Silent for the length of its leases, on a stream that stands.
    core.advance(Duration::from_secs(41));
    core.all_written();
    core.beats();
    core.all_written();
    assert_eq!(ends_of_drains(&core), 0);
    core.apply(Event::Detached(OUT1));
    assert_eq!(ends_of_drains(&core), 0, "it is gone, with what it held");
    let hello = Hello {
        work_in_hand: vec![core.lease()],
        ..hello("out1")
    };
    core.apply(Event::Attached { id: OUT1, hello });
    assert_eq!(
        ends_of_drains(&core),
        0,
        "it still ends what does not go on"
    );
    core.attach(OUT1, "out1");
    assert_eq!(ends_of_drains(&core), 1);
}

#[test]
fn an_unhealthy_agent_gets_nothing_until_it_is_well_and_nothing_counts_against_the_site() {
    let mut core = Core::two();
    core.mail();
    let first = core.carrier();
    let lease = core.lease();
    let trouble = "192.0.2.1 cannot be bound".to_owned();
    core.says(first, AgentEvent::Health { trouble });
    let report = report(lease, Outcome::AgentTrouble, Vec::new());
    core.says(first, AgentEvent::Report(Box::new(report)));
    core.all_written();
    assert_ne!(core.carrier(), first, "at once, through the other one");
    let sick = core.state.agent_views(core.clock());
    let sick: Vec<_> = sick.iter().filter(|it| it.state == "unhealthy").collect();
    assert_eq!(sick.len(), 1);
    assert_eq!(sick[0].trouble, "192.0.2.1 cannot be bound");
    assert_eq!(core.assigned.last().unwrap().waiting.attempts, 0);
    let trouble = String::new();
    core.says(first, AgentEvent::Health { trouble });
    let views = core.state.agent_views(core.clock());
    assert!(views.iter().all(|it| it.state == "connected"));
}

#[test]
fn a_pinned_site_goes_through_its_agents_only_and_says_what_it_waits_for() {
    let mut core = Core::two();
    core.pin(&["out2"]);
    let waiting = core.waiting();
    core.read(vec![waiting]);
    assert_eq!(core.carrier(), OUT2);
    let mut core = Core::two();
    core.pin(&["out3"]);
    let waiting = core.waiting();
    core.read(vec![waiting]);
    core.says(OUT1, AgentEvent::Beat { number: 1 });
    assert!(core.assigned.is_empty());
    assert_eq!(
        core.no_agent(),
        "the agents it is pinned to are not registered"
    );
    core.drain("out3");
    assert_eq!(core.no_agent(), "it is pinned, and out3 is not connected");
    core.attach(AttachmentId(9), "out3");
    assert!(core.assigned.is_empty(), "it drains");
    core.terms("out3", Drain::Works);
    assert_eq!(core.carrier(), AttachmentId(9));
}

#[test]
fn a_site_that_is_not_pinned_any_more_goes_through_whoever_is_there() {
    let mut core = Core::two();
    core.pin(&["out3"]);
    let waiting = core.waiting();
    core.read(vec![waiting.clone()]);
    assert!(core.assigned.is_empty());
    core.pin(&[]);
    core.read(vec![waiting]);
    assert_eq!(core.assigned.len(), 1);
}

/// Orders of a kind that went to a stream.
fn closes(core: &Core, to: AttachmentId) -> usize {
    let orders = core
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Order(id, Order::CloseSite(_)) if *id == to));
    orders.count()
}

#[test]
fn sessions_end_with_the_plans_and_a_resumed_agent_is_sent_the_plan_again() {
    let mut core = Core::flowing();
    core.effects.clear();
    core.drain("out1");
    assert_eq!(closes(&core, OUT1), 1);
    core.drain("out1");
    assert_eq!(closes(&core, OUT1), 1, "once is enough");
    core.effects.clear();
    core.terms("out1", Drain::Works);
    let waiting = core.waiting();
    core.read(vec![waiting]);
    assert!(
        core.words().contains(&"Plan".to_owned()),
        "{:?}",
        core.words()
    );
}

/// What one of two agents does already: its slots, handoffs and probes out, and whether the site is known not to be
/// reached from it.
#[derive(Clone, Copy)]
struct Load(u32, u32, u32, Found);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Unreached,
}

#[test]
fn of_the_agents_that_may_the_least_loaded_is_chosen() {
    let (none, unreached) = (Found::Nothing, Found::Unreached);
    for (one, two, pinned, chosen) in [
        (Load(4, 0, 0, none), Load(4, 0, 0, none), "", "out1"),
        (Load(4, 1, 0, none), Load(4, 0, 0, none), "", "out2"),
        (Load(4, 1, 0, none), Load(4, 0, 3, none), "", "out2"),
        (Load(4, 0, 2, none), Load(4, 0, 1, none), "", "out2"),
        // Ten of 640 are less than two of 64.
        (Load(40, 10, 0, none), Load(4, 2, 0, none), "", "out1"),
        (Load(4, 2, 0, none), Load(40, 10, 0, none), "", "out2"),
        (Load(4, 9, 0, none), Load(4, 0, 0, unreached), "", "out1"),
        (Load(4, 0, 0, unreached), Load(4, 9, 0, none), "", "out2"),
        (Load(4, 9, 0, none), Load(4, 0, 0, none), "out1", "out1"),
        (
            Load(4, 0, 0, unreached),
            Load(4, 0, 0, none),
            "out1",
            "out1",
        ),
        // Without room it is not chosen, however little it has to do otherwise.
        (Load(4, 0, 4, none), Load(4, 9, 0, none), "", "out2"),
    ] {
        let mut core = Core::bare();
        let mut record = site(0);
        record.agents = pinned
            .split_terminator(',')
            .map(|it| it.parse().unwrap())
            .collect();
        let (site, waiting) = (Arc::new(record), 0);
        core.apply(Event::SiteChanged { site, waiting });
        for (id, agent, load) in [(OUT1, "out1", &one), (OUT2, "out2", &two)] {
            let hello = Hello {
                slots: load.0,
                ..hello(agent)
            };
            core.apply(Event::Attached { id, hello });
            core.burden(agent, load);
        }
        let waiting = core.waiting();
        core.read(vec![waiting]);
        let expected = if chosen == "out1" { OUT1 } else { OUT2 };
        let loads = [one, two].map(|it| (it.0, it.1, it.2));
        assert_eq!(core.carrier(), expected, "{loads:?} {pinned}");
    }
}

#[test]
fn a_lease_that_ran_out_while_the_controller_stood_still_is_in_doubt_only_if_the_agent_says_so() {
    for waits in [false, true] {
        let mut core = Core::proving();
        let delivery = core.lease().delivery;
        core.now += Duration::from_secs(90);
        core.state.stood_still(core.now);
        core.apply(Event::Time);
        let sent = core.assigned.len();
        if waits {
            // It does not come.
            core.advance(Duration::from_secs(10));
        } else {
            core.attach(OUT1, "out1");
        }
        let doubted = core.words().contains(&"Note(in doubt)".to_owned());
        assert_eq!(doubted, waits, "{:?}", core.words());
        if !waits {
            assert_eq!(core.assigned.len(), sent + 1);
            assert_eq!(core.lease().delivery, delivery);
        }
    }
}
