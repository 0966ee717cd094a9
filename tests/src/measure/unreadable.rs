//! A start with a part of a file that the disk cannot read, in each kind of file that the programs keep: what is lost, what
//! is told, and how long it takes.
//!
//! One block of 4 KiB fails with EIO for the program that starts, whoever reads it ([`PRELOADED`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::layout::Layout;
use crate::site::Site;
use crate::submit::message;
use crate::wait::{Stopwatch, pause};
use crate::world::World;

/// Makes reads of a part of a file fail; built with the C compiler that links our programs.
const PRELOADED: &str = include_str!("../unreadable.c");

const BLOCK: u64 = 4096;
const AGENT: &str = "out1";
/// Longer than an agent takes to attach, and a queue of this length to drain.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of which large messages are made.
const LINE: &[u8] = b"All work and no play makes mail a dull matter.\r\n";
/// Lines of the log that are repeated here.
const TOLD: usize = 6;

/// A world at rest, of which each start begins.
struct Rest {
    world: World,
    home: Site,
    library: PathBuf,
    /// Of messages that wait.
    waiting: BTreeSet<String>,
}

/// How the controller ended before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Kill,
    CleanStop,
}

/// Whose state a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Controllers,
    Agents,
}

/// One part of one file.
#[derive(Debug, Clone)]
struct Part {
    whose: Whose,
    /// Such as `queue/*.seg`.
    kind: String,
    path: PathBuf,
    what: &'static str,
    from: u64,
}

/// # Panics
/// Without a fault something does not go as it should.
pub fn run() -> Value {
    let mut rows = Vec::new();
    let mut rest = Rest::new();
    for after in [After::Kill, After::CleanStop] {
        rest.ends(after);
        rest.keep();
        for part in rest.parts() {
            // What a start has to read does not depend on how the agent ended.
            if after == After::CleanStop && part.whose == Whose::Agents {
                continue;
            }
            rows.push(rest.start(&part, after));
        }
        rest.restore();
        rest.world.start_controller();
        rest.world.start_agent(AGENT);
        rest.world.attached(AGENT);
    }
    json!({ "messages": rest.waiting.len(), "starts": rows })
}

impl Rest {
    fn new() -> Self {
        let layout = Layout {
            store: "segment_bytes = \"1M\"".to_owned(),
            ..Layout::default()
        };
        let world = World::laid_out(layout, 1);
        let library = library(world.path());
        let _ = world.json(&["ca", "create", "associates"]);
        let mut home = world.home("home", &["--retry", "1h"]);
        let mut client = world.smtp();
        for number in 0..10 {
            let content = message(&format!("gone-{number}"));
            client.send("a@b.example", "me@home.example", &content);
        }
        home.received(10);
        world.drained("home");
        home.stop();
        home.forget();
        let mut waiting = BTreeSet::new();
        // Small ones, such as fill segments, and such as have a file of their own.
        for (number, bytes) in [1 << 10, 100 << 10, 1 << 10, 400 << 10]
            .iter()
            .cycle()
            .take(40)
            .enumerate()
        {
            let subject = format!("number-{number}");
            let mut content = message(&subject);
            while content.len() < *bytes {
                content.extend_from_slice(LINE);
            }
            client.send("a@b.example", "me@home.example", &content);
            waiting.insert(subject);
        }
        world.site_is("home", "waiting");
        Self {
            world,
            home,
            library,
            waiting,
        }
    }

    fn ends(&mut self, after: After) {
        self.world.kill_agent(AGENT);
        match after {
            After::Kill => self.world.kill_controller(),
            After::CleanStop => self.world.stop_controller(),
        }
    }

    fn states(&self) -> [(Whose, PathBuf); 2] {
        [
            (Whose::Controllers, self.world.controller_state()),
            (Whose::Agents, self.world.agent_state(AGENT)),
        ]
    }

