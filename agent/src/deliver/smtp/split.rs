//! A message that is still keeps nobody waiting behind it whom another session of the site could take.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use super::Shared;
use crate::agent::now;
use crate::alarm::Alarm;
use crate::live::Pulse;
use crate::places::STILL;
use crate::plan::Assignment;

impl Shared {
    /// For as long as a message is in hand: while it is still, what was sent ahead with its dot goes to another session, and
    /// for what waits a further one is opened, as far as the site bears them.
    ///
    /// A site that looks into a message for longer than that before it answers pays with a session for each message that is
    /// taken from behind another; but only while it has one free.
    pub(super) async fn splits_off(
        self: &Arc<Self>,
        round: u64,
        pulse: &Pulse,
        ahead: &Mutex<Option<Box<Assignment>>>,
        alarm: &mut Alarm,
    ) -> Infallible {
        loop {
            let still = pulse.moved() + STILL;
            if now() < still {
                alarm.at(still).await;
                continue;
            }
            self.split_off(round, ahead);
            alarm.at(now() + STILL).await;
        }
    }

    fn split_off(self: &Arc<Self>, round: u64, ahead: &Mutex<Option<Box<Assignment>>>) {
        let mut queue = self.lock();
        if queue.is_over(round) {
            return;
        }
        if queue.has_room(self.plan.connections, now()) {
            let next = ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(next) = next {
                queue.waiting.push_front(*next);
                self.work_came.notify_one();
            }
        }
        self.begin_further(&mut queue);
    }
}
