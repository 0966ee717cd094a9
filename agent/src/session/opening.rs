//! From the greeting to a proved session.

mod login;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::report::Reply;
use dd_proto::site::{Proof as SiteProof, Speaks};
use dd_proto::smtp::auth::{Lines, Login};
use dd_proto::smtp::compose;
use dd_proto::smtp::extensions::Extensions;
use dd_proto::smtp::reply::ReplyParser;
use jiff::Timestamp;

use super::established::hello;
use super::outcome::{Cause, Phase, Standing, Verdict, cause_of, verdict};
use super::{
    Established, Failure, GREETING_TIMEOUT, HANDSHAKE_TIMEOUT, HELLO_TIMEOUT, Lost, Unproved,
};
use crate::proof::handshake::{ended_behind, ended_ungreeted};
use crate::proof::{Proof, Refusal, Seen, Terms, TlsSeen, TlsUse, Verified, proof_for};

/// How this connection asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskTls {
    /// By STARTTLS.
    WhereOffered,
    /// A handshake with this host failed, and its proof does not rest on TLS.
    Not,
    /// The proof does not rest on TLS, but the site has shown TLS before: without, it is refused.
    Expected,
    /// It begins with the handshake, and there is no other way.
    OnConnect,
}

impl AskTls {
    /// As an order says it.
    pub fn of_order(tls_expected: bool) -> Self {
        match tls_expected {
            true => Self::Expected,
            false => Self::WhereOffered,
        }
    }
}

/// A session that has not proved itself yet.
pub struct Opening {
    terms: Arc<Terms>,
    proof: &'static dyn Proof,
    helo: String,
    ask_tls: AskTls,
    speaks: Speaks,
    login: Option<Login>,
    patience: Duration,
    seen: Seen,
    replies: ReplyParser,
    out: BytesMut,
    state: State,
}

/// Named by what it waits for.
#[derive(Debug)]
enum State {
    Greeting,
    /// The same behind a handshake with which the connection began.
    GreetingInTls {
        verified: Verified,
    },
    /// The answer to AUTH, or to what it asked for.
    LoggingIn {
        verified: Verified,
        offered: Extensions,
        /// What is still to be said.
        lines: Lines,
    },
    Hello,
    /// The answer to HELO; EHLO was refused.
    OldHello,
    Securing,
    Handshake,
    HelloAgain {
        verified: Verified,
    },
    Established {
        verified: Verified,
        offered: Extensions,
    },
    Failed(Box<Failure>),
}

/// What the driver is to do next, after it has written [`Opening::take_output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpeningWant {
    /// Read; give up after that long.
    Bytes(Duration),
    /// Make the connection secure.
    Handshake,
    /// Take the end with [`Opening::finish`].
    Nothing,
}

impl Opening {
    /// A fresh connection; nothing has been read from it.
    pub fn new(terms: Arc<Terms>, helo: String, ask_tls: AskTls, seen: Seen) -> Self {
        Self {
            proof: proof_for(&terms),
            terms,
            helo,
            ask_tls,
            speaks: Speaks::Smtp,
            login: None,
            patience: GREETING_TIMEOUT,
            seen,
            replies: ReplyParser::new(),
            out: BytesMut::new(),
            state: match ask_tls {
                AskTls::OnConnect => State::Handshake,
                AskTls::WhereOffered | AskTls::Not | AskTls::Expected => State::Greeting,
            },
        }
    }

    /// Waits for no answer longer than that: another address is left, and shares the time.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// With a host that speaks this.
    pub fn speaking(self, speaks: Speaks) -> Self {
        Self { speaks, ..self }
    }

    pub fn want(&self) -> OpeningWant {
        match self.state {
            State::Greeting | State::GreetingInTls { .. } => {
                OpeningWant::Bytes(GREETING_TIMEOUT.min(self.patience))
            }
            State::Hello
            | State::OldHello
            | State::Securing
            | State::HelloAgain { .. }
            | State::LoggingIn { .. } => OpeningWant::Bytes(HELLO_TIMEOUT.min(self.patience)),
            State::Handshake => OpeningWant::Handshake,
            State::Established { .. } | State::Failed(_) => OpeningWant::Nothing,
        }
    }

    /// For the whole handshake that [`OpeningWant::Handshake`] asks for.
    pub fn handshake_timeout(&self) -> Duration {
        HANDSHAKE_TIMEOUT.min(self.patience)
    }

