//! AUTH, as a client says it (RFC 4954): PLAIN and LOGIN.
//!
//! # Invariants
//! A password is in no text that is made for people: [`Login`] shows its user only, and [`Lines`] their number.
//!
//! # Not here
//! On which sessions it may be said at all: the agent's session, which says it to hosts that have proved themselves by a
//! certificate, and to no other.

use std::collections::VecDeque;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The mechanisms of a server's offer that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mechanisms {
    pub plain: bool,
    pub login: bool,
}

impl Mechanisms {
    /// A server may say it twice: `AUTH=` is from before the standard.
    pub(super) fn add<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            self.plain |= word.eq_ignore_ascii_case("PLAIN");
            self.login |= word.eq_ignore_ascii_case("LOGIN");
        }
    }
}

/// What we show to a server that lets only those in who have a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

/// What of a login is still to be said.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Lines(VecDeque<String>);

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0.pop_front()
    }
}

impl Lines {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.0.len())
    }
}

/// Why user and password cannot be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("the user or the password is empty")]
    Empty,
    // RFC 4616 §2: NUL stands between them.
    #[error("a control character is in the user or the password")]
    Control,
    #[error("user and password are longer than {MAX} bytes")]
    TooLong,
}

/// Of each; a line of AUTH may have 12,288 bytes (RFC 4954 §4).
const MAX: usize = 1024;

impl Login {
    /// # Errors
    /// No server could be told of them.
    pub fn new(user: String, password: String) -> Result<Self, LoginError> {
        for text in [&user, &password] {
            if text.is_empty() {
                return Err(LoginError::Empty);
            }
            if text.len() > MAX {
                return Err(LoginError::TooLong);
            }
            if text.chars().any(char::is_control) {
                return Err(LoginError::Control);
            }
        }
        Ok(Self { user, password })
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// For the agent that says it, and for nobody else.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What is said, line by line: each but the first answers a 334. None where the server offers no mechanism that we know.
    pub fn lines(&self, offered: Mechanisms) -> Option<Lines> {
        let Self { user, password } = self;
        let encoded = |text: &str| format!("{}\r\n", STANDARD.encode(text));
        match offered {
            Mechanisms { plain: true, .. } => {
                let message = encoded(&format!("\0{user}\0{password}"));
                Some(Lines([format!("AUTH PLAIN {message}")].into()))
            }
            // It has no standard. Servers ask for the user, then for the password, in words of their own.
            Mechanisms { login: true, .. } => {
                let lines = [
                    "AUTH LOGIN\r\n".to_owned(),
                    encoded(user),
                    encoded(password),
                ];
                Some(Lines(lines.into()))
            }
            Mechanisms { .. } => None,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login::new("tim".to_owned(), "tanstaaftanstaaf".to_owned()).unwrap()
    }

    #[test]
    fn plain_goes_in_one_line_and_login_in_three() {
        let of = |plain, login| Mechanisms { plain, login };
        let said = |offered| login().lines(offered).map(Iterator::collect::<Vec<_>>);
        // RFC 4616 §4.
        let plain = "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n".to_owned();
        assert_eq!(said(of(true, false)), Some(vec![plain.clone()]));
        assert_eq!(said(of(true, true)), Some(vec![plain]));
        let three = ["AUTH LOGIN\r\n", "dGlt\r\n", "dGFuc3RhYWZ0YW5zdGFhZg==\r\n"];
        let three = three.map(str::to_owned).to_vec();
        assert_eq!(said(of(false, true)), Some(three));
        assert_eq!(said(of(false, false)), None);
    }

    #[test]
    fn nobody_reads_a_password_where_a_login_is_shown() {
        let shown = format!("{:?}", login());
        assert_eq!(shown, "Login { user: \"tim\", .. }");
        let plain = Mechanisms {
            plain: true,
            login: false,
        };
        let lines = login().lines(plain).unwrap();
        assert_eq!(format!("{lines:?}"), "1 lines");
        let wire = crate::pb::Login::from(&login());
        assert_eq!(format!("{wire:?}"), shown);
    }

    #[test]
    fn what_no_server_could_be_told_is_no_login() {
        let of = |user: &str, password: &str| Login::new(user.to_owned(), password.to_owned());
        assert_eq!(of("", "x"), Err(LoginError::Empty));
        assert_eq!(of("x", ""), Err(LoginError::Empty));
        assert_eq!(of("x", "a\0b"), Err(LoginError::Control));
        assert_eq!(of("x\r\nRSET", "b"), Err(LoginError::Control));
        assert_eq!(of("x", &"b".repeat(1025)), Err(LoginError::TooLong));
        assert!(of("jörg", "a b ü").is_ok());
    }
}
