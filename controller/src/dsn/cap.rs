//! How many notifications a sender gets at once. What is more is put off, never dropped: a forged sender of a million
//! messages gets a trickle, and an operator has time to look.
//!
//! # Invariants
//! - Every notification has its time, and no sender has more than [`BURST`] of them plus one each [`INTERVAL`].
//! - A start forgets what was sent before, so for a while it lets less through, never more: a sender of whom nothing is
//!   known has one at once, and the burst only as time passes.
//! - Memory grows with the senders of the last minutes, not with those there ever were.

use std::collections::HashMap;
use std::time::Duration;

use dd_proto::path::Mailbox;

/// So many at once.
pub(super) const BURST: u32 = 20;
/// One more after each.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// From so many senders on those whose time is over are forgotten.
const MANY: usize = 1024;

/// For each sender the time at which all that it was sent will have been paid for (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Cap {
    paid: HashMap<Box<str>, Duration>,
    sweep_at: usize,
}

impl Cap {
    pub(super) fn new() -> Self {
        Self {
            paid: HashMap::new(),
            sweep_at: MANY,
        }
    }

    /// How long the next notification to this sender has to wait. `now` is the time since the start.
    pub(super) fn wait(&mut self, sender: &Mailbox, now: Duration) -> Duration {
        if self.paid.len() >= self.sweep_at {
            self.paid.retain(|_, paid| *paid > now);
            self.sweep_at = MANY.max(self.paid.len() * 2);
        }
        let tolerance = INTERVAL * (BURST - 1);
        // As if the burst had been used up just before the start, but for one.
        let unknown = tolerance.saturating_sub(now) + now;
        let paid = self.paid.entry(key(sender)).or_insert(unknown);
        *paid = (*paid).max(now);
        let wait = paid.saturating_sub(now + tolerance);
        *paid += INTERVAL;
        wait
    }
}

/// Neither case nor quotes make another sender, or a forger would have as many as there are spellings.
fn key(sender: &Mailbox) -> Box<str> {
    let (local_part, domain) = sender.key();
    format!("{local_part}@{domain}").to_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AFTER: Duration = Duration::from_secs(86_400);

    fn sender(text: &str) -> Mailbox {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let mut cap = Cap::new();
        let a = sender("a@b.example");
        for _ in 0..BURST {
            assert_eq!(cap.wait(&a, LONG_AFTER), Duration::ZERO);
        }
        for n in 1..100 {
            assert_eq!(cap.wait(&a, LONG_AFTER), INTERVAL * n);
        }
        assert_eq!(cap.wait(&sender("c@b.example"), LONG_AFTER), Duration::ZERO);
        assert_eq!(cap.wait(&sender("A@B.example"), LONG_AFTER), INTERVAL * 100);
        let quoted = sender("\"a\"@b.example");
        assert_eq!(cap.wait(&quoted, LONG_AFTER), INTERVAL * 101);
        // Time pays for what was sent.
        let later = LONG_AFTER + INTERVAL * 103;
        assert_eq!(cap.wait(&a, later), Duration::ZERO);
    }

    #[test]
    fn a_start_lets_less_through_never_more() {
        let a = sender("a@b.example");
        let mut cap = Cap::new();
        assert_eq!(cap.wait(&a, Duration::ZERO), Duration::ZERO);
        assert_eq!(cap.wait(&a, Duration::ZERO), INTERVAL);
        assert_eq!(cap.wait(&a, Duration::ZERO), INTERVAL * 2);
        let mut cap = Cap::new();
        let after = INTERVAL * 5;
        let at_once = (0..BURST).filter(|_| cap.wait(&a, after).is_zero()).count();
        assert_eq!(at_once, 6);
    }

    #[test]
    fn no_more_than_the_cap_becomes_due_in_any_span() {
        let mut cap = Cap::new();
        let a = sender("a@b.example");
        let mut due: Vec<Duration> = (0..500_u32)
            .map(|n| LONG_AFTER + INTERVAL * n / 7)
            .map(|now| now + cap.wait(&a, now))
            .collect();
        due.sort_unstable();
        for (first, at) in due.iter().enumerate() {
            let within = due[first..]
                .iter()
                .take_while(|it| **it < *at + INTERVAL * 10);
            assert!(within.count() <= BURST as usize + 10);
        }
    }

    #[test]
    fn senders_whose_time_is_over_are_forgotten() {
        let mut cap = Cap::new();
        for n in 0..5000_u32 {
            let now = LONG_AFTER + INTERVAL * n;
            cap.wait(&sender(&format!("u{n}@b.example")), now);
        }
        assert!(cap.paid.len() <= MANY, "{}", cap.paid.len());
    }
}
