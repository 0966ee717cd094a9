//! What became of each message, on the disk, for as long as `[history] keep` says: what `ddadm queue search` reads.
//!
//! The two lines of the log that a message has, accepted and settled, are its entries: [`layer`] is a part of the
//! process's log, so that log and history cannot tell different stories. Each day (UTC) has files of its own, one entry
//! a line, and a file goes as a whole when it is old.
//!
//! # Invariants
//! - Nothing waits for it and nothing rests on it: what the disk does not take in time is lost, and the log says how
//!   much. A kill costs a second of entries.
//! - It is bounded: in days, in bytes, and in the length of an entry. While space is short nothing is written, and the
//!   oldest files go.
//! - Nothing of a content is in it.
//!
//! # Not here
//! What still waits: [`crate::store`]. The days of a site: [`crate::history`].

mod line;
mod pending;
pub mod search;
mod writer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use pending::Pending;
pub use writer::{Ledger, Settings};

/// Stands last in a list that goes on, in the place of whoever is not named.
pub const AND_MORE: &str = "\u{2026}";
const LOCK: &str = "no holder of this lock panics";

/// The process's log is one for all, and so is this.
static PENDING: Pending = Pending::new();

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// When it was said.
    pub at: Timestamp,
    /// accepted settled expired removed, or `given up`
    pub what: String,
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message_id: String,
    pub reverse_path: String,
    /// With commas between them, and [`AND_MORE`] behind the last where there are too many.
    pub recipients: String,
    /// Of what is accepted, all of them in the same way.
    #[serde(alias = "sites")]
    pub site: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bytes: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reply: String,
}

/// Whether a line of the log is one of the two that a message has.
fn is_kept(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "mail"
        && *metadata.level() == Level::INFO
        && metadata.fields().field("message_id").is_some()
}

/// The part of the process's log that keeps a history. What it wants, the written log need not want too.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Kept.with_filter(filter_fn(is_kept))
}

#[derive(Debug, Clone, Copy)]
struct Kept;

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if PENDING.is_open() {
            PENDING.add(&line::line(event, now()));
        }
    }
}

/// Where the history lies.
fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("history")
}

/// A file of the history. Those of one day follow each other by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    date: Date,
    number: u32,
}

impl Part {
    /// The first one has the day as its name only.
    fn file_name(self) -> String {
        let Self { date, number } = self;
        match number {
            0 => format!("{date}.jsonl"),
            number => format!("{date}.{number}.jsonl"),
        }
    }

    /// None: it is no file of the history.
    fn of(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(".jsonl")?;
        let (date, number) = match stem.split_once('.') {
            Some((date, number)) => (date, number.parse().ok()?),
            None => (stem, 0),
        };
        let part = Self {
            date: date.parse().ok()?,
            number,
        };
        (part.file_name() == file_name).then_some(part)
    }
}

/// The files that are there, the oldest first.
fn files(directory: &Path) -> std::io::Result<Vec<(Part, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(part) = entry.file_name().to_str().and_then(Part::of) {
            files.push((part, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event happens now; the log's own time stamp is made the same way"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
