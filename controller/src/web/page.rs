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
use super::paste::{Group, Paste};
use super::portal::{BY_MEMBER, Visitor};
use super::record::Record;
use super::session::Notice;
use super::view::{Eye, Live, Shown, When, Who};
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
    pub(super) failed: Option<Failed>,
    pub(super) record: Record,
    pub(super) zone: String,
    pub(super) pause: Pause,
    pub(super) has_wake_url: bool,
    pub(super) origin: String,
    pub(super) outbound: Outbound,
    pub(super) pastes: Vec<Group>,
    pub(super) tomorrow: String,
    pub(super) offer: Option<Offer>,
    pub(super) issued: Option<Download>,
}

/// A certificate that can be downloaded.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) until: String,
    pub(super) lines: Vec<Paste>,
}

/// Sign-ins that failed since the member signed in the time before.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) count: u64,
    pub(super) last: When,
    pub(super) network: String,
}

impl Failed {
    pub(super) fn of(
        web: &Web,
        visitor: &Visitor,
        language: Language,
        now: Timestamp,
    ) -> Option<Self> {
        let members = web.wakeup.members();
        let since = members.failures_at(&visitor.site.name);
        let all = match visitor.signed.failures {
            Some(before) => before.and(since),
            None => since?,
        };
        let last = now.saturating_sub(members.since(all.last));
        Some(Self {
            count: all.count,
            last: Eye { language, now }.when(last.unwrap_or(now)),
            network: all.network.to_string(),
        })
    }
}

/// What is said once, above everything.
#[derive(Debug)]
pub(super) struct Banner {
    pub(super) tone: &'static str,
    pub(super) text: &'static str,
    /// As it is to be copied.
    pub(super) code: Option<String>,
    /// Where on the page to go on, and what is there.
    pub(super) link: Option<(&'static str, &'static str)>,
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
        let link = match notice {
            Notice::Issued => Some(("#issued", w.issued_chain)),
            Notice::WasAKey | Notice::Request(_) => Some(("#issue", w.issue)),
            _ => None,
        };
        let (tone, text) = match notice {
            Notice::Held => ("good", w.held_done),
            Notice::Resumed => ("good", w.resumed_done),
            Notice::BadDate => ("bad", w.bad_date),
            Notice::PasswordChanged => ("good", w.password_changed),
            Notice::WrongPassword => ("bad", w.password_wrong),
            Notice::UnfitPassword => ("bad", w.password_unfit),
            Notice::PasswordsDiffer => ("bad", w.passwords_differ),
            Notice::WakeRevoked => ("good", w.wake_url_gone),
            Notice::ContactChanged => ("good", w.contact_changed),
            Notice::ContactGone => ("good", w.contact_gone),
            Notice::BadContact => ("bad", w.contact_bad),
            Notice::NotNow => ("bad", w.not_now),
            Notice::TooOften => ("bad", w.too_many_certificates),
            Notice::Issued => ("good", w.issued_done),
            Notice::WasAKey => ("bad", w.csr_was_key),
            Notice::Request(error) => {
                if let RequestError::OtherName { asked, .. } = &error {
                    code = Some(asked.clone());
                }
                ("bad", refused(&error, w))
            }
            Notice::WakeUrl(it) => {
                code = Some(it.0);
                ("good", w.wake_url_once)
            }
        };
        Self {
            tone,
            text,
            code,
            link,
        }
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
