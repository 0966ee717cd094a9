//! Who may call what: one table, and everything that is not in it is denied to everybody.
//!
//! # Invariants
//! An agent is known by its key, asked at every call: one that was removed, or whose name has joined with another key,
//! has the rights of a stranger from then on.
//!
//! # Not here
//! Whether an agent asks for its own work only: that needs the message, see [`super::delivery`].

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::caller::{AgentId, Caller, OtherEnd};
use super::{now, status};
use crate::limit::line::{Sparing, cut};
use crate::registry::{Editor, Registry};

/// What a caller is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Nobody,
    /// A registered agent whose certificate has ended.
    Lapsed,
    Agent,
    Admin,
}

impl Role {
    /// An agent is one only with the key that joined last under its name: whoever bore the name before is nobody.
    pub(super) fn of(caller: &Caller, registry: &Registry) -> Self {
        let is_known = |agent: &AgentId| registry.recognizes(&agent.name, agent.key);
        match caller {
            Caller::Agent(agent) if is_known(agent) => Self::Agent,
            Caller::Lapsed(agent) if is_known(agent) => Self::Lapsed,
            Caller::Agent(_) | Caller::Lapsed(_) | Caller::Nobody => Self::Nobody,
            Caller::Admin(_) => Self::Admin,
        }
    }
}

const EVERYBODY: &[Role] = &[Role::Nobody, Role::Lapsed, Role::Agent, Role::Admin];
const KNOWN: &[Role] = &[Role::Agent, Role::Admin];
const AGENT: &[Role] = &[Role::Agent];
/// Also one whose certificate has ended, for [`GRACE`](crate::authority::client::GRACE).
const RENEWING: &[Role] = &[Role::Lapsed, Role::Agent];
const ADMIN: &[Role] = &[Role::Admin];

/// Method → roles.
pub const METHODS: &[(&str, &[Role])] = &[
    ("/dd.v1.Enrollment/Join", EVERYBODY),
    ("/dd.v1.Enrollment/Renew", RENEWING),
    ("/dd.v1.Delivery/Attach", AGENT),
    ("/dd.v1.Delivery/FetchContent", AGENT),
    ("/dd.v1.Sites/Add", ADMIN),
    ("/dd.v1.Sites/Set", ADMIN),
    ("/dd.v1.Sites/Show", ADMIN),
    ("/dd.v1.Sites/List", ADMIN),
    ("/dd.v1.Sites/Remove", ADMIN),
    ("/dd.v1.Sites/Hold", ADMIN),
    ("/dd.v1.Sites/Resume", ADMIN),
    ("/dd.v1.Sites/Password", ADMIN),
    ("/dd.v1.Sites/WakeSecret", ADMIN),
    ("/dd.v1.Sites/Release", ADMIN),
    ("/dd.v1.Sites/Check", ADMIN),
    ("/dd.v1.Queue/List", ADMIN),
    ("/dd.v1.Queue/Show", ADMIN),
    ("/dd.v1.Queue/Content", ADMIN),
    ("/dd.v1.Queue/Retry", ADMIN),
    ("/dd.v1.Queue/Remove", ADMIN),
    ("/dd.v1.Queue/Fail", ADMIN),
    ("/dd.v1.Agents/Add", ADMIN),
    ("/dd.v1.Agents/List", ADMIN),
    ("/dd.v1.Agents/Addresses", ADMIN),
    ("/dd.v1.Agents/Remove", ADMIN),
    ("/dd.v1.Agents/Drain", ADMIN),
    ("/dd.v1.Agents/Resume", ADMIN),
    ("/dd.v1.Authorities/Import", ADMIN),
    ("/dd.v1.Authorities/List", ADMIN),
    ("/dd.v1.Authorities/Show", ADMIN),
    ("/dd.v1.Authorities/Create", ADMIN),
    ("/dd.v1.Authorities/Rollover", ADMIN),
    ("/dd.v1.Certificates/Issue", ADMIN),
    ("/dd.v1.Certificates/List", ADMIN),
    ("/dd.v1.Certificates/Revoke", ADMIN),
    ("/dd.v1.Registry/Export", ADMIN),
    ("/dd.v1.Registry/Apply", ADMIN),
    ("/dd.v1.Clock/Confirm", ADMIN),
    ("/dd.v1.Watch/Status", ADMIN),
    ("/dd.v1.Watch/Events", ADMIN),
    ("/dd.v1.Watch/Audit", ADMIN),
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
fn denial(caller: &Caller, role: Role) -> Status {
    match (caller, role) {
        (Caller::Agent(agent) | Caller::Lapsed(agent), Role::Nobody) => {
            let name = &agent.name;
            status::unrecognized(format!(
                "the agent `{name}` is not registered, or its key is not the one that joined last under this name: run `ddadm agent add {name}`, and start it with --join TOKEN"
            ))
        }
        (_, Role::Lapsed) => {
            status::unrecognized("the certificate of this agent has ended: renew it")
        }
        (Caller::Nobody, _) => status::unrecognized(
            "no client certificate was shown, or one that has ended: an agent shows the one that Enrollment.Join gave it, ddadm that of an administrator",
        ),
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
            registry: self.registry.clone(),
            editor: self.editor.clone(),
        }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
    registry: Registry,
    editor: Editor,
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
        let caller = end.map_or(&Caller::Nobody, |end| &end.caller);
        let method = request.uri().path();
        let role = Role::of(caller, &self.registry);
        if rule(method, role) == Ruling::Allowed {
            let is_admin = role == Role::Admin;
            let (answering, editor) = (self.inner.call(request), self.editor.clone());
            return Box::pin(async move {
                let answer = answering.await;
                if is_admin {
                    editor.audit_synced().await;
                }
                answer
            });
        }
        static LINES: Sparing = Sparing::one_a_second();
        if let Some(unsaid) = LINES.due(now()) {
            tracing::warn!(
                caller = caller.who(),
                method = cut(method),
                unsaid,
                "call denied"
            );
        }
        let denied = denial(caller, role).into_http();
        Box::pin(std::future::ready(Ok(denied)))
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

    #[test]
    fn everybody_gets_what_is_theirs() {
        let roles = [Role::Nobody, Role::Lapsed, Role::Agent, Role::Admin];
        for method in methods(pb::DESCRIPTORS) {
            let expected = match method.split(['.', '/']).nth(3).unwrap() {
                "Enrollment" if method.ends_with("/Join") => [true, true, true, true],
                "Enrollment" => [false, true, true, false],
                "Delivery" => [false, false, true, false],
                "Sites" | "Queue" | "Registry" | "Agents" | "Authorities" | "Certificates"
                | "Clock" | "Watch" => [false, false, false, true],
                other => panic!("nobody said who may call {other}"),
            };
            for (role, allowed) in roles.into_iter().zip(expected) {
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
