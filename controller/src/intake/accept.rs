//! The door to the store: what intake hands over, and what it is told.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;

/// A message received in full; not ours until it is accepted.
#[derive(Debug)]
pub struct Submission<S> {
    pub id: MessageId,
    /// Its recipients are numbered from zero in their order.
    pub envelope: Envelope,
    /// For the log: printable and bounded; empty if there is none.
    pub message_id: Arc<str>,
    /// Every recipient is in exactly one of them.
    pub deliveries: Vec<(SiteName, Vec<RecipientNumber>)>,
    pub content: Content<S>,
    pub arrived: Timestamp,
}

/// The content, our `Received` field included.
#[derive(Debug)]
pub enum Content<S> {
    Inline(Bytes),
    /// In a file, written but not yet synced.
    Spooled(S),
}

/// Why a message was not accepted. The client keeps it and tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    #[error("no space for the message")]
    Full,
    #[error("the message could not be made durable")]
    LogFailed,
}

/// Makes messages durable.
pub trait Acceptor: Send + Sync + 'static {
    type Spool: Spool;

    /// Durable when it returns Ok. If the machine stops before, the client was never told 250 and tries again.
    fn accept(
        &self,
        submission: Submission<Self::Spool>,
    ) -> impl Future<Output = Result<(), AcceptError>> + Send;

    /// A temporary file for a large content.
    fn spool(&self) -> impl Future<Output = Result<Self::Spool, AcceptError>> + Send;
}

/// A temporary file; dropped without being accepted, it goes away.
pub trait Spool: Send + 'static {
    fn write(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), AcceptError>> + Send;
}
