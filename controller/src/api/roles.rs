//! Who may call what: one table, and everything that is not in it is denied to everybody.
//!
//! # Not here
//! Whether an agent asks for its own work only: that needs the message, see [`super::delivery`].

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::caller::Caller;
use super::status;
use crate::registry::Editor;

/// What a caller is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Nobody,
    Agent,
    Admin,
}

const EVERYBODY: &[Role] = &[Role::Nobody, Role::Agent, Role::Admin];
const KNOWN: &[Role] = &[Role::Agent, Role::Admin];
const AGENT: &[Role] = &[Role::Agent];
const ADMIN: &[Role] = &[Role::Admin];

/// Method → roles.
pub const METHODS: &[(&str, &[Role])] = &[
    ("/dd.v1.Enrollment/Join", EVERYBODY),
    ("/dd.v1.Enrollment/Renew", AGENT),
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
    ("/grpc.health.v1.Health/Watch", EVERYBODY),
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

pub fn rule(method: &str, caller: &Caller) -> Ruling {
    let role = match caller {
        Caller::Nobody => Role::Nobody,
        Caller::Agent(_) => Role::Agent,
        Caller::Admin(_) => Role::Admin,
    };
    let row = METHODS.iter().find(|(name, _)| *name == method);
    match row {
        Some((_, roles)) if roles.contains(&role) => Ruling::Allowed,
        _ => Ruling::Denied,
    }
}

/// Puts the table before every service, and the audit before every answer to an administrator.
#[derive(Debug, Clone)]
pub struct Guarded {
    pub editor: Editor,
}

impl<S> Layer<S> for Guarded {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        let editor = self.editor.clone();
        Guard { inner, editor }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
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
        let caller = request.extensions().get::<Caller>();
        let caller = caller.unwrap_or(&Caller::Nobody);
        let method = request.uri().path();
        if rule(method, caller) == Ruling::Allowed {
            let is_admin = matches!(caller, Caller::Admin(_));
            let (answering, editor) = (self.inner.call(request), self.editor.clone());
            return Box::pin(async move {
                let answer = answering.await;
                if is_admin {
                    editor.audit_synced().await;
                }
                answer
            });
        }
        tracing::warn!(caller = caller.who(), method, "call denied");
        let denied = status::denied("this caller may not call this method").into_http();
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
    fn nobody_an_agent_and_an_administrator_get_what_is_theirs() {
        let callers = [
            Caller::Nobody,
            Caller::Agent("out1".parse().unwrap()),
            Caller::Admin("anna".to_owned()),
        ];
        for method in methods(pb::DESCRIPTORS) {
            let expected = match method.split(['.', '/']).nth(3).unwrap() {
                "Enrollment" if method.ends_with("/Join") => [true, true, true],
                "Enrollment" | "Delivery" => [false, true, false],
                "Sites" | "Queue" | "Registry" | "Agents" | "Authorities" | "Certificates"
                | "Clock" | "Watch" => [false, false, true],
                other => panic!("nobody said who may call {other}"),
            };
            for (caller, allowed) in callers.iter().zip(expected) {
                let ruling = rule(&method, caller) == Ruling::Allowed;
                assert_eq!(ruling, allowed, "{method} by {caller:?}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_denied_to_everybody() {
        let admin = Caller::Admin("anna".to_owned());
        for method in [
            "",
            "/",
            "/dd.v1.Sites/Add/",
            "/dd.v1.Sites/add",
            "/dd.v2.Sites/Add",
        ] {
            assert_eq!(rule(method, &admin), Ruling::Denied, "{method}");
        }
    }
}
