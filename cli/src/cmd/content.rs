//! `ddadm queue content`: a message as it was received, however large.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_proto::id::MessageId;
use dd_proto::pb;
use serde::Serialize;

use crate::client::Controller;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Output, Printer, Taken};

#[derive(Debug, Serialize)]
struct Content {
    id: String,
    bytes: usize,
    base64: String,
}

/// As it is for a file or a pipe, line by line and harmless for a terminal, in base64 as JSON.
pub(crate) async fn run(
    id: MessageId,
    controller: &Controller,
    printer: &mut Printer<'_>,
    output: Output,
) -> Result<Exit, Failure> {
    let mut queue = controller.queue().await?;
    let request = pb::MessageId { id: id.to_string() };
    let mut chunks = controller.one(queue.content(request).await)?;
    let mut whole = Vec::new();
    while let Some(chunk) = controller.next(&mut chunks).await? {
        match output {
            Output::Json => whole.extend_from_slice(&chunk.data),
            Output::Table if printer.foreign(&chunk.data)? == Taken::NoMore => break,
            Output::Table => {}
        }
    }
    if output == Output::Json {
        let content = Content {
            id: id.to_string(),
            bytes: whole.len(),
            base64: STANDARD.encode(&whole),
        };
        printer.answer(&Answer::new(&content, String::new()), output);
    }
    Ok(Exit::Done)
}
