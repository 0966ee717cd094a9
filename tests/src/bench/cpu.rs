//! Processor time: of a process with all its children, of a thread of ours, of the machine.
//!
//! # Invariants
//! A process that has ended still counts: its parent has waited for it, and the kernel adds it there.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The kernel tells every user `USER_HZ`, which is this on every machine there is.
const TICKS_PER_SECOND: u64 = 100;

/// A thread of this process.
#[derive(Debug, Clone)]
pub struct Thread(PathBuf);

impl Thread {
    /// Starts one that runs this to its end.
    ///
    /// # Panics
    /// There are no threads.
    pub fn start<F: Future<Output = ()>>(
        name: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (tell, told) = mpsc::channel();
        let running = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let own = fs::read_link("/proc/thread-self").expect("a thread knows itself");
                let _ = tell.send(PathBuf::from("/proc").join(own));
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                runtime.block_on(work());
            })
            .expect("a thread can be made");
        (Self(told.recv().expect("it has begun")), running)
    }

    /// Nothing once it has ended.
    pub fn time(&self) -> Duration {
        Stat::read(&self.0).map_or(Duration::ZERO, |stat| stat.own)
    }
}

/// The time of a process and of all its children, those included that have ended.
///
/// # Panics
/// There is no such process.
pub fn of_tree(root: u32) -> Duration {
    let stats = all();
    assert!(stats.contains_key(&root), "the process {root} has ended");
    descendants(root, &stats)
        .iter()
        .filter_map(|pid| stats.get(pid))
        .map(|stat| stat.own + stat.waited_for)
        .sum()
}

/// The process and all below it.
pub fn tree(root: u32) -> Vec<u32> {
    descendants(root, &all())
}

fn descendants(root: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(
            stats
                .iter()
                .filter(|(_, stat)| stat.parent == parent)
                .map(|(pid, _)| pid),
        );
        at += 1;
    }
    found
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, Stat::read(&entry.path())?))
        })
        .collect()
}

/// What the whole machine has been busy with, all processors together.
///
/// # Panics
/// There is no /proc.
pub fn of_machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").expect("there is a /proc");
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .map_while(|it| it.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let idle = ticks.get(3..5).unwrap_or_default().iter().sum::<u64>();
    duration(ticks.iter().take(8).sum::<u64>() - idle)
}

/// How many processors it has.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Debug)]
struct Stat {
    parent: u32,
    own: Duration,
    waited_for: Duration,
}

impl Stat {
    /// proc_pid_stat(5): the name may hold anything, so fields are counted from its closing bracket.
    fn read(process: &std::path::Path) -> Option<Self> {
        let text = fs::read_to_string(process.join("stat")).ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |from: usize| -> Option<u64> {
            let user: u64 = fields.get(from)?.parse().ok()?;
            let system: u64 = fields.get(from + 1)?.parse().ok()?;
            Some(user + system)
        };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: duration(ticks(11)?),
            waited_for: duration(ticks(13)?),
        })
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_count_while_they_run_and_when_they_have_ended() {
        let own = std::process::id();
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let before = of_tree(own);
        let mut child = std::process::Command::new("sh")
            .args(["-c", busy])
            .spawn()
            .unwrap();
        assert!(tree(own).contains(&child.id()));
        child.wait().unwrap();
        assert!(of_tree(own) > before);
    }
}
