//! The last days of a site, for people and as JSON.

use std::collections::BTreeMap;

use dd_proto::pb;
use serde::Serialize;

use super::view::Attempt;
use crate::output::{Page, time, time_shown};

#[derive(Debug, Serialize)]
pub(super) struct History {
    last_relayed: Option<String>,
    days: Vec<Day>,
    attempts: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Day {
    date: String,
    counts: BTreeMap<String, u32>,
}

/// Attempts one behind the other that ended alike.
#[derive(Debug, Serialize)]
struct Run {
    first: Option<String>,
    times: u32,
    #[serde(flatten)]
    last: Option<Attempt>,
}

impl From<pb::SiteHistory> for History {
    fn from(it: pb::SiteHistory) -> Self {
        let day = |day: pb::HistoryDay| Day {
            date: day.date,
            counts: day
                .counts
                .into_iter()
                .map(|it| (it.outcome, it.count))
                .collect(),
        };
        let run = |run: pb::HistoryRun| Run {
            first: time(run.first_ms),
            times: run.times,
            last: run.last.map(Attempt::from),
        };
        Self {
            last_relayed: time(it.last_relayed_ms),
            days: it.days.into_iter().map(day).collect(),
            attempts: it.runs.into_iter().map(run).collect(),
        }
    }
}

/// When it last took mail, and a line a day. The last attempts stand below, with who answered.
pub(super) fn days(page: &mut Page, history: &pb::SiteHistory) {
    let last = match history.last_relayed_ms {
        0 => "not known".to_owned(),
        at => time_shown(at),
    };
    page.line("Last took mail", &last);
    let days: Vec<String> = history.days.iter().map(day).collect();
    page.lines("Last days", days.iter().map(String::as_str));
}

fn day(day: &pb::HistoryDay) -> String {
    let counts: Vec<String> = day
        .counts
        .iter()
        .map(|it| format!("{} {}", it.count, it.outcome))
        .collect();
    format!("{} {}", day.date, counts.join(", "))
}

/// Attempts of earlier starts; `since` are those of this one.
pub(super) fn before(page: &mut Page, history: &pb::SiteHistory, since: &[pb::LastAttempt]) {
    let oldest = since.iter().map(|it| it.at_ms).min();
    let earlier = history
        .runs
        .iter()
        .filter_map(|run| Some((run, run.last.as_ref()?)))
        .filter(|(_, last)| oldest.is_none_or(|oldest| last.at_ms < oldest));
    let lines: Vec<String> = earlier
        .map(|(run, last)| {
            let times = match run.times {
                1 => String::new(),
                times => format!("{times} times since {}, last ", time_shown(run.first_ms)),
            };
            format!(
                "{times}{} {} {}",
                time_shown(last.at_ms),
                last.outcome,
                last.detail
            )
        })
        .collect();
    page.lines("Before", lines.iter().map(|line| line.trim_end()));
}
