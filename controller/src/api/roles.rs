//! Who may call what: one table, and everything that is not in it is denied to everybody.
//!
//! # Invariants
//! Agents and administrators are known by their keys, asked at every call: one that was removed, or whose name has
//! another key now, has the rights of a stranger from then on. What a removed administrator is calling ends at once.
//!
//! # Not here
//! Whether an agent asks for its own work only: that needs the message, see [`super::delivery`].

use std::pin::Pin;
use std::task::{Context, Poll};

use jiff::Timestamp;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::caller::{AgentId, Caller, OtherEnd};
use super::withdrawable::Withdrawable;
use super::{now, status};
use crate::limit::line::{Sparing, cut};
use crate::registry::admins::AdminRole;
use crate::registry::{Editor, Registry};

/// What a caller is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Nobody,
    /// A registered agent whose certificate has ended.
    Lapsed,
    Agent,
    /// Looks at everything but the content of mail, and changes nothing.
    Reader,
    /// Also lets mail flow and stand still.
    Operator,
    Admin,
}

impl Role {
    /// By its key, as the registry has it now: whoever bore the name before is nobody, and so is whoever was removed.
    pub(super) fn of(caller: &Caller, registry: &Registry, now: Timestamp) -> Self {
        let is_known = |agent: &AgentId| registry.recognizes(&agent.name, agent.key);
        match caller {
            Caller::Agent(agent) if is_known(agent) => Self::Agent,
            Caller::Lapsed(agent) if is_known(agent) => Self::Lapsed,
            Caller::Agent(_) | Caller::Lapsed(_) | Caller::Nobody => Self::Nobody,
            Caller::Admin(admin) => match registry.role_of(&admin.name, admin.key, now) {
                Some(AdminRole::Reader) => Self::Reader,
                Some(AdminRole::Operator) => Self::Operator,
                Some(AdminRole::Admin) => Self::Admin,
                None => Self::Nobody,
            },
            Caller::Local(_) => Self::Admin,
        }
    }

    fn is_administrator(self) -> bool {
        matches!(self, Self::Reader | Self::Operator | Self::Admin)
    }
}

const EVERYBODY: &[Role] = &[
    Role::Nobody,
    Role::Lapsed,
    Role::Agent,
    Role::Reader,
    Role::Operator,
    Role::Admin,
];
const KNOWN: &[Role] = &[Role::Agent, Role::Reader, Role::Operator, Role::Admin];
const AGENT: &[Role] = &[Role::Agent];
/// Also one whose certificate has ended, for [`GRACE`](crate::authority::client::GRACE).
const RENEWING: &[Role] = &[Role::Lapsed, Role::Agent];
const READER: &[Role] = &[Role::Reader, Role::Operator, Role::Admin];
const OPERATOR: &[Role] = &[Role::Operator, Role::Admin];
const ADMIN: &[Role] = &[Role::Admin];

/// Method → roles.
pub const METHODS: &[(&str, &[Role])] = &[
    ("/dd.v1.Enrollment/Join", EVERYBODY),
    ("/dd.v1.Enrollment/Renew", RENEWING),
    ("/dd.v1.Enrollment/Certify", AGENT),
    ("/dd.v1.Delivery/Attach", AGENT),
    ("/dd.v1.Delivery/FetchContent", AGENT),
    ("/dd.v1.Sites/Add", ADMIN),
    ("/dd.v1.Sites/Set", ADMIN),
    ("/dd.v1.Sites/Show", READER),
    ("/dd.v1.Sites/List", READER),
    ("/dd.v1.Sites/Remove", ADMIN),
    ("/dd.v1.Sites/Hold", OPERATOR),
    ("/dd.v1.Sites/Resume", OPERATOR),
    ("/dd.v1.Sites/Password", ADMIN),
    ("/dd.v1.Sites/WakeSecret", ADMIN),
    ("/dd.v1.Sites/Release", OPERATOR),
    ("/dd.v1.Sites/Check", OPERATOR),
    ("/dd.v1.Sites/MoveDomain", ADMIN),
    ("/dd.v1.Queue/List", READER),
    ("/dd.v1.Queue/Show", READER),
    ("/dd.v1.Queue/Content", ADMIN),
    ("/dd.v1.Queue/Retry", OPERATOR),
    ("/dd.v1.Queue/Remove", ADMIN),
    ("/dd.v1.Queue/Fail", ADMIN),
    ("/dd.v1.Queue/Search", READER),
    ("/dd.v1.Agents/Add", ADMIN),
    ("/dd.v1.Agents/Set", ADMIN),
    ("/dd.v1.Agents/Token", ADMIN),
    ("/dd.v1.Agents/List", READER),
    ("/dd.v1.Agents/Addresses", READER),
    ("/dd.v1.Agents/Remove", ADMIN),
    ("/dd.v1.Agents/Drain", OPERATOR),
    ("/dd.v1.Agents/Resume", OPERATOR),
    ("/dd.v1.Admins/Add", ADMIN),
    ("/dd.v1.Admins/List", READER),
    ("/dd.v1.Admins/Remove", ADMIN),
    ("/dd.v1.Admins/Renew", READER),
    ("/dd.v1.Authorities/Import", ADMIN),
    ("/dd.v1.Authorities/List", READER),
    ("/dd.v1.Authorities/Show", READER),
    ("/dd.v1.Authorities/Create", ADMIN),
    ("/dd.v1.Authorities/Rollover", ADMIN),
    ("/dd.v1.Authorities/Remove", ADMIN),
    ("/dd.v1.Certificates/Issue", ADMIN),
    ("/dd.v1.Certificates/List", READER),
    ("/dd.v1.Certificates/Revoke", ADMIN),
    ("/dd.v1.Registry/Export", ADMIN),
    ("/dd.v1.Registry/Apply", ADMIN),
    ("/dd.v1.Clock/Confirm", ADMIN),
    ("/dd.v1.Watch/Status", READER),
    ("/dd.v1.Watch/Events", READER),
    ("/dd.v1.Watch/Audit", READER),
    ("/dd.v1.Watch/Config", READER),
    ("/grpc.health.v1.Health/Check", EVERYBODY),
    ("/grpc.health.v1.Health/Watch", KNOWN),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        KNOWN,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        KNOWN,
    ),
];

