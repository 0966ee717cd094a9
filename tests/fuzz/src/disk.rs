//! What a disk gives back: the controller's log and the agent's journal, damaged anywhere.
//!
//! The input is both what is written and what is damaged of it, for no made-up checksum is ever right.

use std::path::Path;

use dd_agent::journal::Journal;
use dd_controller::fuzzing::{self, Record};
use dd_proto::id::{DeliveryId, Generation, Lease, MessageId};
use dd_proto::pb;
use tempfile::TempDir;

/// Bytes, taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(taken)
    }

    /// A place in something of that length.
    fn place(&mut self, length: usize) -> Option<usize> {
        let place = usize::from(self.byte()?) << 8 | usize::from(self.byte()?);
        (length > 0).then(|| place % length)
    }
}

/// A segment of the log, of which bytes have changed: what was written and is whole is found; what is found was written.
pub fn log(input: &[u8]) {
    let mut input = Input(input);
    let mut records = Vec::new();
    for _ in 0..input.byte().unwrap_or(0) % 8 {
        let (Some(kind), Some(envelope), Some(content)) =
            (input.byte(), input.bytes(), input.bytes())
        else {
            break;
        };
        records.push(Record {
            kind: kind % 5 + 1,
            envelope: envelope.to_vec(),
            content: Some(content.to_vec()),
        });
    }
    let written = fuzzing::segment_of(records);
    let mut segment = written.bytes.clone();
    while let (Some(at), Some(byte)) = (input.place(segment.len()), input.byte()) {
        segment[at] ^= byte;
    }
    let directory = directory();
    let found = fuzzing::records_in(&segment, directory.path()).expect("the disk is good");
    for record in &found {
        let was = written.records.iter().any(|(it, _)| {
            (it.kind, &it.envelope) == (record.kind, &record.envelope)
                && (record.content.is_none() || record.content == it.content)
        });
        assert!(was, "{record:?} was never written");
    }
    // The last one may be torn, and what stands behind damage at the end with it.
    for (record, place) in written.records.iter().rev().skip(1) {
        let is_whole = segment[place.clone()] == written.bytes[place.clone()];
        assert!(!is_whole || found.contains(record), "{record:?} is lost");
    }
}

/// A journal, of which bytes have changed, or that was never one: it opens, or says that it is foreign; what it knows, it
/// knows the next time too; and where nothing has changed it knows what was noted.
pub fn journal(input: &[u8]) {
    let directory = directory();
    let path = directory.path().join("journal");
    let mut input = Input(input);
    let noted = match input.byte() {
        None => return,
        Some(0) => {
            std::fs::write(&path, input.0).expect("written");
            None
        }
        Some(_) => Some(write(directory.path(), &mut input)),
    };
    let whole = std::fs::read(&path).expect("read");
    let mut bytes = whole.clone();
    while let (Some(at), Some(byte)) = (input.place(bytes.len()), input.byte()) {
        bytes[at] ^= byte;
    }
    std::fs::write(&path, &bytes).expect("written");
    let Ok(opened) = Journal::open(directory.path()) else {
        assert!(!bytes.starts_with(b"ddjrnl1\n"), "not opened");
        return;
    };
    let (entries, doubt) = (opened.entries(), opened.doubt().to_owned());
    if let Some(noted) = noted.filter(|_| bytes == whole) {
        assert_eq!((&entries, &*doubt), (&noted, ""));
    }
    drop(opened);
    let again = Journal::open(directory.path()).expect("it was mended");
    assert_eq!(again.entries(), entries);
    assert_eq!(again.doubt(), doubt, "it is damaged again");
}

/// Notes something. Returns what it knows then.
fn write(directory: &Path, input: &mut Input<'_>) -> Vec<pb::journaled::Entry> {
    let journal = Journal::open(directory).expect("an empty one");
    for _ in 0..input.byte().unwrap_or(0) % 8 {
        let (Some(what), Some(who), Some(said)) = (input.byte(), input.byte(), input.bytes())
        else {
            break;
        };
        let lease = lease(who);
        match what % 3 {
            0 => {
                let dot = pb::DotSent {
                    lease: Some(lease.clone().into()),
                    recipients: said.iter().map(|it| u32::from(*it)).collect(),
                };
                let _ = journal.dot_sent(&lease, &dot).expect("noted");
            }
            1 => {
                let report = pb::Report {
                    lease: Some(lease.clone().into()),
                    detail: String::from_utf8_lossy(said).into_owned(),
                    ..pb::Report::default()
                };
                let _ = journal.report(&lease, &report);
            }
            _ => journal.forget(&lease),
        }
    }
    journal.write_out();
    journal.entries()
}

fn lease(who: u8) -> Lease {
    Lease {
        delivery: DeliveryId {
            message: MessageId::from_bytes([who % 4; 16]),
            site: "home".parse().expect("a name"),
        },
        generation: Generation {
            start: 1,
            counter: who.into(),
        },
    }
}

/// In memory, where there is such a place.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .expect("a temporary directory")
}
