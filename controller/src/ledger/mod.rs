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

pub mod search;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::mpsc::{SyncSender, TrySendError};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use writer::{LOST, Order};
pub use writer::{Ledger, Settings};

/// Characters of one value; the log has the rest.
const MOST: usize = 2000;
/// Bytes of a list: all recipients of nearly every message.
const MOST_OF_LIST: usize = 32 << 10;
/// Stands last in a list that goes on, in the place of whoever is not named.
pub const AND_MORE: &str = "\u{2026}";
const LOCK: &str = "no holder of this lock panics";

/// The process's log is one for all, and so is this.
static WRITER: RwLock<Option<SyncSender<Order>>> = RwLock::new(None);

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
        let writer = WRITER.read().expect(LOCK);
        let Some(writer) = &*writer else {
            return;
        };
        let mut entry = Entry {
            at: now(),
            ..Entry::default()
        };
        event.record(&mut entry);
        if let Err(TrySendError::Full(_)) = writer.try_send(Order::Keep(Box::new(entry))) {
            LOST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Entry {
    /// Where a field of the line goes; None: it is not kept.
    fn part(&mut self, field: &Field) -> Option<&mut String> {
        Some(match field.name() {
            "recipients" => &mut self.recipients,
            "site" | "sites" => &mut self.site,
            "message" => &mut self.what,
            "id" => &mut self.id,
            "message_id" => &mut self.message_id,
            "reverse_path" => &mut self.reverse_path,
            "bytes" => &mut self.bytes,
            "client" => &mut self.client,
            "agent" => &mut self.agent,
            "address" => &mut self.address,
            "reply" => &mut self.reply,
            _ => return None,
        })
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(part) = self.part(field) {
            *part = match field.name() {
                "recipients" | "site" | "sites" => bounded_list(value),
                // Nearly every value is short, and each message has two lines of them.
                _ if value.len() <= MOST => value.to_owned(),
                _ => value.chars().take(MOST).collect(),
            };
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if self.part(field).is_some() {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// What does not fit is left out as whole items, and said to be missing: a search must not take it for not there.
fn bounded_list(text: &str) -> String {
    if text.len() <= MOST_OF_LIST {
        return text.to_owned();
    }
    let room = &text.as_bytes()[..MOST_OF_LIST - AND_MORE.len()];
    match room.iter().rposition(|byte| *byte == b',') {
        Some(comma) => format!("{},{AND_MORE}", &text[..comma]),
        None => AND_MORE.to_owned(),
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
