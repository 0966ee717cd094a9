//! The members' portal: everything works without scripts; where they run, *deliver now* is live.
//!
//! # Invariants
//! - A page shows the site of its session, and no request names another.
//! - What changes anything is a POST from a page of ours, in the same session.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dd_proto::site::Site;
use tokio::sync::watch;

use super::certificate::{Given, Offer};
use super::client::Client;
use super::fields::Fields;
use super::language::Language;
use super::outbound::Outbound;
use super::page::{
    self, Banner, Download, Failed, Frame, HomePage, LivePart, MessagePage, Pause, SignInPage,
};
use super::paste;
use super::record::Record;
use super::sent::{Sent, came_from_elsewhere, expired};
use super::session::{By, Notice, Progress, Signed};
use super::{Web, cookie, now, path};
use crate::registry::ChangeError;
use crate::wakeup::members::SignIn;
use crate::wakeup::outcome::Outcome;
use crate::wakeup::{Asker, Door};

/// Who holds a site that its member has paused.
pub const BY_MEMBER: &str = "the member";

/// What comes of a *deliver now* is waited for so long.
const DELIVERY: Duration = Duration::from_secs(90);
/// And a browser without scripts so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// Somebody who is signed in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: String,
    pub(super) signed: Signed,
    pub(super) site: Arc<Site>,
}

impl Visitor {
    /// For the audit.
    pub(super) fn who(&self) -> String {
        format!("member:{}", self.site.name)
    }

    /// What to say of a change of the member's own record.
    pub(super) fn told(&self, changed: Result<Arc<Site>, ChangeError>, done: Notice) -> Notice {
        match changed {
            Ok(_) => done,
            Err(error) => {
                tracing::warn!(site = %self.site.name, %error, "a member's change was not made");
                Notice::NotNow
            }
        }
    }
}

impl Web {
    pub(super) fn visitor(&self, headers: &HeaderMap, by: By) -> Option<Visitor> {
        let id = cookie::find(headers, cookie::session_name(self.transport))?;
        let registry = self.wakeup.registry();
        let mut sessions = self.sessions();
        let signed = sessions.find(id, self.monotonic(), by, |name| registry.site(name))?;
        let site = registry.site(&signed.site)?;
        Some(Visitor {
            id: id.to_owned(),
            signed,
            site,
        })
    }

    fn sign_in_page(
        &self,
        status: StatusCode,
        language: Language,
        user: &str,
        error: Option<&'static str>,
    ) -> Response {
        let page = SignInPage {
            f: Frame::new(self, language),
            user: user.chars().take(64).collect(),
            error,
        };
        page::show(status, &page)
    }
}

/// After a POST: the page itself, so that reloading it repeats nothing.
pub(super) fn to_start() -> Response {
    to("/")
}

