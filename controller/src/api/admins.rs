//! `dd.v1.Admins`: who may administer from another machine.

use std::sync::Arc;

use dd_proto::name::AdminName;
use dd_proto::pb;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::produced::Produced;
use super::{Context, at_ms, caller, now, status};
use crate::authority;
use crate::registry::admins::{AdminRecord, AdminRole, Origin};

#[derive(Debug, Clone)]
pub struct Admins(pub Arc<Context>);

#[tonic::async_trait]
impl pb::admins_server::Admins for Admins {
    async fn add(
        &self,
        request: Request<pb::AddAdminRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let name: AdminName = request
            .name
            .parse()
            .map_err(|error| status::invalid(format!("{error}")))?;
        let role: AdminRole = request
            .role
            .parse()
            .map_err(|error| status::invalid(format!("{error}")))?;
        let csr = authority::Request::parse(&request.csr)?;
        let at = now();
        let admin = AdminRecord {
            name: name.clone(),
            role,
            key: Some(csr.key()),
            until: authority::admin_until(at),
            origin: Origin::Asked,
            seen: None,
        };
        let adding = self
            .0
            .editor
            .change(move |change| async move { change.add_admin(admin, who.who(), at).await });
        adding.await?;
        self.credentials(self.0.authority.issue_admin(&csr, &name, at)?)
    }

    type ListStream = Produced<pb::AdminStatus>;

    async fn list(
        &self,
        _: Request<pb::ListAdminsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let admins = self.0.registry.admins();
        Ok(Response::new(Produced::by(|items| async move {
            for (admin, seen) in admins {
                let shown = pb::AdminStatus {
                    name: admin.name.to_string(),
                    role: admin.role.to_string(),
                    not_after_ms: admin.until.as_millisecond(),
                    last_seen_ms: at_ms(seen),
                };
                if items.send(Ok(shown)).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn remove(
        &self,
        request: Request<pb::AdminName>,
    ) -> Result<Response<pb::RemoveAdminResponse>, Status> {
        let who = caller(&request);
        let name = request.into_inner().name;
        let removing = self.0.editor.change(move |change| async move {
            change.remove_admin(&name, who.who(), now()).await
        });
        removing.await?;
        Ok(Response::new(pb::RemoveAdminResponse {}))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewAdminRequest>,
    ) -> Result<Response<pb::Credentials>, Status> {
        let who = caller(&request);
        let Caller::Admin(admin) = who.clone() else {
            return Err(status::refused(
                "the local socket needs no certificate: only an administrator with one renews it",
            ));
        };
        let csr = authority::Request::parse(&request.into_inner().csr)?;
        let (name, key, at) = (admin.name.clone(), csr.key(), now());
        let renewing = self.0.editor.change(move |change| async move {
            let until = authority::admin_until(at);
            change.renew_admin(&name, key, until, who.who(), at).await
        });
        renewing.await?;
        self.credentials(self.0.authority.issue_admin(&csr, &admin.name, at)?)
    }
}

impl Admins {
    fn credentials(&self, chain: Vec<Vec<u8>>) -> Result<Response<pb::Credentials>, Status> {
        Ok(Response::new(pb::Credentials {
            chain: chain.into_iter().map(Into::into).collect(),
            authority: self.0.authority.certificate().to_vec().into(),
        }))
    }
}
