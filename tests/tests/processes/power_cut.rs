//! Twenty power cuts under load: what `make power-cut` does five hundred times; and the proof that it finds a missing sync.

use std::io::Write as _;
use std::time::Duration;

use dd_tests::trial::kills::Outcome;
use dd_tests::trial::power::{self, Machine, NO_SYNC, Plan};

#[test]
fn nothing_acknowledged_is_lost_and_nothing_strays_over_twenty_power_cuts() {
    let plan = Plan {
        cuts: 20,
        round: 20,
        ..plan(20)
    };
    let Some(outcome) = run(&plan) else { return };
    let summary = outcome.summary("power cuts", plan.seed);
    assert!(summary.holds(), "{}", summary.table());
    assert!(outcome.judgement.messages > 100, "{}", summary.table());
}

#[test]
fn without_its_syncs_a_power_cut_loses_mail_and_is_found_out() {
    let plan = Plan {
        cuts: 4,
        round: 2,
        environment: vec![("LD_PRELOAD".to_owned(), NO_SYNC.to_owned())],
        ..plan(4)
    };
    let Some(outcome) = run(&plan) else { return };
    assert!(!outcome.judgement.lost.is_empty(), "nothing was lost");
}

/// None, and loudly, where the platform has no disk that could be cut: a container without loop devices.
fn run(plan: &Plan) -> Option<Outcome> {
    match power::run(plan, |_| {}) {
        Ok(outcome) => Some(outcome),
        Err(unavailable) => {
            // Past the harness, which keeps what passing tests print to itself.
            let said = format!("\nSKIPPED: no power can be cut here: {unavailable}\n\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
    }
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        cuts: 0,
        round: 0,
        feeders: 4,
        gap: Duration::from_millis(15),
        longest: Duration::from_millis(400),
        machine: Machine::Controller,
        environment: Vec::new(),
        log: None,
    }
}
