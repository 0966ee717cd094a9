//! X.509 times as ours.

use jiff::Timestamp;
use x509_parser::time::ASN1Time;

/// RFC 5280 §4.1.2.5: 99991231235959Z says that there is no well-defined end. It lies a day beyond what [`Timestamp`] can
/// say; a time past the type's end is the type's end, and never its zero.
pub fn instant(time: ASN1Time) -> Timestamp {
    from_seconds(time.timestamp())
}

/// The same, of seconds since 1970.
pub fn from_seconds(seconds: i64) -> Timestamp {
    let end = match seconds < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    Timestamp::from_second(seconds).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_past_the_types_end_is_the_types_end() {
        let last = 253_402_300_799;
        let known = Timestamp::MAX.as_second();
        for (seconds, expected) in [
            (0, Timestamp::UNIX_EPOCH),
            (known, Timestamp::from_second(known).unwrap()),
            (known + 1, Timestamp::MAX),
            (last, Timestamp::MAX),
            (i64::MAX, Timestamp::MAX),
            (i64::MIN, Timestamp::MIN),
        ] {
            assert_eq!(from_seconds(seconds), expected);
        }
        let endless = ASN1Time::from_timestamp(last).unwrap();
        assert_eq!(instant(endless), Timestamp::MAX);
    }
}
