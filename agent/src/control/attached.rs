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

/// The machine's boot id, empty where the kernel has none; another one where the journal has lost something since.
pub(super) fn boot_id(doubt: &str) -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = text.map(|text| text.trim().to_owned()).unwrap_or_default();
    match doubt {
        "" => boot,
        doubt => format!("{boot}+{doubt}"),
    }
}
