//! What somebody may cost who has proved nothing: one set of rules for all doors (intake, web, control, metrics).
//!
//! | file | what |
//! | --- | --- |
//! | [`table`] | who sits where, and who makes room: pure |
//! | [`seats`] | the same table, shared by the connections of a door |
//! | [`bucket`] | how often something may be done |
//! | [`line`] | how often strangers' doings are said in the log, and how much of what they write |
//! | [`origin`] | which addresses are one client, and which one network |
//!
//! # Invariants
//! - A newcomer always gets in: where it is too full, the oldest connection of the largest group ends.
//! - Whatever strangers do, it ends no connection of those who are known.
//!
//! # Not here
//! Whether somebody is known: each door says so. docs/decisions/0086-what-strangers-may-cost.md

pub(crate) mod bucket;
pub(crate) mod line;
#[cfg(test)]
mod lint;
pub(crate) mod origin;
pub(crate) mod seats;
mod table;

pub(crate) use seats::{DoorSeats, Place, Seat, Seats};
pub(crate) use table::{Full, Room, Rooms, Who};
