//! The moments at which the power is cut, and what the cut did to the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::registrar::Registrar;
use super::tally::Tally;
use crate::wait::{Stopwatch, pause};
use crate::world::World;

/// What does not happen within this is not waited for: the cut comes all the same, and does not count as a hit.
const LATEST: Duration = Duration::from_secs(2);

/// How long syncs are slow before the cut.
const SLOWED: Duration = Duration::from_millis(250);

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    Anytime,
    /// Between the write of a commit and its sync, with a part of it written back: the kernel may do that at any time.
    Commit,
    /// A segment has just been made.
    Roll,
    /// A segment has just been unlinked.
    Cleaning,
    /// A content file is being written.
    Content,
    /// SIGTERM has been sent.
    CleanStop,
    /// A change of the registry is on its way.
    Registry,
}

impl Aim {
    pub(super) fn choose(rng: &mut StdRng) -> Self {
        const ALL: [Aim; 7] = [
            Aim::Anytime,
            Aim::Commit,
            Aim::Roll,
            Aim::Cleaning,
            Aim::Content,
            Aim::CleanStop,
            Aim::Registry,
        ];
        ALL[rng.random_range(0..ALL.len())]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anytime => "cuts at any time",
            Self::Commit => "cuts into a commit",
            Self::Roll => "cuts after a segment was made",
            Self::Cleaning => "cuts after a segment was cleaned",
            Self::Content => "cuts into a content file",
            Self::CleanStop => "cuts into a clean stop",
            Self::Registry => "cuts into a registry change",
        }
    }

    /// How much later than the moment the cut may come.
    pub(super) fn spread(self) -> Duration {
        Duration::from_millis(match self {
            Self::Anytime | Self::Commit | Self::Cleaning => 1,
            Self::Roll | Self::Content => 4,
            Self::Registry => 15,
            Self::CleanStop => 120,
        })
    }

    /// Waits for the moment; whether it came.
    pub(super) fn wait(self, state: &Path, world: &mut World, registrar: &Registrar) -> bool {
        let (queue, content) = (state.join("queue"), state.join("content"));
        match self {
            Self::Anytime => true,
            Self::Commit => slow_syncs(world.controller().pid()),
            Self::Roll => appears(&queue),
            Self::Content => appears(&content),
            Self::Cleaning => vanishes(&queue),
            Self::CleanStop => {
                world.controller().ask_to_end();
                true
            }
            Self::Registry => comes(|| registrar.busy()),
        }
    }

    /// What the kernel does in the instant before the disk stops, when the programs have stopped: for a commit, it writes back
    /// what lies before, or behind, a page in the end of the log.
    pub(super) fn press(self, state: &Path, rng: &mut StdRng) {
        if self != Self::Commit {
            return;
        }
        // The newest that has records: behind it lie spares.
        let newest = names(&state.join("queue"))
            .into_iter()
            .filter_map(|path| Some((written(&path)?, path)))
            .next_back();
        if let Some((end, path)) = newest {
            let page = end.saturating_sub(1 << rng.random_range(0..6)) * PAGE;
            let (from, bytes) = match rng.random_range(0..4) {
                0 => (page, 0),
                _ => (0, page),
            };
            write_back(&path, from, bytes);
        }
    }
}

const PAGE: u64 = 4_096;

/// How many pages of a segment are in use; None where it is a spare.
fn written(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().rposition(|byte| *byte != 0)? as u64;
    (end > PAGE).then_some(end / PAGE + 1)
}

/// `sync_file_range` of so many bytes, 0 meaning all that follow. Rust's crates that offer it safely are none of ours.
fn write_back(path: &Path, from: u64, bytes: u64) {
    let script = "open(my $f, '+<', $ARGV[0]) or die $!; syscall(277, fileno($f), $ARGV[1] + 0, $ARGV[2] + 0, 7);";
    let (from, bytes) = (from.to_string(), bytes.to_string());
    let perl = Command::new("perl")
        .args(["-e", script])
        .arg(path)
        .args([from, bytes])
        .status();
    assert!(
        perl.is_ok_and(|status| status.success()),
        "perl writes back"
    );
}

/// Makes each sync begin late, so that the time between write and sync is most of all time; whether that could be done.
fn slow_syncs(pid: u32) -> bool {
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
        .args(["-e", "inject=fdatasync:delay_enter=30ms"])
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else { return false };
    pause(SLOWED);
    // It ends with the program that it looks at, unless it could not even begin.
    let runs = matches!(strace.try_wait(), Ok(None));
    thread::spawn(move || strace.wait());
    runs
}

fn appears(dir: &Path) -> bool {
    let before = names(dir);
    comes(|| names(dir).iter().any(|name| !before.contains(name)))
}

fn vanishes(dir: &Path) -> bool {
    let mut before = names(dir);
    comes(|| {
        let now = names(dir);
        let vanished = before.iter().any(|name| !now.contains(name));
        before = now;
        vanished
    })
}

fn comes(mut moment: impl FnMut() -> bool) -> bool {
    let begun = Stopwatch::start();
    while begun.elapsed() < LATEST {
        if moment() {
            return true;
        }
        thread::yield_now();
    }
    false
}

/// What lies in a directory, in order, but for segments made ahead; nothing where there is none.
fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.retain(|path| {
        path.extension()
            .is_none_or(|end| end != "spare" && end != "making")
    });
    names.sort();
    names
}

/// The files of the logs and of contents, with their lengths.
#[derive(Debug)]
pub(super) struct Snapshot(BTreeMap<PathBuf, u64>);

impl Snapshot {
    pub(super) fn of(state: &Path) -> Self {
        let dirs = ["queue", "registry", "content"];
        let files = dirs.iter().flat_map(|dir| names(&state.join(dir)));
        Self(
            files
                .filter_map(|path| Some((path.clone(), fs::metadata(&path).ok()?.len())))
                .collect(),
        )
    }

    /// Counts what the cut took and what it gave back.
    pub(super) fn compare(&self, after: &Self, tally: &Tally) {
        let (mut gone, mut shorter) = (0, 0);
        for (path, length) in &self.0 {
            match after.0.get(path) {
                None => gone += 1,
                Some(left) if left < length => shorter += 1,
                Some(_) => {}
            }
        }
        let back = after.0.keys().filter(|path| !self.0.contains_key(*path));
        tally.add("files gone after the cut", gone);
        tally.add("files cut short", shorter);
        tally.add("unlinked files that came back", back.count() as u64);
    }
}
