//! Why a command did not do what it was asked, and the exit code that says so.
//!
//! # Invariants
//! [`Failure::from_status`] is the only place that reads a gRPC code.

use std::error::Error;
use std::process::ExitCode;

use tonic::{Code, Status};

/// How a command ended: the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Failed or refused.
    Failed = 1,
    Usage = 2,
    /// The controller was not reached.
    Unreachable = 3,
    NoSuchThing = 4,
    /// The site was not reached, or who answered did not prove to be it.
    SiteNotReached = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// One sentence for standard error, by who has to do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    #[error("the controller is not reachable at {at}: {why}; {hint}")]
    Unreachable {
        at: String,
        why: String,
        hint: &'static str,
    },
    /// The controller's own sentence.
    #[error("{0}")]
    NoSuchThing(String),
    #[error("{0}")]
    Refused(String),
    /// Whoever calls may not, whatever it is about.
    #[error("{0}")]
    Denied(String),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::NoSuchThing(_) => Exit::NoSuchThing,
            Self::Refused(_) | Self::Denied(_) => Exit::Failed,
        }
    }

    /// What a call's status means to whoever typed the command; `at` is where the controller was called.
    pub(crate) fn from_status(status: &Status, at: &str) -> Self {
        // A status the controller sent has no source; one the transport made wraps the error that ended the connection.
        if let Some(source) = status.source() {
            return Self::Unreachable {
                at: at.to_owned(),
                why: root_cause(source),
                hint: "see its log for why the connection ended, and try again",
            };
        }
        let said = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        match status.code() {
            Code::NotFound => Self::NoSuchThing(said.to_owned()),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(said.to_owned()),
            Code::Unimplemented => Self::Refused(
                "this controller does not know the command: use the ddadm of its own version"
                    .into(),
            ),
            _ => Self::Refused(said.to_owned()),
        }
    }
}

/// The innermost error, which is the one that says what happened; the outer ones only say where.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    dd_proto::reach::plain(innermost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_the_exit_code_of_the_contract() {
        let broken = || Status::from_error(std::io::Error::other("connection reset").into());
        for (status, exit, says) in [
            (
                Status::not_found("no site `x`: see `ddadm site list`"),
                Exit::NoSuchThing,
                "no site `x`",
            ),
            (
                Status::already_exists("there is a site `x`"),
                Exit::Failed,
                "there is a site",
            ),
            (
                Status::failed_precondition("in hand"),
                Exit::Failed,
                "in hand",
            ),
            (
                Status::unavailable("not all known yet"),
                Exit::Failed,
                "not all known yet",
            ),
            (
                Status::unimplemented(""),
                Exit::Failed,
                "ddadm of its own version",
            ),
            (
                Status::permission_denied("the role reader may not do this"),
                Exit::Failed,
                "the role reader",
            ),
            (Status::internal(""), Exit::Failed, "nternal"),
            (broken(), Exit::Unreachable, "connection reset"),
        ] {
            let failure = Failure::from_status(&status, "/run/admin.sock");
            assert_eq!(failure.exit(), exit, "{status:?}");
            assert!(failure.to_string().contains(says), "{failure}");
        }
    }
}
