//! `ddadm queue …`.

use dd_proto::pb;
use serde::Serialize;

use crate::args::{QueueVerb, Selection};
use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Page, Table, bytes_shown, count, present, time, time_shown};

pub(crate) async fn run(verb: QueueVerb, controller: &Controller) -> Result<Answer, Failure> {
    let mut queue = controller.queue().await?;
    match verb {
        QueueVerb::List { site } => {
            let site = site.map(|site| site.to_string()).unwrap_or_default();
            let rows = queue.list(pb::ListQueueRequest { site }).await;
            Ok(list(controller.all(rows).await?))
        }
        QueueVerb::Show { id } => {
            let message = queue.show(pb::MessageId { id: id.to_string() }).await;
            Ok(show(&id.to_string(), controller.one(message)?))
        }
        QueueVerb::Content { .. } => unreachable!("it is printed as it comes, see `content`"),
        QueueVerb::Retry(selection) => {
            let changed = queue.retry(selected(&selection)).await;
            Ok(changed_answer(
                &selection,
                controller.one(changed)?,
                "due now",
            ))
        }
        QueueVerb::Fail(selection) => {
            let changed = queue.fail(selected(&selection)).await;
            let what = "failed; the sender is told";
            Ok(changed_answer(&selection, controller.one(changed)?, what))
        }
        QueueVerb::Remove(selection) => {
            let changed = queue.remove(selected(&selection)).await;
            Ok(changed_answer(
                &selection,
                controller.one(changed)?,
                "removed",
            ))
        }
    }
}

