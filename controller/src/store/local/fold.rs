//! What the records of the queue's log mean: how each changes the index, and how each is made.
//!
//! # Invariants
//! The index after a replay is the one that the same records made when they were written, but for the marks that say
//! what a restart means (`earlier_start`, and `in_doubt` after damage).

use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::report::Disposition;
use jiff::Timestamp;
use prost::Message as _;

use super::body::{Accepted, LastReply, Noted, Settled, SettledRecipient, Unreadable, number};
use super::index::{Index, Stored, millis};
use super::log::NewRecord;
use super::record::Kind;
use super::replay::{Before, Found};
use crate::store::{self, Note, Position, Settlement, Waiting};

/// Applies a record of an earlier start.
///
/// # Errors
/// It is whole, but nothing that this version understands.
pub(crate) fn apply(index: &mut Index, found: &Found<'_>) -> Result<(), Unreadable> {
    if found.before == Before::Damage {
        index.doubt_all();
    }
    match found.header.kind {
        Kind::Accepted | Kind::Carried => {
            let accepted = Accepted::decode(found.envelope).map_err(|_| Unreadable)?;
            let mut waiting = waiting(&accepted, found.header.sequence)?;
            for it in &mut waiting {
                it.earlier_start = true;
            }
            let stored = Stored {
                place: found.place,
                file: accepted.file,
            };
            index.accept(stored, &waiting);
        }
        Kind::Settled => {
            let settled = Settled::decode(found.envelope).map_err(|_| Unreadable)?;
            let delivery = delivery(&settled.id, &settled.site)?;
            let numbers: Vec<RecipientNumber> = settled
                .recipients
                .iter()
                .map(|it| number(it.number))
                .collect::<Result<_, _>>()?;
            index.settle(&delivery, numbers.into_iter());
        }
        Kind::Noted => {
            let noted = Noted::decode(found.envelope).map_err(|_| Unreadable)?;
            index.note(&note(&noted)?);
        }
        Kind::Put => return Err(Unreadable),
    }
    Ok(())
}

/// The deliveries of a message as they stand when it has just been accepted.
pub(crate) fn waiting(accepted: &Accepted, sequence: u64) -> Result<Vec<Waiting>, Unreadable> {
    let one = |stored: &super::body::StoredDelivery| {
        let open = stored.recipients.iter().map(|it| number(*it));
        Ok(Waiting {
            delivery: delivery(&accepted.id, &stored.site)?,
            position: Position {
                not_before_ms: 0,
                sequence,
            },
            arrived: timestamp(accepted.arrived_ms)?,
            not_before: None,
            attempts: 0,
            breaks: 0,
            in_doubt: false,
            failed: false,
            bytes: accepted.bytes,
            open: open.collect::<Result<_, _>>()?,
            earlier_start: false,
        })
    };
    accepted.deliveries.iter().map(one).collect()
}

pub(crate) fn settled_record(settlement: &Settlement) -> NewRecord {
    let recipients = settlement
        .recipients
        .iter()
        .map(|(number, what)| SettledRecipient {
            number: u32::from(number.0),
            what: match what {
                store::Settled::Relayed => 1,
                store::Settled::Failed => 2,
                store::Settled::Removed => 3,
            },
        });
    let body = Settled {
        id: settlement.delivery.message.as_bytes().to_vec(),
        site: settlement.delivery.site.to_string(),
        recipients: recipients.collect(),
        dsn: None,
    };
    NewRecord::without_content(Kind::Settled, body.encode_to_vec())
}

pub(crate) fn noted_record(note: &Note) -> NewRecord {
    let last = note.last.as_ref().map(|(disposition, reply)| LastReply {
        disposition: match disposition {
            Disposition::Relayed => 1,
            Disposition::Deferred => 2,
            Disposition::Failed => 3,
        },
        code: u32::from(reply.code),
        enhanced: reply.enhanced.clone(),
        text: reply.text.clone(),
    });
    let body = Noted {
        id: note.delivery.message.as_bytes().to_vec(),
        site: note.delivery.site.to_string(),
        attempts: note.attempts,
        breaks: note.breaks,
        in_doubt: note.in_doubt,
        failed: note.failed,
        not_before_ms: note.not_before.map_or(0, millis),
        last,
    };
    NewRecord::without_content(Kind::Noted, body.encode_to_vec())
}

/// Without its reply: the index does not keep it.
fn note(noted: &Noted) -> Result<Note, Unreadable> {
    let not_before = match noted.not_before_ms {
        0 => None,
        ms => Some(timestamp(ms)?),
    };
    Ok(Note {
        delivery: delivery(&noted.id, &noted.site)?,
        attempts: noted.attempts,
        breaks: noted.breaks,
        in_doubt: noted.in_doubt,
        failed: noted.failed,
        not_before,
        last: None,
    })
}

fn delivery(id: &[u8], site: &str) -> Result<DeliveryId, Unreadable> {
    Ok(DeliveryId {
        message: MessageId::try_from(id).map_err(|_| Unreadable)?,
        site: site.parse().map_err(|_| Unreadable)?,
    })
}

pub(crate) fn timestamp(ms: u64) -> Result<Timestamp, Unreadable> {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or(Unreadable)
}
