//! What a scripted site does, point by point of the dialogue.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustls::ServerConfig;

use super::Received;
use crate::ca::Identity;

/// A point of the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    Greeting,
    Ehlo,
    /// STARTTLS has come.
    StartTls,
    /// And was answered: the client begins the handshake.
    Handshake,
    Mail,
    Rcpt,
    Data,
    /// Some of the content has come.
    Body,
    /// The final dot has come.
    Dot,
}

/// What a site does instead of going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Answers this line.
    Reply(String),
    /// Cuts the connection.
    Break,
    /// Says nothing more and reads nothing more.
    Hang,
    /// Goes on when the gate is opened.
    Wait(Gate),
}

/// Closed until a test opens it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(super) fn wait(&self) {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(open, |open| !*open));
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gate {}

/// Decides recipient by recipient and message by message, where a script of fixed acts is not enough.
///
/// A site with a host of its own keeps no record: what came is the host's to keep.
pub trait Host: Debug + Send + Sync {
    /// What is answered to RCPT with this argument instead of 250.
    fn rcpt(&self, argument: &str) -> Option<String>;

    /// What is done at the final dot of this message.
    fn message(&self, message: Received) -> Verdict;
}

/// What a host does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answers 250.
    Takes,
    /// Has it, and cuts the connection before the 250.
    TakesAndBreaks,
}

/// Who may hand a site mail, and by which mechanisms he says so.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) mechanisms: String,
    pub(super) user: String,
    pub(super) password: String,
}

/// How a site behaves.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// TLS begins with the connection.
    pub(super) on_connect: bool,
    /// It speaks LMTP: these are its answers behind the dot, in order; where they end the connection is cut.
    pub(super) lmtp: Option<Vec<String>>,
    /// Nobody else hands it mail.
    pub(super) login: Option<Login>,
    pub(super) acts: BTreeMap<At, Act>,
    pub(super) host: Option<Arc<dyn Host>>,
}

impl Script {
    /// A server without STARTTLS.
    pub fn plain() -> Self {
        Self::default()
    }

    /// A server that offers STARTTLS with this certificate.
    pub fn with(identity: &Identity) -> Self {
        Self {
            tls: Some(super::tls(identity)),
            ..Self::default()
        }
    }

    /// The same, and asks clients for a certificate of this authority (PEM); one that shows none is served too.
    pub fn asking(identity: &Identity, authority: &str) -> Self {
        Self {
            tls: Some(super::asking(identity, authority)),
            ..Self::default()
        }
    }

    /// The same, whatever the certificate is: a server that does not look at its own.
    pub fn presenting(identity: &Identity) -> Self {
        Self {
            tls: Some(super::presenting(identity)),
            ..Self::default()
        }
    }

    /// The same, but TLS begins with the connection, without STARTTLS.
    #[must_use]
    pub fn on_connect(mut self) -> Self {
        self.on_connect = true;
        self
    }

    /// The same, but it takes mail only behind an AUTH with these, and offers that inside TLS (in the clear where it has none).
    #[must_use]
    pub fn login(mut self, mechanisms: &str, user: &str, password: &str) -> Self {
        self.login = Some(Login {
            mechanisms: mechanisms.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// The same, but it speaks LMTP, and behind the dot it has these answers, one for each recipient. Where there are fewer it
    /// cuts the connection instead.
    #[must_use]
    pub fn lmtp(mut self, answers: &[&str]) -> Self {
        self.lmtp = Some(answers.iter().map(|line| (*line).to_owned()).collect());
        self
    }

    /// The same, but this host decides on recipients and messages.
    #[must_use]
    pub fn hosted(mut self, host: Arc<dyn Host>) -> Self {
        self.host = Some(host);
        self
    }

    /// The same, but at one point it does this.
    #[must_use]
    pub fn but(mut self, at: At, act: Act) -> Self {
        self.acts.insert(at, act);
        self
    }

    /// The same, but answers `line` at one point.
    #[must_use]
    pub fn says(self, at: At, line: &str) -> Self {
        self.but(at, Act::Reply(line.to_owned()))
    }
}