/// Somewhere on the page, by its anchor.
pub(super) fn to(place: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

fn to_start_with(cookie: String) -> Response {
    let headers = [
        (header::LOCATION, "/".to_owned()),
        (header::SET_COOKIE, cookie),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

pub async fn home(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    let language = Language::of(&headers);
    let Some(visitor) = web.visitor(&headers, By::Person) else {
        return web.sign_in_page(StatusCode::OK, language, "", None);
    };
    let now = now();
    let live = web.live(&visitor.site, &visitor.signed, language, now);
    let live = match live.await {
        Ok(live) => live,
        Err(error) => return unreadable(&web, language, &error),
    };
    let notice = web.sessions().said(&visitor.id);
    let (registry, site) = (web.wakeup.registry(), &visitor.site);
    let outbound = Outbound::of(&web);
    let page = HomePage {
        banner: notice.map(|notice| Banner::of(notice, language.words())),
        f: Frame::new(&web, language),
        failed: Failed::of(&web, &visitor, language, now),
        csrf: visitor.signed.csrf,
        live,
        record: Record::of(site, language.words()),
        zone: Language::zone(now),
        pause: Pause::of(&visitor.site, language, now),
        has_wake_url: visitor.site.wake_hash.is_some(),
        site: visitor.site.name.to_string(),
        origin: web.origin.clone(),
        pastes: paste::groups(site, &outbound, registry.agent_keys(), language.words()),
        outbound,
        tomorrow: super::hold::tomorrow(now),
        offer: Offer::of(registry, site),
        issued: Given::of(registry, site, now).map(|it| Download {
            until: language.date(it.until),
            lines: paste::certificate(&it.lines(), language.words()),
        }),
    };
    page::show(StatusCode::OK, &page)
}

/// The part that changes, for pages that look for news.
pub async fn live(State(web): State<Arc<Web>>, headers: HeaderMap) -> Response {
    match web.visitor(&headers, By::Page) {
        Some(visitor) => part(&web, visitor, &headers).await,
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

pub(super) async fn part(web: &Web, visitor: Visitor, headers: &HeaderMap) -> Response {
    let language = Language::of(headers);
    let live = web.live(&visitor.site, &visitor.signed, language, now());
    match live.await {
        Ok(live) => {
            let part = LivePart {
                f: Frame::new(web, language),
                csrf: visitor.signed.csrf,
                live,
            };
            page::show(StatusCode::OK, &part)
        }
        Err(error) => unreadable(web, language, &error),
    }
}

fn unreadable(web: &Web, language: Language, error: &crate::store::StoreError) -> Response {
    tracing::error!(%error, "a page cannot be shown");
    let page = MessagePage {
        f: Frame::new(web, language),
        text: language.words().not_now,
    };
    page::show(StatusCode::SERVICE_UNAVAILABLE, &page)
}

pub async fn sign_in(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    headers: HeaderMap,
    fields: Fields,
) -> Response {
    let language = Language::of(&headers);
    if came_from_elsewhere(&headers) {
        return expired(&web, &headers);
    }
    let user = fields.get("site").unwrap_or_default().trim();
    let password = fields.get("password").unwrap_or_default().to_owned();
    let refused = |status, text| web.sign_in_page(status, language, user, Some(text));
    let w = language.words();
    match web
        .wakeup
        .members()
        .sign_in(user, password, client, Door::Portal)
        .await
    {
        SignIn::As(site) => {
            let client = client.to_canonical();
            tracing::info!(site = %site.name, %client, "signed in to the portal");
            let failures = web.wakeup.members().take_failures_at(&site.name);
            let mut sessions = web.sessions();
            let id = sessions.begin(&site, failures, web.monotonic(), &mut rand::rng());
            to_start_with(cookie::session(web.transport, id.as_str()))
        }
        SignIn::Wrong => refused(StatusCode::FORBIDDEN, w.wrong_sign_in),
        SignIn::TooOften(_) => refused(StatusCode::TOO_MANY_REQUESTS, w.too_often),
        SignIn::Busy => refused(StatusCode::SERVICE_UNAVAILABLE, w.busy),
    }
}

pub(super) async fn sign_out(State(web): State<Arc<Web>>, sent: Sent) -> Response {
    web.sessions().end(&sent.visitor.id);
    to_start_with(cookie::no_session(web.transport))
}

pub async fn language(State(web): State<Arc<Web>>, Path(code): Path<String>) -> Response {
    match Language::parse(&code) {
        Some(language) => to_start_with(cookie::language(web.transport, language.code())),
        None => to_start(),
    }
}

pub(super) async fn deliver(
    State(web): State<Arc<Web>>,
    Extension(Client(client)): Extension<Client>,
    Sent {
        mut visitor,
        headers,
        ..
    }: Sent,
) -> Response {
    let running = visitor.signed.delivery.take();
    let running = running.filter(|it| matches!(*it.borrow(), Progress::Working));
    let mut progress = running.unwrap_or_else(|| start(&web, &visitor, client));
    web.sessions().deliver(&visitor.id, progress.clone());
    if headers.contains_key("x-live") {
        visitor.signed.delivery = Some(progress);
        return part(&web, visitor, &headers).await;
    }
    // Where it is not through by then, the page says so.
    let through = progress.wait_for(|it| !matches!(it, Progress::Working));
    let _ = tokio::time::timeout(PATIENCE, through).await;
    to_start()
}

fn start(web: &Web, visitor: &Visitor, client: std::net::IpAddr) -> watch::Receiver<Progress> {
    let (sender, progress) = watch::channel(Progress::Working);
    let (wakeup, name) = (web.wakeup.clone(), visitor.site.name.clone());
    let door = Door::Portal;
    web.spawn(async move {
        let asker = Asker::Member { client, door };
        let released = wakeup.release(&name, &asker, Some(DELIVERY)).await;
        sender.send_replace(match released {
            Ok(released) => Progress::Done(Outcome::of(&name, released)),
            Err(_) => Progress::TooOften,
        });
    });
    progress
}

/// A page that is not there.
pub async fn nothing(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    if path::is_for_machines(&request) {
        return (StatusCode::NOT_FOUND, "no such page\n").into_response();
    }
    let language = Language::of(&headers);
    let page = MessagePage {
        f: Frame::new(&web, language),
        text: language.words().no_page,
    };
    page::show(StatusCode::NOT_FOUND, &page)
}
