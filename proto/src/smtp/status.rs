//! Enhanced status codes, RFC 3463.

use std::fmt;
use std::str::FromStr;

/// `class.subject.detail`, such as 5.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

/// Why a text is no enhanced status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code: expected something like 5.7.1")]
pub struct StatusError;

impl Status {
    /// # Panics
    /// If the class is not 2, 4 or 5, or a part has more than three digits; in a constant that is a compile error.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999);
        Self {
            class,
            subject,
            detail,
        }
    }

    /// 2, 4 or 5: the first digit of the reply codes it may stand with.
    pub fn class(self) -> u8 {
        self.class
    }

    /// RFC 3463 §3.8: security or policy status.
    pub fn is_security(self) -> bool {
        self.subject == 7
    }

    /// The same, of the class *permanent*.
    pub fn permanent(self) -> Self {
        Self { class: 5, ..self }
    }

    /// As it is displayed; nearly each reply has one.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        push_number(self.class.into(), out);
        for part in [self.subject, self.detail] {
            out.push(b'.');
            push_number(part, out);
        }
    }
}

/// In decimal digits.
pub(super) fn push_number(number: u16, out: &mut Vec<u8>) {
    if number >= 10 {
        push_number(number / 10, out);
    }
    out.push(b"0123456789"[usize::from(number % 10)]);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => 2,
            Some("4") => 4,
            Some("5") => 5,
            _ => return Err(StatusError),
        };
        // RFC 3463 §2: subject and detail are one to three digits.
        let mut number = || {
            parts
                .next()
                .filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|p| p.parse().ok())
                .ok_or(StatusError)
        };
        let (subject, detail) = (number()?, number()?);
        if parts.next().is_some() {
            return Err(StatusError);
        }
        Ok(Self {
            class,
            subject,
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rfc_3463_defines_is_a_status() {
        assert_eq!("5.7.1".parse(), Ok(Status::new(5, 7, 1)));
        assert_eq!("4.999.0".parse(), Ok(Status::new(4, 999, 0)));
        assert_eq!(Status::new(2, 0, 0).to_string(), "2.0.0");
        for bad in [
            "", "5", "5.7", "3.0.0", "5.7.1.1", "5.+7.1", "5.1000.1", "5..1", " 5.7.1",
        ] {
            assert_eq!(bad.parse::<Status>(), Err(StatusError), "{bad:?}");
        }
    }
}