fn selected(selection: &Selection) -> pb::DeliverySelection {
    pb::DeliverySelection {
        id: selection.id.to_string(),
        site: selection
            .site
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    id: String,
    deliveries: u64,
}

fn changed_answer(selection: &Selection, changed: pb::Changed, what: &str) -> Answer {
    let deliveries = count(changed.deliveries, "delivery", "deliveries");
    let view = Changed {
        id: selection.id.to_string(),
        deliveries: changed.deliveries,
    };
    Answer::new(&view, format!("{}: {deliveries} {what}\n", selection.id))
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    site: String,
    reverse_path: String,
    recipients: Vec<String>,
    bytes: u64,
    arrived: Option<String>,
    attempts: u32,
    not_before: Option<String>,
    in_doubt: bool,
    last: Option<String>,
    out: bool,
    failed: bool,
}

impl From<pb::QueuedDelivery> for Row {
    fn from(it: pb::QueuedDelivery) -> Self {
        Self {
            id: it.id,
            site: it.site,
            reverse_path: it.reverse_path,
            recipients: it.recipients,
            bytes: it.bytes,
            arrived: time(it.arrived_ms),
            attempts: it.attempts,
            not_before: time(it.not_before_ms),
            in_doubt: it.in_doubt,
            last: present(it.last),
            out: it.out,
            failed: it.failed,
        }
    }
}

/// Where a delivery stands, for people.
fn standing(it: &pb::QueuedDelivery) -> String {
    match (it.out, it.failed, it.in_doubt) {
        (true, ..) => "out".into(),
        (_, true, _) => "failed".into(),
        (.., true) => "in doubt".into(),
        _ if it.not_before_ms == 0 => "due".into(),
        _ => time_shown(it.not_before_ms),
    }
}

fn list(rows: Vec<pb::QueuedDelivery>) -> Answer {
    let mut table = Table::new(&[
        "ID", "SITE", "FROM", "TO", "SIZE", "ARRIVED", "TRIES", "NEXT", "LAST",
    ]);
    for it in &rows {
        table.row([
            it.id.clone(),
            it.site.clone(),
            format!("<{}>", it.reverse_path),
            recipients(&it.recipients),
            bytes_shown(it.bytes),
            time_shown(it.arrived_ms),
            it.attempts.to_string(),
            standing(it),
            it.last.clone(),
        ]);
    }
    let text = table.text("nothing waits");
    Answer::new(&rows.into_iter().map(Row::from).collect::<Vec<_>>(), text)
}

/// The first one, and how many more: a row is a line.
fn recipients(all: &[String]) -> String {
    match all {
        [] => "-".into(),
        [only] => only.clone(),
        [first, more @ ..] => format!("{first} +{}", more.len()),
    }
}

#[derive(Debug, Serialize)]
struct Message {
    id: String,
    reverse_path: String,
    body: &'static str,
    smtputf8: bool,
    ret: Option<String>,
    envid: Option<String>,
    recipients: Vec<Recipient>,
    deliveries: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Recipient {
    number: u32,
    address: String,
    notify: Option<String>,
    orcpt: Option<String>,
}

fn show(id: &str, message: pb::QueuedMessage) -> Answer {
    let text = page(id, &message);
    let envelope = message.envelope.unwrap_or_default();
    let view = Message {
        id: id.to_owned(),
        reverse_path: envelope.reverse_path,
        body: if envelope.eight_bit {
            "8BITMIME"
        } else {
            "7BIT"
        },
        smtputf8: envelope.smtputf8,
        ret: present(envelope.ret),
        envid: present(envelope.envid),
        recipients: envelope
            .recipients
            .into_iter()
            .map(|it| Recipient {
                number: it.number,
                address: it.forward_path,
                notify: present(it.notify),
                orcpt: present(it.orcpt),
            })
            .collect(),
        deliveries: message.deliveries.into_iter().map(Row::from).collect(),
    };
    Answer::new(&view, text)
}

fn page(id: &str, message: &pb::QueuedMessage) -> String {
    let mut page = Page::new(&format!("message {id}"));
    if let Some(envelope) = &message.envelope {
        page.line("From", &format!("<{}>", envelope.reverse_path));
        page.lines(
            "To",
            envelope
                .recipients
                .iter()
                .map(|it| it.forward_path.as_str()),
        );
    }
    for it in &message.deliveries {
        page.line("", "");
        page.line("Site", &it.site);
        page.lines("  recipients", it.recipients.iter().map(String::as_str));
        page.line("  size", &bytes_shown(it.bytes));
        page.line("  arrived", &time_shown(it.arrived_ms));
        page.line("  tries", &it.attempts.to_string());
        page.line("  next", &standing(it));
        if it.failed {
            page.line(
                "",
                "its final answer could not be told to the sender; retry or remove it",
            );
        }
        if !it.last.is_empty() {
            page.line("  last", &it.last);
        }
    }
    page.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(site: &str) -> pb::QueuedDelivery {
        pb::QueuedDelivery {
            id: "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f".into(),
            site: site.into(),
            reverse_path: "sender@example.com".into(),
            recipients: vec!["a@home.example".into(), "b@home.example".into()],
            bytes: 1536,
            arrived_ms: 1_800_000_000_123,
            attempts: 2,
            not_before_ms: 1_800_000_180_000,
            in_doubt: false,
            last: "deferred: 451 4.3.0 later\x1b[31m".into(),
            out: false,
            failed: false,
        }
    }

    #[test]
    fn a_queue_is_a_row_for_each_message_and_site() {
        let bounce = pb::QueuedDelivery {
            reverse_path: String::new(),
            recipients: vec!["c@office.example".into()],
            in_doubt: true,
            not_before_ms: 0,
            last: String::new(),
            ..delivery("office")
        };
        insta::assert_snapshot!(list(vec![delivery("home"), bounce]).both());
        insta::assert_snapshot!("an_empty_queue", list(vec![]).both());
    }

    #[test]
    fn a_message_is_its_envelope_and_its_deliveries() {
        let recipient = |number, path: &str| pb::Recipient {
            number,
            forward_path: path.into(),
            notify: if number == 0 {
                "NEVER".into()
            } else {
                String::new()
            },
            orcpt: String::new(),
        };
        let message = pb::QueuedMessage {
            deliveries: vec![delivery("home")],
            envelope: Some(pb::Envelope {
                reverse_path: "sender@example.com".into(),
                eight_bit: true,
                recipients: vec![
                    recipient(0, "a@home.example"),
                    recipient(1, "b@home.example"),
                ],
                ..pb::Envelope::default()
            }),
        };
        insta::assert_snapshot!(show("0197f3a07a5b7c3e8d2f4a5b6c7d8e9f", message).both());
    }

    #[test]
    fn a_change_says_how_much_it_changed() {
        let selection = Selection {
            id: "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f".parse().unwrap(),
            site: None,
        };
        insta::assert_snapshot!(
            changed_answer(&selection, pb::Changed { deliveries: 2 }, "due now").both()
        );
    }
}
