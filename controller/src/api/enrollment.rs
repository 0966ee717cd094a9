//! `dd.v1.Enrollment`: certificates for agents.

use std::sync::Arc;

use dd_proto::name::AgentName;
use dd_proto::pb;
use tonic::{Request, Response, Status};

use super::caller::{AgentId, Caller};
use super::{Context, caller, now, status};
use crate::authority;
use crate::limit::line::{Sparing, cut};
use crate::registry::ChangeError;
use crate::registry::own::Certified;

/// Anybody can ask to join.
static REFUSED: Sparing = Sparing::one_a_second();

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
        let context = self.0.clone();
        let using = self.0.editor.change(move |change| async move {
            let (name, secret) = (&request.name, &request.secret);
            match change.use_token(name, secret, key, now()).await {
                Ok(name) => {
                    context.attached.cut_others(&name, key);
                    Ok(name)
                }
                Err(error) => {
                    if let Some(unsaid) = REFUSED.due(now()) {
                        tracing::warn!(agent = cut(name), %error, unsaid, "join refused");
                    }
                    Err(Status::from(error))
                }
            }
        });
        let name = using.await?;
        self.issue(&csr, &name)
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        // One whose certificate has ended comes as far as this, and no further: see `roles`.
        let (Caller::Agent(agent) | Caller::Lapsed(agent)) = caller(&request) else {
            return Err(status::denied("only an agent renews its certificate"));
        };
        let csr = of_its_key(&request.into_inner().csr, &agent)?;
        tracing::info!(agent = %agent.name, "certificate renewed");
        self.issue(&csr, &agent.name)
    }

    async fn certify(
        &self,
        request: Request<pb::CertifyRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let Caller::Agent(agent) = caller(&request) else {
            return Err(status::denied("only an agent is certified for sites"));
        };
        let request = request.into_inner();
        let csr = of_its_key(&request.csr, &agent)?;
        let certifying = self.0.editor.change(move |change| async move {
            let (authority, key) = (&request.authority, csr.public_key());
            let certified = change.certify_agent(authority, &agent.name, key, now())?;
            tracing::info!(agent = %agent.name, authority, "certificate for sites issued");
            Ok::<_, ChangeError>(certified)
        });
        let Certified {
            certificate,
            signer,
        } = certifying.await?;
        Ok(Response::new(pb::Credentials {
            chain: vec![certificate, signer.clone()],
            authority: signer,
        }))
    }
}

/// # Errors
/// It is for another key than the agent's.
fn of_its_key(csr: &[u8], agent: &AgentId) -> Result<authority::Request, Status> {
    let csr = authority::Request::parse(csr)?;
    match csr.key() == agent.key {
        true => Ok(csr),
        false => Err(status::invalid(
            "an agent is certified for the key that it has: for another one, join with a token of `ddadm agent token`",
        )),
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
