//! Instructions of a message, counted by callgrind: the one figure that a busy machine does not move, for comparing a change
//! with what was before it.
//!
//! Both programs run under callgrind, at a rate at which each message is alone on its way, and are counted between two
//! moments: what the start takes does not count, what they do beside mail in that time does. Only instructions of the
//! programs count, none of the kernel.
//!
//! valgrind hides the kernel's vDSO from a program, and rustix asks the kernel itself where it is, by prctl(2): strace, with
//! no other system call in view, answers that there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::latency;
use super::server::{Ours, Security};
use super::sink::Row;

/// Messages before the count begins: sessions are open then, and what is made once has been made.
const BEFORE: u64 = 100;
/// Functions that are told of each program.
const TOLD: usize = 10;
/// With `-D` the program is our child, and not strace.
const RUNNER: [&str; 12] = [
    "strace",
    "-D",
    "-f",
    "--seccomp-bpf",
    "--quiet",
    "--output=/dev/null",
    "-e",
    "trace=prctl",
    "-e",
    "inject=prctl:error=EINVAL",
    "valgrind",
    "--tool=callgrind",
];
/// What only carries: everything happens below these, so they say nothing.
const CARRIERS: [&str; 10] = [
    "tokio::", "<tokio", "std::", "<std", "core::", "<core", "alloc::", "<alloc", "__", "(below",
];

/// Of one program.
#[derive(Debug)]
pub struct Counted {
    pub program: &'static str,
    /// Instructions of a message.
    pub each: f64,
    /// The functions with the most of their own, and with the most together with what they call.
    pub own: Vec<Hot>,
    pub with_calls: Vec<Hot>,
}

/// A function with its part of all instructions.
#[derive(Debug, Clone, PartialEq)]
pub struct Hot {
    pub function: String,
    pub part: f64,
}

/// Hands in `count` messages at twenty a second.
///
/// # Panics
/// valgrind is missing, or anything is lost.
pub fn count(count: u64) -> Vec<Counted> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let mut runner = RUNNER.map(str::to_owned).to_vec();
    runner.push(format!("--callgrind-out-file={}", file("%p")));
    runner.push(format!("--log-file={}", file("%p.log")));
    let mut ours = Ours::start_under(&runner);
    let row = Row::default();
    let sink = ours.sink(Security::Verified, &row);
    let bench = ours.bench(Security::Verified);
    let _ = latency::round(&bench, &row, BEFORE);
    let dump = || {
        for (_, pid) in &bench.parts {
            dump(*pid);
        }
    };
    dump();
    let _ = latency::round(&bench, &row, count);
    dump();
    drop(sink);
    let counted = bench.parts.iter().map(|(program, pid)| {
        // The second of its dumps.
        let profile = directory.path().join(format!("{pid}.2"));
        let with_calls = annotate(&profile, "yes");
        let own = directory.path().join(format!("{pid}.own"));
        let text = fs::read_to_string(&profile).expect("callgrind writes its dumps");
        fs::write(&own, without_open_calls(&text)).expect("our own directory");
        Counted {
            program,
            each: total(&with_calls) / count as f64,
            own: hottest(&annotate(&own, "no"), |_| true, |sum, part| sum + part),
            with_calls: hottest(&with_calls, says_something, f64::max),
        }
    });
    counted.collect()
}

