//! Dispatch and its loop over the real store, on a disk that forgets what was not synced: many starts of a controller,
//! made-up agents and sites, one thread, one clock and one seed.
//!
//! # Invariants checked
//! - What was acknowledged to the feeder is at the site, or settled otherwise for a reason, once all has recovered.
//! - What was settled durably is sent to no agent after that, and nothing is acknowledged to an agent before.
//! - A second copy is only made by an assignment that is marked in doubt.
//! - Where a smarthost takes them, senders are told of what failed, once ([`senders`]).
//! - No jump of the wall clock expires mail.
//! - Where the disk cannot read a part of the log, that costs whose records lay there, and nobody else. No number of a
//!   record is given out twice.
//! - One seed gives one history.
//!
//! # Not here
//! Messages whose content is in a file of its own (the store's power-cut tests have them), SMTP, gRPC, threads.

mod agents;
mod controller;
mod ledger;
mod senders;
mod world;

use senders::Smarthost;
use world::World;

use crate::dispatch::simulation::seeds;
use crate::store::local::disk::memory::{Lie, MemoryDisk};

/// Seeds that once failed stay here.
const PINNED: [u64; 4] = [1, 11, 1023, 7988];
/// And with a smarthost.
const PINNED_TOLD: [u64; 2] = [1, 2016];

/// And where parts of the log cannot be read.
const PINNED_UNREAD: [u64; 10] = [1, 1482, 3036, 3075, 3078, 3110, 3182, 3321, 3473, 3563];

/// Whether the disk loses sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sectors {
    Good,
    Bad,
}

/// The history of one seed.
fn run(seed: u64, smarthost: Smarthost) -> Vec<String> {
    run_on(MemoryDisk::default(), seed, smarthost, Sectors::Good)
}

fn run_on(disk: MemoryDisk, seed: u64, smarthost: Smarthost, sectors: Sectors) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { World::new(disk, seed, smarthost, sectors).run().await })
}

#[test]
fn nothing_is_lost_whatever_happens_in_whatever_order() {
    for seed in seeds(&PINNED, 1000..1030) {
        let ran = std::panic::catch_unwind(|| run(seed, Smarthost::Missing));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn every_sender_is_told_once_what_became_of_their_mail() {
    for seed in seeds(&PINNED_TOLD, 2000..2030) {
        let ran = std::panic::catch_unwind(|| run(seed, Smarthost::There));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_cannot_be_read_costs_only_what_lay_there() {
    for seed in seeds(&PINNED_UNREAD, 3000..3030) {
        for smarthost in [Smarthost::Missing, Smarthost::There] {
            let disk = MemoryDisk::default();
            let run = || run_on(disk, seed, smarthost, Sectors::Bad);
            let ran = std::panic::catch_unwind(run);
            assert!(ran.is_ok(), "seed {seed} {smarthost:?}");
        }
    }
}

#[test]
fn without_its_syncs_it_would_lose_mail() {
    let lost = (0..20).filter(|seed| {
        let disk = MemoryDisk::default();
        disk.lie(Lie::Files);
        std::panic::catch_unwind(|| run_on(disk, *seed, Smarthost::Missing, Sectors::Good)).is_err()
    });
    assert!(lost.count() > 0);
}

#[test]
fn one_seed_gives_one_history() {
    let (once, twice) = (run(7, Smarthost::There), run(7, Smarthost::There));
    assert!(once.len() > 100, "{}", once.len());
    let differ = once
        .iter()
        .zip(&twice)
        .position(|(once, twice)| once != twice);
    let differ = differ.map(|at| (at, &once[at], &twice[at]));
    assert_eq!(differ, None);
    assert_eq!(once.len(), twice.len());
}
