//! How each row of the table is judged, and what limits it.

use std::time::Duration;

use super::far;
use super::instructions::Counted;
use super::latency::Delays;
use super::pairs::{Pair, Pairs, median};
use super::queue::{Beside, Queue};
use super::relay::{Round, TOOLS};
use super::release::{self, Released};
use super::server::Security;
use super::stages::Staged;
use crate::measure::latency::Latencies;

/// One line of the table.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub what: String,
    pub bar: &'static str,
    pub ours: String,
    pub postfix: String,
    pub ratio: String,
    /// Nothing: there is no bar.
    pub met: Option<bool>,
    pub limit: String,
}

/// A relay's rounds.
#[derive(Debug, Clone)]
pub struct Relayed {
    pub pairs: Pairs<Round>,
    /// One beside each pair.
    pub ceilings: Vec<Round>,
    pub stages: Staged,
}

/// What a release comes to.
#[derive(Debug, Clone)]
pub struct Releases {
    pub pair: Pair<Released>,
    /// Ours, right after a start of the controller.
    pub after_start: Released,
    pub ceiling: Round,
    /// Over as many sessions as the site has.
    pub ceiling_of_sessions: Round,
}

const RELAY_BAR: &str = "≥ 10 × Postfix or ≥ 70 % of the ceiling";
const DRAIN_BAR: &str = "≥ 10 × Postfix or ≥ 70 % of its sessions";

impl Relayed {
    /// In parts of the ceiling beside it.
    pub fn of_ceiling(&self) -> f64 {
        let pairs = self.pairs.0.iter().zip(&self.ceilings);
        median(pairs.map(|(pair, ceiling)| pair.ours.per_second / ceiling.per_second))
    }
}

pub(super) fn ceiling(rounds: &[Round]) -> Line {
    Line {
        what: "generator → sink, nothing between".to_owned(),
        ours: rate(median(rounds.iter().map(|it| it.per_second))),
        limit: limit(&rounds.iter().collect::<Vec<_>>()),
        ..Line::default()
    }
}

pub(super) fn relay(security: Security, relayed: &Relayed) -> [Line; 3] {
    let pairs = &relayed.pairs;
    let (times, of_ceiling) = (pairs.ratio(|it| it.per_second), relayed.of_ceiling());
    let micros = pairs.ours(Round::server_micros);
    let ratio = 1.0 / pairs.ratio(Round::server_micros);
    let ours: Vec<&Round> = pairs.0.iter().map(|pair| &pair.ours).collect();
    [
        Line {
            what: format!("sustained relay, {}", security.name()),
            bar: RELAY_BAR,
            ours: rate(pairs.ours(|it| it.per_second)),
            postfix: rate(pairs.postfix(|it| it.per_second)),
            ratio: format!("{times:.1} ×, {:.0} %", of_ceiling * 100.0),
            met: Some(times >= 10.0 || of_ceiling >= 0.7),
            limit: limit(&ours),
        },
        Line {
            what: format!("processor time of a message, {}", security.name()),
            bar: "≤ 200 µs and ≤ 1/15 of Postfix",
            ours: format!("{micros:.0} µs"),
            postfix: format!("{:.0} µs", pairs.postfix(Round::server_micros)),
            ratio: format!("1/{ratio:.1}"),
            met: Some(micros <= 200.0 && ratio >= 15.0),
            limit: parts(&ours),
        },
        stages(&relayed.stages),
    ]
}

pub(super) fn delays(security: Security, pairs: &Pairs<Delays>, staged: &Staged) -> [Line; 3] {
    let line = |what: &str, bar, most: f64, key: fn(&Delays) -> Duration| {
        let key = |delays: &Delays| key(delays).as_secs_f64();
        let ratio = pairs.ratio(key);
        Line {
            what: format!("delay at 20 /s, {}, {what}", security.name()),
            bar,
            ours: millis(pairs.ours(key)),
            postfix: millis(pairs.postfix(key)),
            ratio: format!("{ratio:.2} ×"),
            met: Some(ratio <= most),
            limit: "one sync, then the hops between the processes".to_owned(),
        }
    };
    [
        line("p50", "≤ 0.8 × Postfix", 0.8, |delays| delays.p50),
        line("p99", "≤ Postfix", 1.0, |delays| delays.p99),
        stages(staged),
    ]
}

