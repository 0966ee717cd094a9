//! When a certificate is to be renewed, and when it has ended. Pure.

use std::time::Duration;

use jiff::Timestamp;
use x509_parser::prelude::X509Certificate;
use x509_parser::time::ASN1Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub due: Timestamp,
    pub ends: Timestamp,
}

impl Life {
    /// Due after two thirds of it.
    pub fn between(begins: Timestamp, ends: Timestamp) -> Self {
        let life = ends.duration_since(begins).unsigned_abs();
        let due = begins.saturating_add(life * 2 / 3).unwrap_or(ends);
        Self { due, ends }
    }

    /// None where one of its times is past all that we can say: such a certificate is none of our controller's.
    pub fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let at = |time: ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = certificate.validity();
        Some(Self::between(
            at(validity.not_before)?,
            at(validity.not_after)?,
        ))
    }

    pub fn is_due(self, now: Timestamp) -> bool {
        now >= self.due
    }

    pub fn has_ended(self, now: Timestamp) -> bool {
        now >= self.ends
    }

    /// It is asked for, and if in vain, is to be again after that time.
    pub fn put_off(&mut self, now: Timestamp, again: Duration) {
        self.due = now.saturating_add(again).unwrap_or(self.ends);
    }

    /// Neither due nor ended within that time.
    pub fn lasts_at_least(&mut self, now: Timestamp, least: Duration) {
        let until = now.saturating_add(least).unwrap_or(self.ends);
        self.due = self.due.max(until);
        self.ends = self.ends.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_and_shown_to_its_end() {
        let mut life = Life::between(at(0), at(90_000));
        for (second, due, ended) in [
            (0, false, false),
            (59_999, false, false),
            (60_000, true, false),
            (89_999, true, false),
            (90_000, true, true),
        ] {
            let seen = (life.is_due(at(second)), life.has_ended(at(second)));
            assert_eq!(seen, (due, ended), "{second}");
        }
        // The controller did not answer: it is not asked with every connection.
        life.put_off(at(60_000), Duration::from_secs(60));
        assert!(!life.is_due(at(60_059)) && life.is_due(at(60_060)));
    }
}
