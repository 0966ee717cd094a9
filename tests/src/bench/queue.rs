//! The rows of a long queue: the trial of [`crate::measure::long_queue`], as a part of the table.

use serde_json::{Value, json};

use super::Extent;
use crate::measure::latency::Latencies;
use crate::measure::long_queue::{End, LongQueue, Size, Storm, Used, live_alone};
use crate::measure::start::Start;

/// A million, as the bars have it: it takes minutes to hand in.
const FULL: Size = Size {
    sites: 10_000,
    each: 100,
    seconds: 198,
    live_seconds: 60,
    rate: 20,
};
/// Nobody tries them.
const QUICK: Size = Size {
    sites: 500,
    each: 100,
    ..FULL
};

/// What a long queue takes.
#[derive(Debug)]
pub struct Queue {
    pub waiting: usize,
    pub dead: usize,
    pub submitted_seconds: f64,
    /// Bytes, while all wait.
    pub memory: u64,
    pub peak_memory: u64,
    pub tried: Option<Beside>,
    pub clean: Start,
    pub killed: Start,
}

/// What trying them does.
#[derive(Debug)]
pub struct Beside {
    pub storm: Storm,
    pub live: Latencies,
    pub alone: Latencies,
    /// While no mail comes.
    pub used: Used,
}

/// # Panics
/// Anything is not as it should be.
pub fn measure(extent: Extent) -> Queue {
    let size = match extent {
        Extent::Quick => QUICK,
        Extent::Full => FULL,
    };
    let alone = (extent == Extent::Full).then(|| live_alone(size));
    let mut queue = LongQueue::start(size);
    let mut tried = alone.map(|alone| Beside::measure(&mut queue, alone));
    let (memory, peak_memory) = (queue.memory(), queue.peak_memory());
    let (waiting, submitted) = (queue.waiting(), queue.submitted);
    let [clean, killed] = [End::Clean, End::Killed].map(|end| queue.restart(end));
    drop(queue);
    if let Some(tried) = &mut tried {
        tried.alone.add(live_alone(size));
    }
    Queue {
        waiting,
        dead: size.sites - 1,
        submitted_seconds: submitted.as_secs_f64(),
        memory,
        peak_memory,
        tried,
        clean,
        killed,
    }
}

impl Beside {
    fn measure(queue: &mut LongQueue, alone: Latencies) -> Self {
        let storm = queue.storm();
        let (live, _) = queue.live();
        Self {
            storm,
            live,
            alone,
            used: queue.wait(),
        }
    }

    pub fn p99_to_alone(&self) -> f64 {
        self.live.at(99) / self.alone.at(99)
    }

    fn json(&self) -> Value {
        json!({
            "all_tried_once_seconds": self.storm.all_tried.as_secs_f64(),
            "live_while_all_are_tried": self.storm.live.figures(),
            "live_beside_the_dead": self.live.figures(),
            "live_alone": self.alone.figures(),
            "p99_to_alone": self.p99_to_alone(),
            "while_all_wait": self.used.json(),
        })
    }
}

impl Queue {
    pub fn json(&self) -> Value {
        json!({
            "messages_waiting": self.waiting,
            "dead_sites": self.dead,
            "submitted_in_seconds": self.submitted_seconds,
            "controller_memory_bytes": self.memory,
            "controller_peak_memory_bytes": self.peak_memory,
            "tried": self.tried.as_ref().map(Beside::json),
            "start_after_a_clean_stop": self.clean.json(),
            "start_without_index": self.killed.json(),
        })
    }
}
