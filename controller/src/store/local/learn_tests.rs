//! What is known when, what is trusted, and what a shelf that fails or lies costs: never mail.
//!
//! A shelf without room keeps a rebuild from ending for as long as a test likes.

use std::path::Path;

use tempfile::TempDir;

use super::index::in_memory::InMemory;
use super::index::shelf::{ShelfError, Shelves as _, Table};
use super::tests::{
    far, id, inline, killed, note, opened, settings, settlement, site, stood, submission, to,
    wait_until_known, waiting,
};
use super::*;
use crate::store::{NextTry, Progress, Store};

fn open_on(dir: &Path, shelves: &InMemory) -> Store {
    Store::open_on(stood(RealDisk, shelves.clone()), &settings(dir))
        .unwrap()
        .0
}

async fn accept(store: &Store, numbers: std::ops::RangeInclusive<u8>) {
    for n in numbers {
        let accepted = store.accept(submission(n, &["a"], inline(n)));
        accepted.await.unwrap();
    }
}

/// A killed store with mail 1 to 3, of which 2 has been settled.
async fn three_of_which_one_is_settled() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open_on(dir.path(), &InMemory::default());
    wait_until_known(&store);
    accept(&store, 1..=3).await;
    let _ = store.settle(vec![settlement(2, "a", 0)]).await.unwrap();
    killed(dir.path())
}

