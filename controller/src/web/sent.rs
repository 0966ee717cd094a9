//! A form that was sent: by somebody who is signed in, and from a page of ours in the same session.
//!
//! # Invariants
//! Every handler that changes anything takes a [`Sent`], and nothing else makes one.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::Web;
use super::fields::Fields;
use super::language::Language;
use super::page::{self, Frame, MessagePage};
use super::portal::{Visitor, to_start};
use super::session::By;

/// Who sent what.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) visitor: Visitor,
    pub(super) fields: Fields,
    pub(super) headers: HeaderMap,
}

impl FromRequest<Arc<Web>> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Response> {
        let headers = request.headers().clone();
        let fields = Fields::from_request(request, web).await;
        let fields = fields.map_err(|refused| not_read(web, &headers, refused.status()))?;
        if came_from_elsewhere(&headers) {
            return Err(expired(web, &headers));
        }
        let Some(visitor) = web.visitor(&headers, By::Person) else {
            return Err(to_start());
        };
        match visitor.signed.sent(fields.get("csrf").unwrap_or_default()) {
            true => Ok(Self {
                visitor,
                fields,
                headers,
            }),
            false => Err(expired(web, &headers)),
        }
    }
}

/// The page for a form that is too large or too slow; what is left of it is not read.
fn not_read(web: &Web, headers: &HeaderMap, status: StatusCode) -> Response {
    let language = Language::of(headers);
    let page = MessagePage {
        f: Frame::new(web, language),
        text: language.words().form_refused,
    };
    let mut response = page::show(status, &page);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The page that says so.
pub(super) fn expired(web: &Web, headers: &HeaderMap) -> Response {
    let language = Language::of(headers);
    let page = MessagePage {
        f: Frame::new(web, language),
        text: language.words().expired_form,
    };
    page::show(StatusCode::FORBIDDEN, &page)
}

/// A browser says where a form came from; what says nothing is no browser, and carries no session by itself. An older
/// browser says `null` of a form of our own where its policy for referrers hides the page: the token or the password, which
/// a foreign page does not have, decides then.
pub(super) fn came_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    match (text("origin"), text("host")) {
        (Some("null"), _) => false,
        (Some(origin), Some(host)) => !is_at(origin, host),
        _ => false,
    }
}

/// Whether an origin (RFC 6454 §6.1) is the server that `Host` names: without case, and with the scheme's port where one of
/// them does not say it.
fn is_at(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme.eq_ignore_ascii_case("https") {
        true => ":443",
        false => ":80",
    };
    let without = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(port).map(str::to_owned).unwrap_or(text)
    };
    without(authority) == without(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_another_page_is_known_by_what_the_browser_says() {
        for (pairs, elsewhere) in [
            (&[("sec-fetch-site", "same-origin")][..], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (
                &[("origin", "https://a.example"), ("host", "a.example")],
                false,
            ),
            (
                &[("origin", "https://b.example"), ("host", "a.example")],
                true,
            ),
            (&[("origin", "null"), ("host", "a.example")], false),
            (
                &[("sec-fetch-site", "cross-site"), ("origin", "null")],
                true,
            ),
            (
                &[("origin", "https://A.example:443"), ("host", "a.example")],
                false,
            ),
            (
                &[("origin", "https://a.example"), ("host", "a.example:443")],
                false,
            ),
            (
                &[("origin", "https://a.example:8443"), ("host", "a.example")],
                true,
            ),
            (
                &[("origin", "http://a.example:443"), ("host", "a.example")],
                true,
            ),
            (&[("host", "a.example")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(came_from_elsewhere(&headers), elsewhere, "{pairs:?}");
        }
    }
}
