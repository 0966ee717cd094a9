//! One attached stream: its two halves, and the beats on it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use dd_proto::id::Lease;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::StreamError;
use crate::agent::now;
use crate::lease::Boottime;

/// For so long an agent that has drained waits until the controller has read all it said.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One attached stream.
pub(super) struct Attached {
    pub(super) up: mpsc::UnboundedSender<pb::AgentEvent>,
    pub(super) down: Streaming<pb::Order>,
    pub(super) beat: tokio::time::Interval,
    pub(super) lease: Duration,
    pub(super) next_beat: u64,
    pub(super) beats: HashMap<u64, Boottime>,
    pub(super) heard: Instant,
    /// Reported from the journal on this stream; the live events are not sent again.
    pub(super) replayed: HashSet<Lease>,
}

impl Attached {
    pub(super) fn beat(&mut self) -> Result<(), StreamError> {
        if now().saturating_duration_since(self.heard) > self.lease {
            return Err(StreamError::Silent);
        }
        let number = self.next_beat;
        self.next_beat += 1;
        // Older ones are past any lease they could renew.
        self.beats.retain(|old, _| number - *old < 64);
        self.beats.insert(number, Boottime::now());
        send(&self.up, Event::Beat(pb::Beat { number }));
        Ok(())
    }
}

pub(super) fn send(up: &mpsc::UnboundedSender<pb::AgentEvent>, event: Event) {
    // The receiver goes away with the stream, which the loop sees on its other half.
    let _ = up.send(pb::AgentEvent { event: Some(event) });
}

/// What was told and not passed on yet.
pub(super) fn waiting(events: &mut mpsc::UnboundedReceiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

/// Whether the controller has read all that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    All,
    Perhaps,
}

/// Ends this half behind all that was sent, and waits until the controller has ended its own.
pub(super) async fn half_close(
    up: mpsc::UnboundedSender<pb::AgentEvent>,
    ending: impl Future<Output = ()>,
) -> Heard {
    drop(up);
    match tokio::time::timeout(LAST_WORDS, ending).await {
        Ok(()) => Heard::All,
        Err(_) => Heard::Perhaps,
    }
}

/// The machine's boot id, empty where the kernel has none; another one where the journal has lost something since.
pub(super) fn boot_id(doubt: &str) -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = text.map(|text| text.trim().to_owned()).unwrap_or_default();
    match doubt {
        "" => boot,
        doubt => format!("{boot}+{doubt}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_back() -> Event {
        Event::GivenBack(pb::GivenBack::default())
    }

    #[tokio::test]
    async fn what_was_given_back_is_said_before_this_half_ends_and_the_controller_has_read_it() {
        let (tell, mut events) = mpsc::unbounded_channel();
        let (up, mut sent) = mpsc::unbounded_channel();
        for _ in 0..3 {
            tell.send(given_back()).unwrap();
        }
        for event in waiting(&mut events) {
            send(&up, event);
        }
        assert!(events.is_empty());
        // A controller that reads to the end, and then ends its own half.
        let mut read = 0;
        let ending = async {
            while sent.recv().await.is_some() {
                read += 1;
            }
        };
        assert_eq!(half_close(up, ending).await, Heard::All);
        assert_eq!(read, 3);
    }

    #[tokio::test]
    async fn a_controller_that_does_not_end_its_half_is_not_waited_for_long() {
        let (up, _sent) = mpsc::unbounded_channel();
        assert_eq!(half_close(up, std::future::pending()).await, Heard::Perhaps);
    }
}
