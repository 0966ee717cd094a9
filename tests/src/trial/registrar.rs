//! Changes to the registry while everything falls: each one that was acknowledged must be there after the restart.
//!
//! The contacts of a few sites count upwards. A site's contact may be one ahead of what was acknowledged, for an answer can
//! be lost; it is never behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::ddadm::Ddadm;
use crate::wait::pause;
use crate::world::World;

/// The site whose contact is changed.
const SITE: &str = "s0";

/// Between two changes.
const BETWEEN: Duration = Duration::from_millis(300);

/// An operator who changes one record again and again.
#[derive(Debug)]
pub struct Registrar {
    state: Arc<State>,
    running: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    asked: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Registrar {
    /// At work from now on.
    pub fn start(ddadm: Ddadm) -> Self {
        let state = Arc::new(State::default());
        let working = Arc::clone(&state);
        Self {
            running: Some(thread::spawn(move || working.work(&ddadm))),
            state,
        }
    }

    /// How many changes were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.state.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether a change is under way.
    pub fn busy(&self) -> bool {
        self.state.asked.load(Ordering::SeqCst) > self.acknowledged()
    }

    /// What the registry says now, if that cannot be: an acknowledged change that is not there.
    pub fn missing(&self, world: &World, acknowledged_before: u64) -> Option<String> {
        let outcome = world
            .ddadm()
            .run(&["--output", "json", "site", "show", SITE]);
        if outcome.code != 0 {
            return Some(format!("site {SITE} cannot be shown: {outcome}"));
        }
        let shown: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        let contact = shown["contact"].as_str().unwrap_or_default();
        let number = contact
            .strip_prefix('r')
            .and_then(|rest| rest.split('@').next())
            .and_then(|digits| digits.parse::<u64>().ok());
        let there = number.unwrap_or(0);
        (there < acknowledged_before).then(|| {
            format!(
                "change {acknowledged_before} of site {SITE} was acknowledged, and it has change {there}"
            )
        })
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

impl State {
    fn work(&self, ddadm: &Ddadm) {
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            self.asked.store(number, Ordering::SeqCst);
            let contact = format!("r{number}@provider.example");
            let outcome = ddadm.run(&["site", "set", SITE, "--contact", &contact]);
            if outcome.code == 0 {
                self.acknowledged.store(number, Ordering::SeqCst);
            }
            pause(BETWEEN);
        }
    }
}
