//! What is read of the disk for what: large contents are not read where nobody wants them, and nobody waits for a read that is
//! another one's.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use super::disk::memory::MemoryDisk;
use super::index::in_memory::InMemory;
use super::tests::{id, inline, settlement, stood, submission, to};
use super::unreadable_tests::{opened, settings};
use super::*;
use crate::store::{Store, StoredContent};

const MAIL: u8 = 12;
const LARGE: usize = 200 << 10;

/// A store with large mail in its log.
async fn with_large_mail(disk: &MemoryDisk, shelves: &InMemory) -> Store {
    let store = opened(disk, shelves);
    for n in 1..=MAIL {
        let content = Content::Inline(vec![n; LARGE].into());
        store.accept(submission(n, &["a"], content)).await.unwrap();
    }
    store
}

fn all_contents() -> u64 {
    u64::from(MAIL) * LARGE as u64
}

#[tokio::test]
async fn a_start_that_was_not_clean_reads_headers_and_no_contents() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    drop(with_large_mail(&disk, &shelves).await);
    let disk = disk.killed();
    let store = opened(&disk, &shelves);
    let read = disk.bytes_read();
    assert!(read < all_contents() / 2, "{read} of {}", all_contents());
    // It was no start that trusts its index: all of it was found in the log.
    assert!(store.progress().records >= u64::from(MAIL));
    for n in 1..=MAIL {
        assert!(store.load(&to(n, "a")).await.unwrap().is_some());
    }
}

fn all_ids() -> Vec<DeliveryId> {
    (1..=MAIL).map(|n| to(n, "a")).collect()
}

/// Since so many bytes had been read.
fn read_no_contents(disk: &MemoryDisk, before: u64) {
    let read = disk.bytes_read() - before;
    assert!(read < all_contents() / 10, "{read} of {}", all_contents());
}

#[tokio::test]
async fn a_list_of_the_queue_reads_no_contents() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = with_large_mail(&disk, &shelves).await;
    let before = disk.bytes_read();
    let envelopes = store.envelopes(all_ids()).await.unwrap();
    assert_eq!(envelopes.len(), usize::from(MAIL));
    assert!(envelopes.iter().all(|it| matches!(it, Ok(Some(_)))));
    read_no_contents(&disk, before);
}

#[tokio::test]
async fn what_is_read_to_be_assigned_is_read_without_its_contents() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = with_large_mail(&disk, &shelves).await;
    let before = disk.bytes_read();
    let loaded = store.load_all(all_ids()).await.unwrap();
    assert_eq!(loaded.len(), usize::from(MAIL));
    for (_, loaded) in loaded {
        let content = loaded.unwrap().unwrap().content;
        assert!(matches!(content, StoredContent::File(_)));
    }
    read_no_contents(&disk, before);
}

/// Changes a byte in the middle of the content of a large mail.
fn damage_content(disk: &MemoryDisk, n: u8) {
    let begins = |bytes: &[u8]| bytes.windows(64).position(|some| some == [n; 64]);
    for path in disk.files() {
        if let Some(from) = begins(&disk.bytes_of(&path)) {
            disk.damage(&path, |bytes| bytes[from + LARGE / 2] ^= 1);
        }
    }
}

#[tokio::test]
async fn a_content_that_is_damaged_is_found_out_by_whoever_reads_it_and_not_when_it_is_assigned() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = with_large_mail(&disk, &shelves).await;
    damage_content(&disk, 1);
    let loaded = store.load_all(vec![to(1, "a")]).await.unwrap();
    let content = loaded.into_iter().next().unwrap().1.unwrap().unwrap();
    let StoredContent::File(mut content) = content.content else {
        panic!("it was read");
    };
    let error = loop {
        match content.next(64 << 10).await {
            Ok(piece) => assert!(!piece.is_empty(), "all of it was given out"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let whole = store.load(&to(1, "a")).await;
    assert!(matches!(whole, Err(StoreError::Damaged(_))), "{whole:?}");
}

#[tokio::test]
async fn the_deliveries_of_a_message_are_found_without_a_look_at_those_of_others() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = opened(&disk, &shelves);
    for n in 1..=MAIL {
        let submission = submission(n, &["a", "b"], inline(n));
        store.accept(submission).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let store = opened(&disk, &shelves);
    for n in [1, MAIL] {
        let before = shelves.pairs_read();
        assert_eq!(store.find(id(n)).await.unwrap().len(), 2);
        assert_eq!(shelves.pairs_read() - before, 2, "{n}");
    }
}

type Accepting = Pin<Box<dyn Future<Output = bool> + Send>>;

#[tokio::test]
async fn mail_is_answered_before_anything_is_read_for_the_settlements_of_its_commit() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let on = On {
        blocking: Blocking::Caller,
        ..stood(disk, shelves.clone())
    };
    let (store, mut steps, _) = Store::open_stepped(on, &settings()).unwrap();
    for _ in 0..10 {
        steps.index();
    }
    let poll = |future: &mut Accepting| {
        let mut context = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut context).is_ready()
    };
    let accepts = |n| -> Accepting {
        let store = store.clone();
        Box::pin(async move { store.accept(submission(n, &["a"], inline(n))).await.is_ok() })
    };
    let mut first = accepts(1);
    assert!(!poll(&mut first));
    steps.commit();
    assert!(poll(&mut first));
    // From now on it lies where it has to be looked up.
    for _ in 0..10 {
        steps.index();
    }
    let settling = store.clone();
    let mut settles: Accepting =
        Box::pin(async move { settling.settle(vec![settlement(1, "a", 0)]).await.is_ok() });
    assert!(!poll(&mut settles));
    let mut second = accepts(2);
    assert!(!poll(&mut second));
    let (reads, early) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let waiting = Arc::new(Mutex::new(Some(second)));
    let (read, late, answered) = (reads.clone(), early.clone(), waiting.clone());
    shelves.meanwhile(move || {
        read.fetch_add(1, Ordering::Relaxed);
        let mut waiting = answered.lock().unwrap();
        if waiting.as_mut().is_some_and(poll) {
            *waiting = None;
        }
        if waiting.is_some() {
            late.fetch_add(1, Ordering::Relaxed);
        }
    });
    steps.commit();
    assert!(reads.load(Ordering::Relaxed) > 0, "nothing was looked up");
    let early = early.load(Ordering::Relaxed);
    assert_eq!(early, 0, "read while mail waited for its answer");
    assert!(poll(&mut settles));
}
