//! The harness of the whole-process tests and of the demo: the real programs, and a small world around them.
//!
//! [`world::World`] starts the controller, agents and name service on loopback addresses of its own and administers
//! them with `ddadm`, as an operator would. Around it stand a home mail server that does what a test tells it
//! ([`site::Site`]), a line with a delay ([`line::Line`]), a throw-away authority ([`ca::Ca`]), a client that can misbehave ([`submit::Client`]) and, where
//! only the real thing proves anything, Debian's Postfix ([`postfix::Postfix`]), Exim, OpenSMTPD and Sendmail
//! ([`home_server::HomeServer`]).
//!
//! Home servers as values, for simulations, are the [`zoo`].
//!
//! # Invariants
//! - A test waits only in [`wait::until`], for a condition and with a deadline.
//! - Every listener has a loopback address of its own ([`loopback::fresh`]), so worlds run side by side and a server
//!   that is started again gets its old port back.
//! - What a world started ends with it.
//!
//! # Not here
//! Tests of one crate's parts: they lie in that crate.

pub mod addresses;
pub mod bench;
pub mod browser;
pub mod ca;
pub mod conform;
pub mod ddadm;
pub mod dns;
pub mod faketime;
pub mod home_server;
pub mod http;
pub mod layout;
pub mod line;
pub mod loopback;
pub mod measure;
pub mod postfix;
pub mod process;
pub mod scrape;
pub mod secure;
pub mod site;
pub mod strangers;
pub mod submit;
pub mod tmpfs;
pub mod trial;
pub mod wait;
pub mod world;
pub mod zoo;
