//! The controller from outside, at the ports where mail, agents and operators come in.

#![allow(clippy::unwrap_used, reason = "tests")]

mod control_plane;
mod intake_dialogue;
mod intake_listener;
mod intake_log;
mod intake_unread;
mod world;
