//! `dd.v1.Watch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::site::Site;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::produced::{Items, Produced};
use super::{Context, Knowledge, now, status};
use crate::dsn::smarthost;
use crate::events::{self, Happened};
use crate::store::{Progress, Stage};

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

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let context = &self.0;
        let total = context.store.total();
        let counters = context.dispatch.counters().await;
        let agents = context.dispatch.agent_views().await;
        let connected = agents.iter().filter(|it| it.state != "disconnected");
        let connected = u32::try_from(connected.count()).unwrap_or(u32::MAX);
        let mut alarms = context.registry.alarms();
        let authorities = context.registry.authorities();
        alarms.extend(authorities.iter().flat_map(|it| it.alarms(now())));
        alarms.extend(context.store.alarms());
        alarms.extend(context.facts.alarms.iter().cloned());
        if context.registry.agents().is_empty() {
            alarms
                .push("no agent is registered: run `ddadm agent add NAME --address IP`".to_owned());
        } else if connected == 0 {
            alarms.push("no agent is connected: mail waits until one is".to_owned());
        }
        let unsent = context.store.count(&smarthost::name()).messages;
        let held = |site: Arc<Site>| site.hold.is_some();
        if unsent > 0 && context.registry.smarthost().is_some_and(held) {
            alarms.push(format!(
                "{unsent} notifications wait, for no smarthost is configured: set `smarthost` in [notify] and start again"
            ));
        }
        Ok(Response::new(pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: context.facts.hostname.clone(),
            listeners: Some(context.facts.listeners.clone()),
            all_known: context.knows_all() == Knowledge::Complete,
            queued_messages: total.messages,
            queued_bytes: total.bytes,
            started_ms: context.facts.started.as_millisecond(),
            sites: self.sites_by_state().await,
            agents_connected: connected,
            in_doubt: counters.in_doubt,
            duplicates: counters.duplicates,
            alarms,
            reading: reading(context.store.progress()),
        }))
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

impl Watch {
    async fn sites_by_state(&self) -> Vec<pb::SiteCount> {
        let mut counts = BTreeMap::new();
        let mut views = self.0.dispatch.site_views().await;
        views.retain(|(name, _)| name.as_str() != smarthost::NAME);
        for (_, view) in views {
            *counts.entry(view.state).or_default() += 1;
        }
        let count = |(state, sites): (&str, u64)| pb::SiteCount {
            state: state.to_owned(),
            sites,
        };
        counts.into_iter().map(count).collect()
    }
}

/// What is being done until all is known; None then.
fn reading(progress: Progress) -> Option<pb::Reading> {
    let what = match progress.stage {
        Stage::Opening | Stage::Checking => "checking",
        Stage::Rebuilding => "rebuilding",
        Stage::NoRoom { .. } => "no-room",
        Stage::Done => return None,
    };
    Some(pb::Reading {
        what: what.to_owned(),
        percent: u32::try_from(progress.percent()).unwrap_or(100),
        records: progress.records,
    })
}
