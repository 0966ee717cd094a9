//! The messages of one row: numbered, all of one size, each with the moment it left and the moment it was there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wait::Stopwatch;

/// What stands before a message's number.
const BEFORE: &[u8] = b"Message-ID: <";
/// Digits of a number.
const DIGITS: usize = 12;

/// Every message of a row.
#[derive(Debug)]
pub struct Letters {
    begun: Stopwatch,
    next: AtomicU64,
    /// The moments, by number. Nothing: not yet.
    sent: Mutex<Vec<Option<Duration>>>,
    arrived: Mutex<Vec<Option<Duration>>>,
    taken: AtomicU64,
    /// Arrivals of what was there already, or has no number.
    strange: AtomicU64,
}

impl Letters {
    pub fn begin() -> Self {
        Self {
            begun: Stopwatch::start(),
            next: AtomicU64::new(0),
            sent: Mutex::default(),
            arrived: Mutex::default(),
            taken: AtomicU64::new(0),
            strange: AtomicU64::new(0),
        }
    }

    /// Since the row began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The next number, if fewer than `most` were given out.
    pub fn number(&self, most: u64) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < most).then_some(number)
    }

    /// Its last byte goes out now.
    pub fn sent(&self, number: u64) {
        note(&self.sent, number, self.now());
    }

    /// It has been answered with 250.
    pub fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// It is there as a whole.
    pub fn arrived(&self, number: Option<u64>) {
        let new = number.is_some_and(|number| note(&self.arrived, number, self.now()));
        if !new {
            self.strange.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn taken_so_far(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// When each arrived, in order of time.
    pub fn arrivals(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = locked(&self.arrived).iter().flatten().copied().collect();
        times.sort_unstable();
        times
    }

    pub fn arrived_so_far(&self) -> u64 {
        locked(&self.arrived).iter().flatten().count() as u64
    }

    /// Arrivals that should not have been.
    pub fn strange(&self) -> u64 {
        self.strange.load(Ordering::Relaxed)
    }

    /// From the last byte sent to the last byte there, of each that arrived; the shortest first.
    pub fn delays(&self) -> Vec<Duration> {
        let (sent, arrived) = (locked(&self.sent), locked(&self.arrived));
        let pairs = sent.iter().zip(arrived.iter());
        let mut delays: Vec<Duration> = pairs
            .filter_map(|(sent, arrived)| Some(arrived.as_ref()?.saturating_sub(*sent.as_ref()?)))
            .collect();
        delays.sort_unstable();
        delays
    }
}

/// True if there was none.
fn note(times: &Mutex<Vec<Option<Duration>>>, number: u64, now: Duration) -> bool {
    let mut times = locked(times);
    let place = usize::try_from(number).expect("numbers are counted in memory");
    if times.len() <= place {
        times.resize(place + 1, None);
    }
    times[place].replace(now).is_none()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message of a size, of which only the number changes.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Template {
    /// `bytes` long without the final dot.
    pub fn new(bytes: usize) -> Self {
        let mut text = BEFORE.to_vec();
        let number_at = text.len();
        text.extend([b'0'; DIGITS]);
        text.extend(b"@bench.example>\r\nDate: Sun, 1 Nov 2026 12:00:00 +0000\r\n");
        text.extend(b"From: <a@b.example>\r\nTo: <me@home.example>\r\nSubject: a letter\r\n\r\n");
        while text.len() < bytes {
            let line = b"All work and no play makes mail a dull matter, line after line.\r\n";
            let rest = bytes - text.len();
            let line = match rest <= line.len() + 2 {
                // The last line fills it up, however short.
                true => [&[b'-'; 80][..rest.saturating_sub(2)], b"\r\n"].concat(),
                false => line.to_vec(),
            };
            text.extend(line);
        }
        text.extend(b".\r\n");
        Self {
            bytes: text,
            number_at,
        }
    }

    /// With its final dot, as it goes out.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        let digits = format!("{number:0DIGITS$}");
        let end = self.number_at + DIGITS;
        self.bytes[self.number_at..end].copy_from_slice(digits.as_bytes());
        &self.bytes
    }
}

/// The number of a message, found below what servers put before it.
pub fn number_of(content: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(content, BEFORE)? + BEFORE.len();
    let digits = content.get(at..at + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_has_its_size_and_its_number() {
        for bytes in [300, 301, 364, 365, 4096, 65_536] {
            let mut template = Template::new(bytes);
            let text = template.numbered(4711);
            assert_eq!(text.len(), bytes + b".\r\n".len(), "{bytes}");
            assert_eq!(number_of(text), Some(4711));
            assert_eq!(memchr::memmem::find(text, b"\r\n.\r\n"), Some(bytes - 2));
        }
    }

    #[test]
    fn what_arrives_twice_is_told() {
        let letters = Letters::begin();
        letters.arrived(Some(3));
        assert_eq!((letters.arrived_so_far(), letters.strange()), (1, 0));
        letters.arrived(Some(3));
        letters.arrived(None);
        assert_eq!((letters.arrived_so_far(), letters.strange()), (1, 2));
    }
}
