//! The store on a disk that forgets what was not synced, with the power cut at any operation.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::disk::memory::{Fault, Lie, MemoryDisk};
use super::index::in_memory::InMemory;
use super::tests::{comes_to_know, id, inline, settlement, stood, submission, to, waiting};
use super::*;
use crate::intake::accept::Spool as _;
use crate::store::{MinFree, RebuildIndex, Store};

/// Bytes of a segment: few, so that there are many.
pub(super) const SEGMENT: u64 = 2 << 10;

/// The index lies in a directory of its own, and is as if it had been deleted.
pub(super) fn open(disk: &MemoryDisk, dir: &TempDir) -> Option<Store> {
    let settings = Settings {
        dir: dir.path().to_owned(),
        segment_bytes: SEGMENT,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::Yes,
    };
    let on = stood(disk.clone(), InMemory::default());
    let (store, _) = Store::open_on(on, &settings).ok()?;
    comes_to_know(&store).then_some(store)
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

/// Whether everybody was told the truth.
async fn check(store: &Store, told: &Told) -> Result<(), String> {
    let there: BTreeSet<_> = waiting(store, "a").await.into_iter().collect();
    for n in &told.accepted {
        let is_there = there.contains(&id(*n));
        if told.settled.contains(n) && is_there {
            return Err(format!("{n} was settled"));
        }
        if !told.settling.contains(n) {
            let loaded = store.load(&to(*n, "a")).await;
            if !is_there || !matches!(loaded, Ok(Some(_))) {
                return Err(format!("{n} was accepted: {loaded:?}"));
            }
        }
    }
    Ok(())
}

/// A few starts in a row, each ended by a power cut.
async fn cut_and_start(seed: u64, disk: MemoryDisk) -> Result<(), String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let (mut disk, mut told, mut ids) = (disk, Told::default(), 0..u8::MAX);
    for _ in 0..4 {
        disk.at(rng.random_range(1..400), Fault::Cut);
        if let Some(store) = open(&disk, &dir) {
            check(&store, &told).await?;
            work(&store, rng, &mut ids, &mut told).await;
        }
        disk = disk.power_cut(rng);
    }
    let store = open(&disk, &dir).ok_or("it does not open")?;
    check(&store, &told).await
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_cuts_at_any_operation() {
    for seed in 0..30 {
        let told = cut_and_start(seed, MemoryDisk::default()).await;
        assert_eq!(told, Ok(()), "seed {seed}");
    }
}

#[tokio::test]
async fn without_its_syncs_it_would_lose_mail() {
    for lie in [Lie::Files, Lie::Names] {
        let mut lost = 0;
        for seed in 0..6 {
            let disk = MemoryDisk::default();
            disk.lie(lie);
            lost += u32::from(cut_and_start(seed, disk).await.is_err());
        }
        assert!(lost > 0, "{lie:?}");
    }
}

#[tokio::test]
async fn an_error_at_any_operation_costs_nothing_that_was_acknowledged() {
    use std::io::ErrorKind::{Other, StorageFull};
    for seed in 0..32 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = TempDir::new().unwrap();
        let (disk, mut told) = (MemoryDisk::default(), Told::default());
        let store = open(&disk, &dir).unwrap();
        let broken = disk.operations() + rng.random_range(1..200);
        let fault = match seed % 4 {
            0 => Fault::Once(Other),
            1 => Fault::FromThen(Other),
            2 => Fault::Once(StorageFull),
            _ => Fault::FromThen(StorageFull),
        };
        disk.at(broken, fault);
        let mut ids = 0..u8::MAX;
        work(&store, rng, &mut ids, &mut told).await;
        // What still goes on after it counts as well.
        work(&store, rng, &mut ids, &mut told).await;
        drop(store);
        let after = disk.power_cut(rng);
        let told = check(&open(&after, &dir).unwrap(), &told).await;
        assert_eq!(told, Ok(()), "seed {seed}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_mail_and_drains() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    disk.set_capacity(disk.used() + (40 << 10));
    let mut accepted = Vec::new();
    let refused = loop {
        let n = u8::try_from(accepted.len()).unwrap();
        match store.accept(submission(n, &["a"], inline(n))).await {
            Ok(_) => accepted.push(n),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AcceptError::Full);
    assert!(accepted.len() > 40, "{}", accepted.len());
    assert_eq!(store.space(), Space::Short);
    for n in &accepted {
        assert!(
            store.settle(vec![settlement(*n, "a", 0)]).await.is_ok(),
            "{n}"
        );
    }
    let rng = &mut StdRng::seed_from_u64(0);
    disk.set_capacity(1 << 30);
    let again = open(&disk.power_cut(rng), &dir).unwrap();
    assert_eq!(again.total(), Count::default());
}

/// What a block of a file holds at most of records that take [`SEGMENT`] bytes together.
const IN_A_BLOCK: usize = 16;

/// Power cuts, and after each of them a block that cannot be read any more: no start fails, and nothing is lost or back
/// but what lay there.
#[tokio::test]
async fn a_power_cut_and_a_block_that_cannot_be_read_cost_what_lay_there() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let dir = TempDir::new().unwrap();
        let (mut disk, mut told, mut ids) = (MemoryDisk::default(), Told::default(), 0..u8::MAX);
        let mut most = 0;
        for _ in 0..4 {
            disk.at(rng.random_range(40..400), Fault::Cut);
            if let Some(store) = open(&disk, &dir) {
                work(&store, rng, &mut ids, &mut told).await;
            }
            disk = disk.power_cut(rng);
            let files = disk.files();
            let file = &files[rng.random_range(0..files.len())];
            let len = disk.len_of(file);
            if len > 0 {
                let at = rng.random_range(0..len);
                disk.unreadable(file, at..at + 1);
                most += IN_A_BLOCK;
            }
        }
        let store = open(&disk, &dir).unwrap_or_else(|| panic!("seed {seed}: it does not open"));
        let there: BTreeSet<_> = waiting(&store, "a").await.into_iter().collect();
        let mut lost = 0;
        for n in told.accepted.difference(&told.settling) {
            let loaded = store.load(&to(*n, "a")).await;
            match loaded {
                Ok(Some(_)) => {}
                Ok(None) | Err(StoreError::Damaged(_)) => lost += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        let back = told
            .settled
            .iter()
            .filter(|n| there.contains(&id(**n)))
            .count();
        assert!(lost + back <= most, "seed {seed}: {lost} lost, {back} back");
    }
}
