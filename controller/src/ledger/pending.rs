//! Lines of the history that the disk does not have yet.
//!
//! Whoever logs adds to one text and goes on; the thread takes it once a second, and whatever is in it goes to the file
//! in one piece. Nobody is woken for a single line.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::LOCK;

/// Bytes that wait for the disk: some 8,000 messages.
const BEHIND: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Pending {
    taken: Mutex<Taken>,
    wanted: Condvar,
}

/// What the thread takes with it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) lines: String,
    /// Lines that were not kept because the disk was too slow.
    pub(super) lost: u64,
    /// Who waits until all so far is in the files.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    /// Whether anybody writes; nothing is added where nobody does.
    pub(super) is_open: bool,
}

impl Taken {
    const NOTHING: Self = Self {
        lines: String::new(),
        lost: 0,
        waiting: Vec::new(),
        is_open: false,
    };
}

impl Pending {
    pub(super) const fn new() -> Self {
        Self {
            taken: Mutex::new(Taken::NOTHING),
            wanted: Condvar::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.taken.lock().expect(LOCK).is_open
    }

    pub(super) fn open(&self) {
        self.taken.lock().expect(LOCK).is_open = true;
    }

    pub(super) fn close(&self) {
        self.taken.lock().expect(LOCK).is_open = false;
        self.wanted.notify_one();
    }

    pub(super) fn add(&self, line: &str) {
        let mut taken = self.taken.lock().expect(LOCK);
        if !taken.is_open {
            return;
        }
        if taken.lines.len() + line.len() > BEHIND {
            taken.lost += 1;
            return;
        }
        let half = |len: usize| len >= BEHIND / 2;
        let before = half(taken.lines.len());
        taken.lines.push_str(line);
        if half(taken.lines.len()) && !before {
            self.wanted.notify_one();
        }
    }

    /// Answered when all so far is in the files; None: nobody writes.
    pub(super) fn flushed(&self) -> Option<oneshot::Receiver<()>> {
        let mut taken = self.taken.lock().expect(LOCK);
        if !taken.is_open {
            return None;
        }
        let (done, flushed) = oneshot::channel();
        taken.waiting.push(done);
        self.wanted.notify_one();
        Some(flushed)
    }

    /// All so far, after `most` at the latest: sooner where it is much, where somebody waits for it, or at the end.
    pub(super) fn take(&self, most: Duration) -> Taken {
        let is_idle =
            |it: &mut Taken| it.is_open && it.waiting.is_empty() && it.lines.len() < BEHIND / 2;
        let taken = self.taken.lock().expect(LOCK);
        let (mut taken, _) = self
            .wanted
            .wait_timeout_while(taken, most, is_idle)
            .expect(LOCK);
        let rest = Taken {
            is_open: taken.is_open,
            ..Taken::NOTHING
        };
        std::mem::replace(&mut *taken, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_does_not_take_in_time_is_lost_and_counted() {
        let pending = Pending::new();
        pending.add("nobody writes\n");
        pending.open();
        let line = "x".repeat(BEHIND / 4);
        for _ in 0..6 {
            pending.add(&line);
        }
        let taken = pending.take(Duration::MAX);
        assert_eq!((taken.lines.len(), taken.lost), (BEHIND, 2));
        // Then there is room again.
        pending.add("one");
        let flushed = pending.flushed();
        let taken = pending.take(Duration::MAX);
        assert_eq!((&*taken.lines, taken.lost), ("one", 0));
        assert_eq!((taken.waiting.len(), flushed.is_some()), (1, true));
        pending.close();
        assert!(pending.flushed().is_none());
        assert!(!pending.take(Duration::MAX).is_open);
    }
}
