//! Cleaning, beside mail that comes and goes, on a disk that forgets what was not synced.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

use super::disk::Disk as _;
use super::disk::memory::{Fault, Lie, MemoryDisk};
use super::power_cut_tests::{SEGMENT, open};
use super::tests::{far, head, id, inline, settlement, site, submission, to};
use super::*;
use crate::intake::accept::Spool as _;
use crate::store::{Store, StoredContent};

const SITES: [&str; 2] = ["a", "b"];

/// What somebody was told about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Accepted, with the attempts of the last note.
    Open(u32),
    /// A note was on its way, from one number of attempts to another.
    Noting(u32, u32),
    Settling,
    Settled,
}

type Model = BTreeMap<(u8, usize), Told>;

/// Mail comes, is noted and is settled, until the disk does no more.
async fn work(store: &Store, rng: &mut StdRng, ids: &mut std::ops::Range<u8>, model: &mut Model) {
    for n in ids {
        let content = match rng.random_range(0..6) {
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
        if store.accept(submission(n, &SITES, content)).await.is_err() {
            return;
        }
        model.extend([((n, 0), Told::Open(0)), ((n, 1), Told::Open(0))]);
        for _ in 0..rng.random_range(0..4) {
            let open = model
                .iter()
                .filter(|(_, told)| matches!(told, Told::Open(_)));
            let open: Vec<_> = open.map(|(key, told)| (*key, *told)).collect();
            if open.len() < 6 {
                break;
            }
            let (key, told) = open[rng.random_range(0..open.len())];
            let attempts = match told {
                Told::Open(attempts) if rng.random_range(0..4) == 0 => attempts,
                _ => {
                    model.insert(key, Told::Settling);
                    let number = u16::try_from(key.1).unwrap();
                    let settled = settlement(key.0, SITES[key.1], number);
                    if store.settle(vec![settled]).await.is_err() {
                        return;
                    }
                    model.insert(key, Told::Settled);
                    continue;
                }
            };
            model.insert(key, Told::Noting(attempts, attempts + 1));
            let note = Note {
                attempts: attempts + 1,
                ..super::tests::note(key.0, SITES[key.1], None)
            };
            if store.note(vec![note]).await.is_err() {
                return;
            }
            model.insert(key, Told::Open(attempts + 1));
        }
    }
}

/// Takes what was on its way for what became of it.
async fn check(store: &Store, model: &mut Model) -> Result<(), String> {
    totals_are_right(store)?;
    let mut there = BTreeMap::new();
    for (which, name) in SITES.iter().enumerate() {
        let head = head(store, name, None, far(), 1000).await;
        for waiting in head.map_err(|error| error.to_string())?.due {
            there.insert((waiting.delivery.message, which), waiting.attempts);
        }
    }
    for (key, told) in model.iter_mut() {
        let delivery = to(key.0, SITES[key.1]);
        let found = there.get(&(delivery.message, key.1)).copied();
        let right = match *told {
            Told::Open(attempts) => found == Some(attempts),
            Told::Noting(before, after) => found == Some(before) || found == Some(after),
            Told::Settling => true,
            Told::Settled => found.is_none(),
        };
        if !right {
            return Err(format!("{key:?}: {told:?}, and there is {found:?}"));
        }
        *told = found.map_or(Told::Settled, Told::Open);
        if found.is_some() {
            whole(store, &delivery, key.0).await?;
        }
    }
    Ok(())
}

/// What is kept in sum, so that no commit has to count, is what counting gives.
fn totals_are_right(store: &Store) -> Result<(), String> {
    let (kept, counted) = store.0.files.bytes_both_ways();
    let (live, counted_live) = store.0.index.live_both_ways();
    let is_right = kept == counted
        && (live.deliveries, live.bytes) == (counted_live.deliveries, counted_live.bytes);
    match is_right {
        true => Ok(()),
        false => Err(format!("{kept} {counted}; {live:?} {counted_live:?}")),
    }
}

async fn whole(store: &Store, delivery: &DeliveryId, n: u8) -> Result<(), String> {
    let loaded = store.load(delivery).await;
    let loaded = loaded.map_err(|error| error.to_string())?.ok_or("gone")?;
    let content = match loaded.content {
        StoredContent::Inline(content) => content,
        StoredContent::File(mut file) => file.next(1000).await.map_err(|it| it.to_string())?,
    };
    let numbers: Vec<_> = loaded
        .envelope
        .recipients
        .iter()
        .map(|it| it.number.0)
        .collect();
    let right =
        content.iter().all(|byte| *byte == n) && content.len() as u64 == loaded.waiting.bytes;
    match right && numbers == [0, 1] {
        true => Ok(()),
        false => Err(format!("{delivery:?} is not what was accepted")),
    }
}

#[derive(Debug, Default)]
struct Seen {
    rolled: u64,
    cleaned: u64,
    carried: u64,
    /// Power cuts between the first copy and the removal of its segment.
    half_cleaned: u64,
}

/// A few starts in a row, each ended by a power cut or a kill.
async fn schedule(seed: u64, disk: MemoryDisk, seen: &mut Seen) -> Result<(), String> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let (mut disk, mut model, mut ids) = (disk, Model::new(), 0..u8::MAX);
    for _ in 0..3 {
        disk.at(rng.random_range(50..1500), Fault::Cut);
        if let Some(store) = open(&disk, &dir) {
            check(&store, &mut model).await?;
            work(&store, rng, &mut ids, &mut model).await;
            let measures = store.measures();
            seen.rolled += measures.rolled_segments;
            seen.cleaned += measures.cleaned_segments;
            seen.carried += measures.carried_records;
            seen.half_cleaned += u64::from(measures.cleaning);
        }
        disk = match rng.random_range(0..5) {
            0 => disk.killed(),
            _ => disk.power_cut(rng),
        };
    }
    let store = open(&disk, &dir).ok_or("it does not open")?;
    check(&store, &mut model).await
}

