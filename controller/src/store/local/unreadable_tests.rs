//! Disks of which a part cannot be read: a start, a delivery and cleaning go on, and lose what lay there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio::task::yield_now;

use super::disk::Disk as _;
use super::disk::memory::MemoryDisk;
use super::index::in_memory::InMemory;
use super::log::Place;
use super::pieces::BLOCK;
use super::tests::{comes_to_know, settlement, stood, submission, to};
use super::*;
use crate::intake::accept::Spool as _;
use crate::store::{MinFree, RebuildIndex, Store, StoredContent};

const SEGMENT: u64 = 32 << 10;
pub(super) const STATE: &str = "/state";
pub(super) const MAIL: u8 = 26;
/// Its content lies in a file.
const LARGE: u8 = 20;
const SITES: [&str; 3] = ["home", "office", "school"];

pub(super) fn settings() -> Settings {
    Settings {
        dir: STATE.into(),
        segment_bytes: SEGMENT,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    }
}

pub(super) fn content(n: u8) -> Bytes {
    vec![n; 2500].into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Killed,
    InOrder,
}

/// What an earlier start has left.
pub(super) struct Left {
    pub(super) disk: MemoryDisk,
    pub(super) shelves: InMemory,
    /// The record of each mail, and where its content begins.
    pub(super) places: Vec<(u8, Place, u64)>,
}

pub(super) fn opened(disk: &MemoryDisk, shelves: &InMemory) -> Store {
    let (store, _) = Store::open_on(stood(disk.clone(), shelves.clone()), &settings()).unwrap();
    assert!(comes_to_know(&store));
    store
}

pub(super) async fn left(stopped: Stopped) -> Left {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = opened(&disk, &shelves);
    for name in SITES {
        store.put("site", name, Some(content(1))).await.unwrap();
    }
    for n in 1..=MAIL {
        let content = match n {
            LARGE => {
                let mut spooled = store.spool().await.unwrap();
                spooled.write(vec![n; 9000].into()).await.unwrap();
                Content::Spooled(spooled)
            }
            n => Content::Inline(content(n)),
        };
        store.accept(submission(n, &["a"], content)).await.unwrap();
    }
    let places = (1..=MAIL).map(|n| {
        let (_, entry) = store.0.index.get(&to(n, "a")).unwrap().unwrap();
        let place = entry.place();
        let (header, _) = store.0.files.read_envelope(place).unwrap();
        (
            n,
            place,
            place.offset + place.len - u64::from(header.content_len),
        )
    });
    let places = places.collect();
    let disk = match stopped {
        Stopped::Killed => disk.killed(),
        Stopped::InOrder => {
            store.close().await.unwrap();
            disk
        }
    };
    Left {
        disk,
        shelves,
        places,
    }
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Whole,
    /// Held, and shown as damaged.
    Damaged,
    Gone,
}

pub(super) async fn is(store: &Store, n: u8) -> Is {
    match store.load(&to(n, "a")).await {
        Ok(None) => Is::Gone,
        Err(StoreError::Damaged(_)) => Is::Damaged,
        Err(error) => panic!("{error}"),
        Ok(Some(loaded)) => {
            let bytes = match loaded.content {
                StoredContent::Inline(content) => content,
                StoredContent::File(mut file) => file.next(usize::MAX).await.unwrap(),
            };
            assert!(bytes.iter().all(|byte| *byte == n));
            Is::Whole
        }
    }
}

fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// What the loss of a part of a file of the log costs.
pub(super) fn costs(left: &Left, stopped: Stopped, segment: u64, hole: &Range<u64>) -> Vec<Is> {
    let of = |(_, place, content): &(u8, Place, u64)| {
        let head = place.offset..*content;
        let tail = *content..place.offset + place.len;
        match (meet(&head, hole), meet(&tail, hole)) {
            _ if place.segment != segment => Is::Whole,
            // The index of a clean stop still knows of it, where it is trusted.
            (true, _) if stopped == Stopped::Killed => Is::Gone,
            (true, _) | (_, true) => Is::Damaged,
            _ => Is::Whole,
        }
    };
    left.places.iter().map(of).collect()
}

pub(super) fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    Some(segment::Segment::from_file_name(name)?.number)
}

