//! What a controller may do: it is slow, it says nothing, it ends in the middle of something.

use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::order::Order;

use super::desk::{CERTIFIED, Desk, goes_by};
use super::scripted::{Beats, Ends, Manner, Renewal, Stream};
use crate::loopback;
use crate::site::{Act, At, Gate, Script, Site, contains};
use crate::submit::message;
use crate::wait::{PATIENCE, pause, until};

/// The controller keeps the request for another certificate, and then refuses it. Meanwhile the agent beats and works.
pub(super) fn works_while_its_certificate_is_renewed(recipe: &str) {
    let desk = Desk::start(
        recipe,
        Manner {
            renewal: Renewal::Keeps,
            // More than two thirds of its life are over.
            certificate_age: Duration::from_secs(30 * 86_400),
            ..Manner::default()
        },
    );
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    until("another certificate to be asked for", PATIENCE, || {
        (desk.controller.renewals() > 0).then_some(())
    });
    let beats = || stream.all(|event| matches!(event, Event::Beat(_)));
    let before = beats();
    let lease = stream.assign(1, &message("while it is renewed"));
    stream.report(&lease);
    until("more beats", PATIENCE, || {
        (beats() > before + 2).then_some(())
    });
    assert!(desk.controller.keeps_a_renewal(), "it has waited for it");
    home.received(1);
    desk.controller.manner().renewal = Renewal::Refuses;
    // The old one is good for another day.
    let lease = stream.assign(2, &message("although it is refused"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(2);
}

/// Three streams: what was not acknowledged comes with each, once; what was, does not.
pub(super) fn tells_what_is_not_acknowledged_once_on_each_stream(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let first = desk.planned(0, home.address());
    let one = first.assign(1, &message("one"));
    let report = first.report(&one);
    first.end();
    let second = desk.planned(1, home.address());
    assert_eq!(second.report(&one).recipients, report.recipients);
    let two = second.assign(2, &message("two"));
    second.report(&two);
    assert_eq!(second.reports(&one), 1, "told twice on one stream");
    second.acknowledge(&one);
    second.end();
    let third = desk.planned(2, home.address());
    let in_hand = third.saw("Hello", |event| match event {
        Event::Hello(hello) => Some(hello.work_in_hand.len()),
        _ => None,
    });
    assert_eq!(in_hand, 0, "what was reported is not in hand");
    third.report(&two);
    assert_eq!(third.reports(&one), 0, "it was acknowledged");
    third.acknowledge(&two);
    third.end();
    let fourth = desk.controller.stream(3);
    let journaled = fourth.all(|event| matches!(event, Event::Journaled(_)));
    assert_eq!(journaled, 0, "all was acknowledged");
    assert_eq!(home.received(2).len(), 2, "one copy each");
}

/// The plan of version 1 is here, or none at all, and the work is of version 2.
pub(super) fn gives_back_work_of_a_plan_it_does_not_have(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let is_back = |stream: &Stream, lease: &pb::Lease| {
        let back = stream.saw("it to be given back", |event| match event {
            Event::GivenBack(back) if back.lease.as_ref() == Some(lease) => Some(back.reason()),
            _ => None,
        });
        assert_eq!(back, pb::given_back::Reason::StalePlan);
    };
    let stream = desk.controller.stream(0);
    is_back(&stream, &stream.assign(1, &message("without a plan")));
    stream.order(Order::RoutePlan(Box::new(desk.plan(home.address().port()))));
    stream.order(Order::RoutePlan(Box::new(pb::RoutePlan {
        version: 2,
        ..desk.plan(home.address().port())
    })));
    is_back(&stream, &stream.assign(2, &message("of an old plan")));
    assert!(home.connections().is_empty(), "it was tried");
}

/// A recipient that is no address: whatever comes of that, the next message goes on the same stream.
pub(super) fn works_on_behind_an_assignment_that_it_cannot_read(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    let lease = stream.assign_to("no address", 1, &message("to nobody"));
    stream.report(&lease);
    let lease = stream.assign(2, &message("to somebody"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    assert_eq!(home.copies().get("to somebody"), Some(&1));
}

/// An order that is to come, and behind it work as ever.
pub(super) fn passes_over_orders_that_it_does_not_know(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    stream.unknown_order();
    let lease = stream.assign(1, &message("behind it"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
}

/// A name that is none and a lease that is missing, in one order of each kind that has only such; behind them work as ever.
pub(super) fn works_on_behind_orders_that_it_cannot_read(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    let site = "no site's name".to_owned();
    stream.order(Order::CloseSite(pb::CloseSite { site: site.clone() }));
    stream.order(Order::Recall(pb::Recall { site }));
    stream.order(Order::Acknowledged(pb::Acknowledged { lease: None }));
    let lease = stream.assign(1, &message("behind them"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
}

/// The plan of another site asks for a proof that is to come: to an agent of today it is a proof of no kind.
pub(super) fn leaves_a_site_alone_whose_proof_it_does_not_know(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    let strange = Site::start(desk.good());
    let address = strange.address();
    stream.order(Order::RoutePlan(Box::new(pb::RoutePlan {
        site: "strange".to_owned(),
        hosts: vec![pb::Host {
            host: address.ip().to_string(),
            port: address.port().into(),
        }],
        proof: Some(pb::Proof { kind: None }),
        ..desk.plan(address.port())
    })));
    let lease = stream.assign_at("strange", 1, &message("to whom"));
    let report = stream.report(&lease);
    assert_eq!(report.outcome(), pb::Outcome::AgentTrouble, "{report:?}");
    assert!(
        !report.dot_sent && report.recipients.is_empty(),
        "{report:?}"
    );
    // The stream stands, and the other site's mail goes.
    let lease = stream.assign(2, &message("to somebody else"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
    assert!(strange.connections().is_empty(), "it was connected to");
}

/// It is asked to end while one message is at its dot, and another one is on its way to it.
pub(super) fn gives_back_what_crosses_its_draining(recipe: &str) {
    let mut desk = Desk::start(recipe, Manner::default());
    let gate = Gate::default();
    let home = desk.home(desk.good().but(At::Dot, Act::Wait(gate.clone())));
    let stream = desk.planned(0, home.address());
    let in_hand = stream.assign(1, &message("in hand"));
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    desk.agent.ask_to_end();
    stream.saw("Draining", |event| {
        matches!(event, Event::Draining(_)).then_some(())
    });
    let crossing = stream.assign(2, &message("crossing"));
    let back = stream.saw("it to be given back", |event| match event {
        Event::GivenBack(back) if back.lease.as_ref() == Some(&crossing) => Some(back.reason()),
        _ => None,
    });
    assert_eq!(back, pb::given_back::Reason::Closing);
    gate.open();
    stream.report(&in_hand);
    assert!(!stream.is_half_closed(), "it waits for the acknowledgement");
    stream.acknowledge(&in_hand);
    until("the end of its half", PATIENCE, || {
        stream.is_half_closed().then_some(())
    });
    desk.agent.ended();
    assert_eq!(home.received(1).len(), 1);
}

/// It has nothing in hand, and the line takes half a second.
pub(super) fn gives_back_what_crosses_its_draining_late(recipe: &str) {
    let mut desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    desk.agent.ask_to_end();
    stream.saw("Draining", |event| {
        matches!(event, Event::Draining(_)).then_some(())
    });
    pause(Duration::from_millis(500));
    let crossing = stream.assign(1, &message("crossing"));
    let back = stream.saw("it to be given back", |event| match event {
        Event::GivenBack(back) if back.lease.as_ref() == Some(&crossing) => Some(back.reason()),
        _ => None,
    });
    assert_eq!(back, pb::given_back::Reason::Closing);
    until("the end of its half", PATIENCE, || {
        stream.is_half_closed().then_some(())
    });
    desk.agent.ended();
    assert!(home.connections().is_empty(), "it was connected to");
}

/// Cut off with a status, and ended as if it were whole: neither is handed over. The whole one is.
pub(super) fn sends_no_part_of_a_content_that_was_cut_off(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(desk.good());
    let stream = desk.planned(0, home.address());
    let mut whole = message("large");
    while whole.len() < 200_000 {
        whole.extend_from_slice(b"a line of sixty-two characters and its end, again and again\r\n");
    }
    // At the end of a line, where a dot would end it.
    let half = whole[..100_000].iter().rposition(|byte| *byte == b'\n');
    let half = &whole[..=half.expect("a line's end")];
    for (number, ends) in [(1, Ends::Broken), (2, Ends::Well)] {
        desk.controller.manner().content = (half.to_vec(), ends);
        let lease = stream.assign_to_fetch(number, whole.len() as u64);
        stream.saw("an end without a dot", |event| match event {
            Event::Report(report) if report.lease.as_ref() == Some(&lease) => {
                assert!(!report.dot_sent, "{report:?}");
                assert_ne!(report.outcome(), pb::Outcome::Transacted, "{report:?}");
                Some(())
            }
            Event::GivenBack(back) => (back.lease.as_ref() == Some(&lease)).then_some(()),
            _ => None,
        });
    }
    for seen in home.connections() {
        assert!(
            !contains(&seen.secured, b"\r\n.\r\n"),
            "a dot behind a part of it"
        );
    }
    desk.controller.manner().content = (whole.clone(), Ends::Well);
    let lease = stream.assign_to_fetch(3, whole.len() as u64);
    stream.report(&lease);
    assert!(home.received(1)[0].content.ends_with(&whole), "not whole");
}

/// A lease of three seconds that nobody renews is over when the home lets the content come.
pub(super) fn sends_no_dot_when_beats_are_not_answered(recipe: &str) {
    let lease = Duration::from_secs(3);
    let desk = Desk::start(
        recipe,
        Manner {
            lease,
            ..Manner::default()
        },
    );
    let (home, gate) = waits_at_data(&desk);
    let stream = desk.planned(0, home.address());
    stream.assign(1, &message("expired"));
    home.saw("DATA", |seen| seen.secured.ends_with(b"DATA\r\n"));
    desk.controller.manner().beats = Beats::Unanswered;
    goes_by(lease + Duration::from_millis(500));
    gate.open();
    gets_no_dot(&home);
}

/// The stream is lost while a message is before its dot, and by the next Welcome somebody else has it.
pub(super) fn drops_what_welcome_does_not_name(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let (home, gate) = waits_at_data(&desk);
    let stream = desk.planned(0, home.address());
    let lease = stream.assign(1, &message("gone"));
    home.saw("DATA", |seen| seen.secured.ends_with(b"DATA\r\n"));
    desk.controller.manner().beats = Beats::Unanswered;
    stream.end();
    let next = desk.controller.stream(1);
    let named = next.saw("Hello", |event| match event {
        Event::Hello(hello) => Some(hello.work_in_hand.contains(&lease)),
        _ => None,
    });
    assert!(named, "what is in hand is named in Hello");
    // The first beat comes behind Welcome.
    next.saw("a beat", |event| {
        matches!(event, Event::Beat(_)).then_some(())
    });
    gate.open();
    gets_no_dot(&home);
}

fn waits_at_data(desk: &Desk) -> (Site, Gate) {
    let gate = Gate::default();
    let home = desk.home(desk.good().but(At::Data, Act::Wait(gate.clone())));
    (home, gate)
}

fn gets_no_dot(home: &Site) {
    home.saw("the agent to hang up", |seen| seen.ended);
    assert_eq!(home.count(), 0, "a dot went out");
}

/// The site's name has two addresses, and only one of them is permitted: by the plan, which Welcome's networks do not
/// overrule.
pub(super) fn connects_only_where_it_is_permitted(recipe: &str) {
    let manner = Manner {
        forbidden_networks: vec!["127.0.0.0/8".to_owned()],
        ..Manner::default()
    };
    let desk = Desk::permitting("198.51.100.0/24", recipe, manner);
    let home = desk.home(desk.good());
    let forbidden = Site::start_at(
        (loopback::fresh(), home.address().port()).into(),
        desk.good(),
    );
    let stream = desk.controller.stream(0);
    let mut plan = desk.plan(home.address().port());
    plan.allow_targets = vec![format!("{}/32", home.address().ip())];
    desk.lies_at(&[forbidden.address().ip()]);
    stream.order(Order::RoutePlan(Box::new(plan)));
    let lease = stream.assign(1, &message("to a forbidden address"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Unreachable);
    desk.lies_at(&[forbidden.address().ip(), home.address().ip()]);
    let lease = stream.assign(2, &message("to the other one"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
    assert!(forbidden.connections().is_empty(), "it was connected to");
}

/// 82 authorities, each below the one before, between the anchor and the home. Verifiers give up at different lengths.
pub(super) fn ends_a_chain_of_84_certificates_with_a_verdict(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let home = desk.home(Script::presenting(&desk.ca.identity_below(82, CERTIFIED)));
    let stream = desk.planned(0, home.address());
    let lease = stream.assign(1, &message("a long chain"));
    let report = stream.report(&lease);
    match report.outcome() {
        pb::Outcome::Transacted => assert_eq!(home.count(), 1),
        pb::Outcome::WrongHost => {
            let observed = report.observed.unwrap_or_default();
            assert!(observed.refusal.is_some(), "refused without a word");
            assert_eq!(home.count(), 0);
        }
        other => panic!("{other:?} is no verdict"),
    }
    is_well(&desk, &home, &stream);
}

/// The home's own certificate, and 83 that have nothing to do with it.
pub(super) fn takes_no_harm_from_certificates_beside_the_chain(recipe: &str) {
    let desk = Desk::start(recipe, Manner::default());
    let own = desk.ca.identity(&[CERTIFIED]);
    let home = desk.home(Script::presenting(&own.beside(83)));
    let stream = desk.planned(0, home.address());
    let lease = stream.assign(1, &message("among others"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
    is_well(&desk, &home, &stream);
}

/// It works as before.
fn is_well(desk: &Desk, home: &Site, stream: &Stream) {
    home.forget();
    home.behave(desk.good());
    let lease = stream.assign(9, &message("as before"));
    assert_eq!(stream.report(&lease).outcome(), pb::Outcome::Transacted);
    home.received(1);
}
