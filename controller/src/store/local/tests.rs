//! The engine as a whole: what was acknowledged is there after any end of the process, and what was not is not.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::RecipientNumber;
use dd_proto::path::ReversePath;
use tempfile::TempDir;

use super::*;
use crate::intake::accept::Spool as _;
use crate::store::{MinFree, Notification, Position, RebuildIndex, Settled, Store, StoredContent};

pub(super) fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        segment_bytes: 16 << 10,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    }
}

/// What the stores of tests stand on: no segment is made before it is needed, and no space is held back.
pub(super) fn stood(disk: impl disk::Disk + 'static, shelves: impl Shelves + 'static) -> On {
    On {
        disk: Arc::new(disk),
        making: Making::WhenTaken,
        shelves: Arc::new(shelves),
        ballast_bytes: 0,
        wall: Arc::new(wall::MachineWall),
        blocking: Blocking::Threads,
    }
}

/// A store whose earlier mail is known, and how it came to know.
pub(super) fn opened(settings: &Settings) -> (Store, Opened) {
    let shelves = OnSled::new(&settings.dir.join("index"));
    let on = stood(RealDisk, shelves);
    let (store, report) = Store::open_on(on, settings).unwrap();
    wait_until_known(&store);
    let progress = store.progress();
    let opened = Opened {
        start: report.start,
        torn_bytes: report.torn_bytes,
        damaged: progress.damaged,
        replayed: if progress.bytes > 0 {
            progress.records
        } else {
            0
        },
    };
    (store, opened)
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) start: u64,
    pub(super) torn_bytes: u64,
    pub(super) damaged: u64,
    /// Records of the log; 0 where the index was trusted.
    pub(super) replayed: u64,
}

pub(super) fn wait_until_known(store: &Store) {
    assert!(comes_to_know(store), "the store failed");
}

/// Waits until all is known, or the store has failed; also where a runtime runs on this thread already.
pub(super) fn comes_to_know(store: &Store) -> bool {
    let store = store.clone();
    let waiting = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            let mut all_known = store.all_known();
            let either = async {
                tokio::select! {
                    known = all_known.wait_for(|known| *known) => known.is_ok(),
                    () = store.failed() => false,
                }
            };
            let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), either);
            in_time
                .await
                .expect("it knows all, or fails, within a minute")
        })
    });
    waiting.join().unwrap()
}

fn open(dir: &Path) -> (Store, Opened) {
    opened(&settings(dir))
}

pub(super) fn id(n: u8) -> MessageId {
    MessageId::new(1_700_000_000_000 + u64::from(n), [n; 10])
}

pub(super) fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

pub(super) fn to(n: u8, site_name: &str) -> DeliveryId {
    DeliveryId {
        message: id(n),
        site: site(site_name),
    }
}

