//! The plain HTTP door for machines that watch: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use super::Sources;
use crate::limit::{Full, Room, Rooms, Seats};
use crate::listen::Listeners;
use crate::web::listener::{self, Door};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Few machines watch, and each asks for one page at a time.
const ROOMS: Rooms = Rooms {
    strangers: ROOM,
    trusted: ROOM,
    known: ROOM,
};
const ROOM: Room = Room {
    host: 16,
    network: 32,
    all: 64,
    full: Full::OldestEnds,
};

/// Serves until dropped.
pub(crate) async fn serve(listeners: Listeners, sources: Sources) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(sources));
    let door = Door {
        listeners,
        tls: None,
        proxies: Vec::new(),
        seats: Seats::new("metrics", ROOMS),
    };
    listener::serve(door, router).await;
}

/// 200 while mail is taken; else 503 and why, a line each.
async fn ready(State(sources): State<Arc<Sources>>) -> Response {
    let reasons = sources.not_ready();
    if !reasons.is_empty() {
        let text = reasons.join("\n") + "\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let progress = sources.store.progress();
    match *sources.store.all_known().borrow() {
        true => "ready\n".into_response(),
        false => {
            let percent = progress.percent();
            format!("ready; the queue of earlier starts is being read ({percent} %)\n")
                .into_response()
        }
    }
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    match sources.page(now()).await.into_text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a look is taken when somebody asks for it; the list takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
