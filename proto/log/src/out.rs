//! What is on its way out, and what of it is lost.

use std::io::{ErrorKind, Stderr, Write};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A pipe that is ready takes so much without blocking (PIPE_BUF), and so does all else that is.
const PIECE: usize = 4096;
/// Somebody has made it non-blocking, and it is full.
const AGAIN: Duration = Duration::from_millis(10);

/// Where lines go.
pub trait Sink: Write {
    /// Whether a write of a few kilobytes returns at once, well or not.
    fn is_ready(&self) -> bool;

    /// Whether each line goes out by itself and whole, so that one that fails says nothing of the next.
    fn is_by_line(&self) -> bool {
        false
    }
}

impl Sink for Stderr {
    fn is_ready(&self) -> bool {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

#[derive(Debug)]
pub(crate) struct Out<W> {
    to: W,
    lines: Vec<u8>,
    /// So much of them is out.
    at: usize,
    /// The beginning of a line is out, and its rest is lost.
    torn: bool,
    /// Lines that are lost, and of which nobody has been told.
    pub(crate) lost: u64,
    /// The last write failed: it is not tried again at once only to say what is lost.
    failed: bool,
}

impl<W: Sink> Out<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            lines: Vec::new(),
            at: 0,
            torn: false,
            lost: 0,
            failed: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == self.lines.len()
    }

    /// Whether there is something to say of lost lines, and reason to think that it can be said.
    pub(crate) fn may_tell(&mut self) -> bool {
        self.lost > 0 && !std::mem::take(&mut self.failed)
    }

    /// Begins with these lines; leaves an empty buffer.
    pub(crate) fn take(&mut self, lines: &mut Vec<u8>) {
        self.lines.clear();
        self.at = 0;
        std::mem::swap(&mut self.lines, lines);
    }

    /// Writes all of it, however long that takes.
    pub(crate) fn write(&mut self) {
        if self.tells_what_is_lost() {
            while !self.is_done() && self.piece(usize::MAX) {}
        }
    }

    /// Writes as much as goes at once. Whether that was all.
    pub(crate) fn write_ready(&mut self) -> bool {
        if self.lost > 0 && !(self.to.is_ready() && self.tells_what_is_lost()) {
            return self.is_done();
        }
        while !self.is_done() {
            if !self.to.is_ready() || !self.piece(PIECE) {
                return self.is_done();
            }
        }
        true
    }

    /// Whether it goes on.
    fn piece(&mut self, most: usize) -> bool {
        let end = self.lines.len().min(self.at.saturating_add(most));
        match self.to.write(&self.lines[self.at..end]) {
            Ok(written) if written > 0 => {
                self.at += written;
                self.torn = self.lines[self.at - 1] != b'\n';
                true
            }
            Err(_) if self.to.is_by_line() => {
                self.lose_line();
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let waits = most == usize::MAX;
                if waits {
                    thread::sleep(AGAIN);
                }
                waits
            }
            _ => {
                self.lose();
                false
            }
        }
    }

    /// The line that failed is lost with what was taken of it.
    fn lose_line(&mut self) {
        let rest = &self.lines[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        self.at += end.map_or(rest.len(), |end| end + 1);
        self.lost += 1;
        (self.torn, self.failed) = (false, true);
    }

    /// What is not out will not be.
    fn lose(&mut self) {
        let rest = &self.lines[self.at..];
        self.lost += rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = self.lines.len();
        self.failed = true;
    }

    /// One line of its own; where that cannot be written, what comes behind it is lost too. In the middle of the lines
    /// nothing is told: it might be the middle of one.
    fn tells_what_is_lost(&mut self) -> bool {
        let is_amid = self.at > 0 && !self.is_done();
        if self.lost == 0 || is_amid {
            return true;
        }
        let end = if self.torn { "\n" } else { "" };
        let line = format!(
            "{end}{now}  WARN dd_log: {lost} lines lost: whoever reads the log was too slow, had no room for them, or refused them\n",
            now = now(),
            lost = self.lost
        );
        if self.to.write_all(line.as_bytes()).is_err() {
            self.lose();
            return false;
        }
        (self.lost, self.torn) = (0, false);
        true
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line has the time at which it is written; the log's own time stamps are made the same way"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