pub(super) fn far() -> Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn submission(n: u8, sites: &[&str], content: Content<Spooled>) -> Submission<Spooled> {
    let recipient = |number: u16| Recipient {
        number: RecipientNumber(number),
        path: format!("user{number}@home.example").parse().unwrap(),
        notify: Some("FAILURE".to_owned()),
        orcpt: None,
    };
    let count = u16::try_from(sites.len()).unwrap();
    Submission {
        id: id(n),
        message_id: "".into(),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox("Sender@example.org".parse().unwrap()),
            body: Body::EightBitMime,
            encoding: Encoding::Ascii,
            ret: None,
            envid: Some("x+2B".to_owned()),
            recipients: (0..count).map(recipient).collect(),
            client: None,
        },
        deliveries: (0..count)
            .zip(sites)
            .map(|(number, name)| (site(name), vec![RecipientNumber(number)]))
            .collect(),
        content,
        arrived: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

pub(super) fn inline(n: u8) -> Content<Spooled> {
    Content::Inline(Bytes::from(vec![n; 100]))
}

pub(super) fn settlement(n: u8, name: &str, number: u16) -> Settlement {
    Settlement {
        delivery: to(n, name),
        recipients: vec![(RecipientNumber(number), Settled::Relayed)],
    }
}

pub(super) fn note(n: u8, name: &str, not_before: Option<Timestamp>) -> Note {
    Note {
        delivery: to(n, name),
        attempts: 3,
        breaks: 0,
        in_doubt: true,
        failed: false,
        kept: true,
        warned: true,
        not_before,
        last: "450 4.2.2 full".to_owned(),
    }
}

pub(super) async fn head(
    store: &Store,
    name: &str,
    after: Option<Position>,
    due: Timestamp,
    limit: usize,
) -> Result<Head, StoreError> {
    let of = HeadOf {
        site: site(name),
        after,
        due,
        limit,
    };
    let mut heads = store.heads(vec![of]).await?;
    Ok(heads.remove(0))
}

pub(super) async fn waiting(store: &Store, name: &str) -> Vec<MessageId> {
    let head = head(store, name, None, far(), 1000).await.unwrap();
    head.due.iter().map(|w| w.delivery.message).collect()
}

/// The state directory as a process killed at this moment would leave it.
pub(super) fn killed(dir: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_name() == "index" {
                // Of no use after a kill, and another thread is writing there.
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let copied = TempDir::new().unwrap();
    copy(dir, copied.path());
    copied
}

fn last_segment(dir: &Path) -> PathBuf {
    let mut segments = segment::list(&RealDisk, &dir.join("queue")).unwrap();
    segments.retain(|(_, path)| end(path) > segment::HEADER);
    segments.pop().unwrap().1
}

/// Behind it there are zeros.
fn end(segment: &Path) -> u64 {
    let bytes = std::fs::read(segment).unwrap();
    1 + bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64
}

/// What a torn write leaves: zeros from somewhere on.
fn zero_from(segment: &Path, offset: u64) {
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[usize::try_from(offset).unwrap()..].fill(0);
    std::fs::write(segment, bytes).unwrap();
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill_whole() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let accepted = store
        .accept(submission(1, &["a", "b"], inline(1)))
        .await
        .unwrap();
    assert_eq!(accepted.len(), 2);
    let copy = killed(dir.path());
    let (again, report) = open(copy.path());
    assert_eq!((report.start, report.replayed), (2, 1));
    let loaded = again.load(&to(1, "b")).await.unwrap().unwrap();
    assert_eq!(
        loaded.envelope,
        submission(1, &["a", "b"], inline(1)).envelope
    );
    assert_eq!(loaded.waiting.open, [RecipientNumber(1)]);
    assert!(loaded.waiting.earlier_start);
    match loaded.content {
        StoredContent::Inline(bytes) => assert_eq!(bytes, vec![1; 100]),
        StoredContent::File(_) => panic!("100 bytes lie in the log"),
    }
    assert_eq!(
        again.count(&site("a")),
        Count {
            messages: 1,
            bytes: 100
        }
    );
}

#[tokio::test]
async fn what_was_settled_stays_settled_and_settling_twice_is_nothing() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for n in 1..=3 {
        store
            .accept(submission(n, &["a", "b"], inline(n)))
            .await
            .unwrap();
    }
    store
        .settle(vec![settlement(2, "a", 0), settlement(2, "a", 0)])
        .await
        .unwrap();
    assert_eq!(waiting(&store, "a").await, [id(1), id(3)]);
    assert_eq!(waiting(&store, "b").await, [id(1), id(2), id(3)]);
    let copy = killed(dir.path());
    let (again, _) = open(copy.path());
    assert_eq!(waiting(&again, "a").await, [id(1), id(3)]);
    assert_eq!(again.count(&site("a")).messages, 2);
    assert_eq!(again.find(id(2)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_index_is_trusted_after_a_clean_stop_only() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for n in 1..=5 {
        store
            .accept(submission(n, &["a"], inline(n)))
            .await
            .unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!((report.start, report.replayed), (2, 0));
    assert_eq!(waiting(&store, "a").await.len(), 5);
    assert!(store.load(&to(4, "a")).await.unwrap().is_some());
    store
        .accept(submission(6, &["a"], inline(6)))
        .await
        .unwrap();
    let copy = killed(dir.path());
    let (again, report) = open(copy.path());
    assert_eq!((report.start, report.replayed), (3, 6));
    assert_eq!(
        waiting(&again, "a").await,
        (1..=6).map(id).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_index_that_disagrees_is_rebuilt() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    store.close().await.unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.replayed, 1);
    assert_eq!(waiting(&store, "a").await, [id(1)]);
}

#[tokio::test]
async fn a_torn_last_commit_is_cut_and_everything_before_it_stays() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let whole = end(&last_segment(dir.path()));
    store
        .accept(submission(2, &["a"], inline(2)))
        .await
        .unwrap();
    let end_of_all = end(&last_segment(dir.path()));
    for cut in [whole + 1, whole + 40, end_of_all - 101, end_of_all - 1] {
        let copy = killed(dir.path());
        zero_from(&last_segment(copy.path()), cut);
        let (again, report) = open(copy.path());
        assert_eq!(waiting(&again, "a").await, [id(1)], "cut at {cut}");
        assert_eq!(report.damaged, 0);
        assert!(report.torn_bytes <= cut - whole, "{}", report.torn_bytes);
        let cut_off = last_segment(copy.path()).metadata().unwrap().len();
        assert_eq!(cut_off, whole);
    }
    // Without its zeros the end is the same.
    let copy = killed(dir.path());
    let file = File::options().write(true).open(last_segment(copy.path()));
    file.unwrap().set_len(end_of_all).unwrap();
    assert_eq!(waiting(&open(copy.path()).0, "a").await, [id(1), id(2)]);
}

#[tokio::test]
async fn damage_costs_only_itself_and_what_came_before_is_in_doubt() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let mut ends = Vec::new();
    for n in 1..=3 {
        store
            .accept(submission(n, &["a"], inline(n)))
            .await
            .unwrap();
        ends.push(end(&last_segment(dir.path())));
    }
    let copy = killed(dir.path());
    let file = File::options()
        .write(true)
        .open(last_segment(copy.path()))
        .unwrap();
    file.write_all_at(b"!", ends[0] + 60).unwrap();
    let (again, report) = open(copy.path());
    assert_eq!(report.damaged, 1);
    let head = head(&again, "a", None, far(), 10).await.unwrap().due;
    let doubts: Vec<_> = head
        .iter()
        .map(|w| (w.delivery.message, w.in_doubt))
        .collect();
    assert_eq!(doubts, [(id(1), true), (id(3), false)]);
    let aside = std::fs::read_dir(copy.path().join("quarantine"))
        .unwrap()
        .count();
    assert_eq!(aside, 1);
}

#[tokio::test]
async fn damaged_content_is_kept_and_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    store
        .accept(submission(2, &["a"], inline(2)))
        .await
        .unwrap();
    let segment = last_segment(dir.path());
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(100).position(|w| w == [1; 100]).unwrap();
    let file = File::options().write(true).open(&segment).unwrap();
    file.write_all_at(b"!", at as u64 + 50).unwrap();
    let refused = store.load(&to(1, "a")).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged(_))),
        "{refused:?}"
    );
    assert_eq!(waiting(&store, "a").await.len(), 2);
}

