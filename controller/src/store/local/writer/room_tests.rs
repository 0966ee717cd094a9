//! What waits for room.

use std::path::PathBuf;

use tokio::task::{JoinSet, yield_now};

use crate::store::local::disk::memory::MemoryDisk;
use crate::store::local::index::in_memory::InMemory;
use crate::store::local::steps::Steps;
use crate::store::local::tests::{id, inline, note, stood, submission};
use crate::store::local::{Blocking, On};
use crate::store::{MinFree, Note, RebuildIndex, Settings, Store};

const SEGMENT: u64 = 16 << 10;
const MAIL: u8 = 100;

#[derive(Debug)]
struct Full {
    disk: MemoryDisk,
    store: Store,
    steps: Steps,
    noting: JoinSet<()>,
}

/// One step of the writer behind everything that was asked for.
async fn step<T: 'static>(steps: &mut Steps, asked: &mut JoinSet<T>) {
    yield_now().await;
    steps.commit();
    yield_now().await;
    while asked.try_join_next().is_some() {}
}

/// Of this, a dozen fill a segment; a start must know it.
fn doubted(n: u8) -> Note {
    Note {
        in_doubt: true,
        last: "no route to host ".repeat(75),
        ..note(n, "a", None)
    }
}

impl Full {
    /// Mail waits, the disk is full, and notes of all mail wait for room.
    async fn filled() -> Self {
        let disk = MemoryDisk::default();
        let settings = Settings {
            dir: PathBuf::from("/state"),
            segment_bytes: SEGMENT,
            min_free: MinFree::Bytes(0),
            rebuild_index: RebuildIndex::No,
        };
        let on = On {
            blocking: Blocking::Caller,
            ..stood(disk.clone(), InMemory::default())
        };
        let (store, mut steps, _) = Store::open_stepped(on, &settings).unwrap();
        while !*store.all_known().borrow() {
            steps.index();
        }
        let mut accepting = JoinSet::new();
        for n in 1..=MAIL {
            let (store, submission) = (store.clone(), submission(n, &["a"], inline(n)));
            accepting.spawn(async move { store.accept(submission).await.unwrap() });
        }
        while !accepting.is_empty() {
            step(&mut steps, &mut accepting).await;
        }
        disk.set_capacity(disk.used());
        let mut full = Self {
            disk,
            store,
            steps,
            noting: JoinSet::new(),
        };
        for n in 1..=MAIL {
            full.asks(doubted(n));
        }
        full.steps_on().await;
        assert!(!full.noting.is_empty(), "the disk is full");
        full
    }

    fn asks(&mut self, note: Note) {
        let store = self.store.clone();
        self.noting.spawn(async move {
            store.note(vec![note]).await.unwrap();
        });
    }

    async fn steps_on(&mut self) {
        for _ in 0..20 {
            step(&mut self.steps, &mut self.noting).await;
        }
    }
}

#[tokio::test]
async fn what_room_there_is_is_used() {
    let mut full = Full::filled().await;
    let mut owed = full.noting.len();
    for _ in 0..3 {
        full.disk.set_capacity(full.disk.used() + SEGMENT + 1);
        full.steps_on().await;
        // The cleaner takes a part of it for what it carries.
        let written = owed - full.noting.len();
        assert!(written > 0, "nothing of {owed}");
        owed = full.noting.len();
    }
}

#[tokio::test]
async fn the_last_room_of_a_segment_is_used_too() {
    let full = Full::filled().await;
    let (_, offset, _) = full.steps.writer.log.end();
    let one = full.steps.writer.owed[0].bytes();
    assert!(offset + one > SEGMENT, "{offset} and {one}");
}

#[tokio::test]
async fn a_later_note_of_a_delivery_stays_behind_the_one_that_is_owed() {
    let mut full = Full::filled().await;
    full.asks(Note {
        attempts: 7,
        in_doubt: false,
        kept: false,
        warned: false,
        ..note(MAIL, "a", None)
    });
    full.steps_on().await;
    full.disk.set_capacity(1 << 30);
    while !full.noting.is_empty() {
        step(&mut full.steps, &mut full.noting).await;
    }
    let found = full.store.find(id(MAIL)).await.unwrap();
    assert_eq!((found[0].attempts, found[0].in_doubt), (7, false));
}
