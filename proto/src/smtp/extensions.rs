//! What a server offers in its answer to EHLO, as far as we use it.

use crate::report::Reply;

/// The extensions a server offered; nothing offered is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    pub starttls: bool,
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub size: SizeOffer,
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
    /// From the reply to EHLO; its first line is the server's name. Keywords that we do not use are ignored.
    pub fn parse(ehlo: &Reply) -> Self {
        let mut offered = Self::default();
        for line in ehlo.text.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "STARTTLS" => offered.starttls = true,
                "PIPELINING" => offered.pipelining = true,
                "8BITMIME" => offered.eight_bit_mime = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                "DSN" => offered.dsn = true,
                "SIZE" => offered.size = SizeOffer::parse(words.next()),
                _ => {}
            }
        }
        offered
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
        let ehlo = |text: &str| {
            Extensions::parse(&Reply {
                code: 250,
                enhanced: String::new(),
                text: text.to_owned(),
            })
        };
        assert_eq!(ehlo("STARTTLS.example"), Extensions::default());
        let offered = ehlo("host\nstarttls\nSIZE 1000\nPIPELINING\nAUTH PLAIN\nX-FOO");
        assert!(offered.starttls && offered.pipelining && !offered.dsn && !offered.smtputf8);
        assert_eq!(offered.size, SizeOffer::AtMost(1000));
        assert_eq!(ehlo("host\nSIZE 0").size, SizeOffer::Unlimited);
        assert_eq!(ehlo("host\nSIZE").size, SizeOffer::Unlimited);
    }
}
