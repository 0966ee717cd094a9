//! What a session does for members: AUTH, and ETRN.

use dd_proto::smtp::command::CommandError;

use super::{Output, Session, State};
use crate::intake::auth::{Exchange, Login, Next};
use crate::intake::lmtp::{Protocol, Tls};
use crate::intake::member::{AuthAnswer, EtrnAnswer, Shown};
use crate::intake::reply;

impl Session {
    /// Answers [`Output::Etrn`].
    pub fn etrn_answered(&mut self, answer: &EtrnAnswer) {
        let State::AwaitEtrn { node } = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("it answers Output::Etrn, which leaves the session in AwaitEtrn");
        };
        self.say(&reply::etrn(answer, &node));
        self.run();
    }

    /// Answers [`Output::SignIn`].
    pub fn signed_in(&mut self, answer: AuthAnswer) {
        debug_assert!(matches!(self.state, State::AwaitSignIn));
        self.state = State::Commands;
        match answer {
            AuthAnswer::As(site) => {
                self.signed_in = Some(site);
                self.say(&reply::signed_in());
            }
            AuthAnswer::Wrong => self.reject(&reply::wrong_credentials()),
            AuthAnswer::NotNow => self.reject(&reply::auth_not_now()),
        }
        self.run();
    }

    pub(super) fn etrn(&mut self, node: String) {
        if self.protocol == Protocol::Lmtp {
            return self.reject(&CommandError::Unknown.reply());
        }
        if self.hello.is_none() {
            return self.say(&reply::out_of_order("say EHLO first"));
        }
        // RFC 1985 §5.1: not within a transaction.
        if self.transaction.is_some() {
            return self.say(&reply::out_of_order("a transaction is open, RSET ends it"));
        }
        let shown = Shown {
            client: self.client,
            signed_in: self.signed_in.clone(),
            certificates: self.certificates.clone(),
        };
        self.state = State::AwaitEtrn { node: node.clone() };
        self.outputs.push_back(Output::Etrn { node, shown });
    }

    /// RFC 4954 §4.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) {
        if self.protocol == Protocol::Lmtp || self.tls == Tls::NotOffered {
            return self.reject(&CommandError::NotImplemented.reply());
        }
        if self.tls != Tls::Active {
            return self.reject(&reply::auth_needs_tls());
        }
        if self.hello.is_none() {
            return self.say(&reply::out_of_order("say EHLO first"));
        }
        if self.transaction.is_some() {
            return self.say(&reply::out_of_order("a transaction is open, RSET ends it"));
        }
        if self.signed_in.is_some() {
            return self.say(&reply::out_of_order("signed in already"));
        }
        self.exchange(Exchange::begin(mechanism, initial));
    }

    pub(super) fn exchange(&mut self, next: Next) {
        match next {
            Next::Ask(exchange, challenge) => {
                self.say(&reply::challenge(challenge));
                self.state = State::Auth(exchange);
            }
            Next::Login(login) => self.sign_in(login),
            Next::Refuse(refusal) => self.reject(&refusal),
        }
    }

    fn sign_in(&mut self, login: Login) {
        self.state = State::AwaitSignIn;
        let client = self.client;
        self.outputs.push_back(Output::SignIn { login, client });
    }
}
