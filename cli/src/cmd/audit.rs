//! `ddadm audit`.

use dd_proto::pb;
use serde::Serialize;

use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Table, time, time_shown};

pub(crate) async fn run(last: u64, controller: &Controller) -> Result<Answer, Failure> {
    let mut watch = controller.watch().await?;
    let entries = watch.audit(pb::AuditRequest { last }).await;
    Ok(answer(controller.all(entries).await?))
}

#[derive(Debug, Serialize)]
struct Entry {
    at: Option<String>,
    who: String,
    what: String,
}

fn answer(entries: Vec<pb::AuditEntry>) -> Answer {
    let mut table = Table::new(&["AT", "WHO", "WHAT"]);
    for it in &entries {
        table.row([time_shown(it.at_ms), it.who.clone(), it.what.clone()]);
    }
    let view: Vec<Entry> = entries
        .into_iter()
        .map(|it| Entry {
            at: time(it.at_ms),
            who: it.who,
            what: it.what,
        })
        .collect();
    Answer::new(&view, table.text("nothing was changed yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_when_who_and_what() {
        let entries = vec![pb::AuditEntry {
            at_ms: 1_800_000_000_000,
            who: "anna".into(),
            what: "site home set: retry \"3m\" → \"90s\"\x1b[2J".into(),
        }];
        let empty = answer(vec![]).both();
        insta::assert_snapshot!(format!("{}{empty}", answer(entries).both()));
    }
}
