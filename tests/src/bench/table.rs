//! The cost table: what is measured, in which order, and how it is judged.

use std::time::Duration;

use serde_json::{Value, json};

use super::generator::Pace;
use super::relay::{self, Round};
use super::server::{Ours, Security, System, Theirs};
use super::sink::{Row as SinkRow, Sink};
use super::{Extent, far, latency, release, syncs};
use crate::loopback;

/// One line of the table.
#[derive(Debug, Clone)]
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

/// How much of everything there is.
struct Amounts {
    rounds: usize,
    relay: Duration,
    delays: u64,
    waiting: u64,
    far: u64,
    synced: u64,
}

impl From<Extent> for Amounts {
    fn from(extent: Extent) -> Self {
        match extent {
            Extent::Quick => Self {
                rounds: 2,
                relay: Duration::from_secs(4),
                delays: 100,
                waiting: 5_000,
                far: 150,
                synced: 300,
            },
            Extent::Full => Self {
                rounds: 5,
                relay: Duration::from_secs(20),
                delays: 600,
                waiting: 50_000,
                far: 1_000,
                synced: 1_000,
            },
        }
    }
}

/// Both servers with their sinks.
struct Field {
    amounts: Amounts,
    // First: its state lies in the world of ours, and ends with that.
    theirs: [Theirs; 2],
    ours: Ours,
    row: SinkRow,
}

/// Measures everything. Returns the figures in detail; `tell` hears of each line as it comes.
///
/// # Panics
/// Anything is lost, or does not start.
pub fn run(extent: Extent, mut tell: impl FnMut(&Line)) -> Value {
    let mut field = Field::start(extent);
    let mut measured = |lines: &[Line]| lines.iter().for_each(&mut tell);
    let ceiling = field.ceiling();
    measured(&[ceiling_line(&ceiling)]);
    let mut detail = json!({ "ceiling": of_round(&ceiling) });
    for security in Security::ALL {
        let relayed = field.relay(security);
        measured(&relay_lines(security, &relayed, &ceiling));
        detail["relay"][security.site()] = relayed.json();
    }
    for security in Security::ALL {
        let delays = field.delays(security);
        measured(&delay_lines(security, &delays));
        detail["delay"][security.site()] = delays.json();
    }
    let released = field.release();
    measured(&release_lines(&released, &ceiling));
    detail["release"] = released.json();
    let over_line = far::per_second(&mut field.ours, &field.row, field.amounts.far);
    measured(&[far_line(over_line)]);
    detail["line_of_30_ms"] = json!({ "per_second_and_session": over_line });
    let synced = field.syncs();
    measured(&[sync_line(synced)]);
    detail["syncs_per_message"] = json!({ "ours": synced.ours, "postfix": synced.postfix });
    detail
}

/// The same of both.
#[derive(Debug, Clone, Copy)]
struct Both<T> {
    ours: T,
    postfix: T,
}

impl Field {
    fn start(extent: Extent) -> Self {
        let ours = Ours::start(&[]);
        let theirs = Security::ALL.map(|security| Theirs::start(&ours.world, security));
        Self {
            amounts: extent.into(),
            theirs,
            ours,
            row: SinkRow::default(),
        }
    }

    fn ceiling(&self) -> Round {
        let rounds = (0..self.amounts.rounds).map(|_| {
            let sink = Sink::start(loopback::free_port(), None, &self.row);
            relay::ceiling(&sink, &self.row, self.amounts.relay / 2)
        });
        median(rounds.collect(), |round| round.per_second)
    }

    /// Turn and turn about.
    fn relay(&mut self, security: Security) -> Both<Round> {
        let (mut ours, mut postfix) = (Vec::new(), Vec::new());
        for _ in 0..self.amounts.rounds {
            let (bench, sink) = (
                self.ours.bench(security),
                self.ours.sink(security, &self.row),
            );
            ours.push(relay::round(
                &bench,
                &sink,
                &self.row,
                self.amounts.relay,
                Pace::Free,
            ));
            drop(sink);
            let theirs = &self.theirs[usize::from(security == Security::Plain)];
            let sink = theirs.sink(&self.ours.world, &self.row);
            let bench = theirs.bench();
            postfix.push(relay::round(
                &bench,
                &sink,
                &self.row,
                self.amounts.relay,
                Pace::Free,
            ));
        }
        Both {
            ours: median(ours, |round| round.per_second),
            postfix: median(postfix, |round| round.per_second),
        }
    }