/// Whether a call goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    Allowed,
    Denied,
}

pub fn rule(method: &str, role: Role) -> Ruling {
    let row = METHODS.iter().find(|(name, _)| *name == method);
    match row {
        Some((_, roles)) if roles.contains(&role) => Ruling::Allowed,
        _ => Ruling::Denied,
    }
}

/// Why a call does not go through, told to its caller.
fn denial(caller: &Caller, role: Role, method: &str) -> Status {
    match (caller, role) {
        (Caller::Agent(agent) | Caller::Lapsed(agent), Role::Nobody) => {
            let name = &agent.name;
            status::unrecognized(format!(
                "the agent `{name}` is not registered, or its key is not the one that joined last under this name: run `ddadm agent token {name}` (`ddadm agent add {name}` where it was removed), and start it with --join-file"
            ))
        }
        (Caller::Admin(admin), Role::Nobody) => {
            let name = &admin.name;
            status::unrecognized(format!(
                "the administrator `{name}` is not registered (any more), or has another key now: on the controller's machine `ddadm admin list` shows who is, and `ddadm admin add {name} --out DIR` makes a new identity"
            ))
        }
        (_, Role::Lapsed) => {
            status::unrecognized("the certificate of this agent has ended: renew it")
        }
        (Caller::Nobody, _) => status::unrecognized(
            "no client certificate was shown, or one that has ended: an agent shows the one that Enrollment.Join gave it, ddadm that of an administrator",
        ),
        (Caller::Admin(_), role @ (Role::Reader | Role::Operator)) => {
            let needed = match rule(method, Role::Operator) {
                Ruling::Allowed => "operator or admin",
                Ruling::Denied => "admin",
            };
            let is = match role {
                Role::Reader => "reader",
                _ => "operator",
            };
            status::denied(format!(
                "the role {is} may not do this: it takes {needed} (`ddadm admin list` shows who has which)"
            ))
        }
        _ => status::denied("this caller may not call this method"),
    }
}

/// Puts the table before every service, and the audit before every answer to an administrator.
#[derive(Debug, Clone)]
pub struct Guarded {
    pub registry: Registry,
    pub editor: Editor,
}

impl<S> Layer<S> for Guarded {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            guarded: self.clone(),
        }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
    guarded: Guarded,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let end = request.extensions().get::<OtherEnd>();
        let caller = end.map_or(Caller::Nobody, |end| end.caller.clone());
        let method = request.uri().path().to_owned();
        let role = Role::of(&caller, &self.guarded.registry, now());
        if rule(&method, role) == Ruling::Denied {
            static LINES: Sparing = Sparing::one_a_second();
            if let Some(unsaid) = LINES.due(now()) {
                tracing::warn!(
                    caller = caller.who(),
                    method = cut(&method),
                    unsaid,
                    "call denied"
                );
            }
            let denied = denial(&caller, role, &method).into_http();
            return Box::pin(std::future::ready(Ok(denied)));
        }
        let answering = self.inner.call(request);
        match role.is_administrator() {
            true => Box::pin(answered(
                answering,
                self.guarded.clone(),
                Call { caller, method },
            )),
            false => Box::pin(answering),
        }
    }
}

/// What an administrator calls.
struct Call {
    caller: Caller,
    method: String,
}

