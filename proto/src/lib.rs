//! The contract between controller, agents and `ddadm`, and the words all of them use.
//!
//! `dd/v1/*.proto` is the published contract. The modules here are the domain's words as types that are parsed once;
//! [`convert`] is the only file that turns generated types into them and back. [`smtp`] is what both ends of SMTP
//! share: lines, replies, paths and the DATA stream, byte-exact and bounded.
//!
//! # Not here
//! Anything that does I/O or reads a clock.

pub mod client;
pub mod clock;
pub mod convert;
pub mod domain;
pub mod envelope;
pub mod excerpt;
pub mod feature;
pub mod fingerprint;
pub mod hold;
pub mod id;
pub mod mta;
pub mod name;
pub mod network;
pub mod path;
pub mod pattern;
pub mod pem;
pub mod reach;
pub mod report;
pub mod site;
pub mod smtp;
pub mod snippets;
pub mod targets;
pub mod token;
pub mod units;
pub mod unshown;
pub mod writable;

/// The generated types and services of the package `dd.v1`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "generated"
)]
pub mod pb {
    tonic::include_proto!("dd.v1");

    /// The encoded descriptor set, for the reflection service and for tests that walk every method.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dd.v1.descriptors"));
}
