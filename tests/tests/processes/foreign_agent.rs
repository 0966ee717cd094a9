//! Anybody can write an agent: one in Python passes the same cases as ours, and careless ones are caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dd_tests::acceptance::{self, Ours, foreign_world};
use dd_tests::foreign::ForeignAgent;
use dd_tests::world::{OUTBOUND, World};

const EXAMPLE: &str = "docs/examples/python-agent/agent.py";

#[test]
fn ours_delivers_to_a_site_that_proves_itself() {
    acceptance::delivers_to_a_site_that_proves_itself(&World::start(), &Ours);
}

#[test]
fn ours_refuses_the_wrong_host() {
    acceptance::refuses_the_wrong_host(&World::start());
}

#[test]
fn ours_survives_a_kill() {
    acceptance::survives_a_kill(&mut World::start(), &mut Ours);
}

#[test]
fn ours_reports_what_the_site_said() {
    acceptance::reports_what_the_site_said(&World::start());
}

#[test]
fn ours_does_not_fall_back_to_plaintext() {
    acceptance::does_not_fall_back_to_plaintext(&mut World::start(), &mut Ours);
}

#[test]
fn one_in_python_does_not_fall_back_to_plaintext() {
    let (mut world, mut agent) = foreign_world(EXAMPLE);
    acceptance::does_not_fall_back_to_plaintext(&mut world, &mut agent);
}

#[test]
fn one_in_python_delivers_to_a_site_that_proves_itself() {
    let (world, agent) = foreign_world(EXAMPLE);
    acceptance::delivers_to_a_site_that_proves_itself(&world, &agent);
}

#[test]
fn one_in_python_refuses_the_wrong_host() {
    let (world, _agent) = foreign_world(EXAMPLE);
    acceptance::refuses_the_wrong_host(&world);
}

#[test]
fn one_in_python_survives_a_kill() {
    let (mut world, mut agent) = foreign_world(EXAMPLE);
    acceptance::survives_a_kill(&mut world, &mut agent);
}

#[test]
fn one_in_python_reports_what_the_site_said() {
    let (world, _agent) = foreign_world(EXAMPLE);
    acceptance::reports_what_the_site_said(&world);
}

#[test]
fn one_in_python_sends_no_dot_on_an_expired_lease() {
    let (mut world, agent) = foreign_world(EXAMPLE);
    assert_eq!(
        acceptance::copies_after_a_lease_expired(&mut world, &agent),
        1
    );
}

/// The controller cannot know it: by all it is told the message was relayed. The case sees it.
#[test]
fn one_that_reports_before_the_site_did_is_caught_by_the_cases() {
    let (world, _agent) = foreign_world("tests/foreign/early.py");
    let case = AssertUnwindSafe(|| acceptance::reports_what_the_site_said(&world));
    let caught = catch_unwind(case).expect_err("it is caught");
    let said = caught.downcast_ref::<String>().expect("the case says why");
    assert!(said.contains("the site never had it"), "{said}");
}

/// The controller counts the second acceptance as a duplicate and shows it.
#[test]
fn one_that_sends_on_an_expired_lease_is_caught_by_the_controller() {
    let (mut world, agent) = foreign_world("tests/foreign/expired.py");
    assert_eq!(
        acceptance::copies_after_a_lease_expired(&mut world, &agent),
        2
    );
    let status = dd_tests::wait::until(
        "the duplicate to be counted",
        dd_tests::wait::PATIENCE,
        || {
            let status = world.json(&["status"]);
            (status["duplicates"] == 1).then_some(status)
        },
    );
    assert_eq!(status["duplicates"], 1);
}

#[test]
fn one_of_an_earlier_version_works() {
    let (world, agent) = foreign_world("tests/foreign/older.py");
    acceptance::delivers_to_a_site_that_proves_itself(&world, &agent);
}

#[test]
fn one_of_a_version_to_come_works_and_what_is_not_known_of_it_is_passed_over() {
    let (world, agent) = foreign_world("tests/foreign/newer.py");
    acceptance::delivers_to_a_site_that_proves_itself(&world, &agent);
}

#[test]
fn one_that_serves_no_kind_that_a_site_has_is_told_so() {
    let world = World::start();
    let program = "tests/foreign/other_kind.py";
    let mut agent = ForeignAgent::introduce(&world, "out9", OUTBOUND[1], program);
    let line = agent.log_line("FAILED_PRECONDITION");
    assert!(line.contains("the agent serves teleport"), "{line}");
}
