//! How long deliveries took from stage to stage, and how attempts ended: for metrics.
//!
//! Counted by the core, on the controller's own clock; only how long a connect took is the agent's word, for no event
//! tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dd_proto::name::SiteName;
use dd_proto::report::Report;

use super::LastAttempt;
use crate::history::book::Book;
use crate::spread::{Buckets, Spread};

/// Microseconds: from a fraction of a millisecond, as long as a handoff takes, to the day that a site may be away.
pub(crate) const MICROS: [u64; 18] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// How an attempt ended, as `site show` has it.
pub const OUTCOMES: [&str; 10] = [
    "relayed",
    "deferred",
    "failed",
    "in-doubt",
    "unreachable",
    "wrong-host",
    "refused",
    "busy",
    "kept",
    "not-sent",
];

/// Shared with whoever reads it.
#[derive(Debug)]
pub struct Measured {
    /// From its arrival until the first assignment.
    pub(super) assigned: Buckets,
    /// From the assignment until the agent was connected; of messages for which it had to connect.
    connected: Buckets,
    /// From the assignment until the site had proved itself, of canaries.
    pub(super) proved: Buckets,
    /// From the assignment until the report that the site accepted it.
    accepted: Buckets,
    /// From the report until what it says is durable.
    pub(super) settled: Buckets,
    attempts: [AtomicU64; OUTCOMES.len()],
    /// The last days of each site.
    pub history: Arc<Book>,
}

impl Default for Measured {
    fn default() -> Self {
        let buckets = || Buckets::new(&MICROS);
        Self {
            assigned: buckets(),
            connected: buckets(),
            proved: buckets(),
            accepted: buckets(),
            settled: buckets(),
            attempts: Default::default(),
            history: Arc::default(),
        }
    }
}

impl Measured {
    /// An attempt was reported, so long after it was assigned.
    pub(super) fn reported(&self, report: &Report, took: Duration) {
        if !report.delays.connect.is_zero() {
            self.connected.observe_time(report.delays.connect);
        }
        if report.accepted_some() {
            self.accepted.observe_time(took);
        }
    }

    pub(super) fn attempted(&self, site: &SiteName, attempt: &LastAttempt) {
        if let Some(place) = OUTCOMES.iter().position(|it| *it == attempt.outcome) {
            self.attempts[place].fetch_add(1, Ordering::Relaxed);
        }
        self.history.attempted(site, attempt);
    }

    /// In the order of a message's way.
    pub fn stages(&self) -> [(&'static str, Spread); 5] {
        [
            ("assigned", self.assigned.spread()),
            ("connected", self.connected.spread()),
            ("proved", self.proved.spread()),
            ("accepted", self.accepted.spread()),
            ("settled", self.settled.spread()),
        ]
    }

    /// Ended attempts by outcome.
    pub fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.attempts.iter().map(|it| it.load(Ordering::Relaxed));
        OUTCOMES.iter().copied().zip(counts)
    }
}
