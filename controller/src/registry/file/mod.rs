//! The registry as a file: what `ddadm registry export` prints, `ddadm registry apply` reads, and what lies beside the
//! state as `registry.toml`.
//!
//! ```toml
//! [site.home]
//! domain = ["home.example"]
//! host = ["home.dyndns.example:25"]
//! proof = "certificate"
//! authority = "member-ca"
//! cert-name = "home.example"
//!
//! [agent.out1]
//! address = ["192.0.2.10"]
//!
//! [authority.member-ca]
//! certificate = ["-----BEGIN CERTIFICATE-----…"]
//! ```
//!
//! Keys are the long flags of the `add` commands. What a file does not say stays as it is, and of what is new takes
//! its default.
//!
//! # Invariants
//! No private key, no password and no secret is in it: hashes at most. What was exported reads back as the same.
//!
//! # Not here
//! Whether what was read can be used beside what there is: [`super::apply`].

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;
use dd_proto::hold::HoldPeriods;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::pb;
use dd_proto::site::Hold;
use jiff::Timestamp;

use super::authorities::Origin;
use crate::authority::client::AgentKey;
use crate::dispatch::Drain;

pub use read::read;
pub use write::{agent_fields, site_keys, write};

/// A file that could be read; nothing in it is checked against the registry yet.
#[derive(Debug, Default, PartialEq)]
pub struct File {
    pub sites: BTreeMap<SiteName, Entry<SiteEntry>>,
    pub agents: BTreeMap<AgentName, Entry<AgentEntry>>,
    pub authorities: BTreeMap<AuthorityName, Entry<AuthorityEntry>>,
}

/// A table, and where it begins.
#[derive(Debug, PartialEq)]
pub struct Entry<T> {
    pub line: usize,
    pub value: T,
}

/// What a file says of a site.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct SiteEntry {
    /// As `ddadm site set` would send it: what is absent stays.
    pub change: pb::SiteSpec,
    pub password_hash: Option<String>,
    pub wake_hash: Option<[u8; 32]>,
    pub hold: Option<Hold>,
    /// Empty: what is remembered stays.
    pub held_before: HoldPeriods,
    pub take_mail: bool,
}

/// What a file says of an agent.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct AgentEntry {
    /// Empty: what it has stays.
    pub addresses: Vec<std::net::IpAddr>,
    pub from: Option<Timestamp>,
    pub drain: Option<Drain>,
    /// Counts only where the registry's own record is damaged: a file that is older than a removal must not undo it.
    pub key: Option<AgentKey>,
}

/// What a file says of an authority, all of it public.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorityEntry {
    pub certificates: Vec<Bytes>,
    pub revocation_lists: Vec<Bytes>,
    pub origin: Origin,
    /// Its certificates take the place of those that are here. No export says so: it may be of any age.
    pub replace: bool,
}

/// Why a file is not applied. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct FileError {
    pub line: usize,
    pub message: String,
}
