//! The log's way out, standard error or the journal behind it: whoever has something to say never waits for whoever reads.
//!
//! Lines are gathered in a buffer, and a thread of its own writes them. A reader that has stopped, a disk that is full, a pipe
//! without another end: lines are lost then, counted, and how many is said as soon as something can be written again.
//! docs/decisions/0073-the-log-holds-up-nothing.md
//!
//! # Invariants
//! - No call here waits for standard error, except [`Lines::flush`], for at most [`AT_THE_END`]; and none fails or panics.
//! - Lines go out in the order in which they were said, and each whole, as long as standard error takes them.
//! - A line that is urgent, and whatever was said before it, is out when the call returns, if standard error takes it at once.
//! - No line stays here for longer than [`TOGETHER`] if standard error takes it. What is killed takes so much with it.
//!
//! # Not here
//! What the lines say, and which of them are urgent: the programs.

mod chain;
pub mod fields;
pub mod journal;
mod out;
pub mod utc;
mod way;

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use chain::chain;
use out::Out;
pub use out::Sink;
pub use way::Way;

/// For how long a line waits for company.
const TOGETHER: Duration = Duration::from_millis(10);
/// Bytes that wait at most; more than a thousand lines.
const MOST: usize = 512 * 1024;
/// So long the end of the process waits for standard error.
pub const AT_THE_END: Duration = Duration::from_secs(1);
/// So often it is tried to say how many lines are lost where nothing else is said.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the log goes. Clones are the same one.
#[derive(Debug)]
pub struct Lines<W>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    came: Condvar,
    /// There is nothing any more.
    all_out: Condvar,
    /// Held for as long as it takes to write, which may be for ever: only the thread waits for it.
    out: Mutex<Out<W>>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Said when there was no more room.
    lost: u64,
    /// They do not wait for company.
    urgent: bool,
    /// Lines were taken from here and may not be out.
    writing: bool,
    /// Lines are lost and it is not said yet.
    owes: bool,
}

/// When a line has to be out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    Soon,
}

impl Lines<Way> {
    /// Standard error, or the journal where that is behind it, with the thread that writes, and a panic that is told in
    /// the same way.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn to(way: Way) -> io::Result<Self> {
        let lines = Self::start(way)?;
        let last = lines.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let name = thread.name().unwrap_or("<unnamed>");
            last.say(&format!("thread '{name}' {panic}"));
            let trace = std::backtrace::Backtrace::capture();
            if trace.status() == std::backtrace::BacktraceStatus::Captured {
                last.say(&trace.to_string());
            }
            last.flush();
        }));
        Ok(lines)
    }
}

impl<W: Sink + Send + 'static> Lines<W> {
    fn start(to: W) -> io::Result<Self> {
        let lines = Self::around(to);
        let writes = lines.clone();
        let thread = thread::Builder::new().name("log lines".to_owned());
        thread.spawn(move || {
            loop {
                writes.wait_for_lines();
                let mut out = lock(&writes.0.out);
                while writes.take(&mut out) {
                    out.write();
                }
            }
        })?;
        Ok(lines)
    }
}

impl<W: Sink> Lines<W> {
    fn around(to: W) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            came: Condvar::new(),
            all_out: Condvar::new(),
            out: Mutex::new(Out::new(to)),
        }))
    }

    /// Takes one line, with its end.
    pub fn line(&self, when: When) -> Line<W> {
        let lines = self.clone();
        Line { lines, when }
    }

    /// Says something of the program's own that is urgent.
    pub fn say(&self, text: &str) {
        self.add(format!("{text}\n").as_bytes(), When::Now);
    }

    /// Waits until all is out, for at most [`AT_THE_END`].
    pub fn flush(&self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.urgent = true;
        self.0.came.notify_one();
        let some = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let flushed = self.0.all_out.wait_timeout_while(waiting, AT_THE_END, some);
        drop(flushed);
    }

    fn add(&self, line: &[u8], when: When) {
        let mut waiting = lock(&self.0.waiting);
        // Behind a lost line all are lost until there is room, so that the gap is in one place.
        if waiting.lost > 0 || waiting.lines.len() + line.len() > MOST {
            waiting.lost += 1;
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let urgent = when == When::Now;
        waiting.urgent |= urgent;
        drop(waiting);
        if !(urgent && self.is_out_at_once()) && (first || urgent) {
            self.0.came.notify_one();
        }
    }

    /// Writes what waits as far as that cannot block. Whether all is out.
    fn is_out_at_once(&self) -> bool {
        let Ok(mut out) = self.0.out.try_lock() else {
            return false;
        };
        while out.write_ready() {
            if !self.take(&mut out) {
                return true;
            }
        }
        false
    }

    /// Hands what waits to whoever writes; false: nothing waits, and all is out.
    fn take(&self, out: &mut Out<W>) -> bool {
        if !out.is_done() {
            return true;
        }
        let mut waiting = lock(&self.0.waiting);
        waiting.urgent = false;
        out.lost += std::mem::take(&mut waiting.lost);
        waiting.writing = !waiting.lines.is_empty() || out.may_tell();
        if !waiting.writing {
            // Whoever speaks may have lost a line just now: the thread has to say so later.
            waiting.owes = out.lost > 0;
            if waiting.owes {
                self.0.came.notify_one();
            }
            self.0.all_out.notify_all();
            return false;
        }
        out.take(&mut waiting.lines);
        true
    }

    /// Or for the time to say how many are lost.
    fn wait_for_lines(&self) {
        let waiting = lock(&self.0.waiting);
        let nothing = |waiting: &mut Waiting| {
            waiting.lines.is_empty() && waiting.lost == 0 && !waiting.writing
        };
        let came = &self.0.came;
        let waiting = came
            .wait_while(waiting, |waiting| nothing(waiting) && !waiting.owes)
            .unwrap_or_else(PoisonError::into_inner);
        let waiting = match waiting.owes {
            false => waiting,
            true => {
                let waited = came.wait_timeout_while(waiting, AGAIN, nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let alone = |waiting: &mut Waiting| !waiting.urgent && waiting.lines.len() < MOST / 2;
        drop(came.wait_timeout_while(waiting, TOGETHER, alone));
    }
}

impl<W> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Nobody panics with lines in hand.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one line.
#[derive(Debug)]
pub struct Line<W> {
    lines: Lines<W>,
    when: When,
}

impl<W: Sink> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.add(line, self.when);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