#[tokio::test]
async fn power_cuts_at_any_operation_of_cleaning_lose_nothing() {
    let mut seen = Seen::default();
    for seed in 0..6 * SCHEDULES {
        // Threads decide what a cut hits: on a busy machine it takes longer until it has hit everything.
        if seed >= SCHEDULES && seen.half_cleaned > SCHEDULES / 50 {
            break;
        }
        let told = schedule(seed, MemoryDisk::default(), &mut seen).await;
        assert_eq!(told, Ok(()), "seed {seed}");
    }
    assert!(
        seen.cleaned > SCHEDULES && seen.carried > SCHEDULES,
        "{seen:?}"
    );
    assert!(seen.half_cleaned > SCHEDULES / 50, "{seen:?}");
}
/// Of three power cuts each.
const SCHEDULES: u64 = 150;

#[tokio::test]
async fn without_its_syncs_cleaning_would_lose_mail() {
    for lie in [Lie::Files, Lie::Names] {
        let mut lost = 0;
        for seed in 0..20 {
            let disk = MemoryDisk::default();
            disk.lie(lie);
            lost += u32::from(schedule(seed, disk, &mut Seen::default()).await.is_err());
        }
        assert!(lost > 0, "{lie:?}");
    }
}

fn message(n: u64) -> Submission<Spooled> {
    Submission {
        id: MessageId::new(1_700_000_000_000 + n, [0xff; 10]),
        ..submission(0, &["a"], inline(7))
    }
}

async fn settle(store: &Store, n: u64) {
    let delivery = DeliveryId {
        message: message(n).id,
        site: site("a"),
    };
    let settled = Settlement {
        delivery,
        ..settlement(0, "a", 0)
    };
    // The log may have failed by then.
    let _ = store.settle(vec![settled]).await;
}

#[tokio::test]
async fn under_load_the_log_takes_at_most_twice_what_lives_and_two_segments() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    let (mut most, mut last) = (0, Measures::default());
    for n in 0..3000 {
        store.accept(message(n)).await.unwrap();
        // One in twenty waits for long.
        if n >= 10 && n % 20 != 0 {
            settle(&store, n - 10).await;
        }
        last = store.measures();
        let bound = 2 * last.live_bytes + 2 * SEGMENT;
        assert!(last.log_bytes <= bound, "{n}: {last:?}");
        most = most.max(last.log_bytes);
    }
    assert!(last.cleaned_segments > 200, "{last:?}");
    let total = store.total().messages;
    assert_eq!(last.live_deliveries, total);
    let after = disk.power_cut(&mut StdRng::seed_from_u64(1));
    let again = open(&after, &dir).unwrap();
    assert_eq!(again.total().messages, total);
    let head = head(&again, "a", None, far(), 1000).await.unwrap();
    let ids: Vec<_> = head.due.iter().map(|it| it.delivery.message).collect();
    assert!(
        ids.is_sorted(),
        "what was carried keeps its place in the queue"
    );
}

/// Mail that is settled at once, until the segments that were there are gone.
async fn push(store: &Store) {
    let cleaned = store.measures().cleaned_segments;
    for n in 1_000..1_200 {
        store.accept(message(n)).await.unwrap();
        settle(store, n).await;
        if store.measures().cleaned_segments > cleaned + 2 {
            return;
        }
    }
    panic!("nothing is cleaned");
}

