//! The states of a site, as the table at [`super::site`] has them.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// Mail waits, nothing is known against the site; not before a monotonic time.
    Ready(Duration),
    /// An agent is connecting, with one delivery as canary.
    Proving,
    Flowing,
    Waiting(Why, Duration),
    /// Until a monotonic time, or until it is resumed.
    Held(Option<Duration>),
}

/// Why a site waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Down,
    WrongHost,
    Refused,
    Busy,
    /// Only messages that have their own time are left.
    Deferred,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::WrongHost => "wrong-host",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Deferred => "deferred",
        }
    }
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready(_) => "ready",
            Self::Proving => "proving",
            Self::Flowing => "flowing",
            Self::Waiting(..) => "waiting",
            Self::Held(_) => "held",
        }
    }

    /// The state's word, and why it waits.
    pub(super) fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Waiting(why, _) => (self.as_str(), Some(why.as_str())),
            _ => (self.as_str(), None),
        }
    }

    /// Whether people want to hear of it: not of each try, nor of mail that has a time of its own.
    pub(super) fn is_news(self) -> bool {
        match self {
            Self::Flowing | Self::Held(_) => true,
            Self::Waiting(why, _) => why != Why::Deferred,
            Self::Idle | Self::Ready(_) | Self::Proving => false,
        }
    }

    pub(super) fn timer(self) -> Option<Duration> {
        match self {
            Self::Ready(at) | Self::Waiting(_, at) => Some(at),
            Self::Held(until) => until,
            Self::Idle | Self::Proving | Self::Flowing => None,
        }
    }
}
