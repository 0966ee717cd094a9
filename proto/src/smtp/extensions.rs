//! What a server offers in its answer to EHLO, as far as we use it.

use super::auth::Mechanisms;
use crate::client::Attributes;

/// The extensions a server offered; nothing offered is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    pub starttls: bool,
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub size: SizeOffer,
    pub xforward: Attributes,
    pub xclient: Attributes,
    pub auth: Mechanisms,
}

/// SIZE, RFC 1870.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SizeOffer {
    #[default]
    NotOffered,
    /// Offered without a limit.
    Unlimited,
    AtMost(u64),
}

impl Extensions {
    /// One line of the reply to EHLO, without its code. Keywords that we do not use are ignored.
    pub fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "STARTTLS" => self.starttls = true,
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "XFORWARD" => self.xforward = Attributes::announced(words),
            "XCLIENT" => self.xclient = Attributes::announced(words),
            "AUTH" => self.auth.add(words),
            "SIZE" => self.size = SizeOffer::parse(words.next()),
            _ => {
                if let Some(first) = keyword.strip_prefix("AUTH=") {
                    self.auth.add(std::iter::once(first).chain(words));
                }
            }
        }
    }

    /// Without what only adds a parameter to MAIL or RCPT that a message can do without: SIZE announces, BODY=8BITMIME
    /// names what the content is anyway, and what DSN would pass on is done by the sender's side then (RFC 3461 §5.2.3).
    pub fn without_parameters(self) -> Self {
        Self {
            eight_bit_mime: false,
            dsn: false,
            size: SizeOffer::NotOffered,
            ..self
        }
    }
}

impl SizeOffer {
    /// RFC 1870 §4: no number, or zero, is no limit.
    fn parse(number: Option<&str>) -> Self {
        match number.and_then(|n| n.parse().ok()) {
            None | Some(0) => Self::Unlimited,
            Some(limit) => Self::AtMost(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_seen() {
        let ehlo = |lines: &str| {
            let mut offered = Extensions::default();
            lines.lines().for_each(|line| offered.add(line));
            offered
        };
        assert_eq!(ehlo("STARTTLS.example"), Extensions::default());
        let offered = ehlo("starttls\nSIZE 1000\nPIPELINING\nAUTH PLAIN\nX-FOO");
        assert!(offered.starttls && offered.pipelining && !offered.dsn && !offered.smtputf8);
        assert_eq!(offered.size, SizeOffer::AtMost(1000));
        assert!(offered.auth.plain && !offered.auth.login);
        let before_the_standard = ehlo("AUTH=LOGIN NTLM\nauth cram-md5 plain");
        assert!(before_the_standard.auth.plain && before_the_standard.auth.login);
        assert_eq!(ehlo("AUTH"), Extensions::default());
        assert_eq!(ehlo("SIZE 0").size, SizeOffer::Unlimited);
        assert_eq!(ehlo("SIZE").size, SizeOffer::Unlimited);
    }
}
