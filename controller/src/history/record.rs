//! A history as it is stored, under the name of its site.

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use prost::Message as _;

use super::{Day, History, Run};
use crate::dispatch::{LastAttempt, OUTCOMES};

/// The family of these records.
pub(super) const FAMILY: &str = "history";

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    /// 0: never.
    #[prost(int64, tag = "1")]
    last_relayed_ms: i64,
    #[prost(message, repeated, tag = "2")]
    days: Vec<DayRow>,
    #[prost(message, repeated, tag = "3")]
    runs: Vec<RunRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DayRow {
    /// As RFC 3339 has it.
    #[prost(string, tag = "1")]
    date: String,
    #[prost(message, repeated, tag = "2")]
    counts: Vec<CountRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CountRow {
    #[prost(string, tag = "1")]
    outcome: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunRow {
    #[prost(int64, tag = "1")]
    first_ms: i64,
    #[prost(int64, tag = "2")]
    last_ms: i64,
    #[prost(uint32, tag = "3")]
    times: u32,
    #[prost(string, tag = "4")]
    outcome: String,
    #[prost(string, tag = "5")]
    agent: String,
    #[prost(string, tag = "6")]
    address: String,
    #[prost(string, tag = "7")]
    reason: String,
    #[prost(string, tag = "8")]
    detail: String,
}

pub(super) fn encode(history: &History) -> Bytes {
    let day = |day: &Day| DayRow {
        date: day.date.to_string(),
        counts: day
            .counts()
            .map(|(outcome, count)| CountRow {
                outcome: outcome.to_owned(),
                count,
            })
            .collect(),
    };
    let run = |run: &Run| RunRow {
        first_ms: run.first.as_millisecond(),
        last_ms: run.last.at.as_millisecond(),
        times: run.times,
        outcome: run.last.outcome.to_owned(),
        agent: run.last.agent.to_string(),
        address: run.last.address.clone(),
        reason: run.last.reason.clone(),
        detail: run.last.detail.clone(),
    };
    Row {
        last_relayed_ms: history.last_relayed.map_or(0, Timestamp::as_millisecond),
        days: history.days.iter().map(day).collect(),
        runs: history.runs.iter().map(run).collect(),
    }
    .encode_to_vec()
    .into()
}

/// Of a record that cannot be read as much as can: nothing rests on it.
pub(super) fn decode(value: &Bytes) -> History {
    let row = Row::decode(value.clone()).unwrap_or_default();
    History {
        last_relayed: at(row.last_relayed_ms).filter(|_| row.last_relayed_ms != 0),
        days: row.days.iter().filter_map(day).collect(),
        runs: row.runs.into_iter().filter_map(run).collect(),
    }
}

fn at(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

fn place(outcome: &str) -> Option<usize> {
    OUTCOMES.iter().position(|it| *it == outcome)
}

fn day(row: &DayRow) -> Option<Day> {
    let date: Date = row.date.parse().ok()?;
    let mut counts = [0; OUTCOMES.len()];
    for it in &row.counts {
        counts[place(&it.outcome)?] = it.count;
    }
    Some(Day { date, counts })
}

fn run(row: RunRow) -> Option<Run> {
    Some(Run {
        first: at(row.first_ms)?,
        times: row.times,
        last: LastAttempt {
            at: at(row.last_ms)?,
            agent: row.agent.parse().ok()?,
            address: row.address,
            outcome: OUTCOMES[place(&row.outcome)?],
            detail: row.detail,
            reason: row.reason,
            peer: None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::history::tests::attempt;

    #[test]
    fn a_history_comes_back_as_it_was_stored() {
        let mut history = History::default();
        assert_eq!(decode(&encode(&history)), history);
        for (time, outcome) in [
            ("2026-11-30T12:00:00Z", "relayed"),
            ("2026-12-01T12:00:00.5Z", "busy"),
        ] {
            history.attempted(&attempt(time, outcome, "421 later"));
            history.attempted(&attempt(time, outcome, "421 later"));
        }
        assert_eq!(decode(&encode(&history)), history);
        assert_eq!(decode(&Bytes::from_static(b"\xff\xff")), History::default());
    }
}
