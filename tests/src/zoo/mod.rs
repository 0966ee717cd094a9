//! Home mail servers as values: bytes and `now` in, what they say and do out. No socket, no clock.
//!
//! [`habits`] is what can differ between two servers, as data; [`kinds`] has one page for each server that is known, in
//! that data; [`receiver`] is the SMTP receiver which behaves as its habits say. What was seen with the real programs
//! stands here, so a fault that is seen with another one begins as a new page.
//!
//! # Invariants
//! - One home, the same bytes and the same times give the same answers.
//! - A message is in the mailbox ([`Home::mailbox`]) before the reply to its dot is said.
//!
//! # Not here
//! Sockets and time: whoever runs a home brings both, as the simulation in the controller does, or [`served`].

pub mod fault;
pub mod habits;
pub mod kinds;
mod receiver;
pub mod served;

use std::collections::BTreeMap;
use std::time::Duration;

use fault::{Break, Does, Fault};
use habits::{Habits, Place};

pub use receiver::Connection;

/// What a connection has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// One reply, its line end included.
    Say(String),
    /// Before what follows.
    Wait(Duration),
    Close,
    Reset,
    /// Keeps the connection and says nothing more on it.
    Mute,
}

/// A message that was taken for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: String,
    pub at: Duration,
}

/// For a while it answers this to all mail, whoever it is from and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mood {
    pub at: Place,
    pub says: &'static str,
}

/// A home: its habits, and all that it remembers between connections.
#[derive(Debug)]
pub struct Home {
    pub habits: Habits,
    pub mood: Option<Mood>,
    pub mailbox: Vec<Taken>,
    /// What it said against a message for a recipient, by sender and recipient.
    pub refusals: BTreeMap<(String, String), Vec<String>>,
    /// When it kept a client waiting, and for how long.
    pub waits: Vec<(Duration, Duration)>,
    pub connections: u32,
    pub faults: Vec<Fault>,
    pub breaks: Vec<Break>,
    /// A line for each command and its answer.
    pub trace: Vec<String>,
    /// Greylisting: when a sender and a recipient came first.
    seen: BTreeMap<(String, String), Duration>,
    /// Sessions that have ended in order.
    goodbyes: u32,
}

impl Home {
    pub fn new(habits: Habits) -> Self {
        Self {
            habits,
            mood: None,
            mailbox: Vec::new(),
            refusals: BTreeMap::new(),
            waits: Vec::new(),
            connections: 0,
            faults: Vec::new(),
            breaks: Vec::new(),
            trace: Vec::new(),
            seen: BTreeMap::new(),
            goodbyes: 0,
        }
    }

    /// What it will say of a message for ever, whatever else is the matter with it; None: it takes it.
    pub fn never(&self, from: &str, to: &str) -> Option<&'static str> {
        let sender = self.habits.refused_sender.filter(|_| is_refused(from));
        sender.or_else(|| (!self.habits.mailboxes.has(to)).then_some(self.habits.unknown))
    }

    /// When greylisting is over for them, if they have come once.
    pub fn ready(&self, from: &str, to: &str) -> Option<Duration> {
        let delay = self.habits.greylist?;
        let first = self.seen.get(&(from.to_owned(), to.to_owned()))?;
        Some(*first + delay)
    }

    pub fn copies(&self, from: &str, to: &str) -> usize {
        let taken = self.mailbox.iter();
        taken.filter(|it| it.from == from && it.to == to).count()
    }

    /// Greylisting: whether they have waited long enough.
    fn has_waited(&mut self, from: &str, to: &str, now: Duration) -> bool {
        let Some(delay) = self.habits.greylist else {
            return true;
        };
        let pair = (from.to_owned(), to.to_owned());
        now >= *self.seen.entry(pair).or_insert(now) + delay
    }

    /// A fault that hits this command of this sender; used up by it.
    fn fault(&mut self, place: Place, from: &str) -> Option<Does> {
        let fault = self.faults.iter_mut().find(|it| it.hits(place, from))?;
        fault.times -= 1;
        Some(fault.does.clone())
    }

    fn refuses(&mut self, from: &str, to: &str, says: &str) {
        let pair = (from.to_owned(), to.to_owned());
        let said = self.refusals.entry(pair).or_default();
        said.push(says.to_owned());
    }
}

