//! `dd.v1.Enrollment`: certificates for agents.

use std::sync::Arc;

use dd_proto::name::AgentName;
use dd_proto::pb;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::{Context, caller, now, status};
use crate::authority;

#[derive(Debug, Clone)]
pub struct Enrollment(pub Arc<Context>);

#[tonic::async_trait]
impl pb::enrollment_server::Enrollment for Enrollment {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let request = request.into_inner();
        let csr = authority::Request::parse(&request.csr)?;
        let key = csr.key();
        let using = self
            .0
            .editor
            .use_token(&request.name, &request.secret, &key, now());
        let name = using.await.map_err(|error| {
            tracing::warn!(agent = request.name.escape_debug().to_string(), %error, "join refused");
            Status::from(error)
        })?;
        self.issue(&csr, &name)
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let Caller::Agent(name) = caller(&request) else {
            return Err(status::denied("only an agent renews its certificate"));
        };
        if self.0.registry.agent(&name).is_none() {
            return Err(status::denied(format!(
                "the agent `{name}` is not registered any more"
            )));
        }
        let csr = authority::Request::parse(&request.into_inner().csr)?;
        tracing::info!(agent = %name, "certificate renewed");
        self.issue(&csr, &name)
    }
}

impl Enrollment {
    fn issue(
        &self,
        csr: &authority::Request,
        name: &AgentName,
    ) -> Result<Response<pb::Credentials>, Status> {
        let issued = self.0.authority.issue_agent(csr, name, now());
        let chain = issued?;
        Ok(Response::new(pb::Credentials {
            chain: chain.into_iter().map(Into::into).collect(),
            authority: self.0.authority.certificate().to_vec().into(),
        }))
    }
}