    fn delays(&mut self, security: Security) -> Both<latency::Delays> {
        let theirs = &self.theirs[usize::from(security == Security::Plain)];
        let (mut ours, mut postfix) = (Vec::new(), Vec::new());
        for _ in 0..self.amounts.rounds.div_ceil(2) {
            let sink = self.ours.sink(security, &self.row);
            let bench = self.ours.bench(security);
            ours.push(latency::round(&bench, &self.row, self.amounts.delays));
            drop(sink);
            let _sink = theirs.sink(&self.ours.world, &self.row);
            let bench = theirs.bench();
            postfix.push(latency::round(&bench, &self.row, self.amounts.delays));
        }
        let p50 = |delays: &latency::Delays| delays.p50.as_secs_f64();
        Both {
            ours: median(ours, p50),
            postfix: median(postfix, p50),
        }
    }

    fn release(&mut self) -> Both<release::Released> {
        let waiting = self.amounts.waiting;
        let ours = release::ours(&mut self.ours, &self.row, waiting);
        let postfix = release::theirs(&self.ours.world, &self.theirs[0], &self.row, waiting);
        Both { ours, postfix }
    }

    fn syncs(&mut self) -> Both<f64> {
        let security = Security::Verified;
        let sink = self.ours.sink(security, &self.row);
        let bench = self.ours.bench(security);
        let ours = syncs::for_each_message(&bench, &self.row, self.amounts.synced);
        drop(sink);
        let _sink = self.theirs[0].sink(&self.ours.world, &self.row);
        let bench = self.theirs[0].bench();
        let postfix = syncs::for_each_message(&bench, &self.row, self.amounts.synced);
        Both { ours, postfix }
    }
}

/// The middle one, or the better of the middle two of an even number.
fn median<T: Clone>(mut all: Vec<T>, key: impl Fn(&T) -> f64) -> T {
    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
    all[all.len() / 2].clone()
}

fn ceiling_line(ceiling: &Round) -> Line {
    Line {
        what: "generator → sink, nothing between".to_owned(),
        bar: "",
        ours: rate(ceiling.per_second),
        postfix: String::new(),
        ratio: String::new(),
        met: None,
        limit: limit(ceiling),
    }
}

fn relay_lines(security: Security, both: &Both<Round>, ceiling: &Round) -> [Line; 2] {
    let (ours, postfix) = (&both.ours, &both.postfix);
    let times = ours.per_second / postfix.per_second;
    let of_ceiling = ours.per_second / ceiling.per_second;
    let (micros, their_micros) = (ours.server_micros(), postfix.server_micros());
    [
        Line {
            what: format!("sustained relay, {}", security.name()),
            bar: "≥ 10 × Postfix or ≥ 70 % of the ceiling",
            ours: rate(ours.per_second),
            postfix: rate(postfix.per_second),
            ratio: format!("{times:.1} ×, {:.0} %", of_ceiling * 100.0),
            met: Some(times >= 10.0 || of_ceiling >= 0.7),
            limit: limit(ours),
        },
        Line {
            what: format!("processor time of a message, {}", security.name()),
            bar: "≤ 200 µs and ≤ 1/15 of Postfix",
            ours: format!("{micros:.0} µs"),
            postfix: format!("{their_micros:.0} µs"),
            ratio: format!("1/{:.1}", their_micros / micros),
            met: Some(micros <= 200.0 && micros * 15.0 <= their_micros),
            limit: parts(ours),
        },
    ]
}

fn delay_lines(security: Security, both: &Both<latency::Delays>) -> [Line; 2] {
    let line = |what: &str, bar, ours: Duration, postfix: Duration, most: f64| {
        let ratio = ours.as_secs_f64() / postfix.as_secs_f64();
        Line {
            what: format!("delay at 20 /s, {}, {what}", security.name()),
            bar,
            ours: millis(ours),
            postfix: millis(postfix),
            ratio: format!("{ratio:.2} ×"),
            met: Some(ratio <= most),
            limit: "one sync, then the hops between the processes".to_owned(),
        }
    };
    let (ours, postfix) = (both.ours, both.postfix);
    [
        line("p50", "≤ 0.8 × Postfix", ours.p50, postfix.p50, 0.8),
        line("p99", "≤ Postfix", ours.p99, postfix.p99, 1.0),
    ]
}

