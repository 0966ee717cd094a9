//! The core among made-up agents, sites and a made-up store, under one clock and one seed.
//!
//! # Invariants checked
//! A delivery is never out under two valid leases, nor at a site twice without having gone out in doubt; a site that is not proved has one canary; held sites get nothing;
//! nothing is settled twice; nothing is acknowledged before its settlement is written; once sites answer, all that is
//! left is relayed. An agent that has left in order has nothing in hand when it comes back. Nothing expires before its lifetime, whatever the wall clock says, nor without an attempt that failed
//! since the start, nor while held; nobody is warned twice. What was kept fails only after another refusal. What was tried
//! since a release is not sent before its time. One seed gives one history.

pub(crate) mod agent;
mod once;
pub(crate) mod received;
mod record;
mod seeds;
mod store;
mod streams;
mod trouble;
mod world;

pub(crate) use record::site;
pub(crate) use seeds::{seeds, seeds_of};

use world::World;

/// Seeds that once failed stay here.
const PINNED: [u64; 9] = [1, 7, 42, 138, 159, 1032, 1044, 1126, 6064];

/// What came of a schedule.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    trace: Vec<String>,
    warned: u64,
    expired: u64,
}

fn run(seed: u64) -> Ran {
    let mut world = World::new(seed);
    world.trouble();
    world.recover();
    world.finish()
}

#[test]
fn all_mail_is_relayed_once_sites_answer() {
    let (mut warned, mut expired) = (0, 0);
    for seed in seeds(&PINNED, 100..160) {
        let ran = std::panic::catch_unwind(|| run(seed));
        let ran = ran.unwrap_or_else(|_| panic!("seed {seed}"));
        (warned, expired) = (warned + ran.warned, expired + ran.expired);
    }
    assert!(warned > 0 && expired > 0, "{warned} {expired}");
}

#[test]
fn one_seed_gives_one_history() {
    let (once, twice) = (run(11), run(11));
    assert!(once.trace.len() > 100);
    assert_eq!(once, twice);
}
