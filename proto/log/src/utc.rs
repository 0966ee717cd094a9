//! The time at which a line was said.

use std::fmt;

use jiff::Timestamp;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// UTC to the microsecond, RFC 3339, as tracing-subscriber writes it itself, at a third of the cost: each message has two
/// lines.
#[derive(Debug, Clone, Copy)]
pub struct Utc;

impl FormatTime for Utc {
    #[expect(
        clippy::disallowed_methods,
        reason = "a line is said now, and has no other clock"
    )]
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.6}", Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_whatever_the_time_is_and_says_the_time() {
        for _ in 0..1000 {
            let mut text = String::new();
            Utc.format_time(&mut Writer::new(&mut text)).unwrap();
            assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len(), "{text}");
            assert!(text.ends_with('Z') && text.parse::<Timestamp>().is_ok());
        }
    }
}