#[tokio::test]
async fn a_note_moves_a_delivery_behind_what_is_due() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for n in 1..=3 {
        store
            .accept(submission(n, &["a"], inline(n)))
            .await
            .unwrap();
    }
    let later = "2026-06-01T00:00:00Z".parse().unwrap();
    store.note(vec![note(1, "a", Some(later))]).await.unwrap();
    let failed = Note {
        failed: true,
        ..note(2, "a", None)
    };
    store.note(vec![failed]).await.unwrap();
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    for store in [&store, &open(killed(dir.path()).path()).0] {
        let head = head(store, "a", None, now, 10).await.unwrap();
        let due: Vec<_> = head.due.iter().map(|w| w.delivery.message).collect();
        assert_eq!((due, head.next_due), (vec![id(3)], Some(later)));
        assert_eq!(waiting(store, "a").await, [id(3), id(1)]);
        let shown = store.find(id(2)).await.unwrap();
        assert!(shown[0].failed && shown[0].attempts == 3);
        assert!(shown[0].kept && shown[0].warned && shown[0].last == "450 4.2.2 full");
        assert_eq!(store.list(None, None, 10).await.unwrap().0.len(), 3);
    }
}

#[tokio::test]
async fn a_queue_is_read_page_by_page_while_it_is_written_to_sled() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    for n in 0..100 {
        store
            .accept(submission(n, &["a", "b"], inline(n)))
            .await
            .unwrap();
        if n % 3 == 0 {
            store.settle(vec![settlement(n, "a", 0)]).await.unwrap();
        }
    }
    let expected: Vec<_> = (0..100).filter(|n| n % 3 != 0).map(id).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let head = head(&store, "a", after, far(), 7).await.unwrap();
        after = head.due.last().map(|w| w.position);
        seen.extend(head.due.iter().map(|w| w.delivery.message));
        if !head.more {
            break;
        }
    }
    assert_eq!(seen, expected);
    let (mut listed, mut after) = (0, None);
    loop {
        let (page, next) = store.list(None, after, 30).await.unwrap();
        listed += page.len();
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, 166);
}

