//! A message's content on its way into a transaction: inline, or chunk by chunk from the controller.
//!
//! # Invariants
//! At most one chunk and one write of content are in memory: the next chunk is asked for when the last one is written.

use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::delivery_client::DeliveryClient;

use crate::agent::Agent;
use crate::live::Wire;
use crate::plan::{Assignment, Content};
use crate::session::Transaction;

/// From this many bytes on, output is written.
const WRITE_BYTES: usize = 64 * 1024;
/// How long the controller may keep a chunk back.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the content did not come.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("the content cannot be fetched: the controller is away")]
    Away,
    #[error("the content cannot be fetched: {0}")]
    Refused(String),
    #[error("the content cannot be fetched: the controller sends nothing for a minute")]
    Slow,
    #[error("the content has {got} bytes instead of {expected}")]
    Length { got: u64, expected: u64 },
    /// The transaction has ended by itself.
    #[error("the site is gone")]
    SiteGone,
}

/// Gives the whole content to the transaction, or gives the transaction up.
pub async fn give(
    agent: &Agent,
    wire: &mut Wire,
    transaction: &mut Transaction<'_>,
    assignment: &Assignment,
) {
    let given = match &assignment.content {
        Content::Inline(content) => {
            transaction.content(content);
            Ok(content.len() as u64)
        }
        Content::AtController => fetch(agent, wire, transaction, assignment).await,
    };
    let expected = assignment.content_bytes;
    let given = given.and_then(|got| match got == expected {
        true => Ok(()),
        false => Err(ContentError::Length { got, expected }),
    });
    match given {
        Ok(()) => transaction.content_ended(),
        Err(ContentError::SiteGone) => {}
        Err(error) => transaction.give_up(&error.to_string()),
    }
}

async fn fetch(
    agent: &Agent,
    wire: &mut Wire,
    transaction: &mut Transaction<'_>,
    assignment: &Assignment,
) -> Result<u64, ContentError> {
    let channel = agent
        .controller
        .borrow()
        .clone()
        .ok_or(ContentError::Away)?;
    let request = pb::FetchContentRequest {
        lease: Some(assignment.lease.clone().into()),
    };
    let refused = |status: tonic::Status| ContentError::Refused(status.message().to_owned());
    let mut client = DeliveryClient::new(channel).max_decoding_message_size(4 << 20);
    let asking = client.fetch_content(request);
    let asking = tokio::time::timeout(CHUNK_TIMEOUT, asking);
    let mut chunks = wire
        .meanwhile(asking)
        .await
        .map_err(|_| ContentError::Slow)?
        .map_err(refused)?
        .into_inner();
    let mut got = 0;
    loop {
        let coming = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message());
        let chunk = wire
            .meanwhile(coming)
            .await
            .map_err(|_| ContentError::Slow)?
            .map_err(refused)?;
        let Some(chunk) = chunk else {
            return Ok(got);
        };
        got += chunk.data.len() as u64;
        transaction.content(&chunk.data);
        if transaction.output_len() >= WRITE_BYTES {
            let out = transaction.take_output();
            if let Err(lost) = wire.write(&out, transaction.write_timeout()).await {
                transaction.lost(lost);
                return Err(ContentError::SiteGone);
            }
        }
    }
}
