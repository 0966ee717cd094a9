//! The second log line of a message's life: one for each site, when its settlement is durable.

use dd_proto::envelope::Envelope;
use dd_proto::id::RecipientNumber;

use super::event::{Line, Settle};
use crate::intake::header::HeaderScan;

/// What the line says about the message itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Letter {
    message_id: String,
    reverse_path: String,
    recipients: Vec<(RecipientNumber, String)>,
}

impl Letter {
    pub(super) fn new(envelope: &Envelope, content: Option<&[u8]>) -> Self {
        let mut scan = HeaderScan::default();
        scan.feed(content.unwrap_or_default());
        let recipients = envelope.recipients.iter();
        Self {
            message_id: scan.message_id().to_owned(),
            reverse_path: envelope.reverse_path.as_str().to_owned(),
            recipients: recipients
                .map(|recipient| (recipient.number, recipient.path.as_str().to_owned()))
                .collect(),
        }
    }
}

pub(super) fn log(settle: &Settle, letter: &Letter) {
    let Some(line) = &settle.line else {
        return tracing::info!(
            target: "mail",
            id = %settle.settlement.delivery.message,
            site = %settle.settlement.delivery.site,
            reverse_path = letter.reverse_path,
            recipients = paths(settle, letter),
            "removed"
        );
    };
    let reply = line.results.first().map(|result| result.reply.to_string());
    tracing::info!(
        target: "mail",
        id = %settle.settlement.delivery.message,
        message_id = letter.message_id,
        reverse_path = letter.reverse_path,
        recipients = paths(settle, letter),
        site = %settle.settlement.delivery.site,
        agent = %line.agent,
        address = line.address,
        proof = line.proof,
        reply = reply.unwrap_or_default(),
        delays = delays(line),
        "settled"
    );
}

fn paths(settle: &Settle, letter: &Letter) -> String {
    let settled = &settle.settlement.recipients;
    let is_settled = |number| settled.iter().any(|(settled, _)| *settled == number);
    let paths = letter
        .recipients
        .iter()
        .filter(|(number, _)| is_settled(*number));
    let paths: Vec<&str> = paths.map(|(_, path)| path.as_str()).collect();
    paths.join(",")
}

/// In seconds: since it arrived; of that connecting, until the proof, and until the reply, each since it was assigned.
fn delays(line: &Line) -> String {
    let delays = &line.delays;
    let parts = [line.waited, delays.connect, delays.proof, delays.total];
    parts
        .map(|part| format!("{:.3}", part.as_secs_f64()))
        .join("/")
}