/// Senders whose domain does not exist, or forbids our address.
fn is_refused(from: &str) -> bool {
    from.ends_with("@nowhere.invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said to these reads, one after the other, on one connection.
    fn says(home: &mut Home, reads: &[&str]) -> String {
        let (mut connection, acts) = Connection::begin(home, Duration::ZERO);
        let mut said = show(&acts);
        for read in reads {
            let acts = connection.read(home, read.as_bytes(), Duration::from_secs(1));
            said.push_str(" | ");
            said.push_str(&show(&acts));
        }
        said
    }

    fn show(acts: &[Act]) -> String {
        let shown = acts.iter().filter_map(|act| match act {
            Act::Say(reply) => Some(reply.get(..3)?.to_owned()),
            Act::Wait(_) => None,
            Act::Close => Some("close".to_owned()),
            Act::Reset => Some("reset".to_owned()),
            Act::Mute => Some("mute".to_owned()),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    const ENVELOPE: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<user1@home.example>\r\nDATA\r\n";
    const UNKNOWN: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<ghost@home.example>\r\nDATA\r\n";

    #[test]
    fn what_stands_behind_the_dot_is_kept_lost_or_refused() {
        let group = format!("x\r\n.\r\n{ENVELOPE}");
        for (habits, expected) in [
            (
                kinds::postfix(),
                "220 | 250 | 250 250 354 | 250 250 250 354",
            ),
            (kinds::chasquid(), "220 | 250 | 250 250 354 | 250"),
            (kinds::courier(), "220 | 250 | 250 250 354 | 250"),
            (kinds::haraka(), "220 | 250 | 250 250 354 | 250 503 503 503"),
        ] {
            let mut home = Home::new(habits);
            let said = says(&mut home, &["EHLO x\r\n", ENVELOPE, &group]);
            assert_eq!(said, expected, "{}", home.habits.name);
            assert_eq!(home.copies("a@b.example", "user1@home.example"), 1);
        }
    }

    #[test]
    fn budgets_end_a_session_or_one_transaction() {
        let mut home = Home::new(kinds::chasquid());
        let errors = format!("RSET\r\n{UNKNOWN}");
        // The refused RCPT and the refused DATA both count: the third error is answered 421.
        let said = says(&mut home, &["EHLO x\r\n", UNKNOWN, &errors]);
        assert_eq!(said, "220 | 250 | 250 550 503 | 250 250 421 close");

        let mut home = Home::new(kinds::exim());
        let resets = "RSET\r\n".repeat(12);
        let said = says(&mut home, &["EHLO x\r\n", &resets]);
        assert!(said.ends_with("250 554 close"), "{said}");

        let mut home = Home::new(kinds::opensmtpd());
        let more = "RSET\r\nMAIL FROM:<a@b.example>\r\n".repeat(101);
        let said = says(&mut home, &["EHLO x\r\n", &more]);
        assert!(said.ends_with("250 452"), "{said}");
    }

    #[test]
    fn a_pair_is_let_in_when_it_has_waited() {
        let mut home = Home::new(kinds::greylisting());
        let said = says(&mut home, &["EHLO x\r\n", ENVELOPE]);
        assert_eq!(said, "220 | 250 | 250 450 503");
        let ready = home.ready("a@b.example", "user1@home.example").unwrap();
        assert!(home.has_waited("a@b.example", "user1@home.example", ready));
    }

    #[test]
    fn of_a_read_only_one_line_is_handled() {
        for (reads, expected) in [
            (habits::Reads::FirstLine, "220 | 250 | 250"),
            // DATA, out of its order.
            (habits::Reads::LastLine, "220 | 250 | 503"),
        ] {
            let mut home = Home::new(Habits {
                reads,
                ..kinds::postfix()
            });
            assert_eq!(says(&mut home, &["EHLO x\r\n", ENVELOPE]), expected);
        }
    }
}
