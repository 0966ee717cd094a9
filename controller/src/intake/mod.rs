//! Intake: takes mail over SMTP and LMTP, and answers 250 when it is durable, not before.
//!
//! [`listener`] accepts, [`connection`] moves bytes between a socket and a [`session`], which is a value: bytes in,
//! outputs out. [`policy`] says who may hand us what; [`transaction`] and [`content`] hold what was said until it is a
//! [`Submission`](accept::Submission), which goes to the [`Acceptor`](accept::Acceptor).
//!
//! # Invariants
//! No message is answered with 250 before the acceptor said that it is durable. Sessions, recipients, lines, and all
//! bodies in memory together are bounded.
//!
//! # Not here
//! What becomes of accepted mail; who is a member, and what an ETRN does: [`crate::wakeup::smtp`].

pub mod accept;
pub mod auth;
pub mod authserv;
pub mod body;
pub mod connection;
pub mod content;
pub mod header;
pub mod listener;
pub mod lmtp;
pub mod member;
pub mod policy;
pub mod quota;
pub mod received;
pub mod refusals;
pub mod reply;
pub mod session;
pub mod transaction;

use std::net::SocketAddr;
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::smtp::data::StrayCrLf;
use ipnet::IpNet;

/// What intake is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in greetings and `Received`.
    pub hostname: Domain,
    pub smtp: Vec<SocketAddr>,
    pub lmtp: Vec<SocketAddr>,
    /// Networks that may hand us mail.
    pub trusted: Vec<IpNet>,
    pub max_message_bytes: u64,
    pub max_sessions: usize,
    pub max_sessions_per_client: usize,
    /// All bodies in memory together.
    pub buffer_bytes: usize,
    pub stray_cr_lf: StrayCrLf,
    /// The feeder's own names in `Authentication-Results`, in lower case.
    pub authserv_ids: Arc<[String]>,
    /// STARTTLS is offered where there is one.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}
