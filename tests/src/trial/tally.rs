//! What the programs of a trial said in their logs: how often this and that was met, and what went out in doubt.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::ledger::Delivery;

/// Lines that are counted: the name in the summary, and what such a line holds.
const COUNTED: [(&str, &str); 11] = [
    ("segments rolled", "segment rolled"),
    ("segments cleaned", "segment cleaned"),
    ("starts", "store open"),
    ("accepted", "mail: accepted"),
    ("settled", "mail: settled"),
    ("sent again in doubt", "mail: sent again in doubt"),
    ("starts after a clean stop", "clean=true"),
    ("starts that rebuilt the index", "clean=false"),
    ("starts that found damage", "the log is damaged"),
    ("panics", "panicked at"),
    ("errors", " ERROR "),
];

/// Figures of the start report: the name in the summary, the field, and what is summed.
const REPORTED: [(&str, &str, Sum); 3] = [
    ("starts that cut a torn end", "torn_bytes", Sum::Starts),
    ("bytes cut", "torn_bytes", Sum::Values),
    ("damaged registry records", "registry_damage", Sum::Values),
];

#[derive(Debug, Clone, Copy)]
enum Sum {
    /// The starts with a value that is not 0.
    Starts,
    Values,
}

/// Filled by the threads that read logs.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Mutex<Seen>,
    copy: Option<Mutex<File>>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: BTreeMap<&'static str, u64>,
    in_doubt: HashSet<Delivery>,
    /// The first few lines that tell of trouble.
    troubles: Vec<String>,
}

impl Tally {
    /// Copies every line into a file, where one is named.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new(copy: Option<&Path>) -> Self {
        let copy = copy.map(|path| Mutex::new(File::create(path).expect("a file for the logs")));
        Self {
            seen: Mutex::default(),
            copy,
        }
    }

    /// Takes in one line of a log.
    pub fn read(&self, line: &str) {
        if let Some(copy) = &self.copy {
            let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
            // A copy that cannot be written takes nothing from what is counted.
            let _ = writeln!(copy, "{line}");
        }
        let mut seen = self.seen();
        for (name, text) in COUNTED {
            if line.contains(text) {
                *seen.counts.entry(name).or_default() += 1;
            }
        }
        if line.contains("store open") {
            for (name, field, sum) in REPORTED {
                let value = figure(line, field).unwrap_or(0);
                *seen.counts.entry(name).or_default() += match sum {
                    Sum::Starts => u64::from(value > 0),
                    Sum::Values => value,
                };
            }
        }
        if line.contains("mail: sent again in doubt")
            && let (Some(id), Some(site)) = (word(line, "id"), word(line, "site"))
        {
            seen.in_doubt.insert((id, site));
        }
        let trouble = line.contains(" ERROR ") || line.contains("panicked at");
        if trouble && seen.troubles.len() < 50 {
            seen.troubles.push(line.to_owned());
        }
    }

    /// What went out again marked as in doubt.
    pub fn in_doubt(&self) -> HashSet<Delivery> {
        self.seen().in_doubt.clone()
    }

    pub fn count(&self, name: &str) -> u64 {
        self.seen().counts.get(name).copied().unwrap_or(0)
    }

    /// Adds to a count that is not read from a log.
    pub fn add(&self, name: &'static str, count: u64) {
        *self.seen().counts.entry(name).or_default() += count;
    }

    /// Replaces such a count.
    pub fn set(&self, name: &'static str, count: u64) {
        self.seen().counts.insert(name, count);
    }

    /// Every count, by name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.seen().counts.clone();
        for (name, ..) in COUNTED.map(|(name, _)| (name,)) {
            counts.entry(name).or_default();
        }
        for (name, ..) in REPORTED {
            counts.entry(name).or_default();
        }
        counts
    }

    /// The first lines that told of trouble.
    pub fn troubles(&self) -> Vec<String> {
        self.seen().troubles.clone()
    }

    pub fn json(&self) -> Value {
        json!({ "counts": self.counts(), "troubles": self.seen().troubles })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of `name=value` in a log line.
fn word(line: &str, name: &str) -> Option<String> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// The number in `name=number`.
fn figure(line: &str, name: &str) -> Option<u64> {
    let at = line.find(name)? + name.len();
    let rest = line[at..].trim_start_matches('=');
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_report_is_read_by_its_names() {
        let tally = Tally::default();
        tally.read(
            "INFO dd_controller: store open start=3 clean=false registry_damage=0 torn_bytes=77",
        );
        assert_eq!(tally.count("starts"), 1);
        assert_eq!(tally.count("starts that rebuilt the index"), 1);
        assert_eq!(tally.count("starts that cut a torn end"), 1);
        assert_eq!(tally.count("bytes cut"), 77);
        assert_eq!(tally.count("damaged registry records"), 0);
    }

    #[test]
    fn a_mark_is_read_with_its_delivery() {
        let tally = Tally::default();
        tally.read("2026 INFO mail: sent again in doubt id=abc site=s1 agent=out1");
        let marked = HashSet::from([("abc".to_owned(), "s1".to_owned())]);
        assert_eq!(tally.in_doubt(), marked);
    }
}
