//! The benchmark: what a message costs, beside Debian's Postfix in the same run on the same machine.
//!
//! A generator hands mail in, a sink takes it; both are ours, and cheap, and each has one thread, so that what they take
//! can be told from what the servers take. The servers take turns, and a figure is the median of its rounds. Rates move
//! with whatever else the machine does; the processor time of a message hardly does: it is the figure to steer by.
//!
//! # Invariants
//! - Both servers are durable, and both check the sink's certificate where a row says so.
//! - Every message of a row arrives exactly once, or there is no figure.
//! - The state lies on a disk.

pub mod cpu;
pub mod disk;
pub mod far;
mod figures;
pub mod generator;
pub mod instructions;
pub mod latency;
pub mod letters;
pub mod line;
pub mod pairs;
pub mod queue;
pub mod relay;
pub mod release;
pub mod server;
pub mod sink;
pub mod stages;
pub mod steady;
pub mod syncs;
pub mod table;

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Under three minutes, for the one who changes something.
    Quick,
    /// The table as it is published.
    Full,
}
