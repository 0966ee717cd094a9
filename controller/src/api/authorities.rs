//! `dd.v1.Authorities`.

use std::sync::Arc;

use bytes::Bytes;
use dd_pki::time::instant;
use dd_proto::domain::Domain;
use dd_proto::name::AuthorityName;
use dd_proto::pb;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::produced::Produced;
use super::{Context, at_ms, caller, now, status};
use crate::registry::authorities::{Authority, Origin};
use crate::registry::lists;
use crate::registry::own::{Rollover, StillUsed};

#[derive(Debug, Clone)]
pub struct Authorities(pub Arc<Context>);

#[tonic::async_trait]
impl pb::authorities_server::Authorities for Authorities {
    async fn import(
        &self,
        request: Request<pb::ImportAuthorityRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let name: AuthorityName = request
            .name
            .parse()
            .map_err(|error| status::invalid(format!("{error}")))?;
        let (certificates, lists) = (request.certificates, request.revocation_lists);
        let importing = self.0.editor.change(move |change| async move {
            change
                .import_authority(name, certificates, lists, who.who(), now())
                .await
        });
        Ok(Response::new(self.shown(&*importing.await?)))
    }

    async fn create(
        &self,
        request: Request<pb::CreateAuthorityRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let invalid = |error: &dyn std::fmt::Display| status::invalid(error.to_string());
        let name = request.name.parse().map_err(|error| invalid(&error))?;
        let permit = request.permit.iter().map(|text| text.parse());
        let permit: Result<Vec<Domain>, _> = permit.collect();
        let permit = permit.map_err(|error| invalid(&error))?;
        let created = self.0.editor.change(move |change| async move {
            change
                .create_authority(name, permit, who.who(), now())
                .await
        });
        Ok(Response::new(self.shown(&*created.await?)))
    }

    async fn rollover(
        &self,
        request: Request<pb::RolloverRequest>,
    ) -> Result<Response<pb::Authority>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let step = match request.finish {
            false => Rollover::Begin,
            true => Rollover::Finish(match request.force {
                true => StillUsed::CutOff,
                false => StillUsed::Refuse,
            }),
        };
        let rolled = self.0.editor.change(move |change| async move {
            change
                .roll_over(&request.name, step, who.who(), now())
                .await
        });
        Ok(Response::new(self.shown(&*rolled.await?)))
    }

    async fn remove(
        &self,
        request: Request<pb::AuthorityName>,
    ) -> Result<Response<pb::RemoveAuthorityResponse>, Status> {
        let who = caller(&request);
        let name = request.into_inner().name;
        let removing = self.0.editor.change(move |change| async move {
            change.remove_authority(&name, who.who(), now()).await
        });
        removing.await?;
        Ok(Response::new(pb::RemoveAuthorityResponse {}))
    }

    type ListStream = Produced<pb::Authority>;

    async fn list(
        &self,
        _: Request<pb::ListAuthoritiesRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let authorities = self.0.registry.authorities();
        let this = self.clone();
        Ok(Response::new(Produced::by(|items| async move {
            for authority in authorities {
                if items.send(Ok(this.shown(&authority))).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn show(
        &self,
        request: Request<pb::AuthorityName>,
    ) -> Result<Response<pb::Authority>, Status> {
        let name = request.into_inner().name;
        let parsed = name.parse::<AuthorityName>().ok();
        parsed
            .and_then(|name| self.0.registry.authority(&name))
            .map(|authority| Response::new(self.shown(&authority)))
            .ok_or_else(|| status::unknown("authority", &name))
    }
}

impl Authorities {
    /// With where a key is missing.
    fn shown(&self, authority: &Authority) -> pb::Authority {
        let mut shown = shown(authority);
        for certificate in &mut shown.certificates {
            let missing = self.0.editor.missing_key(authority, &certificate.der);
            certificate.missing_key =
                missing.map_or_else(String::new, |it| it.display().to_string());
        }
        shown
    }
}

fn shown(authority: &Authority) -> pb::Authority {
    let (own, permit) = match &authority.origin {
        Origin::Imported => (false, Vec::new()),
        Origin::Own { permit } => (true, permit.iter().map(ToString::to_string).collect()),
    };
    pb::Authority {
        name: authority.name.to_string(),
        version: authority.version,
        certificates: authority.certificates.iter().map(certificate).collect(),
        revocation_lists: authority.revocation_lists.iter().map(list).collect(),
        own,
        permit,
    }
}

fn list(der: &Bytes) -> pb::RevocationList {
    let plain = pb::RevocationList {
        der: der.clone(),
        ..pb::RevocationList::default()
    };
    match lists::summary(der) {
        None => plain,
        Some(it) => pb::RevocationList {
            issuer: it.issuer,
            number: it.number,
            this_update_ms: it.this_update.as_millisecond(),
            next_update_ms: at_ms(it.next_update),
            revoked: it.revoked as u64,
            ..plain
        },
    }
}

fn certificate(der: &Bytes) -> pb::AuthorityCertificate {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let plain = pb::AuthorityCertificate {
        der: der.clone(),
        sha256: hex(&Sha256::digest(der)),
        ..pb::AuthorityCertificate::default()
    };
    // What the registry holds was parsed when it came in; shown it is even if that should ever fail.
    let Ok((_, parsed)) = X509Certificate::from_der(der) else {
        return plain;
    };
    let validity = parsed.validity();
    pb::AuthorityCertificate {
        subject: parsed.subject().to_string(),
        not_before_ms: instant(validity.not_before).as_millisecond(),
        not_after_ms: instant(validity.not_after).as_millisecond(),
        ..plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_listed_with_the_last_time_there_is() {
        let pem = include_bytes!("../../../proto/pki/tests/data/authority-endless.pem");
        let endless = dd_proto::pem::read_one(pem, dd_proto::pem::Kind::Certificate).unwrap();
        let listed = certificate(&endless.into());
        let last = jiff::Timestamp::MAX.as_millisecond();
        assert_eq!(listed.not_after_ms, last);
    }
}
