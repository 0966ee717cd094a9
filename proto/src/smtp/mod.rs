//! What both ends of SMTP share: lines, replies, commands, paths and the DATA stream.
//!
//! Everything here is a value that bytes are pushed into and results are taken out of; no socket, no clock.
//!
//! # Invariants
//! Every buffer is bounded. Only CRLF ends a line, only CRLF.CRLF ends a message, and nothing that is written can
//! hold a CR, LF or NUL that its caller did not mean.

pub mod auth;
pub mod command;
pub mod compose;
pub mod data;
pub mod extensions;
pub mod line;
pub mod parameters;
pub mod path;
pub mod reply;
pub mod status;
