//! `ddadm queue search`: what waits, and what is settled.

use dd_proto::pb;
use serde::Serialize;

use crate::args::queue::Search;
use crate::client::Controller;
use crate::cmd::queue::recipients;
use crate::failure::Failure;
use crate::output::{Answer, Table, present, time, time_shown};

pub(super) async fn run(search: Search, controller: &Controller) -> Result<Answer, Failure> {
    let found = controller.queue().await?;
    let found = { found }.search(request(&search)).await;
    Ok(answer(controller.all(found).await?, search.limit))
}

fn request(search: &Search) -> pb::SearchRequest {
    fn text<T: ToString>(it: Option<&T>) -> String {
        it.map(ToString::to_string).unwrap_or_default()
    }
    pb::SearchRequest {
        id: text(search.id.as_ref()),
        message_id: text(search.message_id.as_ref()),
        reverse_path: text(search.from.as_ref()),
        recipient: text(search.to.as_ref()),
        site: text(search.site.as_ref()),
        since_ms: search.since.map_or(0, |at| at.as_millisecond()),
        until_ms: search.until.map_or(0, |at| at.as_millisecond()),
        limit: search.limit,
    }
}

#[derive(Debug, Serialize)]
struct Found {
    id: String,
    message_id: Option<String>,
    site: String,
    reverse_path: String,
    recipients: Vec<String>,
    bytes: Option<u64>,
    client: Option<String>,
    arrived: Option<String>,
    /// As in the list of what waits; or settled, expired, given-up, removed.
    stands: String,
    ended: Option<String>,
    agent: Option<String>,
    address: Option<String>,
    reply: Option<String>,
}

impl From<pb::FoundDelivery> for Found {
    fn from(it: pb::FoundDelivery) -> Self {
        Self {
            id: it.id,
            message_id: present(it.message_id),
            site: it.site,
            reverse_path: it.reverse_path,
            recipients: it.recipients,
            bytes: (it.bytes > 0).then_some(it.bytes),
            client: present(it.client),
            arrived: time(it.arrived_ms),
            stands: it.stands,
            ended: time(it.ended_ms),
            agent: present(it.agent),
            address: present(it.address),
            reply: present(it.reply),
        }
    }
}

/// Settled, in a word that says how, where all recipients had the same answer: else the reply begins with who had which.
fn stands(it: &pb::FoundDelivery) -> String {
    let reply = it.reply.strip_prefix("not sent: ").unwrap_or(&it.reply);
    let code = reply.split(' ').next().unwrap_or_default();
    let is_code = code.len() == 3 && code.bytes().all(|it| it.is_ascii_digit());
    match (it.stands.as_str(), code.as_bytes().first()) {
        ("settled", Some(b'2')) if is_code => "delivered".into(),
        ("settled", Some(b'5')) if is_code => "failed".into(),
        (stands, _) => stands.replace('-', " "),
    }
}

fn answer(found: Vec<pb::FoundDelivery>, limit: u32) -> Answer {
    let mut table = Table::new(&[
        "ID", "SITE", "FROM", "TO", "ARRIVED", "STANDS", "SINCE", "LAST",
    ]);
    let mut ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
    for it in &found {
        table.row([
            it.id.clone(),
            it.site.clone(),
            format!("<{}>", it.reverse_path),
            recipients(&it.recipients),
            time_shown(it.arrived_ms),
            stands(it),
            time_shown(it.ended_ms),
            it.reply.clone(),
        ]);
    }
    let mut text = table
        .text("no such message is known: the history goes back as far as `[history] keep` says");
    ids.dedup();
    if ids.len() >= limit as usize {
        text.push_str(&format!(
            "These are the newest {limit}; there may be more: say more about it, or --limit N\n"
        ));
    }
    Answer::new(
        &found.into_iter().map(Found::from).collect::<Vec<_>>(),
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> pb::FoundDelivery {
        pb::FoundDelivery {
            id: "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f".into(),
            message_id: "<1@b.example>".into(),
            site: "home".into(),
            reverse_path: "a@b.example".into(),
            recipients: vec!["me@home.example".into(), "you@home.example".into()],
            bytes: 281,
            client: "192.0.2.25".into(),
            arrived_ms: 1_800_000_000_000,
            stands: "settled".into(),
            ended_ms: 1_800_000_001_000,
            agent: "out1".into(),
            address: "203.0.113.7:25".into(),
            reply: "250 2.0.0 taken".into(),
        }
    }

    #[test]
    fn what_is_settled_was_delivered_or_failed_where_all_were_answered_alike() {
        for (reply, says) in [
            ("250 2.0.0 taken", "delivered"),
            ("550 5.1.1 nobody here", "failed"),
            ("550", "failed"),
            ("not sent: 553 5.6.7 no SMTPUTF8", "failed"),
            (
                "250@home.example: 250 taken; me@home.example: 550 no",
                "settled",
            ),
            ("", "settled"),
        ] {
            let it = pb::FoundDelivery {
                reply: reply.into(),
                ..settled()
            };
            assert_eq!(stands(&it), says, "{reply}");
        }
        let waits = pb::FoundDelivery {
            stands: "in-doubt".into(),
            ..settled()
        };
        assert_eq!(stands(&waits), "in doubt", "its last reply settled nothing");
    }

    #[test]
    fn what_waits_and_what_is_settled_stand_in_one_table() {
        let waits = pb::FoundDelivery {
            site: "office".into(),
            stands: "in-doubt".into(),
            ended_ms: 0,
            agent: String::new(),
            address: String::new(),
            reply: "451 4.3.0 later".into(),
            ..settled()
        };
        insta::assert_snapshot!(answer(vec![settled(), waits], 100).both());
        let cut = answer(vec![settled()], 1);
        assert!(cut.text().contains("the newest 1;"), "{}", cut.text());
        insta::assert_snapshot!("nothing_found", answer(Vec::new(), 100).both());
    }
}