#[tokio::test]
async fn a_large_content_lives_as_long_as_a_delivery_needs_it() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let mut spooled = store.spool().await.unwrap();
    for n in 0..10 {
        spooled.write(Bytes::from(vec![n; 100_000])).await.unwrap();
    }
    let content = Content::Spooled(spooled);
    store
        .accept(submission(1, &["a", "b"], content))
        .await
        .unwrap();
    drop(store.spool().await.unwrap());
    let files = |dir: &Path| std::fs::read_dir(dir.join("content")).unwrap().count();
    assert_eq!(files(dir.path()), 1);
    let copy = killed(dir.path());
    std::fs::write(copy.path().join("content/0000000000000001-orphan"), b"x").unwrap();
    let (again, _) = open(copy.path());
    assert_eq!(files(copy.path()), 1);
    let loaded = again.load(&to(1, "a")).await.unwrap().unwrap();
    assert_eq!(loaded.waiting.bytes, 1_000_000);
    assert!(matches!(loaded.content, StoredContent::File(_)));
    again.settle(vec![settlement(1, "a", 0)]).await.unwrap();
    assert_eq!(files(copy.path()), 1);
    again.settle(vec![settlement(1, "b", 1)]).await.unwrap();
    assert_eq!(files(copy.path()), 0);
}

#[tokio::test]
async fn a_content_file_that_is_not_whole_makes_its_commit_torn() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let mut spooled = store.spool().await.unwrap();
    spooled.write(Bytes::from(vec![7; 1000])).await.unwrap();
    store
        .accept(submission(2, &["a"], Content::Spooled(spooled)))
        .await
        .unwrap();
    let copy = killed(dir.path());
    let content = std::fs::read_dir(copy.path().join("content"))
        .unwrap()
        .next();
    let file = File::options()
        .write(true)
        .open(content.unwrap().unwrap().path())
        .unwrap();
    file.set_len(999).unwrap();
    assert_eq!(waiting(&open(copy.path()).0, "a").await, [id(1)]);
}

#[tokio::test]
async fn the_registry_is_replayed_and_versions_are_never_reused() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let first = store.put("site", "a", Some("one".into())).await.unwrap();
    let second = store.put("site", "a", Some("two".into())).await.unwrap();
    store.put("site", "b", Some("gone".into())).await.unwrap();
    store.put("site", "b", None).await.unwrap();
    store.put("agent", "a", Some("other".into())).await.unwrap();
    assert!(first < second);
    let copy = killed(dir.path());
    let (again, _) = open(copy.path());
    let sites = again.records("site").unwrap();
    assert_eq!(sites.len(), 1);
    assert_eq!(
        (sites[0].version, &sites[0].value[..]),
        (second, &b"two"[..])
    );
    let third = again.put("site", "b", Some("new".into())).await.unwrap();
    assert!(third > second + 2);
}

#[tokio::test]
async fn a_second_controller_is_refused() {
    let dir = TempDir::new().unwrap();
    let (_store, _) = open(dir.path());
    let refused = Store::open(&settings(dir.path())).unwrap_err();
    assert!(
        refused.to_string().contains("another controller"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_content_file_that_has_changed_is_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let mut spooled = store.spool().await.unwrap();
    spooled.write(Bytes::from(vec![7; 1000])).await.unwrap();
    let content = Content::Spooled(spooled);
    store.accept(submission(1, &["a"], content)).await.unwrap();
    let loaded = store.load(&to(1, "a")).await.unwrap().unwrap();
    let StoredContent::File(mut content) = loaded.content else {
        panic!("it was spooled");
    };
    assert_eq!(content.next(4000).await.unwrap(), vec![7; 1000]);
    assert_eq!(content.next(4000).await.unwrap(), Bytes::new());

    let file = std::fs::read_dir(dir.path().join("content"))
        .unwrap()
        .next();
    let path = file.unwrap().unwrap().path();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"!", 500).unwrap();
    // It was checked before: now it shows while it is read, and from then on.
    let loaded = store.load(&to(1, "a")).await.unwrap().unwrap();
    let StoredContent::File(mut content) = loaded.content else {
        panic!("it was spooled");
    };
    assert_eq!(content.next(600).await.unwrap().len(), 600);
    assert!(content.next(600).await.is_err());
    let refused = store.load(&to(1, "a")).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_record_of_another_message_is_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let (_, entry) = store.0.index.get(&to(1, "a")).unwrap().unwrap();
    let other = accepted_of(&submission(2, &["a"], inline(2)));
    let wrong = log::Written {
        sequence: 9,
        place: entry.place(),
    };
    store.0.index.accepted(&other, wrong, 1);
    let refused = store.load(&to(2, "a")).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_half_made_snapshot_does_not_cost_the_index() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    store.close().await.unwrap();
    drop(store);
    let half = dir.path().join("index/1/snap.00000000FFFFFFFF.generating");
    std::fs::write(&half, b"half").unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.replayed, half.exists()), (0, false));
    assert_eq!(waiting(&store, "a").await, [id(1)]);
}