    /// As it lies on the disk now is how each start finds it.
    fn keep(&self) {
        for (_, state) in self.states() {
            copied(&state, &kept(&state));
        }
    }

    fn restore(&self) {
        for (_, state) in self.states() {
            copied(&kept(&state), &state);
        }
    }

    /// One file of each kind: the one that holds most.
    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (whose, state) in self.states() {
            let mut kinds: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
            for path in below(&kept(&state)) {
                let relative = path.strip_prefix(kept(&state)).expect("it lies below");
                let held = written(&fs::read(&path).expect("it can be read"));
                let largest = kinds.entry(kind(relative)).or_default();
                if held > largest.0 {
                    *largest = (held, relative.to_owned());
                }
            }
            for (kind, (_, relative)) in kinds {
                if relative.as_os_str().is_empty() {
                    continue;
                }
                let content = fs::read(kept(&state).join(&relative)).expect("it can be read");
                for (what, from) in places(&kind, &content) {
                    let (kind, path) = (kind.clone(), state.join(&relative));
                    parts.push(Part {
                        whose,
                        kind,
                        path,
                        what,
                        from,
                    });
                }
            }
        }
        parts
    }

    fn start(&mut self, part: &Part, after: After) -> Value {
        self.restore();
        self.home.forget();
        let fault = [
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            (
                "UNREADABLE".to_owned(),
                format!(
                    "{}:{}:{}",
                    part.path.display(),
                    part.from,
                    part.from + BLOCK
                ),
            ),
        ];
        let layout = &mut self.world.layout;
        match part.whose {
            Whose::Controllers => layout.environment = fault.to_vec(),
            Whose::Agents => layout.agent_environment = fault.to_vec(),
        }
        let came = self.comes(part.whose);
        self.world.layout.environment.clear();
        self.world.layout.agent_environment.clear();
        let mut row = json!({
            "file": part.kind,
            "part": part.what,
            "of": format!("{:?}", part.whose),
            "after": format!("{after:?}"),
        });
        merge(&mut row, came);
        row
    }

    fn comes(&mut self, whose: Whose) -> Value {
        let begun = Stopwatch::start();
        if let Err(told) = self.world.try_start_controller() {
            return json!({ "starts": false, "told": shortened(told) });
        }
        let new = message("new");
        let mut client = self.world.smtp();
        let takes = client.try_send("a@b.example", "me@home.example", &new);
        let open = begun.elapsed();
        self.world.all_known();
        let known = begun.elapsed();
        self.world.start_agent(AGENT);
        let agent = self.agent_comes();
        let rows = self.queue();
        let held = rows.iter().filter(|row| row["failed"] == true).count();
        let arrives = match agent {
            "works" => self.arrive(),
            _ => 0,
        };
        let mut told = self.world.controller().lines("ERROR");
        told.extend(self.world.controller().lines("WARN"));
        if whose == Whose::Agents {
            told = self.world.agent(AGENT).lines("ERROR");
            told.extend(self.world.agent(AGENT).lines("WARN"));
        }
        let (copies, stands) = (self.home.copies(), self.world.json(&["status"]));
        self.home.stop();
        self.world.kill_agent(AGENT);
        self.world.kill_controller();
        json!({
            "starts": true,
            "agent": agent,
            "takes_new_mail": takes.is_some(),
            "open_s": open.as_secs_f64(),
            "known_s": known.as_secs_f64(),
            "not_listed": (self.waiting.len() + usize::from(takes.is_some())).saturating_sub(rows.len()),
            "held": held,
            "arrived": arrives,
            "twice": copies.values().filter(|count| **count > 1).count(),
            "alarms": stands["alarms"],
            "told": shortened(told),
        })
    }

    /// What becomes of the agent that is started.
    fn agent_comes(&mut self) -> &'static str {
        let attached = within(|| {
            let agents = self.world.json(&["agent", "list"]);
            agents[0]["state"] == "connected" || !self.world.agent(AGENT).runs()
        });
        match (self.world.agent(AGENT).runs(), attached) {
            (false, _) => "ends",
            (true, true) => "works",
            (true, false) => "is turned away",
        }
    }

    fn queue(&self) -> Vec<Value> {
        let queue = self.world.json(&["queue", "list"]);
        queue.as_array().expect("a list").clone()
    }

    /// The home is back: how many different messages it gets.
    fn arrive(&mut self) -> usize {
        self.home.resume();
        let _ = self.world.ddadm().run(&["etrn", "home"]);
        within(|| {
            let left = self.queue();
            let held = self.world.show("home")["state"] == "held";
            held || left.iter().all(|row| row["failed"] == true)
        });
        self.home.copies().len()
    }
}

