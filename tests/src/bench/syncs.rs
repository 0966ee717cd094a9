//! How often a message makes a server wait for the disk, counted by strace from outside.
//!
//! strace stops the server at every system call: it is counted here and nothing is timed.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use super::cpu;
use super::generator::{Generator, Pace};
use super::relay::{all_there, load};
use super::server::Bench;
use super::sink::Row;
use crate::wait::{PATIENCE, until};

const CALLS: &str = "trace=fsync,fdatasync,sync_file_range,syncfs,sync,msync";
/// These return only when the disk has it.
const DURABLE: [&str; 2] = ["fsync", "fdatasync"];

/// Syncs for each of `count` messages, handed in over as many sessions as in the sustained relay.
///
/// # Panics
/// strace is missing, or may not.
pub fn for_each_message(bench: &Bench, row: &Row, count: u64) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let summary = directory.path().join("summary");
    let pids = bench.parts.iter().flat_map(|(_, pid)| cpu::tree(*pid));
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-e", CALLS, "-o"]).arg(&summary);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace can be run: `make deps` installs it");
    let traced = bench.parts.iter().map(|(_, pid)| *pid).collect::<Vec<_>>();
    until("strace to attach", PATIENCE, || {
        assert!(
            matches!(strace.try_wait(), Ok(None)),
            "strace may not trace"
        );
        traced.iter().all(|pid| is_traced(*pid)).then_some(())
    });
    let letters = row.begin();
    let load = load(bench, count, Pace::Free);
    let generator = Generator::start(load, Arc::clone(&letters));
    until("all to be handed in", PATIENCE * 5, || {
        generator.is_done().then_some(())
    });
    generator.stop();
    all_there(&letters);
    end(strace);
    let text = fs::read_to_string(&summary).expect("strace writes a summary");
    durable_calls(&text) as f64 / count as f64
}

/// proc_pid_status(5).
fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))
        .is_some_and(|tracer| tracer.trim() != "0")
}

/// It detaches and writes what it has counted.
fn end(mut strace: Child) {
    let pid = i32::try_from(strace.id()).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a child has a process id");
    kill_process(pid, Signal::INT).expect("strace runs");
    let _ = strace.wait();
}

/// Of `strace -c`'s table: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn durable_calls(summary: &str) -> u64 {
    summary
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.last().is_some_and(|name| DURABLE.contains(name)))
        .filter_map(|words| words.get(3)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_are_read_from_the_summary() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.12    0.101000         101      1000           fdatasync
  0.50    0.000500          50        10         2 fsync
  0.38    0.000400         400         1           sync_file_range
------ ----------- ----------- --------- --------- ----------------
100.00    0.101900         100      1011         2 total
";
        assert_eq!(durable_calls(summary), 1010);
    }
}
