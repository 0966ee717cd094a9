//! Final dots that the controller has not been told of.
//!
//! Most dots are answered within a round trip, and the report says all that the dot would have. So dots are not told as
//! they go out, but now and then, those that are still unanswered. The controller needs them for a lease that an agent
//! keeps for too long while it is heard; that takes it tens of seconds.
//!
//! # Invariants
//! No dot is told behind the report of its attempt: there it would cast doubt on what has been settled.
//!
//! # Not here
//! What a crash must not lose: each dot is in the journal before it goes out ([`crate::journal`]).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dd_proto::id::Lease;
use dd_proto::pb;

#[derive(Debug, Default)]
pub struct Untold(Mutex<HashMap<Lease, pb::DotSent>>);

impl Untold {
    pub fn dot_goes_out(&self, lease: Lease, dot: pb::DotSent) {
        self.lock().insert(lease, dot);
    }

    pub fn reported(&self, lease: &Lease) {
        self.lock().remove(lease);
    }

    /// Those to be told now.
    pub fn take(&self) -> Vec<pb::DotSent> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, pb::DotSent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::tests::lease;

    #[test]
    fn only_dots_that_are_unanswered_are_told_and_each_once() {
        let untold = Untold::default();
        let dot = |counter| pb::DotSent {
            lease: Some(lease(counter).into()),
            recipients: vec![0],
        };
        for counter in 1..=2 {
            untold.dot_goes_out(lease(counter), dot(counter));
        }
        untold.reported(&lease(1));
        assert_eq!(untold.take(), [dot(2)]);
        assert_eq!(untold.take(), []);
    }
}
