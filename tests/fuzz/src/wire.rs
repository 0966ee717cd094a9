//! What agents say, what they are told, and the records of sites: from protobuf to our types, and back.

use std::time::Instant;

use dd_agent::plan::{Assignment, Plan};
use dd_controller::fuzzing;
use dd_proto::id::Lease;
use dd_proto::pb;
use dd_proto::pb::order::Order;
use dd_proto::report::Report;
use dd_proto::site::Site;
use prost::Message as _;

/// An event from an agent, as a program with a mistake sends it: what is refused says why in a bounded sentence; a report
/// that is taken says the same when it is told on; and one in a journal comes to something, or is nobody's.
pub fn agent_events(input: &[u8]) {
    let Some(event) = pb::AgentEvent::decode(input).ok().and_then(|it| it.event) else {
        return;
    };
    if let Err(why) = fuzzing::judge(event.clone()) {
        assert!(why.len() < 1000, "{} bytes: {why}", why.len());
        assert!(!why.contains(char::is_control), "{why:?}");
    }
    if let pb::agent_event::Event::Report(report) = event {
        if let Ok(known) = Report::try_from((*report).clone()) {
            let again = Report::try_from(pb::Report::from(known.clone()));
            assert_eq!(again.as_ref(), Ok(&known));
        }
        let lease = report.lease.clone().map(Lease::try_from);
        let is_somebodys = matches!(lease, Some(Ok(_)));
        assert_eq!(fuzzing::journaled(*report).is_ok(), is_somebodys);
    }
}

/// An order, at the agent: what it takes has all that an attempt needs.
pub fn orders(input: &[u8]) {
    match pb::Order::decode(input).ok().and_then(|it| it.order) {
        Some(Order::RoutePlan(plan)) => {
            if let Ok(plan) = Plan::try_from(*plan) {
                assert!(!plan.hosts.is_empty());
                assert!((1..=20).contains(&plan.connections));
            }
        }
        Some(Order::Assignment(assignment)) => assigned(*assignment),
        _ => {}
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an assignment has come at some time"
)]
fn assigned(assignment: pb::Assignment) {
    let Ok(taken) = Assignment::parse(assignment, Instant::now()) else {
        return;
    };
    let envelope = pb::Envelope::from((*taken.envelope).clone());
    let again = dd_proto::envelope::Envelope::try_from(envelope.clone());
    let again = again.expect("what was read can be told on");
    assert_eq!(pb::Envelope::from(again), envelope);
}

/// The record of a site in the registry's log.
pub fn stored_sites(input: &[u8]) {
    let Some(site) = pb::Site::decode(input)
        .ok()
        .and_then(|stored| Site::try_from(stored).ok())
    else {
        return;
    };
    assert_eq!(Site::try_from(pb::Site::from(&site)), Ok(site));
}
