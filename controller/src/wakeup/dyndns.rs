//! The door for routers that can only tell a new address: `/nic/update`, the dyndns2 protocol.
//!
//! Its words are what clients act on. What passes by itself is `911`, with 503 and a time: clients ask again. `abuse` means
//! blocked until a person intervenes, for which inadyn ends and others stop for good; it is never said.
//!
//! # Invariants
//! The addresses are shown and never used: mail goes to the configured host.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dd_proto::domain::Domain;
use dd_proto::site::{HostName, Site};

use super::members::SignIn;
use super::reported::Reported;
use super::{Asker, Door, NotReleased};
use crate::limit::{Place, Who};
use crate::web::Web;
use crate::web::basic::Basic;
use crate::web::client::Client;
use crate::web::fields::Fields;

/// Too busy to compare a password: again after this time.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) async fn update(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let Some(Basic { user, password }) = Basic::of(&headers).or_else(|| in_query(&fields)) else {
        return badauth();
    };
    let members = web.wakeup.members();
    let signing_in = members.sign_in(&user, password, client, Door::DynDns);
    let site = match signing_in.await {
        SignIn::As(site) => {
            place.belongs_to(Who::Known(site.name.as_str().into()));
            site
        }
        SignIn::Wrong => return badauth(),
        SignIn::TooOften(wait) => return again_later(wait),
        SignIn::Busy => return again_later(BUSY),
    };
    let names = names(&fields);
    if names.is_empty() {
        return "notfqdn\n".into_response();
    }
    if !names.iter().any(|name| is_own(&site, name)) {
        return "nohost\n".repeat(names.len()).into_response();
    }
    let values = fields.all("myip").chain(fields.all("myipv6"));
    let reported = Reported::parse(values.chain(fields.all("myip6"))).or(client);
    answer(&web, &site, &names, client, reported).await
}

async fn answer(
    web: &Web,
    site: &Site,
    names: &[&str],
    client: IpAddr,
    reported: Reported,
) -> Response {
    let before = web.wakeup.last_call(&site.name);
    let asker = Asker::Member {
        client,
        door: Door::DynDns,
    };
    match web.wakeup.release(&site.name, &asker, None).await {
        Ok(_) => {}
        Err(NotReleased::TooOften(wait)) => return again_later(wait),
        Err(NotReleased::Unknown) => return "nohost\n".repeat(names.len()).into_response(),
    }
    let client = client.to_canonical();
    web.wakeup
        .called(&site.name, Door::DynDns, client, Some(reported));
    let same = before.and_then(|call| call.reported) == Some(reported);
    let word = match same {
        true => "nochg",
        false => "good",
    };
    let line = |name: &&str| match is_own(site, name) {
        true => format!("{word} {reported}\n"),
        false => "nohost\n".to_owned(),
    };
    names.iter().map(line).collect::<String>().into_response()
}

/// Every name that was asked about, in order: several fields, lists with commas or blanks.
fn names(fields: &Fields) -> Vec<&str> {
    let values = fields.all("hostname");
    values
        .flat_map(|value| value.split([',', ' ']))
        .filter(|name| !name.is_empty() && !name.contains("://"))
        .collect()
}

/// Routers without HTTP Basic have both in their URL.
fn in_query(fields: &Fields) -> Option<Basic> {
    let user = ["user", "username"]
        .into_iter()
        .find_map(|it| fields.get(it));
    let password = ["password", "pass"].into_iter();
    let password = password.filter_map(|it| fields.get(it)).next();
    Some(Basic {
        user: user?.to_owned(),
        password: password?.to_owned(),
    })
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
    let challenge = r#"Basic realm="dyndns", charset="UTF-8""#;
    let headers = [(header::WWW_AUTHENTICATE, challenge)];
    (StatusCode::UNAUTHORIZED, headers, "badauth\n").into_response()
}

fn again_later(wait: Duration) -> Response {
    let headers = [(header::RETRY_AFTER, (wait.as_secs() + 1).to_string())];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "911\n").into_response()
}
