//! A message's content on its way into a transaction: inline, or chunk by chunk from the controller.
//!
//! # Invariants
//! - At most one chunk and one write of content are in memory, and what has come of a stream's window: the next chunk is asked
//!   for when the last one is written.
//! - A site that takes nothing for [`LET_GO`] holds no stream of the controller's connection, of which there are not many: the
//!   content is fetched again when it goes on, and what it has is passed over.

use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::delivery_client::DeliveryClient;
use tonic::Streaming;

use crate::agent::{Agent, now};
use crate::live::Wire;
use crate::plan::{Assignment, Content};
use crate::session::Transaction;

/// From this many bytes on, output is written.
const WRITE_BYTES: usize = 64 * 1024;
/// How long the controller may keep a chunk back.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);
/// Far longer than a block takes over the slowest line: what is let go is fetched from its beginning.
const LET_GO: Duration = Duration::from_secs(30);

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
        // In a box: few messages come to it, and each would be as large.
        Content::AtController => Box::pin(fetch(agent, wire, transaction, assignment)).await,
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
    let mut got = 0;
    loop {
        let mut chunks = ask(agent, wire, assignment).await?;
        let mut had = got;
        loop {
            let coming = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message());
            let chunk = wire.meanwhile(coming).await;
            let chunk = chunk.map_err(|_| ContentError::Slow)?;
            let chunk = chunk.map_err(|status| refused(&status))?;
            let Some(chunk) = chunk else {
                return Ok(got);
            };
            let fresh = beyond(&chunk.data, &mut had);
            got += fresh.len() as u64;
            transaction.content(fresh);
            if transaction.output_len() >= WRITE_BYTES {
                match write(wire, transaction, chunks).await? {
                    Some(still) => chunks = still,
                    None => break,
                }
            }
        }
    }
}

/// What of a chunk was not had before.
fn beyond<'d>(data: &'d [u8], had: &mut u64) -> &'d [u8] {
    let known = usize::try_from(*had).map_or(data.len(), |had| had.min(data.len()));
    *had -= known as u64;
    &data[known..]
}

async fn ask(
    agent: &Agent,
    wire: &mut Wire,
    assignment: &Assignment,
) -> Result<Streaming<pb::ContentChunk>, ContentError> {
    let channel = agent
        .controller
        .borrow()
        .clone()
        .ok_or(ContentError::Away)?;
    let request = pb::FetchContentRequest {
        lease: Some(assignment.lease.clone().into()),
    };
    let mut client = DeliveryClient::new(channel).max_decoding_message_size(4 << 20);
    let asking = client.fetch_content(request);
    let asking = tokio::time::timeout(CHUNK_TIMEOUT, asking);
    let asked = wire.meanwhile(asking).await;
    let asked = asked.map_err(|_| ContentError::Slow)?;
    let asked = asked.map_err(|status| refused(&status))?;
    Ok(asked.into_inner())
}

fn refused(status: &tonic::Status) -> ContentError {
    ContentError::Refused(status.message().to_owned())
}

/// Writes what waits. Gives the chunks back, unless the site took nothing for long.
async fn write(
    wire: &mut Wire,
    transaction: &mut Transaction<'_>,
    chunks: Streaming<pb::ContentChunk>,
) -> Result<Option<Streaming<pb::ContentChunk>>, ContentError> {
    let out = transaction.take_output();
    let pulse = std::sync::Arc::clone(wire.pulse());
    let mut chunks = Some(chunks);
    let written = {
        let mut writing = std::pin::pin!(wire.write(&out, transaction.write_timeout()));
        loop {
            let long = pulse.moved() + LET_GO;
            tokio::select! {
                biased;
                written = &mut writing => break written,
                () = tokio::time::sleep_until(long.into()), if chunks.is_some() => {
                    if pulse.moved() + LET_GO <= now() {
                        chunks = None;
                    }
                }
            }
        }
    };
    if let Err(lost) = written {
        transaction.received(&wire.last_words().await);
        transaction.lost(lost);
        return Err(ContentError::SiteGone);
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_had_is_passed_over_chunk_by_chunk() {
        let mut had = 5;
        let fresh: Vec<&[u8]> = [&b"abc"[..], b"def", b"ghi"]
            .into_iter()
            .map(|chunk| beyond(chunk, &mut had))
            .collect();
        assert_eq!(fresh, [&b""[..], b"f", b"ghi"]);
    }
}
