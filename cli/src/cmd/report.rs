//! `ddadm report`: what somebody who looks for a fault asks first, as one text.
//!
//! # Invariants
//! No secret, no hash, no content of mail, and of addresses of people only the domain.

use dd_proto::name::SiteName;
use dd_proto::{path, pb};
use serde_json::{Map, Value, json};

use crate::args::site::SiteVerb;
use crate::args::{AgentVerb, CaVerb};
use crate::client::Controller;
use crate::cmd::{agent, ca, config, site, status};
use crate::failure::Failure;
use crate::output::Answer;

/// What a section could not be had for is said in it: a report of a controller in trouble is what it is for. Only where
/// none can be had there is no report.
pub(crate) async fn run(
    site: Option<SiteName>,
    controller: &Controller,
) -> Result<Answer, Failure> {
    let nothing = &mut std::io::empty();
    let list = || SiteVerb::List(Box::default());
    let mut report = Report::new();
    let status = status::run(controller).await;
    if let Err(failure @ Failure::Unreachable { .. }) = status {
        return Err(failure);
    }
    report.add("status", status);
    report.add("config", config::run(false, controller).await);
    report.add("agent list", agent::run(AgentVerb::List, controller).await);
    report.add("ca list", ca::run(CaVerb::List, controller).await);
    report.add("site list", site::run(list(), controller, nothing).await);
    report.add("queue", queue(controller).await);
    if let Some(name) = site {
        let shown = site::run(SiteVerb::Show { name: name.clone() }, controller, nothing).await;
        if let Err(failure @ Failure::NoSuchThing(_)) = shown {
            return Err(failure);
        }
        report.add(&format!("site show {name}"), shown);
    }
    Ok(report.into_answer())
}

/// How many deliveries stand where, without whose they are.
async fn queue(controller: &Controller) -> Result<Answer, Failure> {
    let queue = controller.queue().await?;
    let rows = { queue }.list(pb::ListQueueRequest::default()).await;
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for row in controller.all(rows).await? {
        *counts.entry(row.stands).or_default() += 1;
    }
    let lines = counts.iter().map(|(stands, count)| match stands.as_str() {
        "" => format!("unreadable  {count}\n"),
        stands => format!("{stands}  {count}\n"),
    });
    let text: String = lines.collect();
    let text = if text.is_empty() {
        "nothing waits\n".to_owned()
    } else {
        text
    };
    Ok(Answer::new(&counts, text))
}

#[derive(Debug)]
struct Report {
    text: String,
    values: Map<String, Value>,
}

impl Report {
    fn new() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let machine = machine();
        Self {
            text: format!("ddadm {version} on {machine}\n"),
            values: Map::from_iter([
                ("ddadm".to_owned(), json!(version)),
                ("machine".to_owned(), json!(machine)),
            ]),
        }
    }

    fn add(&mut self, command: &str, answer: Result<Answer, Failure>) {
        let (text, value) = match answer {
            Ok(answer) => (answer.text().to_owned(), answer.value()),
            Err(failure) => {
                let sentence = failure.to_string();
                (format!("{sentence}\n"), json!({ "error": sentence }))
            }
        };
        self.text.push_str(&format!("\n## {command}\n\n{text}"));
        self.values.insert(command.to_owned(), value);
    }

    fn into_answer(self) -> Answer {
        let value = anonymous(Value::Object(self.values));
        Answer::new(&value, without_people(&self.text))
    }
}

/// Of every text in it, addresses lose their local parts.
fn anonymous(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_people(&text)),
        Value::Array(items) => items.into_iter().map(anonymous).collect(),
        Value::Object(pairs) => {
            let pairs = pairs.into_iter();
            Value::Object(pairs.map(|(key, value)| (key, anonymous(value))).collect())
        }
        other => other,
    }
}

/// `***@home.example` for whatever stands in front of an `@`, up to a blank, a bracket or a quote. Of a quoted local part
/// all is left out.
fn without_people(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '@']) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        match path::leading_local_part(rest) {
            Some(quoted) => rest = &rest[quoted.len()..],
            None if rest.starts_with('"') => {
                shown.push('"');
                rest = &rest[1..];
                continue;
            }
            None => {}
        }
        shown.truncate(local_part(&shown));
        shown.push_str("***@");
        rest = &rest[1..];
    }
    shown.push_str(rest);
    shown
}

/// Where the local part at the end of a text begins. Behind a quote that no quoted string begins with, such as one that
/// was quoted once more, it is whatever stands between the last two.
fn local_part(text: &str) -> usize {
    if let Some(quoted) = text.strip_suffix('"')
        && let Some(begin) = quoted.rfind('"')
    {
        return begin;
    }
    let ends = |c: char| c.is_whitespace() || "<>()[]\",;:".contains(c);
    text.rfind(ends).map_or(0, |at| {
        at + text[at..].chars().next().map_or(0, char::len_utf8)
    })
}

/// The system and its kernel; where ddadm runs, which need not be where the controller does.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let kernel = read("/proc/sys/kernel/osrelease");
    let name = name.unwrap_or("an unknown system").trim_matches('"');
    format!("{name}, {} {}", kernel.trim(), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_people_lose_their_local_parts() {
        for (text, expected) in [
            (
                "550 5.1.1 <anna.b+x@home.example>: unknown",
                "550 5.1.1 <***@home.example>: unknown",
            ),
            (
                "Contact         anna@home.example",
                "Contact         ***@home.example",
            ),
            ("a@b.example,c@d.example", "***@b.example,***@d.example"),
            ("<\"anna b\"@home.example>", "<***@home.example>"),
            ("to:jürgen@home.example", "to:***@home.example"),
            ("\"anna@b\"@home.example", "***@home.example"),
            (
                "said \"no\" to <\"anna \\\" b\"@home.example>: 5",
                "said \"no\" to <***@home.example>: 5",
            ),
            ("\\\"anna b\\\"@home.example", "\\***@home.example"),
            (
                "203.0.113.7:25 does not answer",
                "203.0.113.7:25 does not answer",
            ),
            ("@", "***@"),
        ] {
            assert_eq!(without_people(text), expected, "{text}");
        }
    }

    #[test]
    fn a_section_that_cannot_be_had_says_why() {
        let mut report = Report::new();
        report.add(
            "status",
            Ok(Answer::new(
                &json!({"alarms": ["me@home.example"]}),
                "well\n".into(),
            )),
        );
        report.add(
            "config",
            Err(Failure::Refused("the controller is in trouble".into())),
        );
        let answer = report.into_answer();
        assert!(
            answer
                .text()
                .ends_with("\n## status\n\nwell\n\n## config\n\nthe controller is in trouble\n")
        );
        let value = answer.value();
        assert_eq!(value["status"]["alarms"][0], "***@home.example");
        assert_eq!(value["config"]["error"], "the controller is in trouble");
    }
}
