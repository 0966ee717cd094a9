//! A start of the controller with mail waiting: how soon new mail is taken, and how soon all that waits is known.

use std::time::Duration;

use serde_json::{Value, json};

use crate::submit::message;
use crate::wait::{Stopwatch, until};
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(600);

/// Both from the moment the program is started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Until a message was answered with 250.
    pub open: Duration,
    /// Until all that waits was known.
    pub known: Duration,
    pub peak_memory: u64,
}

impl Start {
    /// The message is for `recipient`.
    ///
    /// # Panics
    /// It does not start.
    pub fn measure(world: &mut World, recipient: &str) -> Self {
        let begun = Stopwatch::start();
        world.start_controller();
        world.smtp().send("a@b.example", recipient, &message("new"));
        let open = begun.elapsed();
        until("all to be known", PATIENCE, || {
            (world.json(&["status"])["all_known"] == true).then_some(())
        });
        Self {
            open,
            known: begun.elapsed(),
            peak_memory: world.controller().peak_memory(),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "intake_open_seconds": self.open.as_secs_f64(),
            "all_known_seconds": self.known.as_secs_f64(),
            "peak_memory_bytes": self.peak_memory,
        })
    }
}
