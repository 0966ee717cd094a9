//! What a scripted home does once, at one command: a row of a table of faults.

use std::time::Duration;

use super::habits::Place;

/// What it does in place of its usual answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Does {
    Says(String),
    Closes,
    Resets,
    IsMute,
    /// It takes the message, and hangs up before it says so. Elsewhere than at the dot it only hangs up.
    TakesAndCloses,
}

/// A session that it ended so, or left without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    pub at: Duration,
    pub place: Place,
    pub does: Does,
    /// Whose transaction it was.
    pub from: String,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub at: Place,
    pub does: Does,
    /// How many more commands it hits.
    pub times: u32,
    /// Only commands of transactions whose sender begins like this. Of no effect where no sender is known yet.
    pub sender: &'static str,
}

impl Fault {
    pub(super) fn hits(&self, place: Place, from: &str) -> bool {
        let before_mail = matches!(place, Place::Greeting | Place::Ehlo);
        self.times > 0 && self.at == place && (before_mail || from.starts_with(self.sender))
    }
}
