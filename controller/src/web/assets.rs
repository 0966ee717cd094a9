//! The style sheet, the script and the icon, compiled in.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::response::Response;
use sha2::{Digest as _, Sha256};

use super::outbound::tagged;

const STYLE: &str = include_str!("../../assets/portal.css");
const SCRIPT: &str = include_str!("../../assets/portal.js");
const ICON: &str = include_str!("../../assets/icon.svg");

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::new()
        .chain_update(STYLE)
        .chain_update(SCRIPT)
        .finalize();
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
});

pub(super) fn version() -> &'static str {
    &VERSION
}

pub(super) async fn style(headers: HeaderMap) -> Response {
    tagged("text/css; charset=utf-8", STYLE, &headers)
}

pub(super) async fn script(headers: HeaderMap) -> Response {
    tagged("text/javascript; charset=utf-8", SCRIPT, &headers)
}

pub(super) async fn icon(headers: HeaderMap) -> Response {
    tagged("image/svg+xml", ICON, &headers)
}
