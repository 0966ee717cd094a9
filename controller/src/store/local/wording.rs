//! How records say what the seam says.

use bytes::Bytes;

use super::body;
use super::index::entry::millis;
use crate::intake::accept::Submission;
use crate::store::{Note, Notification, Settled, Settlement};

pub(super) fn accepted_of<S>(submission: &Submission<S>) -> body::Accepted {
    let deliveries = submission.deliveries.iter();
    body::Accepted {
        id: submission.id.as_bytes().to_vec(),
        envelope: Some((&submission.envelope).into()),
        deliveries: deliveries
            .map(|(site, numbers)| body::StoredDelivery {
                site: site.to_string(),
                recipients: numbers.iter().map(|n| u32::from(n.0)).collect(),
            })
            .collect(),
        arrived_ms: millis(submission.arrived),
        ..body::Accepted::default()
    }
}

fn notification_of(dsn: &Notification) -> body::Accepted {
    let recipients = dsn.envelope.recipients.iter();
    body::Accepted {
        id: dsn.id.as_bytes().to_vec(),
        envelope: Some((&dsn.envelope).into()),
        deliveries: vec![body::StoredDelivery {
            site: dsn.site.to_string(),
            recipients: recipients.map(|it| u32::from(it.number.0)).collect(),
        }],
        arrived_ms: millis(dsn.arrived),
        bytes: dsn.content.len() as u64,
        not_before_ms: dsn.not_before.map_or(0, millis),
        ..body::Accepted::default()
    }
}

pub(super) fn content_of(dsn: Option<Notification>) -> Bytes {
    dsn.map(|dsn| dsn.content).unwrap_or_default()
}

pub(super) fn settled_of(settlement: &Settlement, dsn: Option<&Notification>) -> body::Settled {
    let recipients = settlement.recipients.iter();
    body::Settled {
        id: settlement.delivery.message.as_bytes().to_vec(),
        site: settlement.delivery.site.to_string(),
        recipients: recipients
            .map(|(number, settled)| body::SettledRecipient {
                number: u32::from(number.0),
                what: match settled {
                    Settled::Relayed => 1,
                    Settled::Failed => 2,
                    Settled::Removed => 3,
                    Settled::Expired => 4,
                },
            })
            .collect(),
        dsn: dsn.map(notification_of),
    }
}

pub(super) fn noted_of(note: &Note, dsn: Option<&Notification>) -> body::Noted {
    body::Noted {
        id: note.delivery.message.as_bytes().to_vec(),
        site: note.delivery.site.to_string(),
        attempts: note.attempts,
        breaks: note.breaks,
        in_doubt: note.in_doubt,
        failed: note.failed,
        not_before_ms: note.not_before.map_or(0, millis),
        last: note.last.clone(),
        kept: note.kept,
        warned: note.warned,
        dsn: dsn.map(notification_of),
    }
}