    /// The name of the state, as in the diagram of [`super`].
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Greeting => "Greeting",
            State::GreetingInTls { .. } => "GreetingInTls",
            State::Hello => "Hello",
            State::OldHello => "OldHello",
            State::Securing => "Securing",
            State::Handshake => "Handshake",
            State::HelloAgain { .. } => "HelloAgain",
            State::LoggingIn { .. } => "LoggingIn",
            State::Established { .. } => "Established",
            State::Failed(_) => "Failed",
        }
    }

    pub fn take_output(&mut self) -> BytesMut {
        self.out.split()
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Bytes have come. Behind a failure they change nothing: the first reason stands.
    pub fn received(&mut self, bytes: &[u8], now: Timestamp) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.replies.push(bytes);
        match self.replies.next_ehlo() {
            Ok(None) => {}
            Err(error) => self.nonsense(&error.to_string(), now),
            Ok(Some(_)) if !matches!(self.want(), OpeningWant::Bytes(_)) => {
                self.nonsense("speaks unasked", now);
            }
            Ok(Some((reply, offered))) => {
                self.answered(&reply, offered, now);
                // RFC 3207 §4.2: what lies behind an answer was sent before we could ask for it.
                if !self.replies.is_empty() && !matches!(self.state, State::Failed(_)) {
                    self.nonsense("sends more than it was asked for", now);
                }
            }
        }
    }

    /// The handshake that [`OpeningWant::Handshake`] asked for has ended.
    pub fn secured(&mut self, tls: TlsSeen, now: Timestamp) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.seen.tls = tls;
        if let TlsSeen::Failed { refusal, .. } = &self.seen.tls {
            let refusal = refusal.clone();
            return self.withhold(Phase::Handshake, refusal, now);
        }
        // RFC 3207 §4.2: forget everything and ask again.
        self.replies = ReplyParser::new();
        match self.proof.rule(&self.terms, &self.seen, now) {
            Ok(verified) if self.ask_tls == AskTls::OnConnect => {
                self.state = State::GreetingInTls { verified };
            }
            Ok(verified) => {
                self.state = State::HelloAgain { verified };
                self.says_hello();
            }
            Err(refusal) => self.fail(Phase::Ruling, Cause::Withheld, Some(refusal), None, now),
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self, lost: Lost, now: Timestamp) {
        if self.want() == OpeningWant::Nothing {
            return;
        }
        let refusal = match (&self.state, lost) {
            (State::HelloAgain { .. }, Lost::Closed) => {
                ended_behind(self.seen.asked()).map(Refusal::HandshakeFailed)
            }
            (State::GreetingInTls { .. }, Lost::Closed) => {
                Some(Refusal::HandshakeFailed(ended_ungreeted(self.seen.asked())))
            }
            _ => None,
        };
        let refusal = refusal.unwrap_or_else(|| Refusal::NotSmtp(lost.words().to_owned()));
        self.fail(self.phase(), lost.cause(), Some(refusal), None, now);
    }

    /// The end: an established session, or why there is none; and what was seen.
    ///
    /// # Errors
    /// The failure. Called before the end, that the session was given up.
    pub fn finish(self) -> Result<Established, Box<Unproved>> {
        match self.state {
            State::Established { verified, offered } => Ok(Established::new(
                verified,
                (self.helo, self.speaks),
                offered,
                self.replies,
                self.seen,
            )),
            State::Failed(failure) => Err(Box::new(Unproved {
                failure: *failure,
                seen: self.seen,
            })),
            _ => {
                let failure = Failure {
                    phase: Phase::Greeting,
                    cause: Cause::Own,
                    verdict: verdict(Phase::Greeting, Cause::Own, Standing::Unproved),
                    refusal: None,
                    reply: None,
                    detail: "the agent gave the session up".to_owned(),
                };
                Err(Box::new(Unproved {
                    failure,
                    seen: self.seen,
                }))
            }
        }
    }

    fn phase(&self) -> Phase {
        match self.state {
            State::Greeting | State::GreetingInTls { .. } => Phase::Greeting,
            State::Hello | State::OldHello => Phase::Hello,
            State::Securing => Phase::Securing,
            State::Handshake => Phase::Handshake,
            State::LoggingIn { .. } => Phase::Login,
            State::HelloAgain { .. } | State::Established { .. } | State::Failed(_) => {
                Phase::HelloAgain
            }
        }
    }

    fn answered(&mut self, reply: &Reply, offered: Extensions, now: Timestamp) {
        match std::mem::replace(&mut self.state, State::Handshake) {
            State::Greeting => self.greeted(reply, None, now),
            State::GreetingInTls { verified } => self.greeted(reply, Some(verified), now),
            State::Hello => self.welcomed(reply, offered, now),
            State::OldHello if reply.is_positive() => {
                self.rule_without_tls(Extensions::default(), now);
            }
            State::OldHello => self.unwelcome(Phase::Hello, reply, now),
            State::Securing if reply.code == 220 => {}
            State::Securing => {
                self.seen.tls = TlsSeen::Refused(reply.to_string());
                let refusal = Refusal::StartTlsRefused(reply.to_string());
                match cause_of(reply) {
                    // A host that is busy says nothing about who it is.
                    cause @ (Cause::Transient | Cause::Closing) => {
                        self.fail(Phase::Securing, cause, Some(refusal), Some(reply), now);
                    }
                    _ => self.withhold(Phase::Securing, refusal, now),
                }
            }
            State::HelloAgain { verified } if reply.is_positive() => {
                self.welcomed_again(verified, offered, now);
            }
            State::LoggingIn {
                verified, offered, ..
            } if reply.is_positive() => {
                self.state = State::Established { verified, offered };
            }
            state @ State::LoggingIn { .. } => {
                self.state = state;
                self.login_goes_on(reply, now);
            }
            state @ State::HelloAgain { .. } => {
                self.state = state;
                self.refused(Phase::HelloAgain, reply, now);
            }
            state @ (State::Handshake | State::Established { .. } | State::Failed(_)) => {
                self.state = state;
            }
        }
    }

    /// `verified` where the handshake came before.
    fn greeted(&mut self, reply: &Reply, verified: Option<Verified>, now: Timestamp) {
        self.seen.greeting = reply.text.lines().next().unwrap_or_default().to_owned();
        let is_ourselves = self.is_ourselves(reply);
        let goes_on = reply.code == 220 && !is_ourselves;
        self.state = match verified {
            None if goes_on => State::Hello,
            None => State::Greeting,
            Some(verified) if goes_on => State::HelloAgain { verified },
            Some(verified) => State::GreetingInTls { verified },
        };
        if reply.code != 220 {
            return self.refused(Phase::Greeting, reply, now);
        }
        if is_ourselves {
            return self.fail(
                Phase::Greeting,
                Cause::Withheld,
                Some(Refusal::Loop),
                None,
                now,
            );
        }
        self.says_hello();
    }

    fn says_hello(&mut self) {
        let hello = hello(self.speaks, &self.helo);
        self.out.extend_from_slice(hello.as_bytes());
    }

    fn welcomed(&mut self, reply: &Reply, offered: Extensions, now: Timestamp) {
        let needs_tls = self.needs_tls();
        // RFC 5321 §3.2: a server that knows no EHLO is asked with HELO. It cannot offer STARTTLS.
        if reply.is_permanent() && !needs_tls && self.speaks == Speaks::Smtp {
            self.state = State::OldHello;
            self.out
                .extend_from_slice(compose::helo(&self.helo).as_bytes());
            return;
        }
        if !reply.is_positive() {
            return self.unwelcome(Phase::Hello, reply, now);
        }
        let ask = needs_tls || self.ask_tls != AskTls::Not;
        if offered.starttls && ask {
            self.state = State::Securing;
            self.out.extend_from_slice(compose::STARTTLS.as_bytes());
            return;
        }
        if !offered.starttls {
            self.seen.tls = TlsSeen::NotOffered;
        }
        self.rule_without_tls(offered, now);
    }

    /// Whether there is no way on without TLS.
    fn needs_tls(&self) -> bool {
        matches!(self.ask_tls, AskTls::Expected | AskTls::OnConnect)
            || self.proof.tls(&self.terms) == TlsUse::Needed
    }

    fn rule_without_tls(&mut self, offered: Extensions, now: Timestamp) {
        if self.ask_tls == AskTls::Expected && self.proof.tls(&self.terms) != TlsUse::Needed {
            let refusal = Refusal::TlsFellAway("the host offers no STARTTLS".to_owned());
            return self.fail(Phase::Ruling, Cause::Withheld, Some(refusal), None, now);
        }
        match self.proof.rule(&self.terms, &self.seen, now) {
            Ok(verified) => self.state = State::Established { verified, offered },
            Err(refusal) => self.fail(Phase::Ruling, Cause::Withheld, Some(refusal), None, now),
        }
    }

    /// Whether the host greets with our own name, where nothing but its port speaks for it. Where TLS, the address or the
    /// administrator proves the host, that decides, for a name proves nothing (RFC 5321 §4.1.4): a relay may run on our
    /// own machine, and be right. Asked of the greeting only: it is said before we have told our name, while the answer
    /// to EHLO may repeat it.
    fn is_ourselves(&self, reply: &Reply) -> bool {
        if !matches!(self.terms.proof, SiteProof::Port) {
            return false;
        }
        let name = reply
            .text
            .split_ascii_whitespace()
            .next()
            .unwrap_or_default();
        name.eq_ignore_ascii_case(&self.helo)
    }

    /// EHLO, or the HELO behind it, was refused. LMTP has neither (RFC 2033 §4.1).
    fn unwelcome(&mut self, phase: Phase, reply: &Reply, now: Timestamp) {
        let greets_as_lmtp = self.seen.greeting.contains("LMTP");
        let may_be_lmtp = matches!(reply.code, 500 | 502 | 503) || greets_as_lmtp;
        if self.speaks == Speaks::Lmtp || !may_be_lmtp {
            return self.refused(phase, reply, now);
        }
        let refusal = Refusal::NoEsmtp(reply.to_string());
        self.fail(phase, cause_of(reply), Some(refusal), Some(reply), now);
    }

    fn refused(&mut self, phase: Phase, reply: &Reply, now: Timestamp) {
        let refusal = Refusal::TurnedAway(reply.to_string());
        self.fail(phase, cause_of(reply), Some(refusal), Some(reply), now);
    }

    fn nonsense(&mut self, why: &str, now: Timestamp) {
        let refusal = Refusal::NotSmtp(why.to_owned());
        self.fail(self.phase(), Cause::Nonsense, Some(refusal), None, now);
    }

    /// TLS came to nothing: the end where the proof rests on it, else a reason to connect without.
    fn withhold(&mut self, phase: Phase, refusal: Refusal, now: Timestamp) {
        let (cause, refusal) = match (self.proof.tls(&self.terms), self.ask_tls) {
            (TlsUse::Needed, _) | (_, AskTls::OnConnect) => (Cause::Withheld, refusal),
            (TlsUse::WhereOffered, AskTls::Expected) => {
                (Cause::Withheld, Refusal::TlsFellAway(refusal.to_string()))
            }
            (TlsUse::WhereOffered, _) => (Cause::Nonsense, refusal),
        };
        self.fail(phase, cause, Some(refusal), None, now);
    }

    /// `refusal` says why the proof is withheld if the far end, as seen now, is not the site.
    fn fail(
        &mut self,
        phase: Phase,
        cause: Cause,
        refusal: Option<Refusal>,
        reply: Option<&Reply>,
        now: Timestamp,
    ) {
        let standing = match &self.state {
            State::GreetingInTls { .. }
            | State::HelloAgain { .. }
            | State::LoggingIn { .. }
            | State::Established { .. } => Standing::Proved,
            _ if self.needs_tls() => Standing::Unproved,
            _ => match self.proof.rule(&self.terms, &self.seen, now) {
                Ok(_) => Standing::Proved,
                Err(_) => Standing::Unproved,
            },
        };
        let verdict = verdict(phase, cause, standing);
        let detail = match (standing, reply, &refusal) {
            (Standing::Proved, Some(_), Some(refusal @ Refusal::NoEsmtp(_))) => refusal.to_string(),
            (Standing::Proved, reply, None | Some(Refusal::TurnedAway(_)))
                if phase == Phase::Login =>
            {
                self.why_no_login(reply)
            }
            (Standing::Proved, Some(reply), _) => format!("the site answered `{reply}`"),
            // It has proved itself, so it is the site that did it.
            (Standing::Proved, None, Some(Refusal::NotSmtp(why))) => format!("the site {why}"),
            (_, _, Some(refusal)) => refusal.to_string(),
            (_, _, None) => format!("the session failed at {phase:?}"),
        };
        let keep = standing == Standing::Unproved || cause == Cause::Withheld;
        self.state = State::Failed(Box::new(Failure {
            phase,
            cause,
            verdict,
            refusal: refusal.filter(|_| keep || verdict == Verdict::WithoutTls),
            reply: reply.cloned(),
            detail,
        }));
    }
}
