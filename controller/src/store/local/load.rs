//! A delivery with its envelope and content, from where its newest record lies.
//!
//! # Invariants
//! - A record or a content that is not what it should be is never handed out: the delivery is held, and shown.
//! - What the disk cannot read, asked twice, is damaged as well: it is not asked for again each minute for ever.

use std::io::ErrorKind;

use dd_proto::envelope::Envelope;
use dd_proto::id::DeliveryId;

use super::body;
use super::content::{ContentFile, Contents};
use super::disk;
use super::index::Index;
use super::index::entry::Entry;
use super::log::Files;
use crate::store::{Loaded, Position, StoreError, StoredContent};

/// Where messages are read from.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) files: Files,
    pub(super) contents: Contents,
    pub(super) start: u64,
    /// Content of the log that is longer is not read with its record, but by whoever wants it.
    pub(super) most: u64,
}

/// All that an assignment needs; None where the delivery is settled.
pub(super) fn load(
    index: &Index,
    sources: &Sources,
    delivery: &DeliveryId,
) -> Result<Option<Loaded>, StoreError> {
    where_it_lies(index, delivery, |position, entry| {
        load_entry(sources, delivery, position, entry)
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
    if disk::is_unreadable(&error) {
        tracing::error!(%error, %delivery, "the disk cannot read a delivery");
        return StoreError::Damaged(delivery.clone());
    }
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::UnexpectedEof => {
            StoreError::Damaged(delivery.clone())
        }
        _ => StoreError::Disk(error),
    }
}

fn load_entry(
    sources: &Sources,
    delivery: &DeliveryId,
    position: Position,
    entry: &Entry,
) -> Result<Loaded, StoreError> {
    let damaged = || StoreError::Damaged(delivery.clone());
    let unreadable = |error| unreadable(delivery, error);
    let Sources {
        files, contents, ..
    } = sources;
    let place = entry.place();
    let (header, envelope, inline) = match entry.bytes > sources.most {
        true => {
            let (header, envelope) = files.read_envelope(place).map_err(unreadable)?;
            (header, envelope, None)
        }
        false => {
            let (header, envelope, content) = files.read(place).map_err(unreadable)?;
            (header, envelope, Some(content))
        }
    };
    let accepted = body::message_in(header.kind, &envelope).map_err(|_| damaged())?;
    let accepted = accepted.ok_or_else(damaged)?;
    if accepted.id != delivery.message.as_bytes() {
        return Err(damaged());
    }
    let content = match inline {
        _ if !accepted.file.is_empty() => {
            StoredContent::File(contents.open(&accepted).map_err(unreadable)?)
        }
        Some(inline) => StoredContent::Inline(inline),
        None => {
            let (file, at) = files.content_at(place, &header).map_err(unreadable)?;
            StoredContent::File(ContentFile::in_log(file, at, &header))
        }
    };
    let envelope = accepted.envelope.ok_or_else(damaged)?;
    Ok(Loaded {
        waiting: entry
            .waiting(delivery.site.clone(), position, sources.start)
            .ok_or_else(damaged)?,
        envelope: Envelope::try_from(envelope).map_err(|_| damaged())?,
        content,
    })
}
