//! Which rows of the queue are asked for. Pure.

use clap::ValueEnum as _;
use dd_proto::pattern::Pattern;
use dd_proto::pb;
use jiff::Timestamp;

use crate::args::queue::{Filter, Stands};

/// Whether the row is what is asked for: all that is given has to be true of it.
pub(super) fn keeps(filter: &Filter, row: &pb::QueuedDelivery, now: Timestamp) -> bool {
    let stands = |it: &Stands| {
        let word = it.to_possible_value();
        word.is_some_and(|word| word.get_name() == row.stands)
    };
    let age = now.as_millisecond().saturating_sub(row.arrived_ms);
    let is_old =
        |older: std::time::Duration| u128::try_from(age).is_ok_and(|age| age >= older.as_millis());
    let to = |it: &Pattern| row.recipients.iter().any(|recipient| it.matches(recipient));
    (filter.state.is_empty() || filter.state.iter().any(stands))
        && filter.older.is_none_or(is_old)
        && filter
            .from
            .as_ref()
            .is_none_or(|it| it.matches(&row.reverse_path))
        && filter.to.as_ref().is_none_or(to)
        && filter.matching.as_ref().is_none_or(|it| concerns(it, row))
}

/// Whether sender or recipient of it match.
pub(super) fn concerns(pattern: &Pattern, row: &pb::QueuedDelivery) -> bool {
    let mut addresses = row.recipients.iter().chain([&row.reverse_path]);
    addresses.any(|address| pattern.matches(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    #[test]
    fn a_row_is_kept_where_all_that_is_given_is_true_of_it() {
        let row = pb::QueuedDelivery {
            reverse_path: "a@B.example".into(),
            recipients: vec!["me@home.example".into(), "you@home.example".into()],
            arrived_ms: 1_000_000,
            stands: "in-doubt".into(),
            ..pb::QueuedDelivery::default()
        };
        let now = Timestamp::from_second(1_000 + 3_600).unwrap();
        for (line, expected) in [
            ("", true),
            ("--state in-doubt", true),
            ("--state due,in-doubt", true),
            ("--state due held", false),
            ("--older 1h", true),
            ("--older 61m", false),
            ("--from *@b.example", true),
            ("--from me@*", false),
            ("--to you@*", true),
            ("--to a@*", false),
            ("--match a@*", true),
            ("--match you@*", true),
            ("--match they@*", false),
            ("--to you@* --state due", false),
        ] {
            let words = std::iter::once("x").chain(line.split_whitespace());
            let filter = Line::parse_from(words).filter;
            assert_eq!(keeps(&filter, &row, now), expected, "{line}");
        }
    }
}
