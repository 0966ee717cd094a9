//! A delivery with its envelope and content, from where its newest record lies.
//!
//! # Invariants
//! A record or a content that is not what it should be is never handed out: the delivery is held, and shown.

use std::io::ErrorKind;

use dd_proto::envelope::Envelope;
use dd_proto::id::DeliveryId;

use super::body;
use super::content::Contents;
use super::index::Index;
use super::index::entry::Entry;
use super::log::Files;
use crate::store::{Loaded, Position, StoreError, StoredContent};

/// All that an assignment needs; None where the delivery is settled.
pub(super) fn load(
    index: &Index,
    files: &Files,
    contents: &Contents,
    start: u64,
    delivery: &DeliveryId,
) -> Result<Option<Loaded>, StoreError> {
    where_it_lies(index, delivery, |position, entry| {
        load_entry(files, contents, start, delivery, position, entry)
    })
}

/// What operators are shown of a delivery whose content may be damaged; None where it is settled.
pub(super) fn envelope(
    index: &Index,
    files: &Files,
    delivery: &DeliveryId,
) -> Result<Option<Envelope>, StoreError> {
    where_it_lies(index, delivery, |_, entry| {
        let damaged = || StoreError::Damaged(delivery.clone());
        let read = files.read_envelope(entry.place());
        let (header, envelope) = read.map_err(|error| unreadable(delivery, error))?;
        let accepted = body::message_in(header.kind, &envelope).map_err(|_| damaged())?;
        let accepted = accepted.filter(|it| it.id == delivery.message.as_bytes());
        let envelope = accepted.and_then(|it| it.envelope).ok_or_else(damaged)?;
        Envelope::try_from(envelope).map_err(|_| damaged())
    })
}

fn where_it_lies<T>(
    index: &Index,
    delivery: &DeliveryId,
    read: impl Fn(Position, &Entry) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut read_before = None;
    loop {
        let Some((position, entry)) = index.get(delivery)? else {
            return Ok(None);
        };
        let loaded = read(position, &entry);
        // Cleaning may have moved it, and removed the segment, since the index was asked.
        let place = Some(entry.place());
        if loaded.is_ok() || place == read_before {
            return loaded.map(Some);
        }
        read_before = place;
    }
}

/// What is not there, or is something else, is lost for good; too many open files pass.
fn unreadable(delivery: &DeliveryId, error: std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::UnexpectedEof => {
            StoreError::Damaged(delivery.clone())
        }
        _ => StoreError::Disk(error),
    }
}

fn load_entry(
    files: &Files,
    contents: &Contents,
    start: u64,
    delivery: &DeliveryId,
    position: Position,
    entry: &Entry,
) -> Result<Loaded, StoreError> {
    let damaged = || StoreError::Damaged(delivery.clone());
    let unreadable = |error| unreadable(delivery, error);
    let (header, envelope, inline) = files.read(entry.place()).map_err(unreadable)?;
    let accepted = body::message_in(header.kind, &envelope).map_err(|_| damaged())?;
    let accepted = accepted.ok_or_else(damaged)?;
    if accepted.id != delivery.message.as_bytes() {
        return Err(damaged());
    }
    let content = match accepted.file.is_empty() {
        true => StoredContent::Inline(inline),
        false => StoredContent::File(contents.open(&accepted).map_err(unreadable)?),
    };
    let envelope = accepted.envelope.ok_or_else(damaged)?;
    Ok(Loaded {
        waiting: entry
            .waiting(delivery.site.clone(), position, start)
            .ok_or_else(damaged)?,
        envelope: Envelope::try_from(envelope).map_err(|_| damaged())?,
        content,
    })
}
