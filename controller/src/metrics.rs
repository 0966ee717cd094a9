//! Every metric in one list, and the plain HTTP door they are read through: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::dispatch::Handle;
use crate::dsn::Notifier;
use crate::store::Store;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted where it happens; the rest is asked for when somebody looks.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub accepted: Counter,
}

/// Whom the rest is asked of.
#[derive(Debug, Clone)]
pub struct Sources {
    pub metrics: Metrics,
    pub store: Store,
    pub dispatch: Handle,
    pub notifier: Notifier,
}

/// Serves until dropped.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, sources: Sources) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(sources));
    axum::serve(listener, router).await
}

async fn ready(State(sources): State<Arc<Sources>>) -> Response {
    match *sources.store.all_known().borrow() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not all known yet\n").into_response(),
    }
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    let registry = sources.gather().await;
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Sources {
    async fn gather(&self) -> Registry {
        let total = self.store.total();
        let counters = self.dispatch.counters().await;
        let agents = self.dispatch.agent_views().await;
        let connected = agents
            .iter()
            .filter(|it| it.state != "disconnected")
            .count();
        let mut registry = Registry::with_prefix("dd");
        registry.register(
            "accepted_messages",
            "Messages accepted since the start",
            self.metrics.accepted.clone(),
        );
        let mut gauge = |name, help, value: u64| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        gauge("queued_deliveries", "Deliveries that wait", total.messages);
        gauge("queued_bytes", "Bytes that wait", total.bytes);
        gauge(
            "in_doubt",
            "Deliveries that may have arrived twice",
            counters.in_doubt,
        );
        gauge(
            "duplicates",
            "Acceptances for recipients that were settled already",
            counters.duplicates,
        );
        let written = self.notifier.counters();
        for (name, help, value) in [
            (
                "dsn_failed",
                "Reports of failures written since the start",
                written.failed,
            ),
            (
                "dsn_delayed",
                "Reports of delays written since the start",
                written.delayed,
            ),
            (
                "dsn_relayed",
                "Reports of success written since the start",
                written.relayed,
            ),
            (
                "dsn_capped",
                "Reports put off because their sender had many",
                written.capped,
            ),
            (
                "dsn_undeliverable",
                "Reports that the smarthost did not take",
                written.undeliverable,
            ),
            (
                "notices",
                "Mails written to the contacts of sites",
                written.notices,
            ),
        ] {
            gauge(name, help, value);
        }
        gauge(
            "agents_connected",
            "Agents that are attached",
            connected as u64,
        );
        registry
    }
}
