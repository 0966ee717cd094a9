//! The SMTP sender as a value: bytes and `now` in, bytes and wants out. No socket, no clock.
//!
//! ```text
//! Opening:      Greeting ─▶ Hello ─▶ Securing ─▶ Handshake ─▶ (ruling) ─▶ HelloAgain ─▶ Established
//!                             ├─ no TLS: (ruling) ──────────────────────────────────────▲
//!                             └─ no EHLO: OldHello ─▶ (ruling) ─────────────────────────┘
//!               TLS on connect: Handshake ─▶ (ruling) ─▶ GreetingInTls ─▶ HelloAgain ─▶ Established
//!               with a login: HelloAgain ─▶ LoggingIn… ─▶ Established
//!               each of them ─▶ Failed
//! Transaction:  (Reset) ─▶ (HandOver) ─▶ Mail ─▶ Rcpt… ─▶ Data ─▶ Content ─▶ Dot ─▶ EndOfData ─▶ Ended
//!                                             └─ nobody accepted: LoneDot ───────────▲
//!               MAIL refused: the answers to what travelled with it are read, then Ended
//!               each of them ─▶ Ended
//! ```
//!
//! With the dot may travel MAIL, RCPT… and DATA of the message that comes next ([`established`]); its transaction then
//! begins at Mail, with those written and perhaps answered.
//!
//! Every state with every input stands in `tests/golden/session-transitions.txt`.
//!
//! # Invariants
//! - States never run backwards; what was learnt before TLS is forgotten (RFC 3207 §4.2).
//! - [`Established`] is made from a [`Verified`](crate::proof::Verified) only, and only an `Established` begins a
//!   [`Transaction`]. An [`Opening`] cannot write MAIL.
//! - Bytes that arrive before they are asked for end the session.
//!
//! # Not here
//! What a failure means ([`outcome`]), sockets ([`crate::deliver::smtp`]), the proofs ([`crate::proof`]).

mod answers;
mod established;
mod opening;
pub mod outcome;
mod together;
mod transaction;

use std::time::Duration;

use dd_proto::report::Reply;

pub use established::{Established, Next};
pub use opening::{AskTls, Opening, OpeningWant};
pub use together::{Bears, Together};
pub use transaction::{After, Ended, Transaction, TransactionWant};

use crate::proof::{Refusal, Seen};
use outcome::{Cause, Phase, Verdict};

/// RFC 5321 §4.5.3.2.1: the greeting.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(300);
/// For EHLO the RFC names none; whoever is not proved yet shall not hold a probe for long.
const HELLO_TIMEOUT: Duration = Duration::from_secs(60);
/// For the whole TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// RFC 5321 §4.5.3.2.2 and §4.5.3.2.3: MAIL and RCPT.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// For the answer to MAIL behind a dot, from the dot's own answer on. The answers of a group come together, for whoever
/// reads a group takes its lines one after the other; so one that is late has lost what stood behind the dot. A second packet
/// of answers that is sent again is there by then. Should MAIL be slow to answer instead, the message is only sent again, in
/// its turn.
const BEHIND_DOT_TIMEOUT: Duration = Duration::from_secs(2);
/// A site that was slow to answer commands on this session, as one that asks DNS about senders is, has as many times that.
const BEHIND_DOT_PACES: u32 = 4;
/// For each answer to commands that travelled together, until the site has answered such a group to its end. Not less, and
/// not by the site's pace: once MAIL is answered, silence is hardly ever a loss, for what is lost behind a dot is lost whole.
/// It is a server that holds back an answer to RCPT on purpose, ten seconds for an unknown mailbox, after quick ones; taken for
/// a loss, it would get its commands one at a time for a month. One that did lose them costs this wait once in that time.
const GROUP_TIMEOUT: Duration = Duration::from_secs(20);
/// RFC 5321 §4.5.3.2.4: DATA.
const DATA_TIMEOUT: Duration = Duration::from_secs(120);
/// RFC 5321 §4.5.3.2.5: each block of the content.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// RFC 5321 §4.5.3.2.6: the reply to the final dot; a shorter wait makes duplicates.
const END_OF_DATA_TIMEOUT: Duration = Duration::from_secs(600);

/// Why a session came to nothing before it was established.
#[derive(Debug, Clone)]
pub struct Failure {
    pub phase: Phase,
    pub cause: Cause,
    pub verdict: Verdict,
    pub refusal: Option<Refusal>,
    pub reply: Option<Reply>,
    /// One sentence for people.
    pub detail: String,
}

/// A connection that gave no established session.
#[derive(Debug, Clone)]
pub struct Unproved {
    pub failure: Failure,
    pub seen: Seen,
}

/// What ended a connection from outside the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// By the far end, or by the network.
    Closed,
    /// The wait was over.
    TimedOut,
}

impl Lost {
    fn cause(self) -> Cause {
        match self {
            Self::Closed => Cause::Closed,
            Self::TimedOut => Cause::TimedOut,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Closed => "closed the connection",
            Self::TimedOut => "did not answer in time",
        }
    }
}
