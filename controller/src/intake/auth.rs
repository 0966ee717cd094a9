//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616) as a value: lines in; a challenge, credentials or a refusal out.
//!
//! # Not here
//! When AUTH may come: the session's. Whether the credentials are right: the gatekeeper's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_proto::smtp::reply::ServerReply;

use super::reply;
use crate::credentials::typed;

/// How far an exchange is.
#[derive(Debug, PartialEq, Eq)]
pub enum Exchange {
    Plain,
    LoginUser,
    LoginPassword { user: String },
}

/// What a client signs in with.
#[derive(PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What comes of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Say this, and take the next line.
    Ask(Exchange, &'static str),
    Login(Login),
    Refuse(ServerReply),
}

/// `Username:` and `Password:` in base64. No standard says what LOGIN asks; clients compare with what most servers say.
const USER: &str = "VXNlcm5hbWU6";
const PASSWORD: &str = "UGFzc3dvcmQ6";

impl Exchange {
    pub fn begin(mechanism: &str, initial: Option<&str>) -> Next {
        let exchange = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Self::Plain,
            "LOGIN" => Self::LoginUser,
            _ => return Next::Refuse(reply::no_such_mechanism()),
        };
        match (initial, exchange) {
            // RFC 4954 §4: `=` is an initial response without a byte in it.
            (Some("="), exchange) => exchange.take(""),
            (Some(line), exchange) => exchange.take(line),
            (None, Self::Plain) => Next::Ask(Self::Plain, ""),
            (None, exchange) => Next::Ask(exchange, USER),
        }
    }

    /// The client's answer to a challenge.
    pub fn take(self, line: &str) -> Next {
        if line == "*" {
            return Next::Refuse(reply::auth_cancelled());
        }
        let Some(text) = STANDARD.decode(line).ok().map(typed) else {
            return Next::Refuse(reply::auth_malformed());
        };
        match self {
            Self::Plain => plain(&text),
            Self::LoginUser => Next::Ask(Self::LoginPassword { user: text }, PASSWORD),
            Self::LoginPassword { user } => Next::Login(Login {
                user,
                password: text,
            }),
        }
    }
}

/// RFC 4616 §2: whom to act as (nobody but oneself here), who one is, and the password, with NUL between them.
fn plain(text: &str) -> Next {
    let parts: Vec<&str> = text.split('\0').collect();
    match parts[..] {
        [act_as, user, password] if !user.is_empty() && (act_as.is_empty() || act_as == user) => {
            Next::Login(Login {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        }
        _ => Next::Refuse(reply::auth_malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Next {
        Next::Login(Login {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn plain_takes_its_credentials_with_or_before_the_challenge() {
        let line = STANDARD.encode("\0home\0pass word");
        assert_eq!(
            Exchange::begin("plain", Some(&line)),
            login("home", "pass word")
        );
        let Next::Ask(exchange, "") = Exchange::begin("PLAIN", None) else {
            panic!("no challenge");
        };
        assert_eq!(exchange.take(&line), login("home", "pass word"));
    }

    #[test]
    fn what_is_no_utf8_is_latin1() {
        let line = STANDARD.encode(b"\0home\0gr\xfcn wie Gras");
        let expected = login("home", "gr\u{fc}n wie Gras");
        assert_eq!(Exchange::begin("PLAIN", Some(&line)), expected);
        let line = STANDARD.encode("\0home\0gr\u{fc}n wie Gras");
        assert_eq!(Exchange::begin("PLAIN", Some(&line)), expected);
    }

    #[test]
    fn login_asks_for_both() {
        assert_eq!(STANDARD.encode("Username:"), USER);
        assert_eq!(STANDARD.encode("Password:"), PASSWORD);
        let user = STANDARD.encode("home");
        let Next::Ask(exchange, USER) = Exchange::begin("LOGIN", None) else {
            panic!("no challenge");
        };
        let Next::Ask(exchange, PASSWORD) = exchange.take(&user) else {
            panic!("no challenge");
        };
        assert_eq!(
            exchange.take(&STANDARD.encode("secret")),
            login("home", "secret")
        );
        assert!(matches!(
            Exchange::begin("LOGIN", Some(&user)),
            Next::Ask(Exchange::LoginPassword { .. }, PASSWORD)
        ));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let code = |next| match next {
            Next::Refuse(reply) => reply.code,
            other => panic!("not refused: {other:?}"),
        };
        for (mechanism, line, expected) in [
            ("CRAM-MD5", "", 504),
            ("PLAIN", "*", 501),
            ("PLAIN", "no base64!", 501),
            ("PLAIN", "=", 501),
            ("PLAIN", &STANDARD.encode("home\0secret"), 501),
            ("PLAIN", &STANDARD.encode("root\0home\0secret"), 501),
            ("PLAIN", &STANDARD.encode("\0home\0a\0b"), 501),
            ("PLAIN", &STANDARD.encode(b"\0home\0\xff\0"), 501),
        ] {
            let next = Exchange::begin(mechanism, Some(line));
            assert_eq!(code(next), expected, "{mechanism} {line}");
        }
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let shown = format!("{:?}", login("home", "hunter2hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