/// The answer to an administrator: what it did is in the audit first, and a removal of the administrator ends it.
async fn answered<E>(
    answering: impl Future<Output = Result<Response<Body>, E>>,
    guarded: Guarded,
    call: Call,
) -> Result<Response<Body>, E> {
    let Guarded { registry, editor } = guarded;
    if let Caller::Admin(admin) = &call.caller
        && registry.admin_called(&admin.name, now())
    {
        let name = admin.name.clone();
        let writing = editor.change(move |it| async move { it.admin_seen(&name, now()).await });
        if let Err(error) = writing.await {
            tracing::debug!(%error, "it cannot be written when an administrator was seen");
        }
    }
    if let Caller::Local(_) = &call.caller {
        let answer = answering.await;
        editor.audit_synced().await;
        return answer;
    }
    let mut withdrawn = Box::pin(withdrawn(registry, call));
    let answer = tokio::select! {
        answer = answering => answer?,
        denied = &mut withdrawn => return Ok(denied.into_http()),
    };
    editor.audit_synced().await;
    let (head, body) = answer.into_parts();
    let body = Body::new(Withdrawable::new(body, withdrawn));
    Ok(Response::from_parts(head, body))
}

/// Resolves when the caller may not call the method any more.
async fn withdrawn(registry: Registry, call: Call) -> Status {
    let mut changes = registry.changes();
    loop {
        let role = Role::of(&call.caller, &registry, now());
        if rule(&call.method, role) == Ruling::Denied {
            // The removal itself is in the audit.
            tracing::debug!(
                caller = call.caller.who(),
                method = call.method,
                "call ended: its right was withdrawn"
            );
            return denial(&call.caller, role, &call.method);
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dd_proto::pb;
    use prost::Message as _;
    use std::collections::BTreeSet;

    fn methods(descriptors: &[u8]) -> BTreeSet<String> {
        let set = prost_types::FileDescriptorSet::decode(descriptors).unwrap();
        let mut found = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let (service, method) = (service.name(), method.name());
                    found.insert(format!("/{}.{service}/{method}", file.package()));
                }
            }
        }
        found
    }

    #[test]
    fn every_method_there_is_has_a_row_and_every_row_a_method() {
        let mut all = methods(pb::DESCRIPTORS);
        all.extend(methods(tonic_health::pb::FILE_DESCRIPTOR_SET));
        all.extend(methods(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        all.extend(methods(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET));
        let rows: BTreeSet<String> = METHODS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(all, rows);
        assert_eq!(rows.len(), METHODS.len());
    }

    /// Each method with those who may call it; a method that is not named here is a test that fails.
    #[test]
    fn everybody_gets_what_is_theirs() {
        let readers = [
            "Sites/Show",
            "Sites/List",
            "Queue/List",
            "Queue/Show",
            "Agents/List",
            "Agents/Addresses",
            "Admins/List",
            "Admins/Renew",
            "Authorities/List",
            "Authorities/Show",
            "Certificates/List",
            "Watch/Status",
            "Watch/Events",
            "Watch/Audit",
            "Watch/Config",
            "Queue/Search",
        ];
        let operators = [
            "Sites/Hold",
            "Sites/Resume",
            "Sites/Release",
            "Sites/Check",
            "Queue/Retry",
            "Agents/Drain",
            "Agents/Resume",
        ];
        let admins = [
            "Sites/Add",
            "Sites/Set",
            "Sites/Remove",
            "Sites/Password",
            "Sites/WakeSecret",
            "Sites/MoveDomain",
            "Queue/Content",
            "Queue/Remove",
            "Queue/Fail",
            "Agents/Add",
            "Agents/Set",
            "Agents/Token",
            "Agents/Remove",
            "Admins/Add",
            "Admins/Remove",
            "Authorities/Import",
            "Authorities/Create",
            "Authorities/Rollover",
            "Authorities/Remove",
            "Certificates/Issue",
            "Certificates/Revoke",
            "Registry/Export",
            "Registry/Apply",
            "Clock/Confirm",
        ];
        for method in methods(pb::DESCRIPTORS) {
            let short = method.strip_prefix("/dd.v1.").unwrap();
            let [lapsed, agent, reader, operator, admin] = match short {
                "Enrollment/Join" => [true; 5],
                "Enrollment/Renew" => [true, true, false, false, false],
                "Enrollment/Certify" | "Delivery/Attach" | "Delivery/FetchContent" => {
                    [false, true, false, false, false]
                }
                it if readers.contains(&it) => [false, false, true, true, true],
                it if operators.contains(&it) => [false, false, false, true, true],
                it if admins.contains(&it) => [false, false, false, false, true],
                other => panic!("nobody said who may call {other}"),
            };
            for (role, allowed) in [
                (Role::Nobody, short == "Enrollment/Join"),
                (Role::Lapsed, lapsed),
                (Role::Agent, agent),
                (Role::Reader, reader),
                (Role::Operator, operator),
                (Role::Admin, admin),
            ] {
                let ruling = rule(&method, role) == Ruling::Allowed;
                assert_eq!(ruling, allowed, "{method} by {role:?}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_denied_to_everybody() {
        for method in [
            "",
            "/",
            "/dd.v1.Sites/Add/",
            "/dd.v1.Sites/add",
            "/dd.v2.Sites/Add",
        ] {
            assert_eq!(rule(method, Role::Admin), Ruling::Denied, "{method}");
        }
    }
}
