//! What a request says in its query and, if it is a form, in its body.
//!
//! # Invariants
//! A body is read to its end, which has to come soon, or the request is refused.

use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode;

use crate::credentials::typed;

const MAX_BODY: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Names and values, in order.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first of that name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether anything has another name.
    pub fn has_more_than(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| !it.eq_ignore_ascii_case(name))
    }

    /// All of that name, in any case and in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self
            .0
            .iter()
            .filter(move |(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// By the query, and by a body that is a form.
    pub(super) fn said(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut fields = Self::default();
        fields.add(query.unwrap_or_default().as_bytes());
        if is_form(headers) {
            fields.add(body);
        }
        fields
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, encoded: &[u8]) {
        let pairs = encoded.split(|it| *it == b'&');
        let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let mut parts = pair.splitn(2, |it| *it == b'=');
            let mut next = || decoded(parts.next().unwrap_or_default());
            (next(), next())
        });
        self.0.extend(pairs);
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let body = whole(body).await?;
        Ok(Self::said(parts.uri.query(), &parts.headers, &body))
    }
}

/// URL Standard, "application/x-www-form-urlencoded parsing", but for bytes that are no UTF-8: those are somebody's password.
fn decoded(part: &[u8]) -> String {
    let spaced: Vec<u8> = part
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    typed(percent_decode(&spaced).collect())
}

async fn whole(body: Body) -> Result<body::Bytes, Response> {
    let reading = body::to_bytes(body, MAX_BODY);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(closing(StatusCode::PAYLOAD_TOO_LARGE, "too much\n")),
        Err(_) => Err(closing(StatusCode::REQUEST_TIMEOUT, "too slow\n")),
    }
}

/// What is left of the body is not read.
fn closing(status: StatusCode, says: &'static str) -> Response {
    (status, [(header::CONNECTION, "close")], says).into_response()
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_in_whatever_charset() {
        for (query, expected) in [
            ("", &[][..]),
            ("a=b&c", &[("a", "b"), ("c", "")]),
            ("&&a=b=c&=d", &[("a", "b=c"), ("", "d")]),
            ("a=1+2%2b3%20", &[("a", "1 2+3 ")]),
            ("a=%zz%4&b=%+1", &[("a", "%zz%4"), ("b", "% 1")]),
            ("p=gr%C3%BCn", &[("p", "gr\u{fc}n")]),
            ("p=gr%FCn", &[("p", "gr\u{fc}n")]),
        ] {
            let fields = Fields::said(Some(query), &HeaderMap::new(), b"");
            let found = fields.0.iter().map(|(name, value)| (&**name, &**value));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{query}");
        }
    }
}