fn blocks(disk: &MemoryDisk, path: &Path) -> Vec<Range<u64>> {
    let (len, block) = (disk.len_of(path), BLOCK as u64);
    let starts = (0..len.div_ceil(block)).map(|n| n * block);
    starts.map(|at| at..(at + block).min(len)).collect()
}

pub(super) fn is_in(path: &Path, dir: &str) -> bool {
    path.starts_with(Path::new(STATE).join(dir))
}

/// A start with one block of one file unreadable, for every block of every file there is.
#[tokio::test]
async fn a_part_of_any_file_that_cannot_be_read_costs_what_lay_there() {
    for stopped in [Stopped::Killed, Stopped::InOrder] {
        let files = files_of(&left(stopped).await);
        let kinds = ["queue", "registry", "content"];
        assert!(
            kinds
                .iter()
                .all(|kind| files.iter().any(|it| is_in(it, kind)))
        );
        let mut seen = 0;
        for n in 0..files.len() {
            let before = left(stopped).await;
            for hole in blocks(&before.disk, &files_of(&before)[n]) {
                let left = left(stopped).await;
                let path = files_of(&left)[n].clone();
                left.disk.unreadable(&path, hole.clone());
                starts(&left, stopped, &path, &hole).await;
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }
}

/// All files that are ever read, in an order that does not depend on the random parts of their names.
pub(super) fn files_of(left: &Left) -> Vec<PathBuf> {
    let mut files = left.disk.files();
    files.retain(|path| path.extension().is_none_or(|it| it != "spare"));
    files
}

async fn starts(left: &Left, stopped: Stopped, path: &Path, hole: &Range<u64>) {
    let shown = format!("{stopped:?} {} {hole:?}", path.display());
    let store = opened(&left.disk, &left.shelves);
    let mut found = Vec::new();
    for n in 1..=MAIL {
        found.push(is(&store, n).await);
    }
    let whole = vec![Is::Whole; usize::from(MAIL)];
    let expected = match number_of(path) {
        Some(number) if is_in(path, "queue") => costs(left, stopped, number, hole),
        _ if is_in(path, "content") => {
            let mut expected = whole;
            expected[usize::from(LARGE) - 1] = Is::Damaged;
            expected
        }
        _ => whole,
    };
    if stopped == Stopped::InOrder && store.progress().bytes > 0 {
        // The end of the log is not where the marker says, for its last record cannot be read.
        let expected = costs_of(left, Stopped::Killed, path, hole);
        assert_eq!(found, expected, "{shown}");
        return;
    }
    assert_eq!(found, expected, "{shown}");
    // Only what is gone may have been a settlement. Behind the last record nobody knows whether there was another.
    let is_gone = found.contains(&Is::Gone);
    let (_, last, _) = left.places[usize::from(MAIL) - 1];
    let end = last.offset + last.len;
    let may_hide = number_of(path) == Some(last.segment)
        && is_in(path, "queue")
        && meet(hole, &(end..end + record::HEADER as u64));
    let doubts = stopped == Stopped::Killed && (is_gone || may_hide);
    assert_eq!(store.progress().damaged > 0, doubts, "{shown}");
    if is_gone {
        let aside = left
            .disk
            .list(&Path::new(STATE).join("quarantine"))
            .unwrap();
        assert!(
            aside.iter().any(|it| it.ends_with("-unreadable")),
            "{shown} {aside:?}"
        );
    }
    // What is registered is there, or all sites are held, or it is known which one is damaged.
    let records = store.records("site").unwrap();
    let good = records.iter().filter(|it| it.value == content(1)).count();
    let known = records.len() == SITES.len();
    assert!(known || store.holds_all_sites(), "{shown}");
    assert!(good == SITES.len() || is_in(path, "registry"), "{shown}");
    assert!(good + 2 >= SITES.len(), "{shown}: {good}");
}

fn costs_of(left: &Left, stopped: Stopped, path: &Path, hole: &Range<u64>) -> Vec<Is> {
    match number_of(path) {
        Some(number) if is_in(path, "queue") => costs(left, stopped, number, hole),
        _ => vec![Is::Whole; usize::from(MAIL)],
    }
}

#[tokio::test]
async fn a_read_that_fails_once_costs_nothing() {
    let left = left(Stopped::Killed).await;
    let store = opened(&left.disk, &left.shelves);
    for n in 1..=MAIL {
        left.disk.fail_reads(1);
        assert_eq!(is(&store, n).await, Is::Whole, "{n}");
    }
}

pub(super) fn segment_path(left: &Left, number: u64) -> PathBuf {
    let mut files = files_of(left).into_iter();
    let is_it = |it: &PathBuf| is_in(it, "queue") && number_of(it) == Some(number);
    files.find(is_it).unwrap()
}

pub(super) fn notes(disk: &MemoryDisk) -> Vec<String> {
    let dir = Path::new(STATE).join("quarantine");
    let names = disk.list(&dir).unwrap().into_iter();
    names
        .filter(|it| it.ends_with("-unreadable"))
        .map(|it| {
            let bytes = disk::read(disk, &dir.join(it)).unwrap();
            String::from_utf8(bytes).unwrap()
        })
        .collect()
}

pub(super) const HOLE: Range<u64> = 8192..12288;

/// Records that lie where the disk cannot read, at the very end: each later start has to miss them.
#[tokio::test]
async fn what_is_hidden_at_the_end_is_missed_by_every_later_start() {
    let left = left(Stopped::Killed).await;
    let (_, last, _) = left.places[usize::from(MAIL) - 1];
    let path = segment_path(&left, last.segment);
    left.disk.unreadable(&path, last.offset..last.offset + 1);
    let mut disk = left.disk.clone();
    for start in 1..=3 {
        let store = opened(&disk, &InMemory::default());
        assert!(store.progress().damaged > 0, "{start}");
        let found = store.find(super::tests::id(1)).await.unwrap();
        assert!(found[0].in_doubt, "{start}");
        let new = MAIL + start;
        let submission = submission(new, &["a"], Content::Inline(content(new)));
        store.accept(submission).await.unwrap();
        let (position, _) = store.0.index.get(&to(new, "a")).unwrap().unwrap();
        assert!(
            position.sequence > u64::from(MAIL),
            "{start}: {} was given out before",
            position.sequence
        );
        disk = disk.killed();
    }
}

/// In front of a torn commit a record lies where the disk cannot read: the commit goes, and its number says that there was
/// one more.
#[tokio::test]
async fn what_is_hidden_in_front_of_a_torn_commit_is_missed_too() {
    let left = left(Stopped::Killed).await;
    let block = BLOCK as u64;
    let pair = left.places.windows(2).find(|pair| {
        let [(_, hidden, _), (_, torn, _)] = pair else {
            return false;
        };
        let block_end = hidden.offset / block * block + block;
        hidden.segment == torn.segment && hidden.offset > block && block_end <= torn.offset
    });
    let [(n, hidden, _), (_, torn, _)] = *pair.unwrap() else {
        panic!("a pair is two");
    };
    let path = segment_path(&left, torn.segment);
    let segments = left.places.iter().map(|(_, place, _)| place.segment);
    let later: BTreeSet<u64> = segments.filter(|it| *it > torn.segment).collect();
    for segment in later {
        left.disk.unlink(&segment_path(&left, segment)).unwrap();
    }
    let end = usize::try_from(torn.offset + torn.len).unwrap();
    left.disk.damage(&path, |bytes| {
        bytes.truncate(end);
        bytes[end - 1] ^= 1;
    });
    left.disk
        .unreadable(&path, hidden.offset..hidden.offset + 1);
    let store = opened(&left.disk, &InMemory::default());
    assert!(store.progress().damaged > 0);
    let submission = submission(MAIL + 1, &["a"], Content::Inline(content(1)));
    store.accept(submission).await.unwrap();
    let (position, _) = store.0.index.get(&to(MAIL + 1, "a")).unwrap().unwrap();
    assert!(
        position.sequence > u64::from(n),
        "{} was given out before",
        position.sequence
    );
}

/// Of a log one segment is left, for the others were cleaned, and nothing of it can be read.
#[tokio::test]
async fn where_nothing_tells_which_numbers_were_given_out_others_are() {
    let left = left(Stopped::Killed).await;
    let segments: BTreeSet<u64> = left.places.iter().map(|(_, it, _)| it.segment).collect();
    let last = *segments.last().unwrap();
    for segment in &segments {
        let path = segment_path(&left, *segment);
        match *segment == last {
            true => left.disk.unreadable(&path, 0..SEGMENT),
            false => left.disk.unlink(&path).unwrap(),
        }
    }
    let mut disk = left.disk.clone();
    let mut before = u64::from(MAIL);
    for new in MAIL + 1..MAIL + 4 {
        let store = opened(&disk, &InMemory::default());
        let submission = submission(new, &["a"], Content::Inline(content(new)));
        store.accept(submission).await.unwrap();
        let (position, _) = store.0.index.get(&to(new, "a")).unwrap().unwrap();
        assert!(position.sequence > before, "{} {before}", position.sequence);
        before = position.sequence;
        disk = disk.killed();
    }
}

#[tokio::test]
async fn a_note_for_which_there_was_no_room_is_owed_until_the_log_is_read_again() {
    let left = left(Stopped::Killed).await;
    let path = segment_path(&left, left.places[0].1.segment);
    left.disk.unreadable(&path, HOLE);
    let on = On {
        blocking: Blocking::Caller,
        ..stood(left.disk.clone(), left.shelves.clone())
    };
    let (store, mut steps, _) = Store::open_stepped(on, &settings()).unwrap();
    left.disk.set_capacity(left.disk.used());
    while !*store.all_known().borrow() {
        steps.index();
    }
    assert_eq!(notes(&left.disk), Vec::<String>::new());
    let committing = async {
        yield_now().await;
        steps.commit();
    };
    let (closed, ()) = tokio::join!(store.close(), committing);
    closed.unwrap();
    drop((store, steps));
    left.disk.set_capacity(1 << 30);
    let store = opened(&left.disk, &left.shelves);
    assert!(store.progress().bytes > 0, "the log was read again");
    assert_eq!(notes(&left.disk).len(), 1);
    store.close().await.unwrap();
}

/// The registry's first segment.
fn registry_path(disk: &MemoryDisk) -> PathBuf {
    let mut files = disk.files().into_iter();
    let is_it = |it: &PathBuf| is_in(it, "registry") && number_of(it) == Some(1);
    files.find(is_it).unwrap()
}

#[tokio::test]
async fn a_segment_of_the_registry_with_a_hole_is_not_unlinked() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = opened(&disk, &shelves);
    let large = Bytes::from(vec![7; 9000]);
    store
        .put("site", "home", Some(large.clone()))
        .await
        .unwrap();
    store.put("site", "last", Some(content(1))).await.unwrap();
    let disk = disk.killed();
    let path = registry_path(&disk);
    // In the value of the first of two records.
    disk.unreadable(&path, 5000..5001);
    let store = opened(&disk, &InMemory::default());
    assert!(!store.holds_all_sites());
    assert_eq!(store.records("site").unwrap()[0].value, large);
    for _ in 0..40 {
        store.put("site", "last", Some(content(2))).await.unwrap();
    }
    assert!(disk.open(&path).is_err(), "it was cleaned");
    let name = path.file_name().unwrap();
    let aside = Path::new(STATE).join("quarantine").join(name);
    assert!(disk.open(&aside).is_ok());
}

/// A change is there twice: nobody is held for a bit.
#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_registry_costs_nothing() {
    let (disk, shelves) = (MemoryDisk::default(), InMemory::default());
    let store = opened(&disk, &shelves);
    let value = || Some(Bytes::from_static(b"value"));
    for (name, value) in [("a", value()), ("b", value()), ("b", None), ("c", value())] {
        store.put("site", name, value).await.unwrap();
    }
    // What is bad in the last commit is torn.
    let (_, end, _) = store.0.registry.end();
    store.put("site", "last", value()).await.unwrap();
    let expected = store.records("site").unwrap();
    assert_eq!(expected.len(), 3);
    drop(store);
    let disk = disk.killed();
    let path = registry_path(&disk);
    for at in 0..usize::try_from(end).unwrap() {
        let disk = disk.copied();
        disk.damage(&path, |bytes| bytes[at] ^= 4);
        let store = opened(&disk, &InMemory::default());
        assert!(!store.holds_all_sites(), "{at}");
        assert_eq!(store.records("site").unwrap(), expected, "{at}");
    }
}

