//! The pages, as their templates take them.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use dd_proto::site::Site;
use jiff::Timestamp;

use super::Web;
use super::certificate::Offer;
use super::language::Language;
use super::outbound::Outbound;
use super::portal::BY_MEMBER;
use super::session::Notice;
use super::view::{Live, Shown, Who};
use super::words::Words;
use crate::authority::request::RequestError;

/// What every page has.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) w: &'static Words,
    pub(super) language: &'static str,
    pub(super) other: &'static str,
    pub(super) hostname: String,
    /// Changes with the style sheet and the script, so that browsers take new ones at once.
    pub(super) version: &'static str,
}

impl Frame {
    pub(super) fn new(web: &Web, language: Language) -> Self {
        let other = match language {
            Language::German => Language::English,
            Language::English => Language::German,
        };
        Self {
            w: language.words(),
            language: language.code(),
            other: other.code(),
            hostname: web.hostname.clone(),
            version: super::assets::version(),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage {
    pub(super) f: Frame,
    pub(super) user: String,
    pub(super) error: Option<&'static str>,
}

#[derive(Debug, Template)]
#[template(path = "message.html")]
pub(super) struct MessagePage {
    pub(super) f: Frame,
    pub(super) text: &'static str,
}

/// The part that changes by itself.
#[derive(Debug, Template)]
#[template(path = "live.html")]
pub(super) struct LivePart {
    pub(super) f: Frame,
    pub(super) csrf: String,
    pub(super) live: Live,
}

#[derive(Debug, Template)]
#[template(path = "home.html")]
pub(super) struct HomePage {
    pub(super) f: Frame,
    pub(super) csrf: String,
    pub(super) live: Live,
    pub(super) site: String,
    pub(super) banner: Option<Banner>,
    pub(super) pause: Pause,
    pub(super) has_wake_url: bool,
    pub(super) origin: String,
    pub(super) outbound: Outbound,
    pub(super) tomorrow: String,
    pub(super) offer: Option<Offer>,
    pub(super) issued: Option<Given>,
}

/// A certificate that waits to be downloaded.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) until: String,
    pub(super) lines: String,
}

/// What is said once, above everything.
#[derive(Debug)]
pub(super) struct Banner {
    pub(super) tone: &'static str,
    pub(super) text: &'static str,
    /// As it is to be copied.
    pub(super) code: Option<String>,
}

/// Whether delivery is paused, and by whom.
#[derive(Debug)]
pub(super) enum Pause {
    No,
    ByMember { until: Option<String> },
    ByProvider { until: Option<String> },
}

impl Pause {
    pub(super) fn of(site: &Site, language: Language, now: Timestamp) -> Self {
        let hold = site.hold.as_ref();
        let lasts = |until: Option<Timestamp>| until.is_none_or(|until| until > now);
        let Some(hold) = hold.filter(|hold| lasts(hold.until)) else {
            return Self::No;
        };
        let until = hold.until.map(|at| language.moment(at));
        match hold.by == BY_MEMBER {
            true => Self::ByMember { until },
            false => Self::ByProvider { until },
        }
    }
}

impl Banner {
    pub(super) fn of(notice: Notice, w: &'static Words) -> Self {
        let mut code = None;
        let (tone, text) = match notice {
            Notice::Held => ("good", w.held_done),
            Notice::Resumed => ("good", w.resumed_done),
            Notice::BadDate => ("bad", w.bad_date),
            Notice::PasswordChanged => ("good", w.password_changed),
            Notice::WrongPassword => ("bad", w.password_wrong),
            Notice::UnfitPassword => ("bad", w.password_unfit),
            Notice::PasswordsDiffer => ("bad", w.passwords_differ),
            Notice::WakeRevoked => ("good", w.wake_url_gone),
            Notice::NotNow => ("bad", w.not_now),
            Notice::TooOften => ("bad", w.too_many_certificates),
            Notice::Issued => ("good", w.issued_done),
            Notice::Request(error) => {
                if let RequestError::OtherName { asked, .. } = &error {
                    code = Some(asked.clone());
                }
                ("bad", refused(&error, w))
            }
            Notice::WakeUrl(it) => {
                code = Some(it);
                ("good", w.wake_url_once)
            }
        };
        Self { tone, text, code }
    }
}

/// Why a certificate request was refused.
fn refused(error: &RequestError, w: &'static Words) -> &'static str {
    match error {
        RequestError::Unreadable => w.csr_unreadable,
        RequestError::NotItsKey => w.csr_not_its_key,
        RequestError::RsaBits(_) => w.csr_bits,
        RequestError::KeyKind(_) => w.csr_kind,
        RequestError::Signature(_) => w.csr_signature,
        RequestError::OtherName { .. } => w.csr_other_name,
        RequestError::Authority => w.csr_authority,
    }
}

/// The page, or 500 where it cannot be written.
pub(super) fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
