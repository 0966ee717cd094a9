//! `ddadm queue …`.

mod filter;
mod search;
mod selected;

use std::io::Read;

use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::queue_client::QueueClient;
use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::args::queue::{QueueVerb, Selection};
use crate::client::Controller;
use crate::cmd::many;
use crate::cmd::queue::selected::Picked;
use crate::failure::Failure;
use crate::output::{Answer, Page, Table, bytes_shown, count, present, time, time_shown};

pub(crate) async fn run(
    verb: QueueVerb,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    let mut queue = controller.queue().await?;
    match verb {
        QueueVerb::List { site, filter } => {
            let mut rows = waiting(site.as_ref(), controller).await?;
            let now = crate::client::now();
            rows.retain(|row| filter::keeps(&filter, row, now));
            Ok(list(rows))
        }
        QueueVerb::Search(search) => search::run(*search, controller).await,
        QueueVerb::Show { id } => {
            let message = queue.show(pb::MessageId { id: id.to_string() }).await;
            Ok(show(&id.to_string(), controller.one(message)?))
        }
        QueueVerb::Content { .. } => unreachable!("it is printed as it comes, see `content`"),
        QueueVerb::Retry(selection) => {
            change(
                &selection,
                controller,
                stdin,
                "due now",
                async |mut it, of| it.retry(of).await,
            )
            .await
        }
        QueueVerb::Fail(selection) => {
            let what = "failed; the sender is told";
            change(&selection, controller, stdin, what, async |mut it, of| {
                it.fail(of).await
            })
            .await
        }
        QueueVerb::Remove(selection) => {
            change(
                &selection,
                controller,
                stdin,
                "removed",
                async |mut it, of| it.remove(of).await,
            )
            .await
        }
    }
}

/// All that waits, or what waits for a site.
async fn waiting(
    site: Option<&SiteName>,
    controller: &Controller,
) -> Result<Vec<pb::QueuedDelivery>, Failure> {
    let site = site.map(ToString::to_string).unwrap_or_default();
    let rows = controller.queue().await?;
    let rows = { rows }.list(pb::ListQueueRequest { site }).await;
    controller.all(rows).await
}

/// One message alone answers with an object, as it always did; several with an array.
async fn change(
    selection: &Selection,
    controller: &Controller,
    stdin: &mut dyn Read,
    what: &str,
    call: impl AsyncFn(
        QueueClient<Channel>,
        pb::DeliverySelection,
    ) -> Result<Response<pb::Changed>, Status>,
) -> Result<Answer, Failure> {
    let picked = selected::selected(selection, controller, stdin).await?;
    if picked.is_empty() {
        let nothing = Answer::new(&Vec::<Changed>::new(), "nothing waits\n".into());
        return Ok(nothing);
    }
    let queue = controller.queue().await?;
    many::each(&picked, async |it: &Picked| {
        let of = pb::DeliverySelection {
            id: it.id.to_string(),
            site: it.site.clone().unwrap_or_default(),
        };
        let changed = call(queue.clone(), of).await;
        Ok(changed_answer(it, controller.one(changed)?, what))
    })
    .await
}

#[derive(Debug, Serialize)]
struct Changed {
    id: String,
    /// Absent where it is about all sites of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    deliveries: u64,
}

fn changed_answer(of: &Picked, changed: pb::Changed, what: &str) -> Answer {
    let deliveries = count(changed.deliveries, "delivery", "deliveries");
    let view = Changed {
        id: of.id.to_string(),
        site: of.site.clone(),
        deliveries: changed.deliveries,
    };
    Answer::new(&view, format!("{of}: {deliveries} {what}\n"))
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
    /// When it is really tried; `stands` says what it is until then.
    next: Option<String>,
    stands: String,
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
            next: time(it.next_ms),
            stands: it.stands,
            in_doubt: it.in_doubt,
            last: present(it.last),
            out: it.out,
            failed: it.failed,
        }
    }
}

/// Where a delivery stands, for people.
fn standing(it: &pb::QueuedDelivery) -> String {
    match (it.stands.as_str(), it.next_ms) {
        ("in-doubt", 0) => "in doubt".into(),
        ("in-doubt", next) => format!("in doubt, {}", time_shown(next)),
        ("kept", next @ 1..) => format!("kept, {}", time_shown(next)),
        ("waiting", next) => time_shown(next),
        // What cannot be read stands nowhere.
        ("", _) => "-".into(),
        (stands, _) => stands.to_owned(),
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
            next_ms: 1_800_000_240_000,
            stands: "waiting".into(),
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
            next_ms: 0,
            stands: "in-doubt".into(),
            last: String::new(),
            ..delivery("office")
        };
        let held = pb::QueuedDelivery {
            not_before_ms: 0,
            next_ms: 0,
            stands: "held".into(),
            ..delivery("shed")
        };
        insta::assert_snapshot!(list(vec![delivery("home"), bounce, held]).both());
        insta::assert_snapshot!("an_empty_queue", list(vec![]).both());
    }

    #[test]
    fn what_is_kept_says_so_and_when_its_home_is_asked_again() {
        let kept = pb::QueuedDelivery {
            stands: "kept".into(),
            ..delivery("home")
        };
        assert_eq!(standing(&kept), "kept, 2027-01-15T08:04:00Z");
        let at_no_time = pb::QueuedDelivery { next_ms: 0, ..kept };
        assert_eq!(standing(&at_no_time), "kept");
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
        let all = Picked {
            id: "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f".parse().unwrap(),
            site: None,
        };
        insta::assert_snapshot!(
            changed_answer(&all, pb::Changed { deliveries: 2 }, "due now").both()
        );
        let one = Picked {
            site: Some("home".into()),
            ..all
        };
        let changed = changed_answer(&one, pb::Changed { deliveries: 1 }, "removed");
        insta::assert_snapshot!("a_change_of_one_delivery", changed.both());
    }
}
