//! Looks messages up in the history.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use dd_proto::pattern::Pattern;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{AND_MORE, Entry, directory, files, writer};

/// Longer lines are not ours: two lists, with each byte escaped, and the other values take less.
const LINE: u64 = 256 << 10;

/// What is looked for; all that is given has to be true.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub id: Option<String>,
    pub message_id: Option<Pattern>,
    pub reverse_path: Option<Pattern>,
    pub recipient: Option<Pattern>,
    pub site: Option<String>,
    /// Arrived then or later, and before that.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// What the history knows of a message, as far as it is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub accepted: Option<Entry>,
    /// In the order in which they were said.
    pub ended: Vec<Entry>,
}

/// By id, and so in the order in which they arrived.
pub type Found = BTreeMap<String, Told>;

impl Wanted {
    /// Whoever is not named in a list that was too long may be the one: then it is found.
    fn entry(&self, entry: &Entry) -> bool {
        let recipients = || entry.recipients.split(',');
        let sites = || entry.site.split(',');
        self.id.as_ref().is_none_or(|id| *id == entry.id)
            && self
                .site
                .as_ref()
                .is_none_or(|site| sites().any(|it| it == site || it == AND_MORE))
            && self.sender(&entry.reverse_path)
            && (self.recipients(recipients()) || recipients().any(|it| it == AND_MORE))
            && self.message_id(&entry.message_id)
            && arrived(&entry.id).is_none_or(|at| self.time(at))
    }

    fn message_id(&self, text: &str) -> bool {
        let bare = text.trim_start_matches('<').trim_end_matches('>');
        let wanted = self.message_id.as_ref();
        wanted.is_none_or(|it| it.matches(text) || it.matches(bare))
    }

    pub fn sender(&self, text: &str) -> bool {
        self.reverse_path.as_ref().is_none_or(|it| it.matches(text))
    }

    pub fn recipients<'a>(&self, mut all: impl Iterator<Item = &'a str>) -> bool {
        let wanted = self.recipient.as_ref();
        wanted.is_none_or(|it| all.any(|recipient| it.matches(recipient)))
    }

    pub fn time(&self, arrived: Timestamp) -> bool {
        self.since.is_none_or(|since| arrived >= since)
            && self.until.is_none_or(|until| arrived < until)
    }
}

/// RFC 9562 §5.7: an id begins with the time at which it was made, in milliseconds.
pub fn arrived(id: &str) -> Option<Timestamp> {
    let ms = i64::from_str_radix(id.get(..12)?, 16).ok()?;
    Timestamp::from_millisecond(ms).ok()
}

/// The newest messages of the history that are wanted, at most `limit`.
///
/// # Errors
/// It cannot be read.
pub async fn search(state_dir: &Path, wanted: Wanted, limit: usize) -> io::Result<Found> {
    writer::flush().await;
    let directory = directory(state_dir);
    let reading = tokio::task::spawn_blocking(move || read(&directory, &wanted, limit));
    reading.await.map_err(io::Error::other)?
}

pub(super) fn read(directory: &Path, wanted: &Wanted, limit: usize) -> io::Result<Found> {
    let mut found = Found::new();
    // What was settled on a day may have come on an earlier one, and never on a later one.
    let day = |at: Timestamp| at.to_zoned_datetime(TimeZone::UTC).date();
    let first = wanted.since.map(day);
    for (part, path) in files(directory)? {
        if first.is_some_and(|first| part.date < first) {
            continue;
        }
        match File::open(&path) {
            Ok(file) => look_through(file, wanted, limit, &mut found)?,
            // It is old, and has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn look_through(file: File, wanted: &Wanted, limit: usize, found: &mut Found) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        // A line that a stop has torn says nothing.
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else {
            continue;
        };
        if wanted.entry(&entry) {
            take(entry, limit, found);
        }
    }
}

/// The oldest one goes where there are too many.
fn take(entry: Entry, limit: usize, found: &mut Found) {
    let told = found.entry(entry.id.clone()).or_default();
    match entry.what.as_str() {
        "accepted" => told.accepted = Some(entry),
        _ => told.ended.push(entry),
    }
    if found.len() > limit {
        found.pop_first();
    }
}
