//! What callers ask of the writer, and what that takes of the log.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::oneshot;

use super::super::body;
use super::super::content::Spooled;
use super::super::log::NewRecord;
use super::super::record::{self, Kind};
use crate::intake::accept::AcceptError;
use crate::store::{LogFailed, Waiting};

/// A delivery as records name it: message and site.
pub(super) type Delivery = (Vec<u8>, String);

/// What callers ask of the writer.
#[derive(Debug)]
pub(crate) enum Request {
    Accept {
        accepted: Box<body::Accepted>,
        inline: Bytes,
        /// Kept once the record is durable; dropped, and so removed, if that fails.
        file: Option<Spooled>,
        answer: oneshot::Sender<Result<Vec<Waiting>, AcceptError>>,
    },
    /// Answers with the notifications that were accepted.
    Settle {
        batch: Vec<Owing<body::Settled>>,
        answer: oneshot::Sender<Result<Vec<Waiting>, LogFailed>>,
    },
    Note {
        batch: Vec<Owing<body::Noted>>,
        answer: oneshot::Sender<Result<Vec<Waiting>, LogFailed>>,
    },
    /// Everything before it is committed; answers with the end of the log.
    Close {
        answer: oneshot::Sender<(u64, u64, u64)>,
    },
}

/// The envelope of a record, and the content of the notification inside it; empty without one.
#[derive(Debug)]
pub(crate) struct Owing<T> {
    pub(crate) envelope: T,
    pub(crate) content: Bytes,
}

impl Request {
    pub(super) fn is_mail(&self) -> bool {
        matches!(self, Self::Accept { .. })
    }

    pub(super) fn is_note(&self) -> bool {
        matches!(self, Self::Note { .. })
    }

    /// How many records it takes.
    pub(super) fn number(&self) -> usize {
        match self {
            Self::Accept { .. } => 1,
            Self::Settle { batch, .. } => batch.len(),
            Self::Note { batch, .. } => batch.len(),
            Self::Close { .. } => 0,
        }
    }

    /// How many bytes of the log.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Accept {
                accepted, inline, ..
            } => record_bytes(&**accepted, inline),
            Self::Settle { batch, .. } => batch.iter().map(Owing::bytes).sum(),
            Self::Note { batch, .. } => batch.iter().map(Owing::bytes).sum(),
            Self::Close { .. } => 0,
        }
    }

    /// Adds the deliveries that it settles.
    pub(super) fn add_settled(&self, to: &mut HashSet<Delivery>) {
        if let Self::Settle { batch, .. } = self {
            to.extend(batch.iter().map(|it| it.envelope.delivery()));
        }
    }

    pub(super) fn records(&self) -> Vec<NewRecord> {
        match self {
            Self::Accept {
                accepted, inline, ..
            } => vec![NewRecord {
                kind: Kind::Accepted,
                envelope: accepted.encode_to_vec(),
                content: inline.clone(),
            }],
            Self::Settle { batch, .. } => batch
                .iter()
                .map(|owing| owing.record(Kind::Settled))
                .collect(),
            Self::Note { batch, .. } => batch
                .iter()
                .map(|owing| owing.record(Kind::Noted))
                .collect(),
            Self::Close { .. } => Vec::new(),
        }
    }

    /// Callers that went away need no answer.
    pub(super) fn refuse(self, error: AcceptError) {
        match self {
            Self::Accept { answer, file, .. } => {
                // Of a group whose commit failed a part may be durable. A file that no record names is found by the
                // start after this one, and one that a record names is mail.
                if let Some(file) = file.filter(|_| error == AcceptError::LogFailed) {
                    file.keep();
                }
                let _ = answer.send(Err(error));
            }
            Self::Settle { answer, .. } | Self::Note { answer, .. } => {
                let _ = answer.send(Err(LogFailed));
            }
            Self::Close { .. } => {}
        }
    }
}

impl<T: prost::Message> Owing<T> {
    fn bytes(&self) -> u64 {
        record_bytes(&self.envelope, &self.content)
    }

    fn record(&self, kind: Kind) -> NewRecord {
        NewRecord {
            kind,
            envelope: self.envelope.encode_to_vec(),
            content: self.content.clone(),
        }
    }
}

fn record_bytes(envelope: &impl prost::Message, content: &Bytes) -> u64 {
    (record::HEADER + envelope.encoded_len() + content.len()) as u64
}

impl body::Settled {
    fn delivery(&self) -> Delivery {
        (self.id.clone(), self.site.clone())
    }
}

impl body::Noted {
    pub(super) fn delivery(&self) -> Delivery {
        (self.id.clone(), self.site.clone())
    }
}
