//! `/outbound.txt` and `/outbound.json`: where mail comes from, for members' firewalls. Public, and cheap to ask often.
//!
//! An agent's addresses are published from `agent add` on, also before it works.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Web;

/// What members let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outbound {
    pub addresses: Vec<String>,
    pub networks: Vec<String>,
}

impl Outbound {
    pub fn of(web: &Web) -> Self {
        let addresses = web.wakeup.registry().agent_addresses();
        let mut networks = web.outbound_networks.clone();
        networks.sort_unstable();
        networks.dedup();
        Self {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            networks: networks.iter().map(ToString::to_string).collect(),
        }
    }

    /// One a line.
    pub fn lines(&self) -> String {
        let all = self.addresses.iter().chain(&self.networks);
        all.map(|it| format!("{it}\n")).collect()
    }
}

pub async fn text(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    let lines = Outbound::of(&web).lines();
    tagged("text/plain; charset=utf-8", lines, &headers)
}

pub async fn json(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    match serde_json::to_string(&Outbound::of(&web)) {
        Ok(json) => tagged("application/json", json + "\n", &headers),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// With an ETag, and 304 for who has it already: RFC 9110 §13.1.2.
pub(super) fn tagged(kind: &'static str, body: impl Into<String>, headers: &HeaderMap) -> Response {
    let body = body.into();
    let digest = Sha256::digest(body.as_bytes());
    let tag: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get_all(header::IF_NONE_MATCH);
    let known = known.iter().filter_map(|it| it.to_str().ok());
    let is_known = known
        .flat_map(|it| it.split(','))
        .any(|it| matches!(it.trim().trim_start_matches("W/"), it if it == tag || it == "*"));
    let meta = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, kind.to_owned()),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, meta).into_response(),
        false => (meta, body).into_response(),
    }
}