fn release_lines(both: &Both<release::Released>, ceiling: &Round) -> [Line; 2] {
    let (ours, postfix) = (both.ours, both.postfix);
    let times = ours.per_second / postfix.per_second;
    let of_ceiling = ours.per_second / ceiling.per_second;
    [
        Line {
            what: format!("release of {} waiting: first at the sink", ours.waiting),
            bar: "≤ 50 ms",
            ours: millis(ours.first),
            postfix: millis(postfix.first),
            ratio: String::new(),
            met: Some(ours.first <= Duration::from_millis(50)),
            limit: "name service, connect, handshake".to_owned(),
        },
        Line {
            what: format!("release of {} waiting: drain", ours.waiting),
            bar: "≥ 10 × Postfix or ≥ 70 % of the ceiling",
            ours: rate(ours.per_second),
            postfix: rate(postfix.per_second),
            ratio: format!("{times:.1} ×, {:.0} %", of_ceiling * 100.0),
            met: Some(times >= 10.0 || of_ceiling >= 0.7),
            limit: "sessions to one site, and reading what waits".to_owned(),
        },
    ]
}

fn far_line(per_second: f64) -> Line {
    Line {
        what: "one session over a line of 30 ms".to_owned(),
        bar: "≥ 30 /s",
        ours: rate(per_second),
        postfix: String::new(),
        ratio: String::new(),
        met: Some(per_second >= 30.0),
        limit: "the round trip: one for each message is 33 /s".to_owned(),
    }
}

fn sync_line(both: Both<f64>) -> Line {
    Line {
        what: "syncs of a message (strace)".to_owned(),
        bar: "> 0",
        ours: format!("{:.2}", both.ours),
        postfix: format!("{:.2}", both.postfix),
        ratio: String::new(),
        met: Some(both.ours > 0.0),
        limit: "shared by all that wait for one".to_owned(),
    }
}

/// A machine that has nothing left is the limit; else it is waiting, for the disk or for each other.
fn limit(round: &Round) -> String {
    let (busy, others) = (round.busy * 100.0, round.others * 100.0);
    let cause = match round.busy > 0.85 {
        true => "processors",
        false => "waiting",
    };
    format!("{cause} (busy {busy:.0} %, of that {others:.0} % neither server nor tools)")
}

fn parts(round: &Round) -> String {
    let parts = round
        .micros
        .iter()
        .map(|(name, micros)| format!("{name} {micros:.0}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.0} /s")
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn of_round(round: &Round) -> Value {
    let micros = round
        .micros
        .iter()
        .map(|(name, micros)| ((*name).to_owned(), json!(micros)));
    json!({
        "messages": round.messages,
        "per_second": round.per_second,
        "cpu_us_per_message": micros.collect::<serde_json::Map<_, _>>(),
        "machine_busy": round.busy,
        "machine_busy_with_others": round.others,
    })
}

impl Both<Round> {
    fn json(&self) -> Value {
        json!({
            System::Ours.name(): of_round(&self.ours),
            System::Postfix.name(): of_round(&self.postfix),
        })
    }
}

impl Both<latency::Delays> {
    fn json(&self) -> Value {
        let one = |it: latency::Delays| json!({ "p50_ms": it.p50.as_secs_f64() * 1e3, "p99_ms": it.p99.as_secs_f64() * 1e3 });
        json!({ System::Ours.name(): one(self.ours), System::Postfix.name(): one(self.postfix) })
    }
}

impl Both<release::Released> {
    fn json(&self) -> Value {
        let one = |it: release::Released| json!({ "waiting": it.waiting, "first_ms": it.first.as_secs_f64() * 1e3, "per_second": it.per_second });
        json!({ System::Ours.name(): one(self.ours), System::Postfix.name(): one(self.postfix) })
    }
}
