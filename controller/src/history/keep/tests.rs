//! What histories cost the disk, and what they leave to others.

use std::cell::Cell;
use std::path::PathBuf;

use super::*;
use crate::history::tests::attempt;
use crate::store::local::disk::memory::MemoryDisk;
use crate::store::local::index::in_memory::InMemory;
use crate::store::local::spares::Making;
use crate::store::local::wall::MachineWall;
use crate::store::local::{Blocking, On};
use crate::store::{MinFree, RebuildIndex, Settings};

const SITES: usize = 3 * AT_ONCE;

fn kept(disk: &MemoryDisk) -> Keeper {
    let settings = Settings {
        dir: PathBuf::from("/state"),
        segment_bytes: 1 << 20,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    };
    let on = On {
        disk: Arc::new(disk.clone()),
        making: Making::WhenTaken,
        shelves: Arc::new(InMemory::default()),
        ballast_bytes: 0,
        wall: Arc::new(MachineWall),
        blocking: Blocking::Caller,
    };
    let (store, mut steps, _) = Store::open_stepped(on, &settings).unwrap();
    while !*store.all_known().borrow() {
        steps.index();
    }
    let keeper = Keeper {
        book: Arc::default(),
        registry: Registry::load(&store).unwrap(),
        store,
    };
    for number in 0..SITES {
        let site = format!("site{number}").parse().unwrap();
        let attempt = attempt("2026-11-30T12:00:00Z", "unreachable", "no route to host");
        keeper.book.attempted(&site, &attempt);
    }
    keeper
}

fn noon() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn written(keeper: &Keeper) -> usize {
    keeper.store.records(record::FAMILY).unwrap().len()
}

#[tokio::test]
async fn a_stop_syncs_once_for_many_sites() {
    let disk = MemoryDisk::default();
    let keeper = kept(&disk);
    // The first one makes segments ahead.
    let first = vec![("first".to_owned(), None)];
    let first = keeper.store.remember("test", first).await;
    assert_eq!(first, Ok(Remembered::Written));
    let before = disk.syncs();
    keeper.finish(noon()).await;
    assert_eq!(written(&keeper), SITES);
    let commits = (SITES / AT_ONCE) as u64;
    assert_eq!(disk.syncs() - before, commits);
}

#[tokio::test]
async fn a_stop_that_takes_too_long_leaves_the_rest() {
    let keeper = kept(&MemoryDisk::default());
    let asked = Cell::new(0);
    let once = || asked.replace(asked.get() + 1) == 0;
    let left = keeper.write_while(noon(), once).await;
    assert_eq!((written(&keeper), left), (AT_ONCE, SITES - AT_ONCE));
}

#[tokio::test]
async fn short_of_space_histories_wait_and_what_people_change_has_room() {
    let disk = MemoryDisk::default();
    let keeper = kept(&disk);
    disk.set_capacity(disk.used());
    let operations = disk.operations();
    keeper.turn(noon()).await;
    assert_eq!((written(&keeper), disk.operations()), (0, operations));
    let left = keeper.write_while(noon(), || true).await;
    assert_eq!((written(&keeper), left), (0, SITES));
    assert!(keeper.store.put("site", "home", None).await.is_ok());
}

#[tokio::test]
async fn what_found_no_room_is_written_later() {
    let keeper = kept(&MemoryDisk::default());
    let due = keeper.book.due(noon(), SITES);
    keeper
        .book
        .not_written(due.into_iter().map(|(site, _)| site));
    let later = noon() + Duration::from_secs(3600);
    assert_eq!(keeper.book.due(later, usize::MAX).len(), SITES);
}

/// With a quota the file system has room, and only the log knows better.
#[tokio::test]
async fn histories_do_not_take_what_the_log_holds_back() {
    let disk = MemoryDisk::default();
    let keeper = kept(&disk);
    let record = |number: usize| vec![(number.to_string(), Some(vec![b'x'; 200 << 10].into()))];
    let mut taken = 0;
    let first = keeper.store.remember("test", record(taken)).await;
    assert_eq!(first, Ok(Remembered::Written));
    disk.set_quota(disk.used());
    while keeper.store.remember("test", record(taken)).await == Ok(Remembered::Written) {
        taken += 1;
    }
    assert!(taken > 0);
    for number in 0..4 {
        let value = Some(Bytes::from(vec![b'x'; 200 << 10]));
        let key = format!("site{number}");
        assert!(keeper.store.put("site", &key, value).await.is_ok());
    }
}