fn notification(n: u8, not_before: Option<Timestamp>) -> Notification {
    let Submission { mut envelope, .. } = submission(n, &["smarthost"], inline(n));
    envelope.reverse_path = ReversePath::Null;
    Notification {
        id: id(n),
        envelope,
        site: site("smarthost"),
        content: Bytes::from(vec![n; 300]),
        arrived: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_before,
    }
}

#[tokio::test]
async fn a_settlement_and_its_notification_survive_a_kill_together() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let owing = Owing {
        what: settlement(1, "a", 0),
        dsn: Some(notification(2, None)),
    };
    let before = killed(dir.path());
    let accepted = store.settle(vec![owing]).await.unwrap();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].delivery, to(2, "smarthost"));
    let after = killed(dir.path());

    let (again, _) = open(before.path());
    assert_eq!(waiting(&again, "a").await, [id(1)]);
    assert_eq!(waiting(&again, "smarthost").await, []);
    let (again, report) = open(after.path());
    assert_eq!(report.replayed, 2);
    for store in [&store, &again] {
        assert_eq!(waiting(store, "a").await, []);
        let loaded = store.load(&to(2, "smarthost")).await.unwrap().unwrap();
        assert_eq!(loaded.envelope, notification(2, None).envelope);
        assert_eq!(loaded.waiting.bytes, 300);
        let StoredContent::Inline(content) = loaded.content else {
            panic!("a notification lies in its record");
        };
        assert_eq!(content, notification(2, None).content);
    }
    let done = settlement(2, "smarthost", 0);
    let _ = again.settle(vec![done]).await.unwrap();
    let last = killed(after.path());
    let (last, _) = open(last.path());
    assert_eq!(last.total(), Count::default());
}

#[tokio::test]
async fn a_torn_settlement_leaves_the_mail_and_no_notification() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let whole = end(&last_segment(dir.path()));
    let owing = Owing {
        what: settlement(1, "a", 0),
        dsn: Some(notification(2, None)),
    };
    let _ = store.settle(vec![owing]).await.unwrap();
    let end_of_all = end(&last_segment(dir.path()));
    // The last byte is content of the notification: where that is torn the settlement counts for nothing either.
    for cut in [whole + 1, end_of_all - 300, end_of_all - 1] {
        let copy = killed(dir.path());
        zero_from(&last_segment(copy.path()), cut);
        let (again, _) = open(copy.path());
        assert_eq!(waiting(&again, "a").await, [id(1)], "{cut}");
        assert_eq!(waiting(&again, "smarthost").await, [], "{cut}");
    }
}

#[tokio::test]
async fn a_delay_warning_is_remembered_with_its_note_and_keeps_its_time() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    store
        .accept(submission(1, &["a"], inline(1)))
        .await
        .unwrap();
    let later: Timestamp = "2090-01-01T00:00:00Z".parse().unwrap();
    let owing = Owing {
        what: note(1, "a", None),
        dsn: Some(notification(2, Some(later))),
    };
    let accepted = store.note(vec![owing]).await.unwrap();
    assert_eq!(accepted[0].not_before, Some(later));
    let copy = killed(dir.path());
    let (again, _) = open(copy.path());
    for store in [&store, &again] {
        assert_eq!(store.find(id(1)).await.unwrap()[0].attempts, 3);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let head = head(store, "smarthost", None, now, 10).await.unwrap();
        assert_eq!((head.due.len(), head.next_due), (0, Some(later)));
        let found = store.find(id(2)).await.unwrap().remove(0);
        assert_eq!(found.not_before, Some(later));
        assert!(store.load(&found.delivery).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_message_larger_than_a_segment_gets_one_of_its_size() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let large = Content::Inline(Bytes::from(vec![5; 200_000]));
    store.accept(submission(1, &["a"], large)).await.unwrap();
    store
        .accept(submission(2, &["a"], inline(2)))
        .await
        .unwrap();
    let copy = killed(dir.path());
    let (again, _) = open(copy.path());
    assert_eq!(waiting(&again, "a").await, [id(1), id(2)]);
    let loaded = again.load(&to(1, "a")).await.unwrap().unwrap();
    let StoredContent::Inline(content) = loaded.content else {
        panic!("it lies in the log");
    };
    assert_eq!(content, vec![5; 200_000]);
}
