//! The doors for `wget`, `curl`, cron and routers: `/etrn` and `/intern/etrn.cgi` with HTTP Basic, and `/wake/SECRET`.
//!
//! GET works, for that is what these clients send; its only effect can be repeated without harm.
//!
//! # Invariants
//! The secret in a URL is in no log line and in no answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dd_proto::name::SiteName;
use dd_proto::units;

use super::members::SignIn;
use super::outcome::Outcome;
use super::{Asker, Door, NotReleased};
use crate::limit::{Place, Who};
use crate::web::Web;
use crate::web::basic::Basic;
use crate::web::client::Client;
use crate::web::fields::Fields;

/// Longer than this no web client waits.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// `/etrn` and `/intern/etrn.cgi`.
pub(crate) async fn etrn(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let Some(Basic { user, password }) = Basic::of(&headers) else {
        return challenge();
    };
    match web
        .wakeup
        .members()
        .sign_in(&user, password, client, Door::Url)
        .await
    {
        SignIn::As(site) => {
            place.belongs_to(Who::Known(site.name.as_str().into()));
            release(&web, &site.name, client, Door::Url, &headers, &fields).await
        }
        SignIn::Wrong => challenge(),
        SignIn::TooOften(wait) => too_often(wait),
        SignIn::Busy => busy(),
    }
}

/// `/wake/SECRET`.
pub(crate) async fn wake(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Extension(place): Extension<Place>,
    Path(secret): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let found = web.wakeup.registry().site_by_wake_secret(&secret);
    match found {
        Some(site) => {
            place.belongs_to(Who::Known(site.name.as_str().into()));
            let released = release(&web, &site.name, client, Door::Secret, &headers, &fields);
            let response = released.await;
            let is_router = fields.has_more_than("wait") && !wants_json(&headers);
            match is_router {
                true => for_router(response, fields.get("wait").is_some()).await,
                false => response,
            }
        }
        None => (StatusCode::NOT_FOUND, "no such page\n").into_response(),
    }
}

/// For DynDNS clients that are given this URL, and that add something of their own to it: they look for a word of dyndns2, take
/// everything else for a failure, and some end for good on a 4xx. So what passes by itself is 503 and `911`, as at
/// `/nic/update`, and a call that was heard is `good`, though its site is held. `waits`: it asked for what came of it.
async fn for_router(response: Response, waits: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    match parts.status {
        StatusCode::TOO_MANY_REQUESTS => {
            parts.status = StatusCode::SERVICE_UNAVAILABLE;
            parts.headers.remove(header::CONTENT_LENGTH);
            return (parts.status, parts.headers, "911\n").into_response();
        }
        StatusCode::CONFLICT if !waits => parts.status = StatusCode::OK,
        StatusCode::OK => {}
        _ => return Response::from_parts(parts, body),
    }
    let said = axum::body::to_bytes(body, 64 * 1024).await;
    let said = said.unwrap_or_default();
    let mut headers = parts.headers;
    headers.remove(header::CONTENT_LENGTH);
    let text = format!("{}good\n", String::from_utf8_lossy(&said));
    (parts.status, headers, text).into_response()
}

async fn release(
    web: &Web,
    site: &SiteName,
    client: IpAddr,
    door: Door,
    headers: &HeaderMap,
    fields: &Fields,
) -> Response {
    let wait = match fields.get("wait").map(wait) {
        None => None,
        Some(Some(wait)) => Some(wait).filter(|wait| !wait.is_zero()),
        Some(None) => {
            let says = "wait is no time: expected seconds, such as wait=20\n";
            return (StatusCode::BAD_REQUEST, says).into_response();
        }
    };
    let asker = Asker::Member { client, door };
    match web.wakeup.release(site, &asker, wait).await {
        Ok(released) => said(&Outcome::of(site, released), headers),
        Err(NotReleased::TooOften(wait)) => too_often(wait),
        Err(NotReleased::Unknown) => (StatusCode::NOT_FOUND, "no such site\n").into_response(),
    }
}

/// `20`, `20s`, `1m`.
fn wait(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| units::parse_duration(text).ok())?;
    Some(wait.min(MAX_WAIT))
}

/// What came of it: the status for scripts, the text for people, JSON for those who ask for it.
pub(super) fn said(outcome: &Outcome, headers: &HeaderMap) -> Response {
    let status = match outcome.result {
        "pending" => StatusCode::ACCEPTED,
        "held" => StatusCode::CONFLICT,
        "wrong-host" | "refused" => StatusCode::BAD_GATEWAY,
        "not-reached" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::OK,
    };
    if wants_json(headers) {
        return (status, axum::Json(outcome)).into_response();
    }
    (status, format!("{}\n", outcome.sentence())).into_response()
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

/// Old clients send credentials only after this.
fn challenge() -> Response {
    let headers = [(
        header::WWW_AUTHENTICATE,
        r#"Basic realm="mail delivery", charset="UTF-8""#,
    )];
    let says = "sign in with the name of your site and its password\n";
    (StatusCode::UNAUTHORIZED, headers, says).into_response()
}

pub(crate) fn too_often(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let headers = [(header::RETRY_AFTER, seconds.to_string())];
    let says = format!("too many requests: try again in {seconds} seconds\n");
    (StatusCode::TOO_MANY_REQUESTS, headers, says).into_response()
}

pub(crate) fn busy() -> Response {
    let headers = [(header::RETRY_AFTER, "5")];
    let says = "busy: try again in a few seconds\n";
    (StatusCode::SERVICE_UNAVAILABLE, headers, says).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_seconds_and_bounded() {
        for (text, expected) in [
            ("20", Some(20)),
            ("20s", Some(20)),
            ("1m", Some(60)),
            ("0", Some(0)),
            ("86400", Some(120)),
            ("-1", None),
            ("", None),
            ("20\r\nX: y", None),
        ] {
            assert_eq!(wait(text), expected.map(Duration::from_secs), "{text:?}");
        }
    }
}
