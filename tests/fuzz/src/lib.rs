//! What strangers, agents, homes and damaged disks may say: one function for each, which takes any bytes and asserts what
//! must hold of what comes of them.
//!
//! `make fuzz` makes up the bytes, with libFuzzer; `tests/tests/corpus.rs` runs over those that were kept. That test is
//! compiled from this file too, so that both run the same.
//!
//! # Not here
//! What others parse for us (TLS, HTTP, DNS, X.509): only what we do with it.

mod disk;
mod home;
mod intake;
mod pem;
mod registry;
mod smtp;
mod web;
mod wire;
mod words;

/// One of our parsers, and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// That of its corpus too.
    pub name: &'static str,
    /// # Panics
    /// Something does not hold.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident::$target:ident,)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($target),
            run: $module::$target,
        }),*];
    };
}

targets! {
    smtp::commands,
    smtp::replies,
    smtp::content,
    intake::intake,
    home::home,
    pem::pem_files,
    wire::agent_events,
    wire::orders,
    wire::stored_sites,
    disk::log,
    disk::journal,
    web::requests,
    registry::registry_file,
    words::words,
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
