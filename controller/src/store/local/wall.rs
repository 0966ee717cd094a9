//! The wall clock of the store: records carry the time of their commit.

use std::fmt::Debug;

use jiff::Timestamp;

pub(crate) trait WallClock: Debug + Send + Sync {
    fn wall(&self) -> Timestamp;
}

/// The machine's.
#[derive(Debug)]
pub(crate) struct MachineWall;

impl WallClock for MachineWall {
    #[expect(
        clippy::disallowed_methods,
        reason = "read once for each commit; what is written says when"
    )]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}
