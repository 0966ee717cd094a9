//! The work of the store's threads, before they run; or, in a simulation, one step after the other.

use std::sync::mpsc::Sender;

use super::learn::Learner;
use super::writer::Writer;

#[derive(Debug)]
pub(crate) struct Steps {
    pub(super) writer: Writer,
    pub(super) learner: Learner,
    /// Dropped, it ends the work of the index.
    pub(super) end_index: Sender<()>,
}

#[cfg(test)]
impl Steps {
    /// All that waits for the log is one commit.
    pub(crate) fn commit(&mut self) {
        self.writer.step();
    }

    /// The index learns what earlier starts have left, or else writes behind the log.
    pub(crate) fn index(&mut self) {
        self.learner.step();
    }
}
