//! The store on a disk that forgets what was not synced, with the power cut at any operation.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::disk::memory::{Fault, MemoryDisk};
use super::tests::{id, inline, settlement, site, submission, waiting};
use super::*;
use crate::intake::accept::Spool as _;
use crate::store::{RebuildIndex, Store};

/// The index lies in a directory of its own, and is as if it had been deleted.
fn open(disk: &MemoryDisk, dir: &TempDir) -> Option<Store> {
    let settings = Settings {
        dir: dir.path().to_owned(),
        segment_bytes: 2 << 10,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::Yes,
    };
    Some(Store::open_on(Arc::new(disk.clone()), &settings).ok()?.0)
}

/// What somebody was told.
#[derive(Debug, Default)]
struct Told {
    accepted: BTreeSet<u8>,
    /// Asked for; whether it was done is known where it is in `settled` too.
    settling: BTreeSet<u8>,
    settled: BTreeSet<u8>,
}

/// Mail comes and goes until the disk does no more.
async fn work(store: &Store, rng: &mut StdRng, ids: &mut std::ops::Range<u8>, told: &mut Told) {
    for n in ids {
        let content = match rng.random_range(0..4) {
            0 => {
                let Ok(mut spooled) = store.spool().await else {
                    return;
                };
                if spooled.write(Bytes::from(vec![n; 700])).await.is_err() {
                    return;
                }
                Content::Spooled(spooled)
            }
            _ => inline(n),
        };
        if store.accept(submission(n, &["a"], content)).await.is_err() {
            return;
        }
        told.accepted.insert(n);
        let open: Vec<u8> = told.accepted.difference(&told.settling).copied().collect();
        if open.len() > 3 && rng.random() {
            let which = open[rng.random_range(0..open.len())];
            told.settling.insert(which);
            if store.settle(vec![settlement(which, "a", 0)]).await.is_err() {
                return;
            }
            told.settled.insert(which);
        }
    }
}

async fn check(store: &Store, told: &Told, seed: u64) {
    let there: BTreeSet<_> = waiting(store, "a").await.into_iter().collect();
    for n in &told.accepted {
        let is_there = there.contains(&id(*n));
        if told.settled.contains(n) {
            assert!(!is_there, "seed {seed}: {n} was settled");
        } else if !told.settling.contains(n) {
            assert!(is_there, "seed {seed}: {n} was accepted");
            let loaded = store.load(&super::tests::to(*n, "a")).await;
            assert!(matches!(loaded, Ok(Some(_))), "seed {seed}: {n} {loaded:?}");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_cuts_at_any_operation() {
    for seed in 0..40 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = TempDir::new().unwrap();
        let (mut disk, mut told, mut ids) = (MemoryDisk::default(), Told::default(), 0..u8::MAX);
        for _ in 0..4 {
            disk.at(rng.random_range(1..120), Fault::Cut);
            if let Some(store) = open(&disk, &dir) {
                check(&store, &told, seed).await;
                work(&store, rng, &mut ids, &mut told).await;
            }
            disk = disk.power_cut(rng);
        }
        let store = open(&disk, &dir).unwrap();
        check(&store, &told, seed).await;
        assert_eq!(
            store.count(&site("a")).bytes > 0,
            store.count(&site("a")).messages > 0
        );
    }
}

#[tokio::test]
async fn an_error_inside_the_log_is_final_and_the_next_start_has_all() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = TempDir::new().unwrap();
        let (disk, mut told) = (MemoryDisk::default(), Told::default());
        let store = open(&disk, &dir).unwrap();
        let broken = disk.operations() + rng.random_range(1..100);
        disk.at(broken, Fault::FromThen(std::io::ErrorKind::Other));
        work(&store, rng, &mut (0..200), &mut told).await;
        drop(store);
        let after = disk.power_cut(rng);
        check(&open(&after, &dir).unwrap(), &told, seed).await;
    }
}