#[tokio::test]
async fn a_damaged_content_stays_known_as_such_when_it_is_carried() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    let bad = submission(1, &["a"], Content::Inline(Bytes::from(vec![0xbd; 100])));
    store.accept(bad).await.unwrap();
    disk.damage(&first_segment(&disk, &dir), |bytes| {
        let at = bytes.windows(100).position(|it| it == [0xbd; 100]);
        bytes[at.unwrap() + 50] = 0;
    });
    for _ in 0..2 {
        push(&store).await;
        let refused = store.load(&to(1, "a")).await;
        assert!(
            matches!(refused, Err(StoreError::Damaged(_))),
            "{refused:?}"
        );
    }
    let again = open(&disk.killed(), &dir).unwrap();
    assert_eq!(again.find(id(1)).await.unwrap().len(), 1);
    let refused = again.load(&to(1, "a")).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged(_))),
        "{refused:?}"
    );
}

fn first_segment(disk: &MemoryDisk, dir: &TempDir) -> PathBuf {
    let segments = segment::list(disk, &dir.path().join("queue")).unwrap();
    segments[0].1.clone()
}

#[tokio::test]
async fn a_count_that_does_not_agree_ends_the_process_and_the_next_start_is_right() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let (_, entry) = store.0.index.get(&to(1, "a")).unwrap().unwrap();
    let nowhere = log::Written {
        sequence: 77,
        place: log::Place {
            offset: 1,
            ..entry.place()
        },
    };
    let lost = accepted_of(&submission(2, &["a"], inline(2)));
    store.0.index.accepted(&lost, nowhere, 1);
    for n in 0..200 {
        if store.accept(message(n)).await.is_err() || *store.0.failed.borrow() {
            break;
        }
        settle(&store, n).await;
    }
    store.failed().await;
    let again = open(&disk.killed(), &dir).unwrap();
    assert_eq!(again.find(id(1)).await.unwrap().len(), 1);
    assert_eq!(again.find(id(2)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_content_file_goes_with_its_last_delivery_also_after_cleaning_and_a_start() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    let mut spooled = store.spool().await.unwrap();
    spooled.write(Bytes::from(vec![1; 700])).await.unwrap();
    let large = submission(1, &SITES, Content::Spooled(spooled));
    store.accept(large).await.unwrap();
    push(&store).await;
    store.settle(vec![settlement(1, "a", 0)]).await.unwrap();
    push(&store).await;
    let disk = disk.killed();
    let again = open(&disk, &dir).unwrap();
    let files = || disk.list(&dir.path().join("content")).unwrap().len();
    assert_eq!(files(), 1);
    assert_eq!(whole(&again, &to(1, "b"), 1).await, Ok(()));
    again.settle(vec![settlement(1, "b", 1)]).await.unwrap();
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn the_registry_keeps_its_versions_and_its_log_stays_small() {
    let dir = TempDir::new().unwrap();
    let disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    let value = |n: u32| Some(Bytes::from(vec![u8::try_from(n % 251).unwrap(); 100]));
    let first = store.put("site", "first", value(1)).await.unwrap();
    store.put("site", "gone", value(2)).await.unwrap();
    store.put("site", "gone", None).await.unwrap();
    let mut last = 0;
    for n in 0..1000 {
        last = store.put("site", "often", value(n)).await.unwrap();
    }
    let segments = segment::list(&disk, &dir.path().join("registry")).unwrap();
    assert!(segments.len() <= 2, "{}", segments.len());
    let after = disk.power_cut(&mut StdRng::seed_from_u64(2));
    for store in [&store, &open(&after, &dir).unwrap()] {
        let records = store.records("site").unwrap();
        let versions: Vec<_> = records
            .iter()
            .map(|it| (it.key.as_str(), it.version))
            .collect();
        assert_eq!(versions, [("first", first), ("often", last)]);
        assert_eq!(records[1].value, value(999).unwrap());
    }
}

#[tokio::test]
async fn a_segment_without_a_record_is_removed_by_the_next_start() {
    let dir = TempDir::new().unwrap();
    let mut disk = MemoryDisk::default();
    let store = open(&disk, &dir).unwrap();
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    for _ in 0..5 {
        disk = disk.killed();
        let _ = open(&disk, &dir).unwrap();
    }
    let segments = segment::list(&disk, &dir.path().join("queue")).unwrap();
    let starts: Vec<_> = segments.iter().map(|(it, _)| it.start).collect();
    assert_eq!(starts, [1, 6]);
}
