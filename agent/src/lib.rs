//! The agent: makes the verified handoff, and reports.

pub mod connect;
pub mod proof;
pub mod resolve;
pub mod targets;
pub mod tls;
pub mod session;