fn stages(staged: &Staged) -> Line {
    Line {
        what: "  by stage, ms: mean (p50 / p99, at most)".to_owned(),
        limit: staged.text(),
        ..Line::default()
    }
}

pub(super) fn releases(releases: &Releases) -> [Line; 4] {
    let Releases {
        pair: Pair { ours, postfix },
        after_start,
        ceiling,
        ceiling_of_sessions,
    } = releases;
    let first = |what: &str, ours: Duration, theirs: Option<Duration>| Line {
        what: format!("release of {}{what}: first at the sink", releases.waiting()),
        bar: "≤ 50 ms",
        ours: in_millis(ours),
        postfix: theirs.map(in_millis).unwrap_or_default(),
        met: Some(ours <= Duration::from_millis(50)),
        limit: "name service, connect, handshake".to_owned(),
        ..Line::default()
    };
    let drain = |what: &str, ours: f64, theirs: Option<f64>| {
        let times = ours / postfix.per_second;
        let of = |ceiling: &Round| ours / ceiling.per_second;
        let (own, all) = (of(ceiling_of_sessions), of(ceiling));
        Line {
            what: format!("release of {}{what}: drain", releases.waiting()),
            bar: DRAIN_BAR,
            ours: rate(ours),
            postfix: theirs.map(rate).unwrap_or_default(),
            ratio: format!("{times:.1} ×, {:.0} %", own * 100.0),
            met: Some(times >= 10.0 || own >= 0.7),
            limit: format!(
                "generator → sink over the site's {} sessions {}, over all {} (of that {:.0} %)",
                release::SESSIONS,
                rate(ceiling_of_sessions.per_second),
                rate(ceiling.per_second),
                all * 100.0
            ),
        }
    };
    let restarted = " after a start";
    [
        first("", ours.first, Some(postfix.first)),
        drain("", ours.per_second, Some(postfix.per_second)),
        first(restarted, after_start.first, None),
        drain(restarted, after_start.per_second, None),
    ]
}

impl Releases {
    fn waiting(&self) -> u64 {
        self.pair.ours.waiting
    }
}

pub(super) fn far(per_second: f64) -> Line {
    let round_trip = far::ROUND_TRIP;
    Line {
        what: format!("one session over a line of {} ms", round_trip.as_millis()),
        bar: "≥ 30 /s",
        ours: rate(per_second),
        met: Some(per_second >= 30.0),
        limit: format!(
            "the round trip: one for each message is {}",
            rate(1.0 / round_trip.as_secs_f64())
        ),
        ..Line::default()
    }
}

pub(super) fn syncs(both: Pair<f64>) -> Line {
    Line {
        what: "syncs of a message (strace)".to_owned(),
        bar: "> 0",
        ours: format!("{:.2}", both.ours),
        postfix: format!("{:.2}", both.postfix),
        met: Some(both.ours > 0.0),
        limit: "shared by all that wait for one".to_owned(),
        ..Line::default()
    }
}

pub(super) fn instructions(counted: &[Counted]) -> Line {
    let millions = |it: f64| format!("{:.3} M", it / 1e6);
    let parts = counted.iter();
    let parts = parts.map(|it| format!("{} {}", it.program, millions(it.each)));
    Line {
        what: "instructions of a message alone, verified TLS (callgrind)".to_owned(),
        ours: millions(counted.iter().map(|it| it.each).sum()),
        limit: parts.collect::<Vec<_>>().join(", "),
        ..Line::default()
    }
}

pub(super) fn queue(queue: &Queue) -> Vec<Line> {
    let mut lines = vec![memory(queue)];
    lines.extend(queue.tried.iter().map(|tried| Line {
        what: "long queue, processor time".to_owned(),
        bar: "≤ 2 % of a core",
        ours: format!("{:.1} %", tried.used.controller),
        met: Some(tried.used.controller <= 2.0),
        limit: probes(tried),
        ..Line::default()
    }));
    lines.extend(starts(queue));
    lines.extend(queue.tried.iter().map(|tried| beside(queue, tried)));
    lines
}