/// Whether it came about before long. Where it does not, that is what is measured.
fn within(mut comes_about: impl FnMut() -> bool) -> bool {
    let begun = Stopwatch::start();
    while begun.elapsed() < PATIENCE {
        if comes_about() {
            return true;
        }
        pause(Duration::from_millis(20));
    }
    false
}

fn merge(row: &mut Value, more: Value) {
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
}

/// What was said, without its time, each once.
fn shortened(lines: Vec<String>) -> Vec<String> {
    let mut told = Vec::new();
    for line in lines {
        let said = line.split_once(' ').map_or("", |(_, said)| said).trim();
        let said: String = said.chars().take(300).collect();
        if !said.is_empty() && !told.contains(&said) {
            told.push(said);
        }
    }
    told.truncate(TOLD);
    told
}

/// Where a file is looked at.
fn places(kind: &str, content: &[u8]) -> Vec<(&'static str, u64)> {
    let end = written(content);
    let block = |at: u64| at / BLOCK * BLOCK;
    let mut places = vec![("first block", 0)];
    if end > 4 * BLOCK {
        places.push(("middle", block(end / 2)));
        places.push(("end", block(end - 1)));
    }
    let inside = content.chunks(4096).position(|it| {
        let lines = it.split(|byte| *byte == b'\n').skip(1);
        let whole = LINE.split_last().map(|(_, line)| line);
        it.len() == 4096 && lines.take(80).all(|line| Some(line) == whole)
    });
    if let Some(inside) = inside.filter(|_| kind.starts_with("queue/")) {
        places.push(("inside a content", inside as u64 * BLOCK));
    }
    places
}

/// Segments are longer than what was written to them.
fn written(content: &[u8]) -> u64 {
    let last = content.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last as u64 + 1)
}

/// `queue/0000000000000001.seg` is a `queue/*.seg`.
fn kind(relative: &Path) -> String {
    let part = |part: std::path::Component<'_>| {
        let name = part.as_os_str().to_string_lossy().into_owned();
        let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
        let numbered = stem.len() >= 8 && stem.bytes().any(|it| it.is_ascii_digit());
        match (numbered, ending) {
            (true, "") => "*".to_owned(),
            (true, ending) => format!("*.{ending}"),
            (false, _) => name,
        }
    };
    let parts: Vec<String> = relative.components().map(part).collect();
    parts.join("/")
}

fn kept(state: &Path) -> PathBuf {
    state.with_extension("kept")
}

/// With owners and rights, and with what is sparse.
fn copied(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp can be run").success());
}

/// All regular files.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        match meta.is_dir() {
            true => files.extend(below(&path)),
            false if meta.is_file() && meta.size() > 0 => files.push(path),
            false => {}
        }
    }
    files
}

fn library(directory: &Path) -> PathBuf {
    let (source, library) = (
        directory.join("unreadable.c"),
        directory.join("unreadable.so"),
    );
    fs::write(&source, PRELOADED).expect("it can be written");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-o"]);
    let status = compiler.arg(&library).arg(&source).arg("-ldl").status();
    assert!(status.expect("a C compiler").success());
    library
}