/// Writes what has been counted since the last time, and begins at nothing.
fn dump(pid: u32) {
    // Forcing an answer would need ptrace, which strace has; the program looks by itself as long as it does anything.
    let done = Command::new("vgdb")
        .args(["--max-invoke-ms=0", &format!("--pid={pid}"), "dump"])
        .output()
        .expect("vgdb can be run: `make bench` installs valgrind");
    assert!(
        done.status.success(),
        "callgrind does not dump: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn annotate(profile: &Path, inclusive: &str) -> String {
    let done = Command::new("callgrind_annotate")
        .args(["--auto=no", "--threshold=100"])
        .arg(format!("--inclusive={inclusive}"))
        .arg(profile)
        .output()
        .expect("callgrind_annotate can be run: `make bench` installs valgrind");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A call that goes on while a dump is written is one of no calls in it, and callgrind_annotate takes what the called
/// function did for the caller's own.
fn without_open_calls(profile: &str) -> String {
    let mut lines = profile.lines();
    let mut text = String::with_capacity(profile.len());
    while let Some(line) = lines.next() {
        if line.starts_with("calls=0 ") {
            // What it cost is the next line.
            lines.next();
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Of `callgrind_annotate`'s text.
fn total(text: &str) -> f64 {
    let totals = text.lines().filter(|line| line.ends_with("PROGRAM TOTALS"));
    let number = totals.filter_map(|line| number(line.split_whitespace().next()?));
    number.take(1).sum()
}

/// The rows of one function, which stands there once for each file that its code is from, are joined.
fn hottest(text: &str, told: impl Fn(&str) -> bool, join: impl Fn(f64, f64) -> f64) -> Vec<Hot> {
    let total = total(text);
    let mut parts = BTreeMap::<&str, f64>::new();
    for (function, count) in text.lines().filter_map(row) {
        if told(function) {
            let part = parts.entry(function).or_default();
            *part = join(*part, count / total);
        }
    }
    let mut hot: Vec<Hot> = parts
        .into_iter()
        .map(|(function, part)| Hot {
            function: function.to_owned(),
            part,
        })
        .collect();
    hot.sort_by(|a, b| b.part.total_cmp(&a.part));
    hot.truncate(TOLD);
    hot
}

/// `1,234 ( 5.67%)  FILE:FUNCTION [OBJECT]`
fn row(line: &str) -> Option<(&str, f64)> {
    let (count, rest) = line.split_once('(')?;
    let (_, place) = rest.split_once("%)")?;
    let place = place.rsplit_once(" [").map_or(place, |(place, _)| place);
    let (_, function) = place.trim().split_once(':')?;
    Some((plain(function), number(count.trim())?))
}

/// Without the hash at the end, and the number that callgrind gives to functions that call themselves.
fn plain(function: &str) -> &str {
    let function = function.split_once('\'').map_or(function, |(it, _)| it);
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => function,
    }
}

fn says_something(function: &str) -> bool {
    let carries = CARRIERS.iter().any(|it| function.starts_with(it));
    function.contains("::") && !carries
}

fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// By program.
pub fn json(counted: &[Counted]) -> Value {
    let counted = counted.iter();
    Value::Object(
        counted
            .map(|it| (it.program.to_owned(), it.json()))
            .collect(),
    )
}

impl Counted {
    fn json(&self) -> Value {
        let hot = |hot: &[Hot]| {
            let hot = hot.iter();
            hot.map(|it| json!({ "function": it.function, "part": it.part }))
                .collect::<Vec<_>>()
        };
        json!({
            "instructions_per_message": self.each,
            "own": hot(&self.own),
            "with_calls": hot(&self.with_calls),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Profile data file '/tmp/x/13768.2' (creator: callgrind-3.19.0)
Profiled target:  target/release/dd-agent (PID 13768, part 2)
--------------------------------------------------------------------------------
20,000 (100.0%)  PROGRAM TOTALS
--------------------------------------------------------------------------------
19,000 (95.00%)  ???:(below main) [/usr/bin/dd-agent]
10,500 (52.50%)  /src/park.rs:tokio::runtime::park::Inner::park'2 [/usr/bin/dd-agent]
 3,000 (15.00%)  agent/src/attempt.rs:dd_agent::attempt::attempt::h0123456789abcdef [/usr/bin/dd-agent]
   400 ( 2.00%)  ./string/memmove.S:__memcpy_avx_unaligned_erms [/usr/lib/libc.so.6]
";

    #[test]
    fn functions_are_read_with_their_parts() {
        assert!((total(TEXT) - 20_000.0).abs() < 1e-9);
        let hot = |function: &str, part| Hot {
            function: function.to_owned(),
            part,
        };
        assert_eq!(
            hottest(TEXT, |_| true, f64::max),
            [
                hot("(below main)", 0.95),
                hot("tokio::runtime::park::Inner::park", 0.525),
                hot("dd_agent::attempt::attempt", 0.15),
                hot("__memcpy_avx_unaligned_erms", 0.02),
            ]
        );
        assert_eq!(
            hottest(TEXT, says_something, f64::max),
            [hot("dd_agent::attempt::attempt", 0.15)]
        );
    }

    #[test]
    fn what_stands_there_for_each_file_is_one_function() {
        let text = format!(
            "{TEXT} 1,000 ( 5.00%)  /lib/option.rs:dd_agent::attempt::attempt [/usr/bin/dd-agent]\n"
        );
        let hot = hottest(&text, says_something, |sum, part| sum + part);
        assert!((hot[0].part - 0.2).abs() < 1e-9, "{hot:?}");
    }

    #[test]
    fn a_call_that_goes_on_is_not_the_callers_own() {
        let profile =
            "fn=(1) main\n10 5\ncfn=(2) work\ncalls=0 0 \n58 90\ncfn=(3) rest\ncalls=2 7 \n60 4\n";
        let own = "fn=(1) main\n10 5\ncfn=(2) work\ncfn=(3) rest\ncalls=2 7 \n60 4\n";
        assert_eq!(without_open_calls(profile), own);
    }
}
