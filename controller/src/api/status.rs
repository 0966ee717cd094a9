//! Errors → gRPC status: the only file that names the codes.

use dd_proto::convert::ConvertError;
use dd_proto::name::AgentName;
use tonic::{Code, Status};

use super::door::Fault;
use crate::authority::{AuthorityError, RequestError};
use crate::credentials::PasswordError;
use crate::registry::ChangeError;
use crate::registry::admins::AdminError;
use crate::registry::agents::AgentError;
use crate::registry::apply::ApplyError;
use crate::registry::own::OwnError;
use crate::store::StoreError;

/// The caller may not do this.
pub(super) fn denied(sentence: impl Into<String>) -> Status {
    Status::new(Code::PermissionDenied, sentence)
}

/// The caller's certificate does not make it who it says.
pub(super) fn unrecognized(sentence: impl Into<String>) -> Status {
    Status::new(Code::Unauthenticated, sentence)
}

/// What was asked for is malformed.
pub(super) fn invalid(sentence: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, sentence)
}

/// It cannot be done as things are.
pub(super) fn refused(sentence: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, sentence)
}

/// There is no such thing.
pub(super) fn unknown(kind: &str, name: &str) -> Status {
    let name = dd_proto::excerpt::of(name);
    absent(format!("there is no {kind} `{name}`"))
}

/// What was asked for is not there.
pub(super) fn absent(sentence: impl Into<String>) -> Status {
    Status::new(Code::NotFound, sentence)
}

/// Another process bears the agent's name now.
pub(super) fn displaced(agent: &AgentName, by: &str) -> Status {
    let sentence = format!(
        "another process has attached as {agent} from {by}: only one may run with this key and journal"
    );
    Status::new(Code::Aborted, sentence)
}

/// The controller has ended a stream.
pub(super) fn ended(sentence: &str) -> Status {
    Status::new(Code::Unavailable, sentence)
}

/// What an agent says contradicts itself, or cannot be understood.
pub(super) fn contradiction(fault: &Fault) -> Status {
    super::details::bad_request(fault.field(), fault.to_string())
}

/// Mail of an earlier start is still being read.
pub(super) fn not_all_known() -> Status {
    let sentence =
        "not all known yet: the queue of the last start is still being read, try again in a moment";
    Status::new(Code::Unavailable, sentence)
}

/// The other end was too slow.
pub(super) fn too_slow(sentence: &str) -> Status {
    Status::new(Code::DeadlineExceeded, sentence)
}

/// More than is bounded.
pub(super) fn too_much(sentence: &str) -> Status {
    Status::new(Code::ResourceExhausted, sentence)
}

/// Our own trouble; the log says what.
pub(super) fn trouble(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error = dd_log::chain(error), "a request failed");
    let sentence = "the controller is in trouble: see its log";
    Status::new(Code::Internal, sentence)
}

/// It is so, but only until the next start, unless there is room before.
pub(super) fn not_durable(what: &str, error: &dyn std::fmt::Display) -> Status {
    let sentence =
        format!("{what}, but it could not be written yet, which is tried again: {error}");
    Status::new(Code::Unavailable, sentence)
}

/// A message lacks something.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn malformed(error: ConvertError) -> Status {
    invalid(error.to_string())
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        invalid(error.to_string())
    }
}

impl From<PasswordError> for Status {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Unfit => invalid(error.to_string()),
            PasswordError::Busy(_) => Status::unavailable(error.to_string()),
            PasswordError::Hash(_) | PasswordError::Ended(_) => trouble(&error),
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        trouble(&error)
    }
}

impl From<AuthorityError> for Status {
    fn from(error: AuthorityError) -> Self {
        trouble(&error)
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::File(error) => invalid(error.to_string()),
            ApplyError::Change(error) => error.into(),
        }
    }
}

impl From<ChangeError> for Status {
    fn from(error: ChangeError) -> Self {
        let code = match &error {
            ChangeError::Unknown { .. } => Code::NotFound,
            ChangeError::Exists(_) => Code::AlreadyExists,
            ChangeError::HeldMail(_)
            | ChangeError::NotClosed(_)
            | ChangeError::BuiltIn(_)
            | ChangeError::Pinned { .. } => Code::FailedPrecondition,
            ChangeError::NotAllKnown(_) => Code::Unavailable,
            ChangeError::Site(_) | ChangeError::Authority(_) => Code::InvalidArgument,
            ChangeError::Own(OwnError::Request(_) | OwnError::Days) => Code::InvalidArgument,
            ChangeError::Own(OwnError::Exists(_)) => Code::AlreadyExists,
            ChangeError::Own(OwnError::Sign(_)) => return trouble(&error),
            ChangeError::Own(_) => Code::FailedPrecondition,
            ChangeError::Join(_) => Code::PermissionDenied,
            ChangeError::Agent(AgentError::Exists(_)) => Code::AlreadyExists,
            ChangeError::Agent(AgentError::NoAddress) => Code::InvalidArgument,
            ChangeError::Agent(AgentError::AddressTaken { .. }) => Code::FailedPrecondition,
            ChangeError::Admin(AdminError::Exists(_)) => Code::AlreadyExists,
            ChangeError::Admin(AdminError::OtherKey(_) | AdminError::Reserved(_)) => {
                Code::InvalidArgument
            }
            ChangeError::Move(_) => Code::FailedPrecondition,
            ChangeError::TooMany { .. } => Code::ResourceExhausted,
            ChangeError::LogFailed(_) => return trouble(&error),
        };
        Self::new(code, error.to_string())
    }
}
