//! A message as far as it is in memory: what an assignment, a report to its sender and its log lines are made from.
//!
//! # Invariants
//! A content is there whole or not at all: a part of it is never taken for the message.

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::envelope::Envelope;

use super::Arrived;
use crate::intake::accept::{Content, Submission};
use crate::intake::header;
use crate::store::{Loaded, Notification, StoredContent, Waiting};

/// Contents up to this are kept in memory and ride in the assignment; larger ones are fetched for a transaction.
pub(super) const INLINE: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mail {
    pub(super) envelope: Arc<Envelope>,
    /// For the log line; empty if there is none.
    pub(super) message_id: Arc<str>,
    /// None: too large, or it cannot be read.
    pub(super) content: Option<Bytes>,
}

impl Mail {
    /// What is about to be made durable.
    pub fn of<S>(submission: &Submission<S>) -> Self {
        let content = match &submission.content {
            Content::Inline(content) => kept(content),
            Content::Spooled(_) => None,
        };
        Self {
            envelope: Arc::new(submission.envelope.clone()),
            message_id: submission.message_id.clone(),
            content,
        }
    }

    /// A notification, which goes out like any mail.
    pub(super) fn ours(dsn: &Notification) -> Self {
        Self {
            envelope: Arc::new(dsn.envelope.clone()),
            message_id: header::message_id(&dsn.content).into(),
            content: kept(&dsn.content),
        }
    }

    /// Reads the beginning of what lies in a file.
    pub(super) async fn read(loaded: Loaded) -> Self {
        let (message_id, content) = match loaded.content {
            StoredContent::Inline(content) => (header::message_id(&content), kept(&content)),
            StoredContent::File(mut file) => {
                let beginning = file.next(INLINE).await;
                (header::message_id(&beginning.unwrap_or_default()), None)
            }
        };
        Self {
            envelope: Arc::new(loaded.envelope),
            message_id: message_id.into(),
            content,
        }
    }

    /// Once it is durable.
    pub fn arrived(self, waiting: Vec<Waiting>) -> Vec<Arrived> {
        let arrived = waiting.into_iter().map(|waiting| Arrived {
            waiting,
            mail: self.clone(),
        });
        arrived.collect()
    }
}

fn kept(content: &Bytes) -> Option<Bytes> {
    (content.len() <= INLINE).then(|| content.clone())
}
