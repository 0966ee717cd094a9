//! A log cut and damaged anywhere, against a model of what must be left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index as Pick;
use tempfile::TempDir;

use prost::Message as _;

use super::body::{SettledRecipient, StoredDelivery};
use super::index::in_memory::InMemory;
use super::log::{Log, NewRecord, Written};
use super::record::Kind;
use super::segment::Segment;
use super::tests::{Opened, opened};
use super::*;
use crate::store::{MinFree, RebuildIndex, Store};

const SITES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone, Copy)]
enum Op {
    /// For all sites.
    Accept(u8),
    Settle(u8, usize),
    Note(u8, usize, u16),
}

/// What must be open: its not-before, and whether it is in doubt.
type Model = BTreeMap<(u8, String), (u64, bool)>;

/// Commits of several records; every message is accepted once, as ids are never used twice.
fn commits(at_least: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    let op = prop_oneof![
        3 => Just(Op::Accept(0)),
        2 => (0..8u8, 0..2_usize).prop_map(|(n, site)| Op::Settle(n, site)),
        1 => (0..8u8, 0..2_usize, any::<u16>()).prop_map(|(n, site, at)| Op::Note(n, site, at)),
    ];
    let commits = prop::collection::vec(prop::collection::vec(op, 1..5), at_least..8);
    commits.prop_map(|mut commits| {
        let mut next = 0;
        for op in commits.iter_mut().flatten() {
            if let Op::Accept(n) = op {
                *n = next;
                next += 1;
            }
        }
        commits
    })
}

fn accepted(n: u8) -> body::Accepted {
    let delivery = |site: &&str| StoredDelivery {
        site: (*site).to_owned(),
        recipients: vec![0],
    };
    body::Accepted {
        id: vec![n; 16],
        deliveries: SITES.iter().map(delivery).collect(),
        bytes: 40,
        ..body::Accepted::default()
    }
}

fn settled(n: u8, site: usize) -> body::Settled {
    body::Settled {
        id: vec![n; 16],
        site: SITES[site].to_owned(),
        recipients: vec![SettledRecipient { number: 0, what: 1 }],
        dsn: None,
    }
}

fn noted(n: u8, site: usize, at: u16) -> body::Noted {
    body::Noted {
        id: vec![n; 16],
        site: SITES[site].to_owned(),
        attempts: 1,
        not_before_ms: at.into(),
        ..body::Noted::default()
    }
}

fn record_of(op: Op) -> NewRecord {
    let (kind, envelope, content) = match op {
        // Never zero: zeros behind a cut would make the record whole again.
        Op::Accept(n) => (Kind::Accepted, accepted(n).encode_to_vec(), vec![n + 1; 40]),
        Op::Settle(n, site) => (Kind::Settled, settled(n, site).encode_to_vec(), Vec::new()),
        Op::Note(n, site, at) => (Kind::Noted, noted(n, site, at).encode_to_vec(), Vec::new()),
    };
    NewRecord {
        kind,
        envelope,
        content: Bytes::from(content),
    }
}

fn apply(model: &mut Model, op: Op) {
    match op {
        Op::Accept(n) => model.extend(SITES.map(|site| ((n, site.to_owned()), (0, false)))),
        Op::Settle(n, site) => {
            model.remove(&(n, SITES[site].to_owned()));
        }
        Op::Note(n, site, at) => {
            let key = (n, SITES[site].to_owned());
            model.entry(key).and_modify(|it| it.0 = at.into());
        }
    }
}

#[derive(Debug)]
struct Placed {
    op: Op,
    written: Written,
    /// Bytes of header and envelope.
    covered: u64,
}

/// A queue log of an earlier start, and where each record lies, by commit.
fn write(dir: &Path, segment_bytes: u64, commits: &[Vec<Op>]) -> Vec<Vec<Placed>> {
    std::fs::create_dir_all(dir.join("queue")).unwrap();
    let own = Segment {
        log_id: 7,
        number: 1,
        marker: 0x5eed_5eed_5eed_5eed,
        start: 1,
        first_sequence: 1,
    };
    let disk: SharedDisk = Arc::new(RealDisk);
    let queue = dir.join("queue");
    let segments = log::Segments {
        bytes: segment_bytes,
        making: Making::WhenTaken,
    };
    let mut log = Log::begin(&disk, &queue, segments, own, Files::default()).unwrap();
    let commit = |ops: &Vec<Op>| {
        let records: Vec<NewRecord> = ops.iter().map(|op| record_of(*op)).collect();
        let written = log.append(&records, 0, 1).unwrap();
        let each = ops.iter().zip(&records).zip(written);
        each.map(|((op, record), written)| Placed {
            op: *op,
            written,
            covered: (record::HEADER + record.envelope.len()) as u64,
        })
        .collect()
    };
    commits.iter().map(commit).collect()
}

