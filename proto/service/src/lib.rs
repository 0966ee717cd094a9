//! Controller and agent as services of a machine: what both have to do with the service manager, their command lines,
//! and the format of their state directories.
//!
//! The command lines are here because `ddadm man` writes the manual pages of all three programs.
//!
//! # Not here
//! The log ([`dd_log`](../dd_log/index.html)); what the programs do.

pub mod command_line;
pub mod format;
pub mod notify;
pub mod reference;
pub mod sockets;
