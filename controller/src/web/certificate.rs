//! A certificate of the provider's own authority, for the site of the session: asked for with a request, and downloaded.
//!
//! What was issued is kept for as long as the session lives, for it is public, and whoever lost it has another one issued.
//!
//! # Invariants
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
use dd_proto::site::Site;
use dd_proto::{mta, pem};
use jiff::Timestamp;

use super::client::Client;
use super::portal::{Visitor, to_start};
use super::sent::Sent;
use super::session::{By, Notice};
use super::{Web, now};
use crate::authority::request::RequestError;
use crate::registry::authorities::Origin;
use crate::registry::own::{Issue, OwnError};
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

/// What was issued to the site of a session.
#[derive(Debug)]
pub(super) struct Issued {
    site: String,
    /// PEM: its own certificate, then the authority's.
    chain: String,
    /// PEM: every certificate of the authority.
    anchors: String,
    pub(super) lines: String,
    pub(super) until: Timestamp,
}

impl Issued {
    fn new(issue: &Issue) -> Self {
        let pems = |all: &[bytes::Bytes]| all.iter().map(|der| pem::certificate(der)).collect();
        let site = issue.issued.site.to_string();
        let file = |name: &str, end: &str| format!("{FOLDER}/{name}.{end}");
        let lines = mta::Lines::new(
            issue.issued.name.as_str(),
            mta::Files {
                directory: FOLDER,
                key: &file(&site, "key"),
                certificate: &file(&site, "pem"),
                ca: &file("ca", "pem"),
            },
        );
        Self {
            chain: pems(&issue.chain),
            anchors: pems(&issue.anchors),
            lines: lines.text(),
            until: issue.issued.not_after,
            site,
        }
    }
}

pub(super) async fn issue(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    let notice = match web
        .wakeup
        .member_may_be_certified(client, &visitor.site.name)
    {
        Err(_) => Notice::TooOften,
        Ok(()) => certify(&web, &visitor, fields.get("csr").unwrap_or_default()).await,
    };
    web.sessions().say(&visitor.id, notice);
    to_start()
}

async fn certify(web: &Web, visitor: &Visitor, request: &str) -> Notice {
    if Offer::of(web.wakeup.registry(), &visitor.site).is_none() {
        return Notice::NotNow;
    }
    let Some(request) = pem::request(request.as_bytes()) else {
        return Notice::Request(RequestError::Unreadable);
    };
    let (name, who) = (visitor.site.name.clone(), visitor.who());
    let issuing = web.editor.change(move |change| async move {
        change
            .issue_certificate(name.as_str(), Some(&request), None, &who, now())
            .await
    });
    match issuing.await {
        Ok(issue) => {
            let issued = Arc::new(Issued::new(&issue));
            web.sessions().give(&visitor.id, issued);
            Notice::Issued
        }
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

fn given(web: &Web, headers: &HeaderMap, of: fn(&Issued) -> (String, &String)) -> Response {
    let Some(visitor) = web.visitor(headers, By::Person) else {
        return to_start();
    };
    let Some(issued) = visitor.signed.issued else {
        return to_start();
    };
    // The name of a site has no character that would have to be quoted.
    let (name, text) = of(&issued);
    let headers = [
        (header::CONTENT_TYPE, "application/x-pem-file".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (StatusCode::OK, headers, text.clone()).into_response()
}
