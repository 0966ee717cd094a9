//! How often strangers' doings are said in the log, and how much of what they write.
//!
//! Whoever has proved nothing must not be able to fill a disk with lines, nor keep the threads that serve mail busy with
//! writing them. So each kind of line that a stranger can cause has a tally: a line a second, which says how many there
//! would have been, and what comes from the stranger is cut before it is formatted. A test reads the sources and holds them to it ([`super::lint`]).

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// So many characters of what a stranger says are enough to know it again.
const MOST: usize = 80;

/// The beginning of what a stranger says. Nothing is copied, whatever its length.
pub(crate) fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MOST);
    end.map_or(text, |(end, _)| &text[..end])
}

/// When the next line of a kind may be written, as a value.
#[derive(Debug)]
struct Tally {
    burst: i64,
    each_ms: i64,
    /// When the whole burst is there again.
    full_at_ms: i64,
    unsaid: u64,
}

impl Tally {
    /// Whether this one is said: then, how many were not since the last.
    fn next(&mut self, now_ms: i64) -> Option<u64> {
        let latest = now_ms.saturating_add(self.each_ms * self.burst);
        // A clock that was put back must not silence the log.
        self.full_at_ms = self.full_at_ms.clamp(now_ms, latest);
        let full_at = self.full_at_ms + self.each_ms;
        if full_at > latest {
            self.unsaid += 1;
            return None;
        }
        self.full_at_ms = full_at;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// One kind of line, of which there may be only so many.
#[derive(Debug)]
pub(crate) struct Sparing(Mutex<Tally>);

impl Sparing {
    /// One line a second.
    pub(crate) const fn one_a_second() -> Self {
        Self::new(1, Duration::from_secs(1))
    }

    /// `burst` lines at once, and one more after each such time.
    pub(crate) const fn new(burst: u16, each: Duration) -> Self {
        Self(Mutex::new(Tally {
            burst: burst as i64,
            each_ms: each.as_secs() as i64 * 1000 + each.subsec_millis() as i64,
            full_at_ms: 0,
            unsaid: 0,
        }))
    }

    /// Whether this one is said: then, how many were not since the last.
    pub(crate) fn due(&self, now: Timestamp) -> Option<u64> {
        let mut tally = self.0.lock().expect("no holder of this lock panics");
        tally.next(now.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_said_and_the_others_are_counted() {
        let lines = Sparing::one_a_second();
        let at = |ms: i64| Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap();
        for (ms, said) in [
            (0, Some(0)),
            (1, None),
            (999, None),
            (1000, Some(2)),
            (5000, Some(0)),
            (5001, None),
            // The clock is put back by an hour.
            (-3_600_000, None),
            (-3_599_000, Some(2)),
        ] {
            assert_eq!(lines.due(at(ms)), said, "{ms}");
        }
    }

    #[test]
    fn a_burst_is_said_at_once() {
        let lines = Sparing::new(3, Duration::from_millis(500));
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let said = (0..10).filter(|_| lines.due(at(0)).is_some()).count();
        assert_eq!(said, 3);
        assert_eq!(lines.due(at(500)), Some(7));
        assert_eq!(lines.due(at(500)), None);
    }

    #[test]
    fn what_a_stranger_says_is_cut_between_characters() {
        let long = "ä".repeat(1 << 20);
        assert_eq!(cut(&long).chars().count(), 80);
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(""), "");
    }
}
