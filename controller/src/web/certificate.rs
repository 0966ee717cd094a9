//! A certificate of the provider's own authority, for the site of the session: asked for with a request, and downloaded.
//!
//! What was issued is on record, and can be downloaded at any later time, for it is public.
//!
//! # Invariants
//! - A private key that was sent by mistake is neither kept nor logged, and its owner is told that it is spent.
//! - The page offers it only where the site's proof names an authority of our own.
//! - Only the site's own name is certified, whatever the request says; a member asks so often and no more.
//!
//! # Not here
//! What of a request is looked at: [`crate::authority::request`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dd_proto::mta;
use dd_proto::pem::{self, Kind};
use dd_proto::site::Site;
use jiff::Timestamp;

use super::client::Client;
use super::portal::{Visitor, to};
use super::sent::Sent;
use super::session::{By, Notice};
use super::{Web, now};
use crate::authority::request::{self, RequestError};
use crate::registry::authorities::Origin;
use crate::registry::own::{self, OwnError};
use crate::registry::{ChangeError, Registry};

/// Where the lines to paste look for the files.
const FOLDER: &str = "/etc/ssl/mail";

/// What can be asked for.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) name: String,
    /// Makes a key and a request for it.
    pub(super) command: String,
}

impl Offer {
    pub(super) fn of(registry: &Registry, site: &Site) -> Option<Self> {
        let certified = site.proof.certified()?;
        let authority = registry.authority(&certified.authority)?;
        let (own, name) = (authority.origin != Origin::Imported, &certified.name);
        own.then(|| Self {
            name: name.to_string(),
            command: format!(
                "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {site}.key -out {site}.csr",
                site = site.name
            ),
        })
    }
}

/// The newest certificate of the site, as it is given out.
#[derive(Debug)]
pub(super) struct Given {
    site: String,
    /// PEM: its own certificate, then the authority's.
    chain: String,
    /// PEM: every certificate of the authority.
    anchors: String,
    pub(super) until: Timestamp,
    name: String,
}

impl Given {
    pub(super) fn of(registry: &Registry, site: &Site, now: Timestamp) -> Option<Self> {
        let certified = site.proof.certified()?;
        let issued = registry.issued_to(&site.name, certified, now)?;
        let authority = registry.authority(&issued.authority)?;
        let pems = |all: &[Bytes]| all.iter().map(|der| pem::certificate(der)).collect();
        Some(Self {
            chain: pems(&own::chain_of(&authority, &issued)),
            anchors: pems(&authority.certificates),
            until: issued.not_after,
            site: site.name.to_string(),
            name: issued.name.to_string(),
        })
    }

    /// For the member's mail server.
    pub(super) fn lines(&self) -> mta::Lines {
        let file = |name: &str, end: &str| format!("{FOLDER}/{name}.{end}");
        let files = mta::Files {
            directory: FOLDER,
            key: &file(&self.site, "key"),
            certificate: &file(&self.site, "pem"),
            ca: &file("ca", "pem"),
        };
        mta::Lines::new(&self.name, files)
    }
}

pub(super) async fn issue(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    // What is refused costs nothing of what the member may have issued.
    let notice = match requested(&web, &visitor, fields.get("csr").unwrap_or_default()) {
        Err(notice) => notice,
        Ok(request) => match web
            .wakeup
            .member_may_be_certified(client, &visitor.site.name)
        {
            Err(_) => Notice::TooOften,
            Ok(()) => certify(&web, &visitor, request).await,
        },
    };
    let place = match notice {
        Notice::Issued => "/#issued",
        _ => "/#issue",
    };
    web.sessions().say(&visitor.id, notice);
    to(place)
}

/// A request that can be answered.
fn requested(web: &Web, visitor: &Visitor, text: &str) -> Result<Vec<u8>, Notice> {
    let offered = Offer::of(web.wakeup.registry(), &visitor.site);
    let certified = visitor.site.proof.certified();
    let (Some(_), Some(certified)) = (offered, certified) else {
        return Err(Notice::NotNow);
    };
    if pem::holds_a_key(text.as_bytes()) {
        return Err(Notice::WasAKey);
    }
    let der = pem::read_one(text.as_bytes(), Kind::Request)
        .map_err(|_| Notice::Request(RequestError::Unreadable))?;
    request::key_of(&der, &certified.name).map_err(Notice::Request)?;
    Ok(der)
}

async fn certify(web: &Web, visitor: &Visitor, request: Vec<u8>) -> Notice {
    let (name, who) = (visitor.site.name.clone(), visitor.who());
    let issuing = web.editor.change(move |change| async move {
        change
            .issue_certificate(name.as_str(), Some(&request), None, &who, now())
            .await
    });
    match issuing.await {
        Ok(_) => Notice::Issued,
        Err(ChangeError::Own(OwnError::Request(error))) => Notice::Request(error),
        Err(error) => {
            let site = &visitor.site.name;
            tracing::warn!(%site, %error, "a member got no certificate");
            Notice::NotNow
        }
    }
}

/// The certificate with its chain.
pub(super) async fn chain(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    given(&web, &headers, |it| (format!("{}.pem", it.site), &it.chain))
}

/// The authority's own.
pub(super) async fn anchors(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    given(&web, &headers, |it| ("ca.pem".to_owned(), &it.anchors))
}

fn given(web: &Web, headers: &HeaderMap, of: fn(&Given) -> (String, &String)) -> Response {
    let Some(visitor) = web.visitor(headers, By::Person) else {
        return to("/");
    };
    let Some(given) = Given::of(web.wakeup.registry(), &visitor.site, now()) else {
        return to("/");
    };
    // The name of a site has no character that would have to be quoted.
    let (name, text) = of(&given);
    let headers = [
        (header::CONTENT_TYPE, "application/x-pem-file".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (StatusCode::OK, headers, text.clone()).into_response()
}
