//! The clock that nobody sets and that goes on while the machine sleeps, as leases do.

use std::time::Duration;

/// Since the machine was started.
pub(crate) fn boottime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
