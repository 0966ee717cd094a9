//! The last step of an opening, where the way has a login: AUTH, between the EHLO inside TLS and the first MAIL.

use dd_proto::report::Reply;
use dd_proto::site::Way;
use dd_proto::smtp::auth::Login;
use dd_proto::smtp::extensions::Extensions;
use jiff::Timestamp;

use super::{Opening, State};
use crate::proof::Verified;
use crate::session::outcome::{Cause, Phase};

/// What it is about to say may be a password, so that is shown by its length.
impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("state", &self.state)
            .field("seen", &self.seen)
            .field("ask_tls", &self.ask_tls)
            .field("out", &format_args!("{} bytes", self.out.len()))
            .finish_non_exhaustive()
    }
}

impl Opening {
    /// Where the way has a login, it is said behind the proof. Only where that is a certificate: a password in the clear, or
    /// for whoever answers, is anybody's.
    pub fn logging_in(self, way: &Way) -> Self {
        let named = self.terms.proof.certificate_name().is_some();
        let login = way.login.clone().filter(|_| named);
        Self { login, ..self }
    }

    /// The EHLO behind the proof was answered.
    pub(super) fn welcomed_again(
        &mut self,
        verified: Verified,
        offered: Extensions,
        now: Timestamp,
    ) {
        let Some(login) = &self.login else {
            self.state = State::Established { verified, offered };
            return;
        };
        let lines = login.lines(offered.auth);
        let has_mechanism = lines.is_some();
        self.state = State::LoggingIn {
            verified,
            offered,
            lines: lines.unwrap_or_default(),
        };
        match has_mechanism {
            true => self.says_next_of_login(),
            false => self.fail(Phase::Login, Cause::Permanent, None, None, now),
        }
    }

    /// RFC 4954 §4: 334 asks for more, and everything else is the end of it.
    pub(super) fn login_goes_on(&mut self, reply: &Reply, now: Timestamp) {
        let State::LoggingIn { lines, .. } = &self.state else {
            return;
        };
        match (reply.code, lines.is_empty()) {
            (334, false) => self.says_next_of_login(),
            (334, true) => self.nonsense("asks for more than user and password", now),
            _ => self.refused(Phase::Login, reply, now),
        }
    }

    fn says_next_of_login(&mut self) {
        if let State::LoggingIn { lines, .. } = &mut self.state
            && let Some(line) = lines.next()
        {
            self.out.extend_from_slice(line.as_bytes());
        }
    }

    /// The site said no to the login, or offers none that we know.
    pub(super) fn why_no_login(&self, reply: Option<&Reply>) -> String {
        let user = self.login.as_ref().map_or("", Login::user);
        match reply {
            Some(reply) => format!("the site answered the login as `{user}` with `{reply}`"),
            None => format!(
                "the site offers no AUTH by PLAIN or LOGIN, and there is a login as `{user}`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::proof::{Asked, Checked, Seen, Terms, TlsSeen, TlsUp};
    use crate::session::AskTls;

    #[test]
    fn a_password_that_is_about_to_be_said_is_in_no_text_for_people() {
        let host = dd_proto::site::Host {
            name: dd_proto::site::HostName::Dns("smtp.example.net".parse().unwrap()),
            port: 465.try_into().unwrap(),
        };
        let seen = Seen::new(
            host,
            "192.0.2.7:465".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        );
        let name: dd_proto::domain::Domain = "smtp.example.net".parse().unwrap();
        let terms = Terms {
            proof: dd_proto::site::Proof::Public { name: name.clone() },
            anchors: Vec::new(),
            revocation_lists: Vec::new(),
        };
        let way = Way {
            login: Some(Login::new("us".to_owned(), "tanstaaf".to_owned()).unwrap()),
            ..Way::default()
        };
        let opening = Opening::new(Arc::new(terms), "us".to_owned(), AskTls::OnConnect, seen);
        let mut opening = opening.logging_in(&way);
        let up = TlsUp {
            version: String::new(),
            cipher: String::new(),
            chain: Vec::new(),
            checked: Checked::AgainstPublicRoots { name },
            asked: Asked::No,
        };
        let now = Timestamp::UNIX_EPOCH;
        opening.secured(TlsSeen::Up(up), now);
        opening.received(b"220 smtp\r\n", now);
        let _ = opening.take_output();
        opening.received(b"250-smtp\r\n250 AUTH PLAIN\r\n", now);
        let shown = format!("{opening:?}");
        let said = opening.take_output();
        assert!(said.starts_with(b"AUTH PLAIN "), "{said:?}");
        for secret in [&said[b"AUTH PLAIN ".len()..said.len() - 2], b"tanstaaf"] {
            let secret = std::str::from_utf8(secret).unwrap();
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
