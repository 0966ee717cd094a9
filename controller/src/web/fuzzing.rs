//! What a request says, from bytes on: see [`crate::fuzzing`].

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use super::basic::Basic;
use super::fields::Fields;
use super::{Transport, cookie, path, proxy};
use crate::wakeup::reported::Reported;

/// The path as the router knows it; None: it is none.
pub fn normalised(target: &[u8]) -> Option<String> {
    let uri = Uri::try_from(target).ok()?;
    let request = Request::builder().uri(uri).body(()).ok()?;
    let path = path::normalised(request).uri().path().to_owned();
    path.starts_with('/').then_some(path)
}

/// User and password of an `Authorization`.
pub fn basic(value: &[u8]) -> Option<(String, String)> {
    let said = Basic::of(&headers(header::AUTHORIZATION, value)?)?;
    Some((said.user, said.password))
}

/// The session that a `Cookie` names.
pub fn cookie(value: &[u8]) -> Option<String> {
    let headers = headers(header::COOKIE, value)?;
    let name = cookie::session_name(Transport::Tls);
    cookie::find(&headers, name).map(str::to_owned)
}

/// How many fields a request has; None: it is no request.
pub fn form(target: &[u8], kind: &[u8], body: &[u8]) -> Option<usize> {
    let uri = Uri::try_from(target).ok()?;
    let headers = headers(header::CONTENT_TYPE, kind)?;
    Some(Fields::said(uri.query(), &headers, body).count())
}

/// The addresses that a DynDNS client reports, as they are shown.
pub fn reported(text: &str) -> String {
    Reported::parse(text.split('&')).to_string()
}

/// How many bytes of a connection are read for its PROXY header; None: there is none, or it is cut off.
pub fn proxy(connection: &[u8]) -> Option<usize> {
    let mut rest = connection;
    let read = {
        let mut reading = pin!(proxy::read(&mut rest));
        // Bytes in memory are always there.
        let mut context = Context::from_waker(Waker::noop());
        match reading.as_mut().poll(&mut context) {
            Poll::Ready(read) => read.is_ok(),
            Poll::Pending => false,
        }
    };
    read.then(|| connection.len() - rest.len())
}

fn headers(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}
