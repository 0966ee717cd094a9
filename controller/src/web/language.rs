//! German or English, and how times and sizes read in either.

use axum::http::{HeaderMap, header};
use dd_proto::units::size_in_words;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::cookie;
use super::words::{self, Words};

/// A language the portal speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    German,
    English,
}

impl Language {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "de" => Some(Self::German),
            "en" => Some(Self::English),
            _ => None,
        }
    }

    /// As it was chosen, or else as the browser prefers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let chosen = cookie::find(headers, cookie::LANGUAGE).and_then(Self::parse);
        chosen.unwrap_or_else(|| {
            let accept = headers.get(header::ACCEPT_LANGUAGE);
            preferred(accept.and_then(|it| it.to_str().ok()).unwrap_or_default())
        })
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::German => "de",
            Self::English => "en",
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::German => &words::GERMAN,
            Self::English => &words::ENGLISH,
        }
    }

    pub(super) fn is_german(self) -> bool {
        self == Self::German
    }

    /// `24.11.2026, 21:05 CET`: with the zone of this machine, which need not be the reader's.
    pub(super) fn moment(self, at: Timestamp) -> String {
        let format = match self {
            Self::German => "%d.%m.%Y, %H:%M %Z",
            Self::English => "%-d %b %Y, %H:%M %Z",
        };
        zoned(at).strftime(format).to_string()
    }

    /// The zone in which [`Self::moment`] speaks, at that time.
    pub(super) fn zone(at: Timestamp) -> String {
        zoned(at).strftime("%Z").to_string()
    }

    pub(super) fn date(self, at: Timestamp) -> String {
        self.civil(zoned(at).date())
    }

    /// `24.11.2026`.
    pub(super) fn civil(self, date: Date) -> String {
        let format = match self {
            Self::German => "%d.%m.%Y",
            Self::English => "%-d %b %Y",
        };
        date.strftime(format).to_string()
    }

    /// `vor 3 Minuten`, `in 3 minutes`.
    pub(super) fn relative(self, at: Timestamp, now: Timestamp) -> String {
        let seconds = at.duration_since(now).as_secs();
        let (count, unit) = match seconds.unsigned_abs() {
            0..5 => return self.words().now.to_owned(),
            s @ 5..90 => (s, 0),
            s @ 90..5400 => ((s + 30) / 60, 1),
            s @ 5400..129_600 => ((s + 1800) / 3600, 2),
            s => ((s + 43_200) / 86_400, 3),
        };
        let number = usize::from(count != 1);
        match self {
            Self::German => {
                let units = [
                    ["Sekunde", "Sekunden"],
                    ["Minute", "Minuten"],
                    ["Stunde", "Stunden"],
                    ["Tag", "Tagen"],
                ];
                let before = if seconds < 0 { "vor" } else { "in" };
                format!("{before} {count} {}", units[unit][number])
            }
            Self::English => {
                let units = [
                    ["second", "seconds"],
                    ["minute", "minutes"],
                    ["hour", "hours"],
                    ["day", "days"],
                ];
                let unit = units[unit][number];
                match seconds < 0 {
                    true => format!("{count} {unit} ago"),
                    false => format!("in {count} {unit}"),
                }
            }
        }
    }

    /// `1,4 MB`.
    pub(super) fn size(self, bytes: u64) -> String {
        let point = if self.is_german() { ',' } else { '.' };
        size_in_words(bytes, point)
    }
}

fn zoned(at: Timestamp) -> jiff::ZonedDateTime {
    at.to_zoned_datetime(TimeZone::system())
}

/// RFC 9110 §12.5.4; English is for everybody who asked for neither.
fn preferred(accept: &str) -> Language {
    let weigh = |part: &str| {
        let (range, rest) = part.split_once(';').unwrap_or((part, ""));
        let weight = rest
            .trim()
            .strip_prefix("q=")
            .map_or(Some(1.0), |q| q.parse().ok());
        let primary = range.trim().split('-').next().unwrap_or_default();
        let language = Language::parse(&primary.to_ascii_lowercase())?;
        weight.filter(|q| *q > 0.0).map(|q: f32| (language, q))
    };
    let mut best = (Language::English, 0.0);
    for (language, weight) in accept.split(',').filter_map(weigh) {
        if weight > best.1 {
            best = (language, weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_says_which_language() {
        for (accept, expected) in [
            ("de-DE,de;q=0.9,en;q=0.8", Language::German),
            ("en-GB,en;q=0.9,de;q=0.8", Language::English),
            ("fr,de;q=0.5,en;q=0.3", Language::German),
            ("de;q=0,en", Language::English),
            ("fr", Language::English),
            ("", Language::English),
            (";;;,q=,de;q=x", Language::English),
        ] {
            assert_eq!(preferred(accept), expected, "{accept}");
        }
    }

    #[test]
    fn times_and_sizes_read_well() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        for (seconds, german, english) in [
            (0, "jetzt", "now"),
            (-30, "vor 30 Sekunden", "30 seconds ago"),
            (-65, "vor 65 Sekunden", "65 seconds ago"),
            (120, "in 2 Minuten", "in 2 minutes"),
            (-7200, "vor 2 Stunden", "2 hours ago"),
            (-200_000, "vor 2 Tagen", "2 days ago"),
        ] {
            assert_eq!(Language::German.relative(at(seconds), now), german);
            assert_eq!(Language::English.relative(at(seconds), now), english);
        }
        for (bytes, german) in [
            (0, "0 B"),
            (999, "999 B"),
            (1400, "1,4 KB"),
            (14_000, "14 KB"),
            (2_345_678, "2,3 MB"),
            (999_999, "1,0 MB"),
        ] {
            assert_eq!(Language::German.size(bytes), german, "{bytes}");
        }
    }
}
