//! The last step of an opening, where the way has a login: AUTH, between the EHLO inside TLS and the first MAIL.

use dd_proto::report::Reply;
use dd_proto::site::Way;
use dd_proto::smtp::auth::Login;
use dd_proto::smtp::extensions::Extensions;
use jiff::Timestamp;

use super::{Opening, State};
use crate::proof::Verified;
use crate::session::outcome::{Cause, Phase};

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
