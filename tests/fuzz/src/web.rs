//! What browsers, routers and scripts send to the web door.

use dd_controller::fuzzing;

/// A request in five lines: its path, `Authorization`, `Cookie`, `Content-Type`, and all the rest its body. A path that was
/// normalised is normal; what a form says is what it says; credentials hold no line of their own.
pub fn requests(input: &[u8]) {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, authorization, cookie, kind, body) = (line(), line(), line(), line(), line());
    if let Some(normal) = fuzzing::normalised(path) {
        assert!(
            !normal.contains("//") && !normal.contains("%20"),
            "{normal}"
        );
    }
    if let Some((user, password)) = fuzzing::basic(authorization) {
        for part in [&user, &password] {
            assert!(!part.contains(char::is_control), "{part:?}");
        }
        assert!(!user.contains(':'), "{user}");
    }
    if let Some(value) = fuzzing::cookie(cookie) {
        assert!(!value.contains(';'), "{value}");
    }
    let shown = fuzzing::reported(&String::from_utf8_lossy(path));
    assert!(shown.len() <= 64, "one address of each family: {shown}");
    if let Some(fields) = fuzzing::form(path, kind, body) {
        assert!(fields <= path.len() + body.len() + 2, "{fields} fields");
    }
    if let Some(read) = fuzzing::proxy(input) {
        assert!(read <= 4096 + 16, "{read} bytes for a header");
    }
}