async fn until(store: &Store, wanted: impl Fn(Progress) -> bool) {
    let deadline = std::time::Duration::from_secs(30);
    let waiting = async {
        while !wanted(store.progress()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(deadline, waiting).await.unwrap();
}

/// A store whose old mail cannot be known yet.
async fn without_room(dir: &Path) -> (Store, InMemory) {
    let shelves = InMemory::default();
    shelves.bound(Some(0));
    let store = open_on(dir, &shelves);
    until(&store, |it| matches!(it.stage, Stage::NoRoom { .. })).await;
    (store, shelves)
}

#[tokio::test]
async fn new_mail_flows_and_old_mail_waits_until_all_is_known() {
    let dir = three_of_which_one_is_settled().await;
    let (store, shelves) = without_room(dir.path()).await;
    assert!(!*store.all_known().borrow());
    assert_eq!(store.space(), Space::Short);
    assert_eq!(store.alarms().len(), 1);
    accept(&store, 4..=5).await;
    assert_eq!(waiting(&store, "a").await, [id(4), id(5)]);
    assert_eq!(store.count(&site("a")).messages, 2);
    assert!(store.load(&to(5, "a")).await.unwrap().is_some());
    let _ = store.settle(vec![settlement(4, "a", 0)]).await.unwrap();

    shelves.bound(None);
    wait_until_known(&store);
    assert_eq!(waiting(&store, "a").await, [id(1), id(3), id(5)]);
    assert_eq!(store.count(&site("a")).messages, 3);
    assert_eq!(store.progress().stage, Stage::Done);
    assert_eq!(store.alarms(), Vec::<String>::new());
}

/// Old mail that has been read but may be settled further on is shown to nobody who would send it.
#[tokio::test]
async fn what_is_read_is_in_no_head_before_the_end_is_reached() {
    let own = index::Own {
        sequence: 100,
        segment: 9,
    };
    let index = Index::new(own, 2);
    index.stand_on(Some(InMemory::default().create().unwrap()));
    let place = log::Place {
        segment: 1,
        offset: 64,
        len: 9,
    };
    let old = accepted_of(&submission(1, &["a"], inline(1)));
    let new = accepted_of(&submission(2, &["a"], inline(2)));
    let written = |sequence| log::Written { sequence, place };
    index.accepted(&old, written(1), 1);
    index.accepted(&new, written(100), 2);
    let due = |index: &Index| {
        let head = index.head(&site("a"), None, far(), 10).unwrap();
        head.due
            .iter()
            .map(|w| w.delivery.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(due(&index), [to(2, "a")]);
    assert_eq!(index.list(None, None, 10).unwrap().len(), 2);
    index.knows_now().unwrap();
    assert_eq!(due(&index), [to(1, "a"), to(2, "a")]);
}

#[tokio::test]
async fn what_this_start_says_of_old_mail_is_the_last_word() {
    let dir = three_of_which_one_is_settled().await;
    {
        let shelves = InMemory::default();
        let store = open_on(dir.path(), &shelves);
        wait_until_known(&store);
        // The newest old word about 3: three attempts, and a time far off.
        let _ = store.note(vec![note(3, "a", Some(far()))]).await.unwrap();
    }
    let dir = killed(dir.path());
    let (store, shelves) = without_room(dir.path()).await;
    let _ = store.settle(vec![settlement(1, "a", 0)]).await.unwrap();
    let mut newest = note(3, "a", None);
    newest.attempts = 7;
    let _ = store.note(vec![newest]).await.unwrap();
    shelves.bound(None);
    wait_until_known(&store);
    assert_eq!(waiting(&store, "a").await, [id(3)]);
    let found = store.find(id(3)).await.unwrap();
    assert_eq!((found[0].attempts, found[0].not_before), (7, None));
    // And so it is after a restart, when all of it is old.
    let copy = killed(dir.path());
    let again = open_on(copy.path(), &InMemory::default());
    wait_until_known(&again);
    assert_eq!(again.find(id(3)).await.unwrap()[0].attempts, 7);
    assert_eq!(again.total().messages, 1);
}

#[tokio::test]
async fn no_content_file_is_unlinked_before_all_is_known() {
    use crate::intake::accept::Spool as _;
    let dir = three_of_which_one_is_settled().await;
    let (store, shelves) = without_room(dir.path()).await;
    let mut spooled = store.spool().await.unwrap();
    spooled.write(Bytes::from(vec![7; 1000])).await.unwrap();
    let content = Content::Spooled(spooled);
    store.accept(submission(4, &["a"], content)).await.unwrap();
    let _ = store.settle(vec![settlement(4, "a", 0)]).await.unwrap();
    let files = || std::fs::read_dir(dir.path().join("content")).unwrap();
    assert_eq!(files().count(), 1);
    shelves.bound(None);
    wait_until_known(&store);
    assert_eq!(files().count(), 0);
}

#[tokio::test]
async fn a_shelf_that_lost_anything_is_filled_again_from_the_log() {
    type Loses = fn(&InMemory);
    let cases: [(&str, Loses, bool); 7] = [
        ("nothing", |_| {}, false),
        ("an entry", InMemory::forget_last, true),
        ("a place", InMemory::forget_last_place, true),
        (
            "a sector of the queue",
            |it| it.unreadable(Table::Queue),
            true,
        ),
        ("a sector of the ids", |it| it.unreadable(Table::Ids), true),
        (
            "a sector of the timers",
            |it| it.unreadable(Table::Timers),
            true,
        ),
        ("everything", InMemory::lose, true),
    ];
    for (what, lose, rebuilt) in cases {
        let (dir, shelves) = (TempDir::new().unwrap(), InMemory::default());
        let store = open_on(dir.path(), &shelves);
        wait_until_known(&store);
        accept(&store, 1..=9).await;
        store.site_timer(site("a"), Some(far())).await;
        store.close().await.unwrap();
        drop(store);
        lose(&shelves);
        let store = open_on(dir.path(), &shelves);
        accept(&store, 10..=10).await;
        wait_until_known(&store);
        let all: Vec<_> = (1..=10).map(id).collect();
        assert_eq!(waiting(&store, "a").await, all, "{what} was lost");
        assert_eq!(store.count(&site("a")).messages, 10);
        assert_eq!(store.progress().bytes > 0, rebuilt, "{what} was lost");
        let next = match rebuilt {
            true => NextTry::Unknown,
            false => NextTry::At(far()),
        };
        let found = store.0.sites_with_mail();
        let found: Vec<_> = found.iter().map(|it| (&it.site, it.next)).collect();
        assert_eq!(found, [(&site("a"), next)]);
    }
}

#[tokio::test]
async fn a_shelf_that_fails_at_run_time_ends_the_process_and_the_next_start_fills_another() {
    for fault in [ShelfError::Full, ShelfError::Failed("bad page".to_owned())] {
        let (dir, shelves) = (TempDir::new().unwrap(), InMemory::default());
        let store = open_on(dir.path(), &shelves);
        wait_until_known(&store);
        accept(&store, 1..=5).await;
        shelves.fail(Some(fault));
        accept(&store, 6..=6).await;
        let ends = tokio::time::timeout(std::time::Duration::from_secs(30), store.failed());
        ends.await.unwrap();
        assert!(store.close().await.is_err());
        drop(store);
        shelves.fail(None);
        let store = open_on(dir.path(), &shelves);
        wait_until_known(&store);
        assert!(store.progress().bytes > 0);
        assert_eq!(waiting(&store, "a").await.len(), 6);
    }
}

#[tokio::test]
async fn a_stop_before_all_is_known_leaves_no_marker() {
    let dir = three_of_which_one_is_settled().await;
    let (store, shelves) = without_room(dir.path()).await;
    accept(&store, 4..=4).await;
    store.close().await.unwrap();
    drop(store);
    assert!(!dir.path().join("clean-stop").exists());
    shelves.bound(None);
    let store = open_on(dir.path(), &shelves);
    wait_until_known(&store);
    assert_eq!(waiting(&store, "a").await, [id(1), id(3), id(4)]);
}

#[test]
fn mail_delivered_at_once_never_reaches_the_shelf() {
    let shelves = InMemory::default();
    let own = index::Own {
        sequence: 1,
        segment: 1,
    };
    let index = Index::new(own, 1);
    index.stand_on(Some(shelves.create().unwrap()));
    index.knows_now().unwrap();
    let place = log::Place {
        segment: 1,
        offset: 64,
        len: 9,
    };
    for n in 1..=100 {
        let accepted = accepted_of(&submission(n, &["a"], inline(n)));
        let sequence = n.into();
        index.accepted(&accepted, log::Written { sequence, place }, 1);
        if n % 10 != 0 {
            index
                .noted(&noted_of(&note(n, "a", Some(far())), None))
                .unwrap();
            index
                .settled(&settled_of(&settlement(n, "a", 0), None))
                .unwrap();
        }
    }
    while index.flush_pending().unwrap() > 0 {}
    assert_eq!(shelves.applied(), 10);
    assert_eq!(
        (index.live_in(1).deliveries, index.live_in(2).deliveries),
        (10, 0)
    );
}

#[tokio::test]
async fn the_live_count_of_each_segment_is_known_after_scan_and_rebuild() {
    let (dir, shelves) = (TempDir::new().unwrap(), InMemory::default());
    let store = open_on(dir.path(), &shelves);
    wait_until_known(&store);
    accept(&store, 1..=200).await;
    for n in (1..=200).step_by(3) {
        let _ = store.settle(vec![settlement(n, "a", 0)]).await.unwrap();
    }
    let live = |store: &Store| {
        (1..=4)
            .map(|n| store.0.index.live_in(n))
            .collect::<Vec<_>>()
    };
    let expected = live(&store);
    assert!(expected.iter().filter(|it| it.deliveries > 0).count() > 1);
    let copy = killed(dir.path());
    store.close().await.unwrap();
    drop(store);
    for (dir, shelves) in [(dir.path(), shelves), (copy.path(), InMemory::default())] {
        let store = open_on(dir, &shelves);
        wait_until_known(&store);
        assert_eq!(live(&store), expected);
    }
}

#[tokio::test]
async fn rebuild_index_starts_as_if_it_were_gone() {
    let dir = TempDir::new().unwrap();
    let (store, _) = opened(&settings(dir.path()));
    accept(&store, 1..=3).await;
    store.close().await.unwrap();
    drop(store);
    let rebuild = Settings {
        rebuild_index: crate::store::RebuildIndex::Yes,
        ..settings(dir.path())
    };
    let (store, opened) = opened(&rebuild);
    assert_eq!(opened.replayed, 3);
    assert_eq!(waiting(&store, "a").await.len(), 3);
}

#[tokio::test]
async fn a_registry_record_without_a_key_holds_all_until_it_is_repaired_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let (store, _) = opened(&settings(dir.path()));
    for name in ["a", "b", "c"] {
        let put = store.put("site", name, Some("value".into()));
        put.await.unwrap();
    }
    assert!(!store.holds_all_sites());
    drop(store);
    let registry = std::fs::read_dir(dir.path().join("registry")).unwrap();
    let segment = registry
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            std::fs::read(path)
                .unwrap()
                .windows(5)
                .any(|it| it == b"value")
        })
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let values: Vec<usize> = (0..bytes.len() - 5)
        .filter(|at| bytes[*at..].starts_with(b"value"))
        .collect();
    // Both records of the second change.
    for before in &values[1..3] {
        bytes[before + 5 + 20] ^= 1;
    }
    std::fs::write(&segment, bytes).unwrap();

    for _ in 0..2 {
        let (store, _) = opened(&settings(dir.path()));
        assert!(store.holds_all_sites());
        assert_eq!(store.alarms().len(), 1);
        let keys: Vec<_> = store.records("site").unwrap();
        let keys: Vec<_> = keys.iter().map(|record| record.key.as_str()).collect();
        assert_eq!(keys, ["a", "c"]);
    }
    let (store, _) = opened(&settings(dir.path()));
    store.registry_repaired().await.unwrap();
    assert!(!store.holds_all_sites());
    drop(store);
    let (store, _) = opened(&settings(dir.path()));
    assert!(!store.holds_all_sites());
    assert_eq!(store.alarms(), Vec::<String>::new());
}
