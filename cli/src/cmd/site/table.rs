//! Sites in a table: which of them, and which columns.

use clap::ValueEnum;
use dd_proto::pb;

use crate::args::site::{Column, List};
use crate::cmd::site::page::host;
use crate::cmd::site::view::kind_word;
use crate::output::{Table, bytes_shown, time_shown};

/// Where none are named.
const USUAL: [Column; 8] = [
    Column::Name,
    Column::State,
    Column::Why,
    Column::Messages,
    Column::Size,
    Column::NextAttempt,
    Column::Proof,
    Column::Hosts,
];

/// Whether the site is asked for: all that is given has to be true of it.
pub(super) fn keeps(asked: &List, status: &pb::SiteStatus) -> bool {
    let name = status.site.as_ref().and_then(|site| site.spec.as_ref());
    let name = name.map_or("", |spec| spec.name.as_str());
    let matching = asked.matching.as_ref();
    is_one_of(&asked.state, &status.state)
        && is_one_of(&asked.why, &status.why)
        && matching.is_none_or(|it| it.matches(name))
}

fn is_one_of<T: ValueEnum>(wanted: &[T], word: &str) -> bool {
    let is = |it: &T| {
        it.to_possible_value()
            .is_some_and(|it| it.get_name() == word)
    };
    wanted.is_empty() || wanted.iter().any(is)
}

pub(super) fn table(all: &[pb::SiteStatus], asked: &List) -> String {
    let columns = match asked.columns.as_slice() {
        [] => &USUAL[..],
        columns => columns,
    };
    let headings: Vec<String> = columns.iter().map(heading).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for status in all {
        table.cells(columns.iter().map(|column| cell(*column, status)));
    }
    table.text(match asked.is_narrowed() {
        true => "no site is as asked for: `ddadm site list` shows all",
        false => "no site: `ddadm site add --help` shows how to add one",
    })
}

/// The column's own word, in capitals.
fn heading(column: &Column) -> String {
    let value = column.to_possible_value();
    let word = value.map_or_else(String::new, |it| it.get_name().to_owned());
    word.replace('-', " ").to_uppercase()
}

fn cell(column: Column, status: &pb::SiteStatus) -> String {
    let site = status.site.clone().unwrap_or_default();
    let spec = site.spec.unwrap_or_default();
    let kind = spec.proof.and_then(|proof| proof.kind);
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    match column {
        Column::Name => spec.name,
        Column::State => status.state.clone(),
        Column::Why => or_dash(status.why.clone()),
        Column::Messages => {
            let so_far = if status.complete { "" } else { "+" };
            format!("{}{so_far}", status.queued_messages)
        }
        Column::Size => bytes_shown(status.queued_bytes),
        Column::NextAttempt => time_shown(status.next_attempt_ms),
        Column::Proof => kind.as_ref().map_or("-", kind_word).to_owned(),
        Column::Hosts => spec.hosts.iter().map(host).collect::<Vec<_>>().join(" "),
        Column::Domains => spec.domains.join(" "),
        Column::Contact => or_dash(spec.contact.unwrap_or_default()),
        Column::LastMail => {
            let history = status.history.as_ref();
            time_shown(history.map_or(0, |it| it.last_relayed_ms))
        }
        Column::Agents => or_dash(spec.agents.join(" ")),
        Column::CertName => or_dash(certificate_name(kind.as_ref())),
        Column::Version => site.version.to_string(),
    }
}

fn certificate_name(kind: Option<&pb::proof::Kind>) -> String {
    use pb::proof::Kind;
    match kind {
        Some(Kind::Certificate(it)) => it.name.clone(),
        Some(Kind::Public(it)) => it.name.clone(),
        Some(Kind::StaticIp(it)) => {
            let certificate = it.certificate.as_ref();
            certificate.map(|it| it.name.clone()).unwrap_or_default()
        }
        Some(Kind::Fingerprint(_) | Kind::Port(_) | Kind::Configured(_)) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        asked: List,
    }

    fn site(name: &str, state: &str, why: &str) -> pb::SiteStatus {
        let spec = pb::SiteSpec {
            name: name.into(),
            domains: vec![format!("{name}.example"), format!("{name}.example.net")],
            contact: (name == "home").then(|| "me@home.example".into()),
            ..pb::SiteSpec::default()
        };
        pb::SiteStatus {
            site: Some(pb::Site {
                spec: Some(spec),
                ..pb::Site::default()
            }),
            state: state.into(),
            why: why.into(),
            complete: true,
            ..pb::SiteStatus::default()
        }
    }

    #[test]
    fn sites_are_chosen_by_state_reason_and_name_and_shown_in_the_columns_asked_for() {
        let all = [
            site("home", "waiting", "wrong-host"),
            site("office-1", "waiting", "down"),
            site("office-2", "idle", ""),
        ];
        let shown = |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let asked = Line::parse_from(words).asked;
            let kept = all.iter().filter(|it| keeps(&asked, it)).cloned();
            let kept: Vec<pb::SiteStatus> = kept.collect();
            table(&kept, &asked)
        };
        let names = |line: &str| {
            let table = shown(&format!("{line} --columns name"));
            table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names("--state waiting"), ["home", "office-1"]);
        assert_eq!(names("--state idle,held"), ["office-2"]);
        assert_eq!(names("--why wrong-host down"), ["home", "office-1"]);
        assert_eq!(names("--match OFFICE-*"), ["office-1", "office-2"]);
        assert_eq!(names("--match office-* --state waiting"), ["office-1"]);
        assert_eq!(
            shown("--match shed"),
            "no site is as asked for: `ddadm site list` shows all\n"
        );
        assert_eq!(
            shown("--columns contact,name,domains,last-mail"),
            "CONTACT          NAME      DOMAINS                                LAST MAIL\n\
             me@home.example  home      home.example home.example.net          -\n\
             -                office-1  office-1.example office-1.example.net  -\n\
             -                office-2  office-2.example office-2.example.net  -\n"
        );
    }
}
