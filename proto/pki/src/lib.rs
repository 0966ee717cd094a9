//! What certificates, keys and revocation lists are worth: one judgement for agents, which rely on them at a handshake, and
//! for the controller, which takes them in.
//!
//! What is imported is tried first by the very code that will use it: [`anchored`] is the agents' verifier, and an
//! authority or a list that it could not use is refused at the door, with a sentence that says what it lacks.
//! docs/decisions/0077-what-is-imported-is-tried-first.md
//!
//! # Invariants
//! Pure: no file, no clock.
//!
//! # Not here
//! How files are read: `dd_proto::pem`. What a finished handshake proves: the agent's `proof`.

pub mod anchored;
pub mod judge;
pub mod key;
pub mod list;
pub mod names;
pub mod possession;
pub mod time;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider that every verifier of ours uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
