//! Cleaning beside mail that comes in large groups.

use std::path::PathBuf;

use tokio::task::{JoinSet, yield_now};

use super::*;
use crate::intake::accept::Content;
use crate::store::local::disk::memory::MemoryDisk;
use crate::store::local::index::in_memory::InMemory;
use crate::store::local::steps::Steps;
use crate::store::local::tests::{settlement, stood, submission};
use crate::store::local::{Blocking, On};
use crate::store::{MinFree, RebuildIndex, Settings, Store};

const SEGMENT: u64 = 64 << 10;
/// Messages of one commit.
const GROUP: u64 = 16;

fn opened() -> (Store, Steps) {
    let settings = Settings {
        dir: PathBuf::from("/state"),
        segment_bytes: SEGMENT,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    };
    let on = On {
        blocking: Blocking::Caller,
        ..stood(MemoryDisk::default(), InMemory::default())
    };
    let (store, mut steps, _) = Store::open_stepped(on, &settings).unwrap();
    while !*store.all_known().borrow() {
        steps.index();
    }
    (store, steps)
}

/// All of it waits before the writer takes a step, and the writer never finds nothing to do.
async fn committed<T: 'static>(mut asked: JoinSet<T>, steps: &mut Steps) {
    while !asked.is_empty() {
        yield_now().await;
        steps.commit();
        yield_now().await;
        while asked.try_join_next().is_some() {}
    }
}

async fn a_group_comes_and_most_of_it_goes(store: &Store, steps: &mut Steps, first: u64) {
    let message = |number| MessageId::new(number, [0; 10]);
    let mut accepting = JoinSet::new();
    for number in first..first + GROUP {
        let mut submission = submission(0, &["a"], Content::Inline(vec![0; 1 << 10].into()));
        submission.id = message(number);
        let store = store.clone();
        accepting.spawn(async move { store.accept(submission).await.unwrap() });
    }
    committed(accepting, steps).await;
    let mut settling = JoinSet::new();
    for number in first + 1..first + GROUP {
        let mut settlement = settlement(0, "a", 0);
        settlement.delivery.message = message(number);
        let store = store.clone();
        settling.spawn(async move { store.settle(vec![settlement]).await.unwrap() });
    }
    committed(settling, steps).await;
}

#[tokio::test]
async fn cleaning_keeps_pace_with_commits_that_are_larger_than_a_slice() {
    let (store, mut steps) = opened();
    steps.writer.cleaner.slice = 1 << 10;
    for group in 0..60 {
        a_group_comes_and_most_of_it_goes(&store, &mut steps, group * GROUP).await;
        let it = store.measures();
        assert!(
            it.log_bytes <= 2 * it.live_bytes + 2 * SEGMENT,
            "{group}: {} bytes, of which {} live",
            it.log_bytes,
            it.live_bytes
        );
    }
    assert!(store.measures().cleaned_segments > 10);
}
