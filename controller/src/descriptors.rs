//! How many files the process may have open, and whether that is enough.
//!
//! A process usually starts with 1,024 descriptors. It may give itself as many as its hard limit says; more than that
//! only whoever starts it can give.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of a session with a feeder: its socket, and the file of a content that is coming in. And as many strangers may be there.
const OF_SESSION: u64 = 3;
/// Of everything else: segments, the index, agents' streams, people at the portal and at ddadm, strangers at the other doors.
const OWN: u64 = 2048;

/// Raises the soft limit to the hard one, and says so where that is too little for as many sessions.
pub(crate) fn raise(sessions: usize) {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let got = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            before.current
        }
    };
    let got = got.unwrap_or(u64::MAX);
    tracing::info!(descriptors = got, "files that may be open");
    let needed = needed(sessions);
    if got < needed {
        tracing::warn!(
            descriptors = got,
            needed,
            "{sessions} sessions of feeders may not fit into the limit of open files: start the controller with a higher \
             one (in systemd LimitNOFILE=), or set fewer `max_sessions`"
        );
    }
}

fn needed(sessions: usize) -> u64 {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    sessions.saturating_mul(OF_SESSION).saturating_add(OWN)
}