fn open(dir: &Path) -> (Store, Opened) {
    opened(&Settings {
        dir: dir.to_owned(),
        segment_bytes: 1 << 20,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    })
}

/// An index that knows all, as of a first start.
fn live() -> Index {
    let own = index::Own {
        sequence: 1,
        segment: 1,
    };
    let live = Index::new(own, 1);
    live.stand_on(Some(InMemory::default().create().unwrap()));
    live.knows_now().unwrap();
    live
}

fn read(dir: &Path) -> (Model, Opened) {
    let (store, report) = open(dir);
    let entry = |(_, it): (Vec<u8>, Waiting)| {
        let key = (
            it.delivery.message.as_bytes()[0],
            it.delivery.site.to_string(),
        );
        (key, (it.position.not_before_ms, it.in_doubt))
    };
    let open = store.0.index.list(None, None, 1000).unwrap();
    (open.into_iter().map(entry).collect(), report)
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    let mut all = segment::list(&RealDisk, &dir.join("queue")).unwrap();
    all.retain(|(it, _)| it.number == number);
    all.remove(0).1
}

fn change(dir: &Path, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let path = path_of(dir, segment);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, &bytes).unwrap();
}

fn flip(dir: &Path, segment: u64, offset: u64) {
    change(dir, segment, |bytes| bytes[index(offset)] ^= 0x40);
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn pick(from: u64, to: u64, at: Pick) -> u64 {
    from + at.index(index(to - from)) as u64
}

fn set_aside(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("quarantine")).unwrap().count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cut_anywhere_in_the_last_commit_every_earlier_one_is_whole(
        commits in commits(1),
        segment_bytes in prop_oneof![Just(300_u64), Just(1 << 20)],
        at: Pick,
    ) {
        let dir = TempDir::new().unwrap();
        let written = write(dir.path(), segment_bytes, &commits);
        // A group of records that reaches into another segment is a commit in each.
        let all: Vec<&Placed> = written.iter().flatten().collect();
        let of_last_group = written[written.len() - 1].len();
        let end = all[all.len() - 1].written.place;
        let in_last_commit = |it: &&&Placed| it.written.place.segment == end.segment;
        let first = all.iter().rev().take(of_last_group).take_while(in_last_commit).last().unwrap();
        let cut = pick(first.written.place.offset, end.offset + end.len, at);
        change(dir.path(), end.segment, |bytes| bytes[index(cut)..].fill(0));
        let mut expected = Model::new();
        let whole = |it: &&&Placed| {
            let place = it.written.place;
            place.segment < end.segment || place.offset + place.len <= cut
        };
        all.iter().filter(whole).for_each(|it| apply(&mut expected, it.op));
        for _ in 0..2 {
            let (found, report) = read(dir.path());
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(report.damaged, 0);
        }
    }

    #[test]
    fn a_bad_record_of_an_earlier_commit_costs_only_itself(
        commits in commits(2),
        segment_bytes in prop_oneof![Just(300_u64), Just(1 << 20)],
        which: Pick,
        at: Pick,
    ) {
        let dir = TempDir::new().unwrap();
        let written = write(dir.path(), segment_bytes, &commits);
        let earlier: usize = written[..written.len() - 1].iter().map(Vec::len).sum();
        let which = which.index(earlier);
        let all: Vec<&Placed> = written.iter().flatten().collect();
        let place = all[which].written.place;
        let byte = pick(place.offset, place.offset + all[which].covered, at);
        flip(dir.path(), place.segment, byte);

        let mut expected = Model::new();
        for (n, it) in all.iter().enumerate() {
            if n == which {
                expected.values_mut().for_each(|it| it.1 = true);
            } else {
                apply(&mut expected, it.op);
            }
        }
        for _ in 0..2 {
            let (found, report) = read(dir.path());
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(report.damaged, 1);
            prop_assert_eq!(set_aside(dir.path()), 1);
        }
    }

    #[test]
    fn the_index_after_a_replay_is_the_index_as_it_was_live(
        commits in commits(1),
        flushes in prop::collection::vec(any::<bool>(), 8),
    ) {
        let dir = TempDir::new().unwrap();
        let written = write(dir.path(), 300, &commits);
        let live = live();
        for (commit, flush) in written.iter().zip(flushes) {
            for it in commit {
                match it.op {
                    Op::Accept(n) => drop(live.accepted(&accepted(n), it.written, 1)),
                    Op::Settle(n, site) => drop(live.settled(&settled(n, site)).unwrap()),
                    Op::Note(n, site, at) => live.noted(&noted(n, site, at)).unwrap(),
                }
            }
            if flush {
                live.flush_pending().unwrap();
            }
        }
        let (again, _) = open(dir.path());
        let mut expected = live.list(None, None, 1000).unwrap();
        expected.iter_mut().for_each(|(_, it)| it.earlier_start = true);
        prop_assert_eq!(again.0.index.list(None, None, 1000).unwrap(), expected);
        for name in SITES {
            let site: SiteName = name.parse().unwrap();
            prop_assert_eq!(again.count(&site), live.count_of(&site));
            let due = "1970-01-01T00:00:30Z".parse().unwrap();
            let of = |index: &Index| {
                let head = index.head(&site, None, due, 5).unwrap();
                let due = head.due.iter().map(|it| (it.delivery.clone(), it.position));
                (due.collect::<Vec<_>>(), head.more, head.next_due)
            };
            prop_assert_eq!(of(&again.0.index), of(&live));
        }
    }
}

