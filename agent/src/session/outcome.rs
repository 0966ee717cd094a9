//! What a failure means: the one table from (phase × cause × standing) to what becomes of host, site, message and
//! recipients. Nothing else in the agent decides this.
//!
//! # Invariants
//! - An answer is about what it answers (RFC 5321 §4.2.1): to RCPT that recipient, to MAIL, DATA and the dot that message.
//!   About the site are only greeting and EHLO, and what says that no command was taken for what it is.
//! - Nothing that an unproved host says or does is permanent, or the site's.
//! - In doubt is only what failed behind the final dot without a reply.

use dd_proto::report::{Disposition, Outcome, Reply, Stage};

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Resolve,
    Connect,
    Greeting,
    Hello,
    /// Waiting for the answer to STARTTLS.
    Securing,
    Handshake,
    Ruling,
    HelloAgain,
    /// AUTH, behind the proof.
    Login,
    Mail,
    Rcpt,
    Data,
    /// The content is on its way; no dot yet.
    Body,
    EndOfData,
}

impl Phase {
    /// What a report says of it.
    pub fn stage(self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Body => Stage::Content,
            Self::EndOfData => Stage::EndOfData,
            _ => Stage::Session,
        }
    }
}

/// Why it did not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 4yz.
    Transient,
    /// 5yz.
    Permanent,
    /// 552: too big, or a mailbox that is full.
    OverLimit,
    /// 502, 503 and 530: the command itself is not known, not in its place, or needs authentication first.
    OutOfPlace,
    /// 421.
    Closing,
    TimedOut,
    /// The connection ended.
    Closed,
    /// No SMTP, an impossible reply, or bytes before they were asked for.
    Nonsense,
    /// The proof withheld, or an address not permitted.
    Withheld,
    /// The agent's own trouble.
    Own,
}

/// Whether the far end has proved to be the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Unproved,
    Proved,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try the site's next host; where none is left, the attempt ends like this.
    NextHost(Outcome),
    /// Connect to the same host again and do not ask for STARTTLS. Only where the proof does not rest on TLS.
    WithoutTls,
    /// The attempt ends for the whole site.
    Ends(Outcome),
    /// The recipient asked about (at RCPT) or all that were accepted (later) get this.
    Recipients(Disposition),
}

pub const PHASES: [Phase; 14] = [
    Phase::Resolve,
    Phase::Connect,
    Phase::Greeting,
    Phase::Hello,
    Phase::Securing,
    Phase::Handshake,
    Phase::Ruling,
    Phase::HelloAgain,
    Phase::Login,
    Phase::Mail,
    Phase::Rcpt,
    Phase::Data,
    Phase::Body,
    Phase::EndOfData,
];

pub const CAUSES: [Cause; 10] = [
    Cause::Transient,
    Cause::Permanent,
    Cause::OverLimit,
    Cause::OutOfPlace,
    Cause::Closing,
    Cause::TimedOut,
    Cause::Closed,
    Cause::Nonsense,
    Cause::Withheld,
    Cause::Own,
];

/// The table.
pub fn verdict(phase: Phase, cause: Cause, standing: Standing) -> Verdict {
    use Cause as C;
    use Phase as P;
    use Verdict as V;
    match (phase, cause, standing) {
        (P::EndOfData, C::Own, Standing::Proved) => V::Ends(Outcome::InDoubt),
        (_, C::Own, _) => V::Ends(Outcome::AgentTrouble),
        (P::Resolve | P::Connect, _, _) => V::NextHost(Outcome::Unreachable),
        (_, C::Withheld, _) => V::NextHost(Outcome::WrongHost),

        (_, C::Transient | C::Closing, Standing::Unproved) => V::NextHost(Outcome::Busy),
        (_, _, Standing::Unproved) => V::NextHost(Outcome::WrongHost),

        // The proof does not rest on TLS, so a connection without it is as good as one with a TLS that does not work.
        (P::Securing | P::Handshake, _, Standing::Proved) => V::WithoutTls,

        // RFC 5321 §4.2.2: a 421 may answer any command. Behind the dot it is an answer to the dot.
        (P::EndOfData, C::Closing | C::Transient, _) => V::Recipients(Disposition::Deferred),
        (_, C::Closing, _) => V::Ends(Outcome::Busy),

        (P::Greeting | P::Hello | P::Ruling | P::HelloAgain | P::Login, C::Transient, _) => {
            V::Ends(Outcome::Busy)
        }
        (
            P::Greeting | P::Hello | P::Ruling | P::HelloAgain | P::Login,
            C::Permanent | C::OverLimit | C::OutOfPlace,
            _,
        ) => V::Ends(Outcome::Refused),

        // RFC 5321 §3.3: MAIL names the sender, and its parameters say what the message is, so its answer is about both.
        (P::Mail | P::Rcpt | P::Data, C::Transient, _) => V::Recipients(Disposition::Deferred),
        (P::Mail, C::Permanent | C::OverLimit, _) => V::Recipients(Disposition::Failed),
        (P::Mail, C::OutOfPlace, _) => V::Ends(Outcome::Refused),

        // RFC 5321 §4.5.3.1.10: a 552 to RCPT (too many recipients, from old servers) is temporary.
        (P::Rcpt, C::OverLimit, _) => V::Recipients(Disposition::Deferred),
        (P::Rcpt, C::Permanent | C::OutOfPlace, _) => V::Recipients(Disposition::Failed),
        (P::Data | P::EndOfData, C::Permanent | C::OverLimit | C::OutOfPlace, _) => {
            V::Recipients(Disposition::Failed)
        }

        (P::EndOfData, C::TimedOut | C::Closed | C::Nonsense, _) => V::Ends(Outcome::InDoubt),
        (_, C::TimedOut | C::Closed | C::Nonsense, _) => V::Ends(Outcome::Broken),
        // A reply in the middle of the content answers nothing.
        (P::Body, C::Transient | C::Permanent | C::OverLimit | C::OutOfPlace, _) => {
            V::Ends(Outcome::Broken)
        }
    }
}

/// The cause that a reply is which does not say what the phase needs.
pub fn cause_of(reply: &Reply) -> Cause {
    match reply.code {
        421 => Cause::Closing,
        552 => Cause::OverLimit,
        502 | 503 | 530 => Cause::OutOfPlace,
        400..=499 => Cause::Transient,
        500..=599 => Cause::Permanent,
        _ => Cause::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_whole_table_is_as_reviewed() {
        let mut text = String::new();
        for standing in [Standing::Unproved, Standing::Proved] {
            for phase in PHASES {
                for cause in CAUSES {
                    let verdict = verdict(phase, cause, standing);
                    writeln!(text, "{standing:?} {phase:?} {cause:?} => {verdict:?}").unwrap();
                }
            }
        }
        insta::assert_snapshot!("outcomes", text);
    }

    #[test]
    fn an_unproved_host_decides_nothing_for_the_site() {
        for phase in PHASES {
            for cause in CAUSES {
                let verdict = verdict(phase, cause, Standing::Unproved);
                assert!(
                    matches!(verdict, Verdict::NextHost(_))
                        || verdict == Verdict::Ends(Outcome::AgentTrouble),
                    "{phase:?} {cause:?}"
                );
            }
        }
    }
}