/// With the last commit torn, and no room for a copy of what is torn.
#[tokio::test]
async fn a_full_disk_with_a_torn_end_starts() {
    let left = left(Stopped::Killed).await;
    let (_, last, content) = left.places[usize::from(MAIL) - 1];
    let segments = left
        .disk
        .files()
        .into_iter()
        .filter(|it| is_in(it, "queue"));
    let path = segments
        .max_by_key(|it| number_of(it).unwrap_or(0))
        .unwrap();
    assert_eq!(number_of(&path), Some(last.segment));
    left.disk.damage(&path, |bytes| {
        bytes[usize::try_from(content).unwrap()] ^= 1;
    });
    left.disk.set_capacity(left.disk.used());
    let store = opened(&left.disk, &left.shelves);
    for n in 1..MAIL {
        assert_eq!(is(&store, n).await, Is::Whole);
    }
    assert_eq!(is(&store, MAIL).await, Is::Gone);
    assert_eq!(store.progress().damaged, 0);
}

#[tokio::test]
async fn a_look_that_panics_ends_the_process() {
    let left = left(Stopped::Killed).await;
    let store = opened(&left.disk, &left.shelves);
    assert!(!store.has_failed());
    let looked = store.0.look(|_| -> Result<(), _> { panic!("on purpose") });
    assert!(looked.await.is_err());
    assert!(store.has_failed());
}