#[test]
fn damage_in_front_of_a_torn_commit_is_not_cut_with_it() {
    let commits = [
        vec![Op::Accept(0)],
        vec![Op::Accept(1)],
        vec![Op::Accept(2), Op::Accept(3)],
    ];
    // Of the last commit nothing is good, or its second record; in the one before it a byte of the envelope is bad.
    for second_is_good in [false, true] {
        let dir = TempDir::new().unwrap();
        let written = write(dir.path(), 1 << 20, &commits);
        flip(dir.path(), 1, written[1][0].written.place.offset + 70);
        flip(dir.path(), 1, written[2][0].written.place.offset + 70);
        if !second_is_good {
            flip(dir.path(), 1, written[2][1].written.place.offset + 70);
        }
        for start in 0..2 {
            let (found, report) = read(dir.path());
            let open: Vec<_> = found.into_iter().map(|((n, _), it)| (n, it.1)).collect();
            assert_eq!(
                open,
                [(0, true), (0, true)],
                "{second_is_good}, start {start}"
            );
            assert_eq!(report.damaged, 1, "{second_is_good}, start {start}");
        }
    }
}

#[test]
fn a_commit_that_has_a_successor_is_never_cut_again() {
    let dir = TempDir::new().unwrap();
    let written = write(dir.path(), 1 << 20, &[(0..3).map(Op::Accept).collect()]);
    // A start that did nothing more than to make its own, empty segment, and was killed.
    assert_eq!(read(dir.path()).0.len(), 6);
    flip(dir.path(), 1, written[0][1].written.place.offset + 60);
    let (found, report) = read(dir.path());
    let open: Vec<_> = found.into_iter().map(|((n, _), it)| (n, it.1)).collect();
    assert_eq!(open, [(0, true), (0, true), (2, false), (2, false)]);
    assert_eq!((report.damaged, report.torn_bytes), (1, 0));
}

#[test]
fn damage_at_the_end_of_a_segment_puts_what_came_before_in_doubt() {
    let dir = TempDir::new().unwrap();
    let commits: Vec<_> = [
        Op::Accept(0),
        Op::Accept(1),
        Op::Settle(0, 0),
        Op::Accept(2),
    ]
    .map(|op| vec![op])
    .into();
    let written = write(dir.path(), 1, &commits);
    let place = written[2][0].written.place;
    for cut_short in [false, true] {
        change(dir.path(), place.segment, |bytes| match cut_short {
            false => bytes[index(place.offset) + 60] ^= 1,
            true => bytes.truncate(index(segment::HEADER)),
        });
        let (found, report) = read(dir.path());
        let doubts: Vec<_> = found.iter().map(|((n, _), it)| (*n, it.1)).collect();
        let expected = [
            (0, true),
            (0, true),
            (1, true),
            (1, true),
            (2, false),
            (2, false),
        ];
        assert_eq!(doubts, expected, "cut short: {cut_short}");
        assert_eq!(report.damaged, 1);
    }
}

#[test]
fn a_later_note_does_not_take_the_doubt_of_damage_back() {
    let dir = TempDir::new().unwrap();
    let commits: Vec<_> = [Op::Accept(0), Op::Settle(0, 0), Op::Note(0, 0, 0)]
        .map(|op| vec![op])
        .into();
    let written = write(dir.path(), 1 << 20, &commits);
    flip(dir.path(), 1, written[1][0].written.place.offset + 60);
    let (found, _) = read(dir.path());
    assert!(found.values().all(|it| it.1), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_content_file_stays_named_while_its_last_id_moves_into_sled() {
    let live = live();
    let done = std::sync::atomic::AtomicBool::new(false);
    let place = log::Place {
        segment: 1,
        offset: 64,
        len: 100,
    };
    let lost = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                live.flush_pending().unwrap();
            }
        });
        let mut lost = 0;
        for sequence in 0..20_000_u64 {
            let mut message = accepted(0);
            message.id[..8].copy_from_slice(&sequence.to_be_bytes());
            message.file = "content".to_owned();
            live.accepted(&message, Written { sequence, place }, 1);
            for (site, unnamed) in [(0, false), (1, true)] {
                let settled = body::Settled {
                    id: message.id.clone(),
                    ..settled(0, site)
                };
                let file = live.settled(&settled).unwrap();
                lost += u32::from(file.is_some() != unnamed);
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        lost
    });
    assert_eq!(lost, 0);
}
