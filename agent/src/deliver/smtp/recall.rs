//! What becomes of a message whose round is over: which is taken back, and where it goes.
//! docs/decisions/0072-what-a-recall-takes-back.md

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dd_proto::report::GivenBack;

use super::Shared;
use crate::agent::now;
use crate::live::Pulse;
use crate::plan::Assignment;

/// A session on which a reply or a block was awaited in vain for so long does not keep a message from a new one. A home that
/// is only slow gets it again; before the dot that makes no second copy.
const SILENT: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) async fn round_is_over(&self, round: u64) {
        loop {
            // Made before the look, so that an end that comes in between is not missed.
            let turned = self.turned.notified();
            if self.lock().is_over(round) {
                return;
            }
            turned.await;
        }
    }

    /// Returns when the message in hand is to be taken back: its round is over, it has not come to its dot, and nothing has
    /// moved for a while. What was sent ahead, behind the dot of another, has its own way back and does not wait for that.
    pub(super) async fn recalled(
        self: &Arc<Self>,
        round: u64,
        pulse: &Pulse,
        ahead: &Mutex<Option<Box<Assignment>>>,
    ) -> GivenBack {
        self.round_is_over(round).await;
        let ahead = || ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(next) = ahead() {
            self.hand_on(*next);
        }
        while let Some(moved) = pulse.moved_before_its_dot() {
            let silent = moved + SILENT;
            if silent <= now() {
                return self.why_over();
            }
            tokio::time::sleep_until(silent.into()).await;
        }
        std::future::pending().await
    }

    pub(super) fn recalled_while_opening(&self, canary: Option<Assignment>) {
        if let Some(canary) = canary {
            self.agent.give_back(&canary.lease, self.why_over());
        }
    }

    pub(super) fn why_over(&self) -> GivenBack {
        self.lock().why_over()
    }

    /// To the round that has begun.
    pub(super) fn hand_on(self: &Arc<Self>, assignment: Assignment) {
        let mut queue = self.lock();
        if queue.closed {
            drop(queue);
            return self.agent.give_back(&assignment.lease, GivenBack::Closing);
        }
        if queue.sessions == 0 {
            return self.begin(&mut queue, Some(assignment));
        }
        queue.waiting.push_front(assignment);
        self.begin_further(&mut queue);
        self.work_came.notify_one();
    }
}