/// Failed tries of a dead site, for hours, on a full disk: the reserve stays for what settles mail.
#[tokio::test]
async fn notes_of_failed_tries_do_not_use_up_a_full_disk() {
    let left = left(Stopped::Killed).await;
    let store = opened(&left.disk, &left.shelves);
    left.disk.set_capacity(left.disk.used());
    let mut attempts = 0;
    for _ in 0..20 {
        for n in 1..=MAIL {
            attempts += 1;
            let note = Note {
                attempts,
                in_doubt: false,
                kept: false,
                warned: false,
                last: "no route to host".repeat(20),
                ..super::tests::note(n, "a", None)
            };
            store.note(vec![note]).await.unwrap();
        }
    }
    assert_eq!(
        store.find(super::tests::id(MAIL)).await.unwrap()[0].attempts,
        attempts
    );
    // What a start must know is written from the reserve.
    let doubt = super::tests::note(1, "a", None);
    store.note(vec![doubt]).await.unwrap();
    for n in 2..=MAIL {
        store.settle(vec![settlement(n, "a", 0)]).await.unwrap();
    }
    assert!(!store.has_failed());
    left.disk.set_capacity(1 << 30);
    let again = opened(&left.disk.killed(), &InMemory::default());
    assert_eq!(again.total().messages, 1);
    assert!(again.find(super::tests::id(1)).await.unwrap()[0].in_doubt);
}

