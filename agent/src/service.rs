//! What the service manager hears while the agent runs: whether it is attached, and that the control loop comes round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dd_service::notify;

/// How often it is looked whether the loop has come round, at least.
const LOOK: Duration = Duration::from_secs(10);

/// What is told, and what the watchdog looks at.
#[derive(Debug, Default)]
pub struct Service {
    turns: AtomicU64,
}

impl Service {
    /// The control loop has come round once more.
    pub fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub fn attached(&self, controller: &str) {
        notify::status(&format!("attached to {controller}"));
    }

    pub fn lost(&self, cause: &str) {
        notify::status(&format!("not attached to the controller: {cause}"));
    }

    /// Feeds the watchdog for as long as the loop comes round. That the controller is away is no reason to be killed:
    /// the loop goes on then.
    pub async fn feed_watchdog(&self) {
        let mut look = tokio::time::interval(notify::interval(notify::watchdog(), LOOK));
        let mut seen = 0;
        loop {
            look.tick().await;
            let turns = self.turns.load(Ordering::Relaxed);
            if turns != seen {
                notify::alive();
            }
            seen = turns;
        }
    }
}
