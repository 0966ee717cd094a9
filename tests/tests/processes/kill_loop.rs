//! Fifty kills under load: what `make crash` does a thousand times.

use std::time::Duration;

use dd_tests::trial::kills::{self, Plan};

#[test]
fn nothing_acknowledged_is_lost_and_nothing_strays_over_fifty_kills() {
    let plan = Plan {
        seed: 50,
        kills: 50,
        round: 25,
        feeders: 4,
        gap: Duration::from_millis(15),
        longest: Duration::from_millis(500),
        log: None,
    };
    let outcome = kills::run(&plan, |_| {});
    let summary = outcome.summary("kill -9", plan.seed);
    assert!(summary.holds(), "{}", summary.table());
    assert!(outcome.judgement.messages > 200, "{}", summary.table());
}
