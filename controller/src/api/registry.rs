//! `dd.v1.Registry`: the registry as one file.

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::pb;
use tonic::{Request, Response, Status, Streaming};

use super::produced::Produced;
use super::{Context, caller, now, status};
use crate::registry::apply::How;

/// A hundred thousand sites take some 60 MiB.
const MAX_FILE_BYTES: usize = 256 << 20;
/// Of each part that is sent.
const PART: usize = 256 << 10;

#[derive(Debug, Clone)]
pub struct Registry(pub Arc<Context>);

#[tonic::async_trait]
impl pb::registry_server::Registry for Registry {
    type ExportStream = Produced<pb::RegistryPart>;

    async fn export(
        &self,
        request: Request<pb::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let who = caller(&request);
        let mut text = Bytes::from(self.0.registry.export());
        // It holds every hash there is.
        let editor = &self.0.editor;
        editor.audit(now(), who.who(), "the registry was exported");
        Ok(Response::new(Produced::by(|items| async move {
            while !text.is_empty() {
                let text = text.split_to(PART.min(text.len()));
                let part = pb::RegistryPart {
                    text,
                    dry_run: false,
                };
                if items.send(Ok(part)).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn apply(
        &self,
        request: Request<Streaming<pb::RegistryPart>>,
    ) -> Result<Response<pb::Applied>, Status> {
        let who = caller(&request);
        let mut parts = request.into_inner();
        let mut file = Vec::new();
        let mut how = How::Apply;
        while let Some(part) = parts.message().await? {
            if file.len() + part.text.len() > MAX_FILE_BYTES {
                return Err(status::too_much(
                    "the file is larger than 256 MiB: apply it in several",
                ));
            }
            file.extend_from_slice(&part.text);
            if part.dry_run {
                how = How::Try;
            }
        }
        let text = String::from_utf8(file).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            status::invalid(format!("line {line}: not UTF-8: expected a TOML file"))
        })?;
        let applying = self
            .0
            .editor
            .change(move |change| async move { change.apply(&text, how, who.who(), now()).await });
        let applied = applying.await?;
        Ok(Response::new(pb::Applied {
            added: applied.added,
            changed: applied.changed,
            unchanged: applied.unchanged,
            lacks: applied.lacks,
            not_taken: applied.not_taken,
        }))
    }
}
