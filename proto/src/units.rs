//! Durations and sizes as people write them: `3m`, `14d`, `25M`.
//!
//! # Invariants
//! What is formatted parses back to the same value. A duration is a whole number of seconds; one of 0 is no duration,
//! because nothing here waits, retries or expires after no time at all.

use std::time::Duration;

/// Why a text is no duration or no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` is no duration: expected one such as 90s, 3m, 2h or 14d")]
    Duration(String),
    #[error("`{0}` is no size: expected bytes such as 52428800, or 512K, 25M, 1G")]
    Size(String),
}

/// Seconds in each unit, largest first.
const TIMES: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Bytes in each unit, largest first; powers of 1024.
const SIZES: [(char, u64); 4] = [
    ('T', 1 << 40),
    ('G', 1 << 30),
    ('M', 1 << 20),
    ('K', 1 << 10),
];

/// After how long somebody is told of an outage, as people write it: a duration, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageNotice(pub Option<Duration>);

impl OutageNotice {
    /// 0: never.
    pub fn milliseconds(self) -> u64 {
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        self.0.map_or(0, ms)
    }

    pub fn of_milliseconds(ms: u64) -> Self {
        Self((ms > 0).then(|| Duration::from_millis(ms)))
    }
}

impl std::str::FromStr for OutageNotice {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "never" => Ok(Self(None)),
            text => parse_duration(text).map(|it| Self(Some(it))),
        }
    }
}

impl std::fmt::Display for OutageNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("never"),
            Some(after) => f.write_str(&format_duration(after)),
        }
    }
}

/// Parses `1s`, `3m`, `2h` or `14d`.
///
/// # Errors
/// No number, no unit, nothing at all, or more than fits into milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    TIMES
        .iter()
        .find_map(|(unit, seconds)| number(text.strip_suffix(*unit)?)?.checked_mul(*seconds))
        .filter(|seconds| *seconds > 0 && seconds.checked_mul(1000).is_some())
        .map(Duration::from_secs)
        .ok_or_else(|| UnitError::Duration(shown(text)))
}

/// The shortest text that parses back to the duration; parts of a second are dropped.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (unit, each) = TIMES
        .into_iter()
        .find(|(_, each)| seconds >= *each && seconds.is_multiple_of(*each))
        .unwrap_or(('s', 1));
    format!("{}{unit}", seconds / each)
}

/// Parses bytes, or a number of `K`, `M`, `G` or `T` (powers of 1024).
///
/// # Errors
/// No number, an unknown unit, or more than fits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let with_unit = || {
        SIZES
            .iter()
            .find_map(|(unit, bytes)| number(text.strip_suffix(*unit)?)?.checked_mul(*bytes))
    };
    number(text)
        .or_else(with_unit)
        .ok_or_else(|| UnitError::Size(shown(text)))
}

/// The shortest text that parses back to exactly this many bytes.
pub fn format_size(bytes: u64) -> String {
    SIZES
        .into_iter()
        .find(|(_, each)| bytes >= *each && bytes.is_multiple_of(*each))
        .map_or_else(
            || bytes.to_string(),
            |(unit, each)| format!("{}{unit}", bytes / each),
        )
}

/// Bytes for people, in powers of 1000: two digits are enough to see what is large. `point` is the decimal sign of the
/// reader's language: `1.4 MB` or `1,4 MB`.
pub fn size_in_words(bytes: u64, point: char) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    while tenths >= 10_000 && unit + 1 < units.len() {
        (tenths, unit) = ((tenths + 500) / 1000, unit + 1);
    }
    match (unit, tenths) {
        (1.., 0..100) => format!("{}{point}{} {}", tenths / 10, tenths % 10, units[unit]),
        _ => format!("{} {}", (tenths + 5) / 10, units[unit]),
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// An end for people. RFC 5280 §4.1.2.5: a certificate may say that it has none, which as a time is past our type's last.
pub fn format_end(at: jiff::Timestamp) -> String {
    match is_endless(at) {
        true => "no end".to_owned(),
        false => at.to_string(),
    }
}

/// Whether an end is the last one that can be said, which stands for all that are later.
pub fn is_endless(at: jiff::Timestamp) -> bool {
    at.as_second() >= jiff::Timestamp::MAX.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        for (text, seconds, shortest) in [
            ("1s", 1, "1s"),
            ("90s", 90, "90s"),
            ("60s", 60, "1m"),
            ("3m", 180, "3m"),
            ("2h", 7200, "2h"),
            ("14d", 1_209_600, "14d"),
            ("336h", 1_209_600, "14d"),
        ] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
            assert_eq!(format_duration(duration), shortest);
        }
        for bad in [
            "",
            "s",
            "3",
            "0s",
            "0d",
            "-1s",
            "+1s",
            "1.5h",
            "1 h",
            "3M",
            "1w",
            "1h30m",
            "100ms",
            "18446744073709551615d",
            "18446744073709551615s",
            "18446744073709551616s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_size_is_bytes_or_has_a_unit() {
        for (text, bytes, shortest) in [
            ("0", 0, "0"),
            ("52428800", 52_428_800, "50M"),
            ("25M", 25 << 20, "25M"),
            ("1G", 1 << 30, "1G"),
            ("1024K", 1 << 20, "1M"),
            ("1500", 1500, "1500"),
            ("18446744073709551615", u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), shortest);
        }
        for bad in [
            "",
            "M",
            "25m",
            "25MB",
            "1.5G",
            "-1",
            "+1",
            "1 M",
            "18014398509481984K",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_size_for_people_always_has_a_unit() {
        for (bytes, english, german) in [
            (0, "0 B", "0 B"),
            (700, "700 B", "700 B"),
            (2_345_678, "2.3 MB", "2,3 MB"),
            (3 << 20, "3.1 MB", "3,1 MB"),
            (u64::MAX, "18446744 TB", "18446744 TB"),
        ] {
            assert_eq!(size_in_words(bytes, '.'), english);
            assert_eq!(size_in_words(bytes, ','), german);
        }
    }

    #[test]
    fn an_error_shows_no_control_characters_and_is_short() {
        let error = parse_size(&format!("\x1b[31m{}", "x".repeat(999)))
            .unwrap_err()
            .to_string();
        assert!(!error.contains('\x1b') && error.len() < 200, "{error}");
    }
}
