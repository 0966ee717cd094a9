//! Damage to the files of a controller that is down: what it hit is named, and nothing else is missing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use dd_tests::layout::Layout;
use dd_tests::site::Site;
use dd_tests::submit::message;
use dd_tests::world::World;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const SEED: u64 = 20;
const RESTARTS: usize = 20;
/// The end of the log is left alone: there damage cannot be told from a commit that was torn. More than a record of
/// [`Damaged::send`]'s last message.
const END: u64 = 20 << 10;

struct Damaged {
    world: World,
    home: Site,
    rng: StdRng,
    /// Content by ID, as it was sent.
    sent: HashMap<String, Vec<u8>>,
    missing: HashSet<String>,
}

#[test]
fn damage_to_the_log_costs_the_damaged_record_and_is_told() {
    let mut it = Damaged::new();
    for round in 0..RESTARTS {
        it.world.kill_controller();
        let place = it.flip_in_the_log();
        it.world.start_controller();
        it.world.attached("out1");
        let known = it.missing.len();
        it.look();
        let lost = it.missing.len() - known;
        assert!(lost <= 1, "round {round}: {place} cost {lost} messages");
        if lost > 0 {
            assert!(
                names(&it.world.controller_state().join("quarantine"))
                    .next()
                    .is_some(),
                "round {round}: {place} left nothing in quarantine/"
            );
            it.world.controller().log_line("ERROR");
        }
        it.send();
    }
    it.arrives();
}

#[test]
fn damage_to_the_index_costs_nothing() {
    let mut it = Damaged::new();
    for round in 0..RESTARTS {
        it.world.stop_controller();
        let place = it.flip_in_the_index();
        it.world.start_controller();
        it.world.attached("out1");
        it.look();
        assert!(it.missing.is_empty(), "round {round}: {place}");
        it.send();
    }
    it.arrives();
}

impl Damaged {
    fn new() -> Self {
        let layout = Layout {
            store: "segment_bytes = \"1M\"".to_owned(),
            ..Layout::default()
        };
        let world = World::laid_out(layout, 1);
        let mut home = world.home("home", &["--retry", "1h"]);
        home.stop();
        let mut it = Self {
            world,
            home,
            rng: StdRng::seed_from_u64(SEED),
            sent: HashMap::new(),
            missing: HashSet::new(),
        };
        for _ in 0..20 {
            it.send();
        }
        it
    }

    /// A few messages, of which the last end the log.
    fn send(&mut self) {
        let mut client = self.world.smtp();
        for lines in [10, 1_000, 300, 300] {
            let number = self.sent.len();
            let mut content = message(&format!("number-{number}"));
            let line = format!("{number:0>60}\r\n");
            content.extend(line.repeat(lines).into_bytes());
            let id = client.send("a@b.example", "me@home.example", &content);
            self.sent.insert(id, content);
        }
    }

    /// Notes what is not in the queue any more.
    fn look(&mut self) {
        self.world.all_known();
        let queue = self.world.json(&["queue", "list"]);
        let rows = queue.as_array().unwrap().iter();
        let there: HashSet<&str> = rows.map(|row| row["id"].as_str().unwrap()).collect();
        let gone = self.sent.keys().filter(|id| !there.contains(id.as_str()));
        self.missing = gone.cloned().collect();
    }

    /// One byte, somewhere in what was written before the end of the log.
    fn flip_in_the_log(&mut self) -> String {
        let places: Vec<(PathBuf, u64)> = names(&self.world.controller_state().join("queue"))
            .map(|path| {
                let written = fs::read(&path).unwrap();
                let end = written.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                (path, end as u64)
            })
            .filter(|(_, end)| *end > END)
            .collect();
        let (path, end) = &places[self.rng.random_range(0..places.len())];
        self.flip(path, end - END)
    }

    /// Sixteen bytes of one file of the index, or the end of it.
    fn flip_in_the_index(&mut self) -> String {
        let index = self.world.controller_state().join("index");
        let mut files = below(&index);
        files.retain(|path| fs::metadata(path).unwrap().len() > 0);
        files.sort();
        let path = &files[self.rng.random_range(0..files.len())];
        let length = fs::metadata(path).unwrap().len();
        if self.rng.random_range(0..4) == 0 {
            let left = self.rng.random_range(0..length);
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(left).unwrap();
            return format!("{} cut to {left}", path.display());
        }
        for _ in 0..15 {
            self.flip(path, length);
        }
        self.flip(path, length)
    }

    fn flip(&mut self, path: &Path, below: u64) -> String {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let offset = self.rng.random_range(0..below);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        byte[0] ^= 1 << self.rng.random_range(0..8);
        file.write_all_at(&byte, offset).unwrap();
        format!("{} at {offset}", path.display())
    }

    /// The site returns: what comes is what was sent, and what does not come is shown.
    fn arrives(mut self) {
        self.home.resume();
        let _ = self.world.ddadm().run(&["etrn", "home", "--wait", "60s"]);
        self.look();
        let queue = self.world.json(&["queue", "list"]);
        let held = queue.as_array().unwrap().len();
        let messages = self.home.messages();
        let contents: HashSet<&[u8]> = self.sent.values().map(Vec::as_slice).collect();
        for message in &messages {
            let at = message.content.windows(5).position(|it| it == b"From:");
            let content = &message.content[at.unwrap()..];
            assert!(contents.contains(content), "a content that was never sent");
        }
        assert!(
            messages.len() + held + RESTARTS >= self.sent.len(),
            "{} came and {held} are held of {}",
            messages.len(),
            self.sent.len()
        );
        assert!(held <= RESTARTS, "{held} are held");
    }
}

/// All files in a directory and its directories.
fn below(dir: &Path) -> Vec<PathBuf> {
    let (dirs, mut files): (Vec<PathBuf>, _) = names(dir).partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| below(dir)));
    files
}

fn names(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path())
}
