//! The web: the doors for scripts and routers ([`crate::wakeup`]), the outbound addresses, and the members' portal.
//!
//! # Invariants
//! - Connections, their heads, their bodies and the time all of them take are bounded.
//! - Nothing is loaded from elsewhere, no script stands in a page, and whatever came over the network is escaped.
//!
//! # Not here
//! What a release does, who may ask for one, and the limits: [`crate::wakeup`].

mod access;
mod advice;
mod assets;
pub mod basic;
mod certificate;
mod check;
pub mod client;
mod contact;
mod cookie;
pub mod fields;
pub(crate) mod fuzzing;
mod hold;
mod language;
pub mod listener;
pub mod outbound;
mod page;
mod paste;
mod path;
pub mod portal;
mod proxy;
mod record;
mod sent;
mod session;
mod steps;
mod strays;
mod tries;
mod view;
mod words;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::api;
use crate::credentials::Passwords;
use crate::dispatch::Handle;
use crate::limit::{Place, Who};
use crate::registry::Editor;
use crate::store::Store;
use crate::wakeup::{Wakeup, dyndns, monotonic, url};
use session::Sessions;

/// Whether the world reaches us over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// On loopback only.
    Plain,
    Tls,
}

/// What the configuration says about the web.
#[derive(Debug, Clone)]
pub struct Settings {
    pub hostname: String,
    /// What our URLs begin with.
    pub origin: String,
    /// Published beside the agents' own addresses.
    pub outbound_networks: Vec<IpNet>,
    pub transport: Transport,
}

/// What every page works with.
#[derive(Debug)]
pub struct Web {
    pub wakeup: Wakeup,
    pub outbound_networks: Vec<IpNet>,
    editor: Editor,
    store: Store,
    dispatch: Handle,
    passwords: Arc<Passwords>,
    /// For what agents are asked, as an administrator asks them.
    api: Arc<api::Context>,
    hostname: String,
    origin: String,
    transport: Transport,
    sessions: Mutex<Sessions>,
    deliveries: Mutex<JoinSet<()>>,
    began: Instant,
}

const LOCK: &str = "no holder of this lock panics";

impl Web {
    pub fn new(settings: Settings, api: Arc<api::Context>) -> Self {
        Self {
            wakeup: api.wakeup.clone(),
            outbound_networks: settings.outbound_networks,
            editor: api.editor.clone(),
            store: api.store.clone(),
            dispatch: api.dispatch.clone(),
            passwords: api.passwords.clone(),
            api,
            hostname: settings.hostname,
            origin: settings.origin,
            transport: settings.transport,
            sessions: Mutex::default(),
            deliveries: Mutex::default(),
            began: began(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect(LOCK)
    }

    fn monotonic(&self) -> Duration {
        monotonic(self.began)
    }

    /// What goes on while its page is shown; it ends by itself, or with the web.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut deliveries = self.deliveries.lock().expect(LOCK);
        while deliveries.try_join_next().is_some() {}
        deliveries.spawn(work);
    }
}

pub fn router(web: Arc<Web>) -> Router {
    let transport = web.transport;
    Router::new()
        .route("/etrn", get(url::etrn).post(url::etrn))
        .route("/intern/etrn.cgi", get(url::etrn).post(url::etrn))
        .route("/wake/{secret}", get(url::wake).post(url::wake))
        .route("/nic/update", get(dyndns::update).post(dyndns::update))
        .route("/outbound.txt", get(outbound::text))
        .route("/outbound.json", get(outbound::json))
        .route("/", get(portal::home))
        .route("/live", get(portal::live))
        .route("/sign-in", post(portal::sign_in))
        .route("/sign-out", post(portal::sign_out))
        .route("/deliver", post(portal::deliver))
        .route("/check", post(check::check))
        .route("/hold", post(hold::hold))
        .route("/resume", post(hold::resume))
        .route("/password", post(access::password))
        .route("/wake-secret", post(access::wake_secret))
        .route("/contact", post(contact::set))
        .route("/certificate", post(certificate::issue))
        .route("/certificate.pem", get(certificate::chain))
        .route("/ca.pem", get(certificate::anchors))
        .route("/language/{code}", get(portal::language))
        .route("/portal.css", get(assets::style))
        .route("/portal.js", get(assets::script))
        .route("/icon.svg", get(assets::icon))
        .fallback(portal::nothing)
        .layer(middleware::from_fn_with_state(web.clone(), seated))
        .with_state(web)
        .layer(middleware::from_fn(move |request, next| {
            guarded(request, next, transport)
        }))
}

/// The connection of a browser that is signed in has a seat of its member's.
async fn seated(
    State(web): State<Arc<Web>>,
    Extension(place): Extension<Place>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(visitor) = web.visitor(request.headers(), session::By::Page) {
        place.belongs_to(Who::Known(visitor.site.name.as_str().into()));
    }
    next.run(request).await
}

/// Whatever may be loaded comes from here, nothing may frame us, and nothing is remembered that was not said to be.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

async fn guarded(request: Request, next: Next, transport: Transport) -> Response {
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    let mut add = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    add(header::CONTENT_SECURITY_POLICY, POLICY);
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(header::X_FRAME_OPTIONS, "DENY");
    // With `no-referrer` a browser says `Origin: null` of our own forms (Fetch standard, "append a request Origin header").
    add(header::REFERRER_POLICY, "same-origin");
    add(header::CACHE_CONTROL, "no-store");
    if transport == Transport::Tls {
        add(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

#[expect(
    clippy::disallowed_methods,
    reason = "a page is made now; what it calls takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "sessions count from here; they take the time as an argument"
)]
fn began() -> Instant {
    Instant::now()
}
