//! Damage at two hundred places, of the index and of the log: nothing that was acknowledged is lost but what is damaged
//! itself, and that is counted, put aside, and what was accepted before it is marked in doubt.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tests::{id, inline, opened, settings, settlement, submission};
use super::*;
use crate::store::Store;

const PLACES: u64 = 200;
const MAIL: u8 = 60;

/// A clean stop with mail 1 to 60, of which every fourth is settled.
async fn stopped(dir: &Path) {
    let (store, _) = opened(&settings(dir));
    for n in 1..=MAIL {
        let accepted = store.accept(submission(n, &["a"], inline(n)));
        accepted.await.unwrap();
        if n % 4 == 0 {
            let settled = store.settle(vec![settlement(n, "a", 0)]);
            let _ = settled.await.unwrap();
        }
    }
    store.close().await.unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flipped,
    Zeroed,
    CutOff,
}

/// Which file, and where in it, the place is.
fn damage(files: &[PathBuf], place: u64, what: Damage) -> (PathBuf, usize) {
    let contents: Vec<Vec<u8>> = files.iter().map(|it| std::fs::read(it).unwrap()).collect();
    let total: usize = contents.iter().map(Vec::len).sum();
    let mut at = usize::try_from(place).unwrap() * total / usize::try_from(PLACES).unwrap();
    for (path, mut bytes) in files.iter().zip(contents) {
        if at < bytes.len() {
            match what {
                Damage::Flipped => bytes[at] ^= 0x10,
                Damage::Zeroed => {
                    let end = bytes.len().min(at + 64);
                    bytes[at..end].fill(0);
                }
                Damage::CutOff => bytes.truncate(at),
            }
            std::fs::write(path, bytes).unwrap();
            return (path.clone(), at);
        }
        at -= bytes.len();
    }
    unreachable!("the place lies in one of the files");
}

/// The number of a segment; None for what is none.
fn named_segment(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    Some(segment::Segment::from_file_name(name)?.number)
}

/// Which mail is there, and whether it is in doubt.
fn there(store: &Store) -> Vec<(MessageId, bool)> {
    let mut all = store.0.index.list(None, None, 1000).unwrap();
    all.sort_by_key(|(_, it)| it.position.sequence);
    let each = all.into_iter();
    each.map(|(_, it)| (it.delivery.message, it.in_doubt))
        .collect()
}

#[tokio::test]
async fn damage_anywhere_in_the_index_costs_nothing() {
    let whole = TempDir::new().unwrap();
    stopped(whole.path()).await;
    let expected: Vec<_> = (1..=MAIL)
        .filter(|n| n % 4 != 0)
        .map(|n| (id(n), false))
        .collect();
    let mut rebuilt = 0;
    for place in 0..PLACES {
        let dir = TempDir::new().unwrap();
        copy(whole.path(), dir.path());
        let what = match place % 3 {
            0 => Damage::Flipped,
            1 => Damage::Zeroed,
            _ => Damage::CutOff,
        };
        let (path, at) = damage(&files(&dir.path().join("index")), place, what);
        let (store, opened) = opened(&settings(dir.path()));
        assert_eq!(there(&store), expected, "{} at {at}", path.display());
        assert_eq!(opened.damaged, 0);
        rebuilt += u64::from(opened.replayed > 0);
    }
    // Much of its space is unused; but if none of it mattered nothing was tried.
    assert!(rebuilt > PLACES / 10, "{rebuilt}");
}

#[tokio::test]
async fn damage_anywhere_in_the_log_costs_only_itself() {
    let whole = TempDir::new().unwrap();
    stopped(whole.path()).await;
    let sound: Vec<_> = (1..=MAIL).filter(|n| n % 4 != 0).map(id).collect();
    let mut counted = 0;
    for place in 0..PLACES {
        let dir = TempDir::new().unwrap();
        copy(whole.path(), dir.path());
        std::fs::remove_file(dir.path().join("clean-stop")).unwrap();
        let mut segments = files(&dir.path().join("queue"));
        segments.retain(|path| named_segment(path).is_some());
        let (path, at) = damage(&segments, place, Damage::Flipped);
        let (store, opened) = opened(&settings(dir.path()));
        let there = there(&store);
        let is_there = |id: &MessageId| there.iter().any(|it| it.0 == *id);
        let lost = sound.iter().filter(|id| !is_there(id)).count();
        let back: Vec<_> = there.iter().filter(|(id, _)| !sound.contains(id)).collect();
        let shown = format!("{} at {at}: {lost} {back:?} {opened:?}", path.display());
        let seen = opened.damaged > 0 || opened.torn_bytes > 0;
        assert!(lost + back.len() <= usize::from(seen), "{shown}");
        let aside = std::fs::read_dir(dir.path().join("quarantine")).unwrap();
        assert_eq!(aside.count() > 0, seen, "{shown}");

        // What was accepted in front of the damage may have been settled by what is lost; what came behind was not.
        let segment = named_segment(&path).unwrap();
        for (message, in_doubt) in &there {
            let site: SiteName = "a".parse().unwrap();
            let message = *message;
            let delivery = DeliveryId { message, site };
            let (_, entry) = store.0.index.get(&delivery).unwrap().unwrap();
            let in_front = (entry.segment, entry.offset) < (segment, at as u64);
            assert_eq!(*in_doubt, in_front && opened.damaged > 0, "{shown}");
        }
        counted += u64::from(opened.damaged > 0);
    }
    assert!(counted > PLACES / 4, "{counted}");
}
