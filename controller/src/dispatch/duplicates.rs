//! Which acceptances are a second one, and which are the same told again.
//!
//! An agent tells a report until it is acknowledged, and what is in its journal once more when it comes back. The same
//! attempt accepted twice is no copy.
//!
//! # Invariants
//! Bounded: of what was settled long ago, nothing is counted as a duplicate that may be the same told again.

use std::collections::{BTreeSet, VecDeque};

use dd_proto::id::Lease;

/// Leases that are remembered.
const MOST: usize = 4096;

/// Leases whose acceptance was settled lately.
#[derive(Debug, Default)]
pub(super) struct SettledLately {
    leases: BTreeSet<Lease>,
    order: VecDeque<Lease>,
}

impl SettledLately {
    pub(super) fn settled(&mut self, lease: &Lease) {
        if !self.leases.insert(lease.clone()) {
            return;
        }
        self.order.push_back(lease.clone());
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.leases.remove(&oldest);
        }
    }

    /// Whether an acceptance under this lease, of what is settled, is another copy: of an attempt of an earlier start
    /// nobody knows any more.
    pub(super) fn is_copy(&self, lease: &Lease, start: u64) -> bool {
        lease.generation.start == start && !self.leases.contains(lease)
    }
}
