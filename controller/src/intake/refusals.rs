//! What intake refused: counted by reason, and said in a line each.
//!
//! The postmaster's daily question is why somebody's mail was not taken; the line has who came, from whom, for whom, and the
//! reply.
//!
//! # Invariants
//! - Every reply of the 4yz and 5yz kind that a client is given counts once, under exactly one reason.
//! - Strangers' refusals and feeders' do not share a tally: what strangers do hides no refusal of mail.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dd_proto::smtp::reply::ServerReply;
use jiff::Timestamp;

use super::policy::Trust;
use crate::limit::line::{Sparing, cut};

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

/// Counters, one for each reason; and how many lines may be written.
#[derive(Debug)]
pub struct Refusals {
    counts: [AtomicU64; REASONS.len()],
    /// A feeder passes on what the world sends: a run over all names of a domain shall not fill the disk either.
    feeders: Sparing,
    strangers: Sparing,
}

/// Who was refused, and what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused<'a> {
    pub(super) client: IpAddr,
    pub(super) trust: Trust,
    pub(super) helo: &'a str,
    pub(super) sender: &'a str,
    /// The recipient, or the first ones where it is about all of them.
    pub(super) recipient: &'a str,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            counts: Default::default(),
            feeders: Sparing::new(500, Duration::from_millis(20)),
            strangers: Sparing::new(10, Duration::from_secs(1)),
        }
    }
}

impl Refusals {
    /// Anything but a refusal counts for nothing.
    pub fn count(&self, reply: &ServerReply) {
        if reply.code >= 400 {
            self.counts[place(reply)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts and says what a client is told of whom nothing is known but its address.
    pub(super) fn at_the_door(
        &self,
        client: IpAddr,
        trust: Trust,
        reply: &ServerReply,
        now: Timestamp,
    ) {
        self.count(reply);
        let refused = Refused {
            client,
            trust,
            helo: "",
            sender: "",
            recipient: "",
        };
        self.say(&refused, reply, now);
    }

    /// One line for each refusal, as far as there is room in the log.
    pub(super) fn say(&self, refused: &Refused<'_>, reply: &ServerReply, now: Timestamp) {
        let lines = match refused.trust {
            Trust::Trusted => &self.feeders,
            Trust::Stranger => &self.strangers,
        };
        if let Some(unsaid) = lines.due(now) {
            let Refused {
                client,
                helo,
                sender,
                recipient,
                ..
            } = refused;
            tracing::info!(
                %client,
                helo = cut(helo),
                sender = cut(sender),
                recipient = cut(recipient),
                reply = shown(reply),
                unsaid,
                "refused"
            );
        }
    }

    /// By reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        REASONS.iter().map(|(reason, _)| *reason).zip(counts)
    }
}

/// `550 5.1.2 …`: the first line, of our own words but for a recipient that is in the line already.
fn shown(reply: &ServerReply) -> String {
    let text = reply.lines.first().map_or("", |line| {
        let end = line.char_indices().nth(200);
        end.map_or(&**line, |(end, _)| &line[..end])
    });
    match reply.status {
        Some(status) => format!("{} {status} {text}", reply.code),
        None => format!("{} {text}", reply.code),
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
