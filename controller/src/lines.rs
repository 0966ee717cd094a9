//! The log's way out, standard error: the lines of messages are gathered, and go out together.
//!
//! A message has two lines. A system call for each was 4 % of the controller's processor time
//! (docs/decisions/0062-fewer-system-calls.md).
//!
//! # Invariants
//! - Lines go out in the order in which they were written, and each whole.
//! - Only what is said of a message with its Message-ID is gathered: that it was accepted, and what became of it. The
//!   store has that on disk by then. All else, and whatever was gathered before it, is out when the call returns: that
//!   a message is sent again in doubt is there before it is sent.
//! - Nothing stays here for longer than [`TOGETHER`] while the process runs, nor behind its end or a panic. What is killed
//!   takes so much with it.
//! - As much as [`MOST`] is gathered; beyond it whoever speaks waits for whoever reads.
//!
//! # Not here
//! What the lines say (where it happens); those who watch it live ([`crate::events`]).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// For how long a line waits for company.
const TOGETHER: Duration = Duration::from_millis(10);
/// Bytes that wait at most; some hundred lines.
const MOST: usize = 256 * 1024;

/// Where the log goes. Clones are the same one.
#[derive(Debug)]
pub struct Lines<W>(Arc<Shared<W>>);

#[derive(Debug)]
struct Shared<W> {
    gathered: Mutex<Vec<u8>>,
    /// The first of them has come.
    first: Condvar,
    /// The process ends: nothing waits any more.
    ended: AtomicBool,
    /// Held from the moment at which lines are taken until they are out: so they stay in their order.
    out: Mutex<Out<W>>,
}

#[derive(Debug)]
struct Out<W> {
    to: W,
    /// On their way. Empty between two calls, and kept for its memory.
    lines: Vec<u8>,
}

impl Lines<io::Stderr> {
    /// Standard error, with the thread that writes what was gathered, and a panic that leaves nothing behind.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn to_stderr() -> io::Result<Self> {
        let lines = Self::to(io::stderr());
        let writes = lines.clone();
        let thread = thread::Builder::new().name("log lines".to_owned());
        thread.spawn(move || {
            loop {
                writes.wait_for_the_first();
                thread::sleep(TOGETHER);
                writes.flush();
            }
        })?;
        let (last, before) = (lines.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            last.flush();
            before(panic);
        }));
        Ok(lines)
    }
}

impl<W: Write> Lines<W> {
    fn to(out: W) -> Self {
        Self(Arc::new(Shared {
            gathered: Mutex::default(),
            first: Condvar::new(),
            ended: AtomicBool::new(false),
            out: Mutex::new(Out {
                to: out,
                lines: Vec::new(),
            }),
        }))
    }

    /// Writes out what was gathered; whatever still comes is written at once.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.flush();
    }

    fn flush(&self) {
        let mut out = lock(&self.0.out);
        let Out { to, lines } = &mut *out;
        std::mem::swap(lines, &mut *lock(&self.0.gathered));
        // Where standard error is gone there is nobody left to tell.
        let _ = to.write_all(lines).and_then(|()| to.flush());
        lines.clear();
    }

    fn add(&self, lines: &[u8], when: When) {
        let mut gathered = lock(&self.0.gathered);
        // Looked at in here: behind the last flush it is seen.
        let now = when == When::Now || self.0.ended.load(Ordering::Relaxed);
        if gathered.is_empty() && !now {
            self.0.first.notify_one();
        }
        gathered.extend_from_slice(lines);
        let full = gathered.len() >= MOST;
        drop(gathered);
        if full || now {
            self.flush();
        }
    }

    fn wait_for_the_first(&self) {
        let gathered = lock(&self.0.gathered);
        let nothing = |gathered: &mut Vec<u8>| gathered.is_empty();
        drop(self.0.first.wait_while(gathered, nothing));
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

/// When a line has to be out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Soon,
}

impl When {
    fn of(line: &Metadata<'_>) -> Self {
        let tells_of_a_message =
            line.target() == "mail" && line.fields().field("message_id").is_some();
        match tells_of_a_message && *line.level() == Level::INFO {
            true => Self::Soon,
            false => Self::Now,
        }
    }
}

/// Takes one line.
#[derive(Debug)]
pub struct Line<'a, W> {
    lines: &'a Lines<W>,
    when: When,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.add(line, self.when);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + 'a> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        let when = When::Now;
        Line { lines: self, when }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        let when = When::of(line);
        Line { lines: self, when }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is out by now.
    fn written(lines: &Lines<Vec<u8>>) -> String {
        String::from_utf8(lock(&lines.0.out).to.clone()).unwrap()
    }

    fn saying(lines: &Lines<Vec<u8>>, says: impl FnOnce()) {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.clone())
            .without_time()
            .with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), says);
    }

    #[test]
    fn what_is_said_of_a_message_waits_for_company_and_all_else_takes_it_along() {
        let lines = Lines::to(Vec::new());
        saying(&lines, || {
            tracing::info!(target: "mail", id = 1, message_id = "<a@b>", "accepted");
            tracing::info!(target: "mail", id = 1, message_id = "<a@b>", "settled");
            assert_eq!(written(&lines), "");
            tracing::info!(target: "mail", id = 2, "sent again in doubt");
            let so_far = written(&lines);
            assert_eq!(so_far.lines().count(), 3, "{so_far}");
            assert!(so_far.ends_with("sent again in doubt id=2\n"), "{so_far}");
            tracing::info!(target: "mail", id = 3, message_id = "<c@b>", "accepted");
            tracing::info!("another");
            tracing::warn!(target: "mail", message_id = "<c@b>", "of note");
            assert_eq!(written(&lines).lines().count(), 6);
        });
    }

    #[test]
    fn at_the_end_all_is_out_and_nothing_waits_any_more() {
        let lines = Lines::to(Vec::new());
        let says = || tracing::info!(target: "mail", message_id = "<a@b>", "accepted");
        saying(&lines, says);
        assert_eq!(written(&lines), "");
        lines.end();
        assert_eq!(written(&lines).lines().count(), 1);
        saying(&lines, says);
        assert_eq!(written(&lines).lines().count(), 2);
    }

    #[test]
    fn no_more_is_gathered_than_fits() {
        let lines = Lines::to(Vec::new());
        let line = [b'x'; 1000];
        for _ in 0..=MOST / line.len() {
            assert_eq!(written(&lines), "");
            lines.add(&line, When::Soon);
        }
        assert!(written(&lines).len() >= MOST);
    }

    #[test]
    fn the_first_line_wakes_whoever_writes() {
        let lines = Lines::to(Vec::new());
        thread::scope(|scope| {
            let waits = scope.spawn(|| lines.wait_for_the_first());
            lines.add(b"first\n", When::Soon);
            waits.join().unwrap();
        });
    }
}