/// Bars hold for the million; a smaller queue has no verdict.
fn verdict(queue: &Queue, met: bool) -> Option<bool> {
    queue.tried.is_some().then_some(met)
}

fn memory(queue: &Queue) -> Line {
    let scaled = match queue.tried {
        Some(_) => "",
        None => "; a small queue, so no verdict",
    };
    Line {
        what: "long queue, memory".to_owned(),
        bar: "≤ 300 MB",
        ours: format!("{:.0} MB", megabytes(queue.memory)),
        met: verdict(queue, megabytes(queue.memory) <= 300.0),
        limit: format!(
            "{} messages for {} dead sites, handed in within {:.0} s; at most {:.0} MB since the start{scaled}",
            queue.waiting,
            queue.dead,
            queue.submitted_seconds,
            megabytes(queue.peak_memory)
        ),
        ..Line::default()
    }
}

fn starts(queue: &Queue) -> [Line; 3] {
    let (clean, killed) = (&queue.clean, &queue.killed);
    let line = |what: &str, bar, took: Duration, most: Duration, limit: String| Line {
        what: format!("long queue, start {what}"),
        bar,
        ours: seconds(took),
        met: verdict(queue, took <= most),
        limit,
        ..Line::default()
    };
    let open = format!("intake open after {}", seconds(clean.open));
    let peak = format!(
        "reads the log; at most {:.0} MB",
        megabytes(killed.peak_memory)
    );
    let [three, one, sixty] = [3, 1, 60].map(Duration::from_secs);
    [
        line(
            "after a clean stop: all known",
            "≤ 3 s",
            clean.known,
            three,
            open,
        ),
        line(
            "without an index: intake open",
            "≤ 1 s",
            killed.open,
            one,
            "after kill -9".to_owned(),
        ),
        line(
            "without an index: all known",
            "≤ 60 s",
            killed.known,
            sixty,
            peak,
        ),
    ]
}

fn probes(tried: &Beside) -> String {
    let used = &tried.used;
    format!(
        "{:.0} probes a minute, the agent {:.1} %; looked at for {:.0} s",
        used.probes_per_minute,
        used.agent,
        used.time.as_secs_f64()
    )
}

fn beside(queue: &Queue, tried: &Beside) -> Line {
    let ratio = tried.p99_to_alone();
    let p99 = |latencies: &Latencies| millis(latencies.at(99) / 1e3);
    Line {
        what: format!(
            "long queue, {} dead sites beside a live one: its p99",
            queue.dead
        ),
        bar: "≤ 1.2 × alone",
        ours: p99(&tried.live),
        ratio: format!("{ratio:.2} ×"),
        met: Some(ratio <= 1.2),
        limit: format!(
            "alone {}; while all are tried at once, for {}, {}",
            p99(&tried.alone),
            seconds(tried.storm.all_tried),
            p99(&tried.storm.live)
        ),
        ..Line::default()
    }
}

/// A machine that has nothing left is the limit, or a thread of the benchmark's own that has; else it is waiting, for the
/// disk or for each other.
fn limit(rounds: &[&Round]) -> String {
    let middle = |key: &dyn Fn(&Round) -> f64| median(rounds.iter().map(|round| key(round)));
    let (busy, others) = (middle(&|it| it.busy), middle(&|it| it.others));
    let tools = TOOLS.map(|name| (name, middle(&|it| it.busy_thread(name))));
    let full = tools.iter().find(|(_, busy)| *busy > 0.9);
    let cause = match full {
        Some((name, _)) => name,
        None if busy > 0.85 => "processors",
        None => "waiting",
    };
    let tools = tools.map(|(name, busy)| format!("{name} {:.0} %", busy * 100.0));
    format!(
        "{cause} (busy {:.0} %, {:.0} % others; of a core: {})",
        busy * 100.0,
        others * 100.0,
        tools.join(", ")
    )
}

/// Microseconds of each part.
fn parts(rounds: &[&Round]) -> String {
    let names = rounds.iter().take(1).flat_map(|round| &round.micros);
    let parts = names.map(|(name, _)| {
        let micros = median(rounds.iter().map(|round| round.part(name)));
        format!("{name} {micros:.0}")
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.0} /s")
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn in_millis(time: Duration) -> String {
    millis(time.as_secs_f64())
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}
