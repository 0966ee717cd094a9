//! Anybody can write an agent: one in Python passes the same cases as ours, and careless ones are caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dd_tests::conform::stranger::Stranger;
use dd_tests::conform::{Bench, CASES, basics, recipes, run_all};
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::{OUTBOUND, World};

const EXAMPLE: &str = "docs/examples/python-agent/agent.py";
/// Cases at once: each has a few processes, and waits most of the time.
const AT_ONCE: usize = 4;

fn passes_every_case(recipe: &str) {
    let failures = std::sync::Mutex::new(Vec::new());
    let cases: Vec<_> = CASES.iter().collect();
    run_all(&cases, recipe, AT_ONCE, |case, verdict| {
        if let Err(why) = verdict {
            let failure = format!("{}: {why}", case.name);
            failures
                .lock()
                .expect("nobody panics with it")
                .push(failure);
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn ours_passes_every_case() {
    passes_every_case(&recipes::ours());
}

#[test]
fn one_in_python_passes_every_case() {
    passes_every_case(&recipes::python(EXAMPLE));
}

/// The controller cannot know it: by all it is told the message was relayed. The case sees it.
#[test]
fn one_that_reports_before_the_site_did_is_caught_by_the_cases() {
    let mut bench = Bench::start(&recipes::python("tests/foreign/early.py"));
    let case = AssertUnwindSafe(|| basics::reports_what_the_site_said(&mut bench));
    let caught = catch_unwind(case).expect_err("it is caught");
    let said = caught.downcast_ref::<String>().expect("the case says why");
    assert!(said.contains("the site never had it"), "{said}");
}

/// The controller counts the second acceptance as a duplicate and shows it.
#[test]
fn one_that_sends_on_an_expired_lease_is_caught_by_the_controller() {
    let mut bench = Bench::start(&recipes::python("tests/foreign/expired.py"));
    assert_eq!(basics::copies_after_a_lease_expired(&mut bench), 2);
    until("the duplicate to be counted", PATIENCE, || {
        (bench.world.json(&["status"])["duplicates"] == 1).then_some(())
    });
}

#[test]
fn one_of_an_earlier_version_works() {
    let mut bench = Bench::start(&recipes::python("tests/foreign/older.py"));
    basics::delivers_to_a_site_that_proves_itself(&mut bench);
}

#[test]
fn one_of_a_version_to_come_works_and_what_is_not_known_of_it_is_passed_over() {
    let mut bench = Bench::start(&recipes::python("tests/foreign/newer.py"));
    basics::delivers_to_a_site_that_proves_itself(&mut bench);
}

#[test]
fn one_that_serves_no_kind_that_a_site_has_is_told_so() {
    let mut world = World::start();
    let recipe = recipes::python("tests/foreign/other_kind.py");
    let mut agent = Stranger::introduce(&world, "out9", OUTBOUND[1], &recipe);
    let line = agent.log_line("FAILED_PRECONDITION");
    assert!(line.contains("the agent serves teleport"), "{line}");
    // And whoever looks after the controller.
    let line = world.controller().log_line("Hello refused");
    assert!(line.contains("the agent serves teleport"), "{line}");
}

/// Its reports contradict themselves: nothing is settled by them, the sender is told nothing, and it is named.
#[test]
fn one_that_contradicts_itself_settles_nothing() {
    let mut bench = Bench::start(&recipes::python("tests/foreign/contradicts.py"));
    let home = bench.world.home("home", &["--retry", "1s"]);
    basics::send(&bench.world, "twice told");
    let line = bench
        .world
        .controller()
        .log_line("what an agent says is refused");
    assert!(
        line.contains("disposition is FAILED, and the reply is 250"),
        "{line}"
    );
    let line = bench.agent.log_line("INVALID_ARGUMENT");
    assert!(
        line.contains("recipient 0"),
        "the agent is told where: {line}"
    );
    let trouble = until("it to be shown", PATIENCE, || {
        let agents = bench.world.json(&["agent", "list"]);
        let trouble = agents[0]["trouble"].as_str()?.to_owned();
        (!trouble.is_empty()).then_some(trouble)
    });
    assert!(trouble.contains("was refused"), "{trouble}");
    // The home has it, and gets it again: nobody knows what is true.
    until("a second copy", PATIENCE, || {
        (home.count() > 1).then_some(())
    });
    assert_eq!(bench.world.show("home")["queued"]["messages"], 1);
}

/// The other one took its stream: the first is told by whom, and two that do it in turn are an alarm.
#[test]
fn two_with_one_identity_are_told_and_are_an_alarm() {
    let mut bench = Bench::start(&recipes::python(EXAMPLE));
    let mut copy = bench.agent.copy();
    let line = bench.agent.log_line("ABORTED");
    assert!(
        line.contains("another process has attached as stranger from 127.0.0.1:"),
        "{line}"
    );
    copy.log_line("ABORTED");
    until("the alarm", PATIENCE, || {
        let status = bench.world.json(&["status"]);
        let alarms = status["alarms"].as_array()?.clone();
        let said = |alarm: &serde_json::Value| {
            alarm
                .as_str()
                .is_some_and(|it| it.contains("two processes attach as stranger"))
        };
        alarms.iter().any(said).then_some(())
    });
}
