//! What can differ between two home servers, as data.

use std::time::Duration;

/// Where in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Dot,
}

pub const PLACES: [Place; 6] = [
    Place::Greeting,
    Place::Ehlo,
    Place::Mail,
    Place::Rcpt,
    Place::Data,
    Place::Dot,
];

/// One kind of server.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub name: &'static str,
    /// The extensions its EHLO lists.
    pub keywords: &'static [&'static str],
    pub mailboxes: Mailboxes,
    /// To RCPT for a mailbox it does not have, with the code.
    pub unknown: &'static str,
    /// How long it lets a client wait for that.
    pub unknown_after: Duration,
    /// To MAIL from a sender whom it does not want; None: it asks nothing of senders.
    pub refused_sender: Option<&'static str>,
    pub errors: Errors,
    /// The RSET of a session that it answers by ending it, and what it says.
    pub resets: Option<(u32, &'static str)>,
    pub messages: Option<Messages>,
    pub behind_dot: BehindDot,
    pub reads: Reads,
    /// How long a sender and a recipient have to wait when they come together for the first time.
    pub greylist: Option<Duration>,
    /// Lets nobody in before a whole session has ended (postscreen's tests behind the greeting).
    pub tests_a_session: bool,
}

/// Which mailboxes it has. Those of the tests are called `user…`; `ghost…` is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailboxes {
    Users,
    /// `user0` is the only one.
    One,
    /// It takes everything, and looks later.
    All,
}

impl Mailboxes {
    pub fn has(self, to: &str) -> bool {
        match self {
            Self::Users => to.starts_with("user"),
            Self::One => to.starts_with("user0@"),
            Self::All => true,
        }
    }
}

/// What it does to a client that makes errors. Every 4yz and 5yz of a session is one.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    /// From this many on each answer waits.
    pub slow_from: u32,
    pub slow: Duration,
    /// The error at which it ends the session.
    pub end_at: u32,
    pub says: &'static str,
    pub manner: Manner,
}

/// Where it says that a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// In place of the answer.
    Instead,
    /// Behind it, unasked.
    Behind,
}

impl Errors {
    pub const FORGIVEN: Self = Self {
        slow_from: u32::MAX,
        slow: Duration::ZERO,
        end_at: u32::MAX,
        says: "",
        manner: Manner::Instead,
    };
}

/// How many messages it takes in a session.
#[derive(Debug, Clone, Copy)]
pub struct Messages {
    pub most: u32,
    /// To the next MAIL.
    pub says: &'static str,
    /// Whether it hangs up then.
    pub ends: bool,
}

/// What becomes of commands that arrive together with the dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BehindDot {
    Handled,
    Lost,
    /// Each is answered with 503.
    Refused,
}

/// How much of one read it looks at, where several lines came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    All,
    FirstLine,
    LastLine,
}
