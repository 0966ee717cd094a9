//! What intake refused, counted by reason.
//!
//! # Invariants
//! Every reply of the 4yz and 5yz kind that a client is given counts once, under exactly one reason.

use std::sync::atomic::{AtomicU64, Ordering};

use dd_proto::smtp::reply::ServerReply;

/// Reasons as metrics name them, and the ends of the codes that stand for them.
const REASONS: [(&str, &[&str]); 14] = [
    ("unknown-domain", &["5.1.2"]),
    ("unknown-recipient", &["5.1.1"]),
    ("not-trusted", &["5.7.1", "450 4.7.1"]),
    ("too-big", &["5.3.4"]),
    ("quota", &["4.2.2"]),
    ("space", &["4.3.1"]),
    ("loop", &["5.4.6"]),
    ("content", &["5.6.0"]),
    ("site-closing", &["4.2.1"]),
    ("too-many-recipients", &["4.5.3"]),
    ("log-failed", &["4.3.0"]),
    ("busy", &["4.3.2", "4.4.2"]),
    ("sign-in", &["5.7.8", "5.7.11", "454 4.7.0", "5.7.0"]),
    ("protocol", &[]),
];

/// Counters, one for each reason.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; REASONS.len()]);

impl Refusals {
    /// Anything but a refusal counts for nothing.
    pub fn count(&self, reply: &ServerReply) {
        if reply.code >= 400 {
            self.0[place(reply)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// By reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        REASONS.iter().map(|(reason, _)| *reason).zip(counts)
    }
}

fn place(reply: &ServerReply) -> usize {
    let status = reply
        .status
        .map(|status| format!("{} {status}", reply.code));
    let status = status.unwrap_or_default();
    let stands = |(_, ends): &(&str, &[&str])| ends.iter().any(|end| status.ends_with(end));
    // What has no reason of its own is about the protocol, which is the last.
    REASONS.iter().position(stands).unwrap_or(REASONS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::accept::AcceptError;
    use crate::intake::lmtp::Protocol;
    use crate::intake::reply;

    #[test]
    fn a_refusal_counts_under_its_reason_and_nothing_else_counts() {
        let mailbox = "anna@home.example".parse().unwrap();
        let site = "home".parse().unwrap();
        for (reply, reason) in [
            (reply::unknown_domain(&mailbox), "unknown-domain"),
            (reply::unknown_recipient(&mailbox), "unknown-recipient"),
            (reply::not_trusted(Protocol::Smtp), "not-trusted"),
            (reply::not_trusted(Protocol::Lmtp), "not-trusted"),
            (reply::too_big(1), "too-big"),
            (reply::over_quota(&site), "quota"),
            (reply::not_accepted(AcceptError::Full), "space"),
            (reply::not_accepted(AcceptError::LogFailed), "log-failed"),
            (reply::mail_loop(100), "loop"),
            (reply::closing(), "site-closing"),
            (reply::too_many_sessions(), "busy"),
            (reply::timed_out(), "busy"),
            (reply::wrong_credentials(), "sign-in"),
            (reply::auth_not_now(), "sign-in"),
            (reply::too_many_errors(), "protocol"),
            (reply::out_of_order("MAIL first"), "protocol"),
        ] {
            let refusals = Refusals::default();
            refusals.count(&reply);
            refusals.count(&reply::done());
            refusals.count(&reply::start_content());
            let counted: Vec<_> = refusals.counts().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(reason, 1)], "{reply:?}");
        }
    }
}
