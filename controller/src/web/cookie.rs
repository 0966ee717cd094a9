//! The two cookies: who is signed in, and which language was chosen.

use axum::http::{HeaderMap, header};

use super::Transport;

/// `__Host-`: browsers take it only over TLS, for this host alone.
const SESSION_TLS: &str = "__Host-session";
const SESSION_PLAIN: &str = "session";
pub(super) const LANGUAGE: &str = "language";

pub(super) fn session_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => SESSION_TLS,
        Transport::Plain => SESSION_PLAIN,
    }
}

/// The value of a cookie.
pub(super) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let sent = headers.get_all(header::COOKIE).iter();
    let sent = sent.filter_map(|it| it.to_str().ok());
    let mut pairs = sent
        .flat_map(|it| it.split(';'))
        .filter_map(|it| it.trim().split_once('='));
    pairs.find(|(it, _)| *it == name).map(|(_, value)| value)
}

/// A `Set-Cookie` that ends with the browser.
pub(super) fn session(transport: Transport, id: &str) -> String {
    let secure = secure(transport);
    let name = session_name(transport);
    format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

pub(super) fn no_session(transport: Transport) -> String {
    let gone = session(transport, "");
    format!("{gone}; Max-Age=0")
}

/// For a year.
pub(super) fn language(transport: Transport, code: &str) -> String {
    let secure = secure(transport);
    format!("{LANGUAGE}={code}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000{secure}")
}

fn secure(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "; Secure",
        Transport::Plain => "",
    }
}
