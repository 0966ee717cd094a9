//! The rows as JSON: every round, and what the table says of them.

use serde_json::{Map, Value, json};

use super::latency::Delays;
use super::line::{Relayed, Releases};
use super::pairs::{Pair, Pairs, median};
use super::relay::{Round, TOOLS};
use super::release::{self, Released};
use super::server::System;
use super::stages::Staged;

pub(super) fn ceiling(rounds: &[Round]) -> Value {
    json!({
        "per_second": median(rounds.iter().map(|round| round.per_second)),
        "rounds": rounds.iter().map(round).collect::<Vec<_>>(),
    })
}

pub(super) fn relayed(relayed: &Relayed) -> Value {
    let pairs = &relayed.pairs;
    let of = |pick: fn(&Pair<Round>) -> &Round| {
        let rounds: Vec<&Round> = pairs.0.iter().map(pick).collect();
        json!({
            "per_second": median(rounds.iter().map(|it| it.per_second)),
            "cpu_us_per_message": micros(&rounds),
            "cpu_us_per_message_of_the_server": median(rounds.iter().map(|it| it.server_micros())),
            "rounds": rounds.into_iter().map(round).collect::<Vec<_>>(),
        })
    };
    json!({
        System::Ours.name(): of(|pair| &pair.ours),
        System::Postfix.name(): of(|pair| &pair.postfix),
        "rate_to_postfix": pairs.ratio(|it| it.per_second),
        "cpu_to_postfix": pairs.ratio(Round::server_micros),
        "rate_to_ceiling": relayed.of_ceiling(),
        "ceilings": relayed.ceilings.iter().map(round).collect::<Vec<_>>(),
        "stages": relayed.stages.json(),
    })
}

/// The median of each part.
fn micros(rounds: &[&Round]) -> Value {
    let names = rounds.iter().take(1).flat_map(|round| &round.micros);
    let parts = names.map(|(name, _)| {
        let micros = median(rounds.iter().map(|round| round.part(name)));
        ((*name).to_owned(), json!(micros))
    });
    Value::Object(parts.collect())
}

fn round(round: &Round) -> Value {
    let micros = round.micros.iter();
    let micros: Map<_, _> = micros
        .map(|(name, micros)| ((*name).to_owned(), json!(micros)))
        .collect();
    let threads = TOOLS.map(|name| (name.to_owned(), json!(round.busy_thread(name))));
    json!({
        "messages": round.messages,
        "per_second": round.per_second,
        "cpu_us_per_message": micros,
        "threads_busy": Map::from_iter(threads),
        "machine_busy": round.busy,
        "machine_busy_with_others": round.others,
    })
}

pub(super) fn delays(pairs: &Pairs<Delays>, staged: &Staged) -> Value {
    let seconds = [
        |it: &Delays| it.p50.as_secs_f64(),
        |it: &Delays| it.p99.as_secs_f64(),
    ];
    let [p50, p99] = seconds;
    let rounds = |pick: fn(&Pair<Delays>) -> &Delays| {
        let rounds = pairs.0.iter().map(pick);
        let rounds = rounds.map(|it| {
            json!({ "messages": it.messages, "p50_ms": p50(it) * 1e3, "p99_ms": p99(it) * 1e3 })
        });
        rounds.collect::<Vec<_>>()
    };
    json!({
        System::Ours.name(): {
            "p50_ms": pairs.ours(p50) * 1e3,
            "p99_ms": pairs.ours(p99) * 1e3,
            "rounds": rounds(|pair| &pair.ours),
        },
        System::Postfix.name(): {
            "p50_ms": pairs.postfix(p50) * 1e3,
            "p99_ms": pairs.postfix(p99) * 1e3,
            "rounds": rounds(|pair| &pair.postfix),
        },
        "p50_to_postfix": pairs.ratio(p50),
        "p99_to_postfix": pairs.ratio(p99),
        "stages": staged.json(),
    })
}

pub(super) fn releases(releases: &Releases) -> Value {
    let one = |it: &Released| json!({ "waiting": it.waiting, "first_ms": it.first.as_secs_f64() * 1e3, "per_second": it.per_second });
    json!({
        System::Ours.name(): one(&releases.pair.ours),
        System::Postfix.name(): one(&releases.pair.postfix),
        "ours_after_a_start": one(&releases.after_start),
        "sessions_of_the_site": release::SESSIONS,
        "ceiling_of_these_sessions": round(&releases.ceiling_of_sessions),
        "ceiling": round(&releases.ceiling),
    })
}
