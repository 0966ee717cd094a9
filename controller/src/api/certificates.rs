//! `dd.v1.Certificates`: what our own authorities issue to members.

use std::sync::Arc;

use dd_proto::fingerprint::Fingerprint;
use dd_proto::name::SiteName;
use dd_proto::pb;
use tonic::{Request, Response, Status};

use super::produced::Produced;
use super::{Context, at_ms, caller, now, status};
use crate::registry::Registry;
use crate::registry::issued::Issued;

#[derive(Debug, Clone)]
pub struct Certificates(pub Arc<Context>);

#[tonic::async_trait]
impl pb::certificates_server::Certificates for Certificates {
    async fn issue(
        &self,
        request: Request<pb::IssueCertificateRequest>,
    ) -> Result<Response<pb::IssuedCertificate>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let days = (request.days > 0).then_some(request.days);
        let issuing = self.0.editor.change(move |change| async move {
            let csr = (!request.csr.is_empty()).then_some(&request.csr[..]);
            change
                .issue_certificate(&request.site, csr, days, who.who(), now())
                .await
        });
        let issue = issuing.await?;
        Ok(Response::new(pb::IssuedCertificate {
            summary: Some(shown(&issue.issued, &self.0.registry)),
            chain: issue.chain,
            anchors: issue.anchors,
            private_key: issue.private_key.unwrap_or_default().into(),
        }))
    }

    type ListStream = Produced<pb::CertificateSummary>;

    async fn list(
        &self,
        request: Request<pb::ListCertificatesRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let site = request.into_inner().site;
        let mut all = self.0.registry.all_issued();
        all.retain(|it| site.is_empty() || it.site.as_str() == site);
        let parsed: Option<SiteName> = site.parse().ok();
        let is_site = parsed.is_some_and(|name| self.0.registry.site(&name).is_some());
        // Those of a site that was removed are still shown.
        if all.is_empty() && !site.is_empty() && !is_site {
            return Err(status::unknown("site", &site));
        }
        let registry = self.0.registry.clone();
        all.sort_by(|a, b| (&a.site, a.not_before).cmp(&(&b.site, b.not_before)));
        Ok(Response::new(Produced::by(|items| async move {
            for issued in all {
                if items.send(Ok(shown(&issued, &registry))).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn revoke(
        &self,
        request: Request<pb::CertificateSerial>,
    ) -> Result<Response<pb::CertificateSummary>, Status> {
        let who = caller(&request);
        let serial = request.into_inner().serial;
        let revoking = self.0.editor.change(move |change| async move {
            change.revoke_certificate(&serial, who.who(), now()).await
        });
        let revoked = revoking.await?;
        Ok(Response::new(shown(&revoked, &self.0.registry)))
    }
}

fn shown(issued: &Issued, registry: &Registry) -> pb::CertificateSummary {
    pb::CertificateSummary {
        retired: registry.is_retired(issued),
        serial: issued.serial_text(),
        site: issued.site.to_string(),
        authority: issued.authority.to_string(),
        name: issued.name.to_string(),
        not_before_ms: issued.not_before.as_millisecond(),
        not_after_ms: issued.not_after.as_millisecond(),
        revoked_ms: at_ms(issued.revoked),
        sha256: Fingerprint(issued.sha256).to_string(),
        spki_sha256: Fingerprint(issued.spki_sha256).to_string(),
    }
}
