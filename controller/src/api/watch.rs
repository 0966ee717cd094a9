//! `dd.v1.Watch`.

use std::sync::Arc;

use dd_proto::name::SiteName;
use dd_proto::pb;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::produced::{Items, Produced};
use super::{Context, now, status};
use crate::config::effective::Setting;
use crate::events::{self, Happened};

/// Entries where nobody says how many.
const AUDIT_SHOWN: usize = 50;

#[derive(Debug, Clone)]
pub struct Watch(pub Arc<Context>);

#[tonic::async_trait]
impl pb::watch_server::Watch for Watch {
    type EventsStream = Produced<pb::LiveEvent>;

    async fn events(
        &self,
        request: Request<pb::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let site = match request.into_inner().site {
            all if all.is_empty() => all,
            name => {
                let parsed = name.parse::<SiteName>().ok();
                let known = parsed.and_then(|name| self.0.registry.site(&name));
                let known = known.ok_or_else(|| status::unknown("site", &name))?;
                known.name.to_string()
            }
        };
        // Before the answer, so that nothing is missed after it.
        let live = events::subscribe();
        Ok(Response::new(Produced::by(|items| {
            watch(site, live, items)
        })))
    }

    type AuditStream = Produced<pb::AuditEntry>;

    async fn audit(
        &self,
        request: Request<pb::AuditRequest>,
    ) -> Result<Response<Self::AuditStream>, Status> {
        let last = match request.into_inner().last {
            0 => AUDIT_SHOWN,
            last => usize::try_from(last).unwrap_or(usize::MAX),
        };
        let entries = self.0.editor.audited(last).await;
        let entries = entries.map_err(|error| status::trouble(&error))?;
        Ok(Response::new(Produced::by(|items| async move {
            for entry in entries {
                let entry = pb::AuditEntry {
                    at_ms: entry.at.as_millisecond(),
                    who: entry.who,
                    what: entry.what,
                };
                if items.send(Ok(entry)).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn config(
        &self,
        _: Request<pb::ConfigRequest>,
    ) -> Result<Response<pb::Configuration>, Status> {
        let configuration = &self.0.facts.configuration;
        let setting = |it: &Setting| pb::Setting {
            key: it.key.clone(),
            value: it
                .value
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            line: it.line.and_then(|line| line.try_into().ok()).unwrap_or(0),
        };
        Ok(Response::new(pb::Configuration {
            path: configuration.path.display().to_string(),
            settings: configuration.settings.iter().map(setting).collect(),
            file_changed: configuration.has_changed(),
        }))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(super::standing::look(&self.0, now()).await))
    }
}

/// From now on; a watcher that is too slow is told how much it has missed.
async fn watch(
    site: String,
    mut live: broadcast::Receiver<Arc<Happened>>,
    items: Items<pb::LiveEvent>,
) {
    loop {
        let event = tokio::select! {
            event = live.recv() => event,
            () = items.closed() => return,
        };
        let event = match event {
            Ok(event) if site.is_empty() || event.is_about(&site) => shown(&event),
            Ok(_) => continue,
            Err(RecvError::Lagged(lost)) => pb::LiveEvent {
                kind: "lost".to_owned(),
                what: format!("{lost} events were missed"),
                at_ms: now().as_millisecond(),
                lost,
                ..pb::LiveEvent::default()
            },
            Err(RecvError::Closed) => return,
        };
        if items.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

fn shown(event: &Happened) -> pb::LiveEvent {
    let field = |(key, value): &(&str, String)| pb::EventField {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    pb::LiveEvent {
        at_ms: event.at.as_millisecond(),
        kind: event.kind.to_owned(),
        what: event.what.clone(),
        fields: event.fields.iter().map(field).collect(),
        lost: 0,
    }
}
