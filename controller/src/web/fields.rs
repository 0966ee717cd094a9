//! What a request says in its query and, if it is a form, in its body.
//!
//! # Invariants
//! A body is read to its end, which has to come soon, or the request is refused.

use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

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
        let pairs = form_urlencoded::parse(encoded);
        self.0
            .extend(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())));
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
