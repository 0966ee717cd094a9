//! Cleaning where the disk cannot read a part of a segment: it asks again, notes what is lost, and carries the rest.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::yield_now;

use super::disk::Disk as _;
use super::index::in_memory::InMemory;
use super::steps::Steps;
use super::tests::{settlement, stood, to};
use super::unreadable_tests::{
    HOLE, Is, Left, MAIL, STATE, Stopped, costs, is, left, notes, opened, segment_path, settings,
};
use super::*;
use crate::store::Store;

/// A clock that goes on when it is told to.
#[derive(Debug, Clone, Default)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl WallClock for Seconds {
    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// A store whose oldest segment lost a part when the start had read it, and that has just been told to clean it: of its
/// mail only the first, and what `stays` says, is open.
struct Cleaning {
    left: Left,
    oldest: u64,
    path: PathBuf,
    clock: Seconds,
    store: Store,
    steps: Steps,
}

impl Cleaning {
    async fn begun(stopped: Stopped, holes: &[Range<u64>], stays: impl Fn(u8) -> bool) -> Self {
        let left = left(stopped).await;
        let oldest = left.places[0].1.segment;
        let path = segment_path(&left, oldest);
        let clock = Seconds::default();
        let on = On {
            blocking: Blocking::Caller,
            wall: Arc::new(clock.clone()),
            ..stood(left.disk.clone(), left.shelves.clone())
        };
        let (store, mut steps, _) = Store::open_stepped(on, &settings()).unwrap();
        while !*store.all_known().borrow() {
            steps.index();
        }
        // Too late for the start to know of it.
        for hole in holes {
            left.disk.unreadable(&path, hole.clone());
        }
        let mut cleaning = Self {
            left,
            oldest,
            path,
            clock,
            store,
            steps,
        };
        for n in (1..=MAIL).filter(|n| *n != 1 && !stays(*n)) {
            cleaning.settle(n).await;
        }
        cleaning
    }

    async fn settle(&mut self, n: u8) {
        let settling = self.store.settle(vec![settlement(n, "a", 0)]);
        let committing = async {
            yield_now().await;
            self.steps.commit();
        };
        let (settled, ()) = tokio::join!(settling, committing);
        settled.unwrap();
    }

    fn turns(&mut self) {
        for _ in 0..100 {
            self.steps.commit();
        }
        assert!(!self.store.has_failed());
    }

    fn is_cleaned(&self) -> bool {
        self.store.0.files.get(self.oldest).is_none()
    }

    fn is_in_quarantine(&self) -> bool {
        let name = self.path.file_name().unwrap();
        let aside = Path::new(STATE).join("quarantine").join(name);
        self.left.disk.open(&aside).is_ok()
    }
}

#[tokio::test]
async fn cleaning_carries_what_can_be_read_and_keeps_the_rest_in_quarantine() {
    for stopped in [Stopped::InOrder, Stopped::Killed] {
        // As far as the index knows of it, which was whole when the start read it.
        let before = left(stopped).await;
        let kept = costs(&before, Stopped::InOrder, before.places[0].1.segment, &HOLE);
        let stays = |n: u8| n == 1 || kept[usize::from(n) - 1] != Is::Whole;
        assert!((1..=MAIL).filter(|n| stays(*n)).count() > 2);
        let mut it = Cleaning::begun(stopped, &[HOLE], stays).await;
        it.turns();
        assert!(!it.is_cleaned(), "{stopped:?}: the disk is asked again");
        it.clock.pass(61);
        it.turns();
        assert!(it.is_cleaned() && it.is_in_quarantine(), "{stopped:?}");
        for n in (1..=MAIL).filter(|n| stays(*n)) {
            assert_eq!(
                is(&it.store, n).await,
                kept[usize::from(n) - 1],
                "{stopped:?} {n}"
            );
        }
        // A start that reads the log anew knows it too.
        let open = it.store.total();
        let disk = it.left.disk.killed();
        drop(it);
        let again = opened(&disk, &InMemory::default());
        for n in (1..=MAIL).filter(|n| stays(*n)) {
            assert_eq!(
                is(&again, n).await,
                kept[usize::from(n) - 1],
                "{stopped:?} {n}"
            );
        }
        assert_eq!(again.total(), open, "{stopped:?}");
    }
}

#[tokio::test]
async fn what_can_be_read_a_minute_later_is_carried_whole() {
    let before = left(Stopped::Killed).await;
    let costs = costs(&before, Stopped::InOrder, before.places[0].1.segment, &HOLE);
    let stays = |n: u8| n == 1 || costs[usize::from(n) - 1] != Is::Whole;
    let mut it = Cleaning::begun(Stopped::Killed, &[HOLE], stays).await;
    it.turns();
    it.left.disk.can_be_read_again();
    it.turns();
    assert!(!it.is_cleaned(), "it is not asked before a minute is over");
    it.clock.pass(61);
    it.turns();
    assert!(it.is_cleaned() && !it.is_in_quarantine());
    for n in (1..=MAIL).filter(|n| stays(*n)) {
        assert_eq!(is(&it.store, n).await, Is::Whole, "{n}");
    }
    assert_eq!(notes(&it.left.disk), Vec::<String>::new());
}

/// A start that finds the copy does not look at what it was copied from: the note has to be there before.
#[tokio::test]
async fn no_copy_of_what_was_lost_is_durable_before_it_is_noted() {
    let holes = [8192..12288, 20480..24576];
    let before = left(Stopped::Killed).await;
    let of = |hole| costs(&before, Stopped::InOrder, before.places[0].1.segment, hole);
    let (first, second) = (of(&holes[0]), of(&holes[1]));
    let stays = |n: u8| {
        let at = usize::from(n) - 1;
        n == 1 || first[at] != Is::Whole || second[at] != Is::Whole
    };
    let mut it = Cleaning::begun(Stopped::Killed, &holes, stays).await;
    it.turns();
    it.clock.pass(61);
    let full = it.left.disk.used();
    it.left.disk.set_capacity(full);
    it.turns();
    for n in (2..=MAIL).filter(|n| stays(*n)) {
        let (_, entry) = it.store.0.index.get(&to(n, "a")).unwrap().unwrap();
        assert_eq!(
            entry.place().segment,
            it.oldest,
            "there is no room for a note"
        );
    }
    it.left.disk.set_capacity(1 << 30);
    it.clock.pass(61);
    let mut steps = 0;
    while !it.is_cleaned() {
        it.steps.commit();
        it.clock.pass(61);
        steps += 1;
        assert!(steps < 100);
        for n in (2..=MAIL).filter(|n| stays(*n)) {
            let (_, entry) = it.store.0.index.get(&to(n, "a")).unwrap().unwrap();
            let copied = entry.place().segment != it.oldest;
            assert!(!copied || !notes(&it.left.disk).is_empty(), "{n}");
        }
    }
    let text = "bytes 8192 to 12288 cannot be read\nbytes 20480 to 24576 cannot be read\n";
    assert_eq!(notes(&it.left.disk), [text]);
    assert!(it.is_in_quarantine());
}