/// The reserve is used up, too: nothing ends, and nothing that became of mail is lost.
#[tokio::test]
async fn what_finds_no_room_at_all_waits_for_some() {
    let left = left(Stopped::Killed).await;
    let on = On {
        blocking: Blocking::Caller,
        ..stood(left.disk.clone(), left.shelves.clone())
    };
    let (store, mut steps, _) = Store::open_stepped(on, &settings()).unwrap();
    while !*store.all_known().borrow() {
        steps.index();
    }
    left.disk.set_capacity(left.disk.used());
    let doubted = |n: u8| Note {
        last: "no route to host ".repeat(600),
        ..super::tests::note(n, "a", None)
    };
    let mut noting = tokio::task::JoinSet::new();
    for n in 1..=MAIL {
        let store = store.clone();
        noting.spawn(async move { store.note(vec![doubted(n)]).await.unwrap() });
    }
    let mut written = 0;
    for _ in 0..20 {
        yield_now().await;
        steps.commit();
        yield_now().await;
        while noting.try_join_next().is_some() {
            written += 1;
        }
    }
    assert!(!store.has_failed());
    assert!(written < u32::from(MAIL), "the disk was full");
    assert_eq!(store.space(), Space::Short);
    left.disk.set_capacity(1 << 30);
    while !noting.is_empty() {
        steps.commit();
        yield_now().await;
        while noting.try_join_next().is_some() {}
    }
    let again = opened(&left.disk.killed(), &InMemory::default());
    for n in 1..=MAIL {
        let found = again.find(super::tests::id(n)).await.unwrap();
        assert!(found[0].in_doubt, "{n}");
    }
}
