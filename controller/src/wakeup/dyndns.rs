//! The door for routers that can only tell a new address: `/nic/update`, the dyndns2 protocol.
//!
//! # Invariants
//! The address is shown and never used: mail goes to the configured host.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dd_proto::domain::Domain;
use dd_proto::site::{HostName, Site};

use super::members::SignIn;
use super::{Asker, Door};
use crate::web::Web;
use crate::web::basic::Basic;
use crate::web::client::Client;
use crate::web::fields::Fields;

const MOST_NAMES: usize = 20;

pub async fn update(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let Some(Basic { user, password }) = Basic::of(&headers) else {
        return badauth();
    };
    let site = match web.wakeup.members().sign_in(&user, password, client).await {
        SignIn::As(site) => site,
        SignIn::Wrong => return badauth(),
        SignIn::TooOften(_) => return (StatusCode::TOO_MANY_REQUESTS, "abuse\n").into_response(),
        SignIn::Busy => return (StatusCode::SERVICE_UNAVAILABLE, "911\n").into_response(),
    };
    let names = fields.get("hostname").unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).take(MOST_NAMES).collect();
    if names == [""] {
        return "notfqdn\n".into_response();
    }
    if !names.iter().any(|name| is_own(&site, name)) {
        return "nohost\n".repeat(names.len()).into_response();
    }
    let reported = fields.get("myip").and_then(|text| text.parse().ok());
    let address: IpAddr = reported.unwrap_or(client).to_canonical();
    answer(&web, &site, &names, client, address).await
}

async fn answer(
    web: &Web,
    site: &Site,
    names: &[&str],
    client: IpAddr,
    address: IpAddr,
) -> Response {
    let before = web.wakeup.last_call(&site.name);
    let asker = Asker::Member {
        client,
        door: Door::DynDns,
    };
    if web.wakeup.release(&site.name, &asker, None).await.is_err() {
        return (StatusCode::TOO_MANY_REQUESTS, "abuse\n").into_response();
    }
    let client = client.to_canonical();
    web.wakeup
        .called(&site.name, Door::DynDns, client, Some(address));
    let same = before.and_then(|call| call.reported) == Some(address);
    let word = match same {
        true => "nochg",
        false => "good",
    };
    let line = |name: &&str| match is_own(site, name) {
        true => format!("{word} {address}\n"),
        false => "nohost\n".to_owned(),
    };
    names.iter().map(line).collect::<String>().into_response()
}

/// The name of the site, one of its domains, or one of its hosts.
fn is_own(site: &Site, name: &str) -> bool {
    let Ok(domain) = name.parse::<Domain>() else {
        return false;
    };
    let is_host = |host: &dd_proto::site::Host| host.name == HostName::Dns(domain.clone());
    site.name.as_str() == domain.as_str()
        || site.domains.contains(&domain)
        || site.hosts.iter().any(is_host)
}

/// The status for clients that wait for a challenge, the word for those that read it.
fn badauth() -> Response {
    let headers = [(header::WWW_AUTHENTICATE, r#"Basic realm="dyndns""#)];
    (StatusCode::UNAUTHORIZED, headers, "badauth\n").into_response()
}
