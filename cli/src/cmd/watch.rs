//! `ddadm watch`: live events, one a line, until the reader has enough.

use dd_proto::name::SiteName;
use dd_proto::pb;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::client::Controller;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Printer, Taken, time, time_shown};

/// Returns when nobody reads any more, or the controller ends.
pub(crate) async fn run(
    site: Option<SiteName>,
    controller: &Controller,
    printer: &mut Printer<'_>,
    output: Output,
) -> Result<Exit, Failure> {
    let mut watch = controller.watch().await?;
    let request = pb::EventsRequest {
        site: site.map(|it| it.to_string()).unwrap_or_default(),
    };
    let mut events = controller.one(watch.events(request).await)?;
    while let Some(event) = controller.next(&mut events).await? {
        let line = match output {
            Output::Table => line(&event),
            Output::Json => json(event),
        };
        if printer.line(&line, output)? == Taken::NoMore {
            return Ok(Exit::Done);
        }
    }
    Err(Failure::Refused("the controller has ended".into()))
}

#[derive(Debug, Serialize)]
struct Event {
    at: Option<String>,
    kind: String,
    what: String,
    fields: BTreeMap<String, String>,
    lost: u64,
}

/// One JSON value a line.
fn json(event: pb::LiveEvent) -> String {
    let view = Event {
        at: time(event.at_ms),
        kind: event.kind,
        what: event.what,
        fields: event
            .fields
            .into_iter()
            .map(|it| (it.key, it.value))
            .collect(),
        lost: event.lost,
    };
    serde_json::to_string(&view).expect("strings and a number are JSON")
}

/// `AT KIND WHAT key=value …`, a value with spaces in quotes.
fn line(event: &pb::LiveEvent) -> String {
    let mut line = format!(
        "{} {:<5} {}",
        time_shown(event.at_ms),
        event.kind,
        event.what
    );
    for pb::EventField { key, value } in &event.fields {
        let is_plain = !value.is_empty() && !value.contains([' ', '"']);
        let value = if is_plain {
            value.clone()
        } else {
            format!("{value:?}")
        };
        line.push_str(&format!(" {key}={value}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{json_printable, printable};

    #[test]
    fn an_event_is_a_line_whatever_it_carries() {
        let field = |key: &str, value: &str| pb::EventField {
            key: key.into(),
            value: value.into(),
        };
        let event = pb::LiveEvent {
            at_ms: 1_800_000_000_123,
            kind: "mail".into(),
            what: "settled".into(),
            fields: vec![
                field("id", "0197f3a07a5b7c3e8d2f4a5b6c7d8e9f"),
                field("reply", "250 2.0.0 \"ok\"\r\n\x1b[2J"),
                field("reverse_path", ""),
                field("recipients", "a\u{202e}@home.example"),
            ],
            lost: 0,
        };
        let lost = pb::LiveEvent {
            kind: "lost".into(),
            what: "7 events were missed".into(),
            lost: 7,
            fields: Vec::new(),
            ..event
        };
        let shown = [event, lost]
            .map(|it| format!("{}\n{}\n", printable(&line(&it)), json_printable(&json(it))));
        insta::assert_snapshot!(shown.concat());
    }
}
