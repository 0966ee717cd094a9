//! The paths of requests as routers and scripts spell them.
//!
//! Routers join a server and a path with a slash too many, add one at the end, escape letters that need no escape, or
//! send two URLs in one with a blank between them (a FRITZ!Box takes two that way). RFC 3986 §6.2.2 makes most of these the
//! same path; the rest is what these devices mean.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The doors that are found in any case. What follows `/wake/` is a secret and stays as it is.
const DOORS: [&str; 4] = ["/etrn", "/intern/etrn.cgi", "/nic/update", "/wake"];

/// The request with its path as the router knows it.
pub(super) fn normalised<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    if let Some(uri) = rewritten(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// Whether a request is for a door of machines, which read one line and no page.
pub(super) fn is_for_machines(request: &Request) -> bool {
    let path = request.uri().path();
    path.starts_with("/nic/") || DOORS.iter().any(|door| is_below(path, door))
}

fn is_below(path: &str, door: &str) -> bool {
    let rest = path.strip_prefix(door);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn rewritten(uri: &Uri) -> Option<Uri> {
    let path = plain(uri.path());
    if path == uri.path() {
        return None;
    }
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(whole.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

fn plain(path: &str) -> String {
    let path = unescaped(path);
    // What follows a blank is a URL for somebody else.
    let path = path.split("%20").next().unwrap_or_default();
    let mut plain = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        plain.push('/');
        plain.push_str(part);
    }
    let door = DOORS
        .into_iter()
        .find(|door| is_below(&plain.to_ascii_lowercase(), door));
    match door {
        Some(door) => format!("{door}{}", &plain[door.len()..]),
        None if plain.is_empty() => "/".to_owned(),
        None => plain,
    }
}

/// RFC 3986 §6.2.2.2: an escaped unreserved character is the character.
fn unescaped(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) => {
                plain.push(char::from(byte));
                &after[2..]
            }
            _ => {
                plain.push('%');
                after
            }
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_door_is_the_door() {
        for (sent, expected) in [
            ("/etrn", "/etrn"),
            ("/etrn/", "/etrn"),
            ("//etrn", "/etrn"),
            ("/etr%6e", "/etrn"),
            ("/ETRN", "/etrn"),
            ("/intern/ETRN.cgi", "/intern/etrn.cgi"),
            ("//nic//update/", "/nic/update"),
            ("/nic%2Fupdate", "/nic/update"),
            (
                "/nic/update%20https://dyn.example/nic/update",
                "/nic/update",
            ),
            ("/wake/aBcD%2d1/", "/wake/aBcD-1"),
            ("/Wake/aBcD", "/wake/aBcD"),
            ("/", "/"),
            ("//", "/"),
            ("/portal.css", "/portal.css"),
            ("/Portal.css", "/Portal.css"),
            ("/etrnx", "/etrnx"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/a%C3%A4", "/a%C3%A4"),
        ] {
            assert_eq!(plain(sent), expected, "{sent}");
            let uri: Uri = format!("{sent}?a=b%20c").parse().unwrap();
            let uri = rewritten(&uri).unwrap_or(uri);
            assert_eq!((uri.path(), uri.query()), (expected, Some("a=b%20c")));
        }
    }
}
