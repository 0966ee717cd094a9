//! How many files the process may have open, and for how many probes that is enough.
//!
//! A process usually starts with 1,024 descriptors, and 4,096 probes need more. It may give itself as many as its hard
//! limit says; more than that only whoever starts it can give.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of a probe: DNS is asked for both families at once, each question on a socket of its own; then a host with an address
/// of each may be connected to on two.
const OF_PROBE: u64 = 2;
/// Of the agent itself: the stream, the journal, the log, questions to DNS over TCP.
const OWN: u64 = 64;

/// Raises the soft limit to the hard one. Returns how many there are then.
pub fn raise() -> u64 {
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
    got.unwrap_or(u64::MAX)
}

/// As many of the probes as there are descriptors for beside the slots; one at least. Says so where these are fewer.
pub fn probes_that_fit(descriptors: u64, slots: u32, probes: u32) -> u32 {
    let fitting = fitting(descriptors, slots, probes);
    if fitting < probes {
        tracing::warn!(
            descriptors,
            needed = OWN + u64::from(slots) + OF_PROBE * u64::from(probes),
            "only {fitting} of {probes} probes fit into the limit of open files: start the agent with a higher one (in \
             systemd LimitNOFILE=), or set fewer `probes`"
        );
    }
    fitting
}

fn fitting(descriptors: u64, slots: u32, probes: u32) -> u32 {
    let left = descriptors.saturating_sub(OWN + u64::from(slots));
    let fitting = u32::try_from(left / OF_PROBE).unwrap_or(u32::MAX);
    fitting.clamp(1, probes.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_probes_are_offered_as_there_are_descriptors_for() {
        for (descriptors, expected) in [
            (u64::MAX, 4096),
            (64 + 64 + 2 * 4096, 4096),
            (64 + 64 + 2 * 4095 + 1, 4095),
            (1024, 448),
            (128, 1),
            (0, 1),
        ] {
            assert_eq!(fitting(descriptors, 64, 4096), expected, "{descriptors}");
        }
    }
}
