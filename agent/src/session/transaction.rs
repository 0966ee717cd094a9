//! One mail transaction on a proved session.
//!
//! # Invariants
//! - What single recipients were answered is in the end, whatever it is.
//! - The phase of an end is that of the command that was answered, or whose answer was awaited.
//!
//! # Not here
//! The answers to MAIL, RCPT and DATA one by one ([`steps`]); what goes out together with the final dot
//! ([`super::established`]); what an answer means ([`super::outcome`]).

mod steps;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::id::RecipientNumber;
use dd_proto::report::{Disposition, Outcome, RecipientResult, Reply, SaidBy, Told};
use dd_proto::site::Speaks;
use dd_proto::smtp::data::Stuffer;
use dd_proto::smtp::extensions::Extensions;

use super::answers::Answers;
use super::established::{Ahead, MAX_UNANSWERED, Next, Reset, Step};
use super::outcome::{Cause, Phase, Standing, Verdict, cause_of, verdict};
use super::{
    BLOCK_TIMEOUT, COMMAND_TIMEOUT, DATA_TIMEOUT, END_OF_DATA_TIMEOUT, Established, GROUP_TIMEOUT,
    Lost,
};

/// Whether the session can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Usable,
    /// Close it. The site has answered, so it is there.
    Spent,
    /// The connection is lost, or of no use: there was no answer.
    Lost,
}

/// What a transaction came to.
#[derive(Debug, Clone)]
pub struct Ended {
    pub outcome: Outcome,
    /// What each recipient was answered; who is not named is open.
    pub recipients: Vec<RecipientResult>,
    /// The reply that ended it for all recipients, or for the whole site.
    pub reply: Option<Reply>,
    pub detail: String,
    /// The final dot, or its first byte, may have reached the site.
    pub dot_sent: bool,
    pub after: After,
    pub phase: Phase,
    /// It came to nothing because its commands had travelled together: [`Established::together`] says so from now on.
    pub lost_together: bool,
    /// The site announces XFORWARD or XCLIENT and does not take it. What followed went without.
    pub hand_over_refused: bool,
}

impl Ended {
    /// What the site itself has answered.
    pub fn answers(&self) -> impl Iterator<Item = &RecipientResult> {
        let results = self.recipients.iter();
        results.filter(|result| result.by == SaidBy::TheSite)
    }
}

/// One message on its way. Borrows the proof for as long as it lives.
#[derive(Debug)]
pub struct Transaction<'s> {
    session: &'s mut Established,
    message: Next<'s>,
    unsent: VecDeque<Step>,
    unanswered: VecDeque<Step>,
    answers: Answers,
    /// What its lines are written with, so what their answers are about; the session may have learnt better meanwhile.
    offered: Extensions,
    parameters: Parameters,
    /// Its first commands went out behind a dot.
    sent_ahead: bool,
    /// Commands went out before the one in front of them was answered.
    grouped: bool,
    lost_together: bool,
    hand_over_refused: bool,
    stuffer: Stuffer,
    out: BytesMut,
    state: State,
    dot_sent: bool,
    /// Those for whom an answer to the dot is still to come, in order; only in LMTP.
    owed: VecDeque<RecipientNumber>,
}

#[derive(Debug)]
enum State {
    /// Until DATA is answered, or what travelled with a MAIL that was refused.
    Commands,
    Content,
    /// The content is out, the dot is not.
    Dot,
    /// RFC 2920 §3.1: DATA was accepted although no recipient was; a lone dot ends it, and its answer says nothing.
    LoneDot,
    EndOfData,
    Ended(Box<Ended>),
}

/// The parameters of MAIL and RCPT that the server offered to understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameters {
    AsOffered,
    /// A command was refused for them: it is asked again without when all answers are in.
    Refused,
    /// A recipient was, before DATA had gone out: it and those that are left are asked for without.
    LeftOut,
    /// All was asked again.
    Without,
}

/// What the driver is to do next, after it has written [`Transaction::take_output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionWant {
    Bytes(Duration),
    /// Give the content, in any number of [`Transaction::content`], then [`Transaction::content_ended`].
    Content,
    /// Note in the journal that the dot goes out, then [`Transaction::send_dot`].
    Dot,
    /// Take the end with [`Transaction::finish`].
    Nothing,
}

impl<'s> Transaction<'s> {
    pub(super) fn new(
        session: &'s mut Established,
        message: Next<'s>,
        steps: VecDeque<Step>,
    ) -> Self {
        let mut transaction = Self::with(session, message, steps, VecDeque::new());
        match message.unmet(&transaction.session.offered) {
            Some(reply) => transaction.fail_all_unsent(&reply),
            None => transaction.send_more(),
        }
        transaction
    }

    /// One whose first commands went out with the dot before. Some answers may have come already.
    pub(super) fn sent_ahead(
        session: &'s mut Established,
        message: Next<'s>,
        ahead: Ahead,
    ) -> Self {
        let mut transaction = Self::with(session, message, ahead.unsent, ahead.unanswered);
        transaction.offered = ahead.offered;
        transaction.sent_ahead = true;
        transaction.grouped = true;
        transaction.received(&[]);
        transaction
    }

    fn with(
        session: &'s mut Established,
        message: Next<'s>,
        unsent: VecDeque<Step>,
        unanswered: VecDeque<Step>,
    ) -> Self {
        let offered = session.spoken();
        let answers = message.answers_from_us(&offered);
        Self {
            session,
            message,
            unsent,
            unanswered,
            answers,
            offered,
            parameters: Parameters::AsOffered,
            sent_ahead: false,
            grouped: false,
            lost_together: false,
            hand_over_refused: false,
            stuffer: Stuffer::new(),
            out: BytesMut::new(),
            state: State::Commands,
            dot_sent: false,
            owed: VecDeque::new(),
        }
    }
}

impl Transaction<'_> {
    pub fn want(&self) -> TransactionWant {
        match &self.state {
            State::Commands => TransactionWant::Bytes(self.patience()),
            State::Content => TransactionWant::Content,
            State::Dot => TransactionWant::Dot,
            State::LoneDot | State::EndOfData => TransactionWant::Bytes(END_OF_DATA_TIMEOUT),
            State::Ended(_) => TransactionWant::Nothing,
        }
    }

    fn patience(&self) -> Duration {
        match self.unanswered.front() {
            Some(Step::Mail | Step::Forward) if self.sent_ahead => {
                self.session.behind_dot_patience()
            }
            // Nothing depends on them any more; Courier throws away what stands behind such a MAIL.
            _ if self.answers.sender_refused() => self.session.behind_dot_patience(),
            _ if self.grouped && !self.is_proven() => GROUP_TIMEOUT,
            Some(Step::Data) => DATA_TIMEOUT,
            _ => COMMAND_TIMEOUT,
        }
    }

    /// The name of the state, as in the diagram of [`super`].
    pub fn state_name(&self) -> &'static str {
        match (&self.state, self.unanswered.front()) {
            (State::Commands, Some(Step::Reset)) => "Reset",
            (State::Commands, Some(Step::Forward | Step::Client | Step::Hello)) => "HandOver",
            (State::Commands, Some(Step::Rcpt(_) | Step::PlainRcpt(_))) => "Rcpt",
            (State::Commands, Some(Step::Data)) => "Data",
            (State::Commands, Some(Step::Mail) | None) => "Mail",
            (State::Content, _) => "Content",
            (State::Dot, _) => "Dot",
            (State::LoneDot, _) => "LoneDot",
            (State::EndOfData, _) => "EndOfData",
            (State::Ended(_), _) => "Ended",
        }
    }

    /// How long one write may take.
    pub fn write_timeout(&self) -> Duration {
        BLOCK_TIMEOUT
    }

    pub fn take_output(&mut self) -> BytesMut {
        self.out.split()
    }

    /// Bytes of output that wait to be written.
    pub fn output_len(&self) -> usize {
        self.out.len()
    }

    /// The recipients the site accepted.
    pub fn accepted(&self) -> &[RecipientNumber] {
        self.answers.accepted()
    }

    /// How long the site took for what comes now.
    pub fn took(&mut self, time: Duration) {
        // What it does with a whole message, or behind one, is no sign of how it answers a command.
        let to_commands = matches!(self.state, State::Commands);
        self.session.took(match to_commands {
            true => time,
            false => Duration::ZERO,
        });
        if to_commands && !self.sent_ahead {
            self.session.keeps_pace();
        }
    }

    /// Bytes have come. Returns how many replies they complete.
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        self.session.replies.push(bytes);
        let mut replies = 0;
        while !self.has_ended() {
            match self.session.replies.next_reply() {
                Ok(None) => {
                    self.send_more();
                    return replies;
                }
                Ok(Some(reply)) => {
                    replies += 1;
                    self.answered(&reply);
                }
                Err(error) => self.fail(Cause::Nonsense, &error.to_string()),
            }
        }
        // What lies behind the last answer is unasked for, unless an envelope was sent ahead: then it answers that.
        if !self.session.replies.is_empty() && self.session.ahead.is_none() {
            self.spend();
        }
        replies
    }

    /// Part of the content.
    pub fn content(&mut self, part: &[u8]) {
        if matches!(self.state, State::Content) {
            self.stuffer.feed(part, &mut self.out);
        }
    }

    pub fn content_ended(&mut self) {
        if matches!(self.state, State::Content) {
            self.state = State::Dot;
        }
    }

    /// Writes the final dot, and with it what of the `next` message may travel along. From here on only an answer tells
    /// what became of this one.
    pub fn send_dot(&mut self, next: Option<Next<'_>>) {
        if matches!(self.state, State::Dot) {
            // The beginning of a reply that came before the dot is no answer to it.
            if !self.session.replies.is_empty() {
                return self.fail(Cause::Nonsense, "spoke before the final dot");
            }
            self.out.extend_from_slice(self.stuffer.end());
            let next = next.filter(|_| self.session.sends_ahead());
            self.session.ahead =
                next.and_then(|next| Ahead::write(next, self.session, &mut self.out));
            self.dot_sent = true;
            if self.session.speaks == Speaks::Lmtp {
                self.owed = self.accepted().iter().copied().collect();
            }
            self.state = State::EndOfData;
        }
    }

    pub fn lost(&mut self, lost: Lost) {
        // What had come before may have ended it; the connection is of no use all the same.
        self.spend();
        self.fail(lost.cause(), lost.words());
    }

    /// The agent cannot go on; no dot is sent, so the site drops what it got.
    pub fn give_up(&mut self, why: &str) {
        self.fail(Cause::Own, why);
    }

    /// What it came to. Called before its end, that the agent gave it up.
    pub fn finish(mut self) -> Ended {
        self.give_up("the agent gave the transaction up");
        match self.state {
            State::Ended(ended) => *ended,
            _ => unreachable!("giving up ends every transaction that has not ended"),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn fail_all_unsent(&mut self, reply: &Reply) {
        let envelope = self.message.envelope;
        self.answers.refuse_all_unasked(envelope, reply);
        let detail = format!("not sent: {reply}");
        self.end(
            Outcome::Transacted,
            None,
            &detail,
            After::Usable,
            Phase::Mail,
        );
    }

    fn send_more(&mut self) {
        while let Some(&step) = self.unsent.front() {
            let full = self.unanswered.len() >= MAX_UNANSWERED;
            let in_turn = !self.session.pipelines() || full;
            // RFC 2920 §3.1: EHLO ends a group, and XCLIENT does so in Postfix.
            let alone = matches!(self.unanswered.back(), Some(Step::Client | Step::Hello));
            if !self.unanswered.is_empty() && (in_turn || alone) {
                return;
            }
            // Where every answer is in and nobody was accepted, DATA would be pointless.
            let is_last = step == Step::Data && self.unanswered.is_empty();
            if is_last && self.accepted().is_empty() {
                self.session.reset = Reset::Needed;
                return self.nobody_accepted(After::Usable);
            }
            self.unsent.pop_front();
            self.session.sends(step);
            self.grouped |= !self.unanswered.is_empty();
            self.unanswered.push_back(step);
            let line = match step {
                Step::Hello => self.session.hello_again(self.message),
                step => self.message.line(step, &self.offered),
            };
            self.out.extend_from_slice(line.as_bytes());
        }
    }

    fn answered(&mut self, reply: &Reply) {
        self.session.hears(reply);
        match &self.state {
            State::Commands => match self.unanswered.pop_front() {
                Some(step) => self.step_answered(step, reply),
                None => self.fail(Cause::Nonsense, "speaks unasked"),
            },
            State::Content | State::Dot => {
                let why = format!("answered `{reply}` in the middle of the content");
                self.rule(Phase::Body, reply, &why);
            }
            // Whether this answers the lone dot or something before it cannot be told: the session ends.
            State::LoneDot => self.nobody_accepted(After::Spent),
            State::EndOfData if !self.owed.is_empty() => self.answered_for_one(reply),
            State::EndOfData if reply.is_positive() => {
                let told = self.told();
                self.answers.settle(Disposition::Relayed, reply, told);
                let detail = format!("the site answered `{reply}`");
                self.session.reset = Reset::Clean;
                self.session.took_a_message();
                self.end(
                    Outcome::Transacted,
                    None,
                    &detail,
                    After::Usable,
                    Phase::EndOfData,
                );
            }
            State::EndOfData => self.rule(Phase::EndOfData, reply, "refused the message"),
            State::Ended(_) => {}
        }
    }

    fn phase(&self) -> Phase {
        match (&self.state, self.unanswered.front()) {
            (State::Content | State::Dot, _) => Phase::Body,
            (State::EndOfData, _) => Phase::EndOfData,
            (State::LoneDot, _) => Phase::Data,
            (_, Some(step)) => step.phase(),
            _ => Phase::Mail,
        }
    }

    /// Without an answer: the session is lost, or the agent's own trouble ends it.
    fn fail(&mut self, cause: Cause, why: &str) {
        if self.has_ended() {
            return;
        }
        self.look_at_the_loss(cause);
        let phase = self.phase();
        let Verdict::Ends(outcome) = verdict(phase, cause, Standing::Proved) else {
            unreachable!("only a reply settles recipients, and a proved session has no next host");
        };
        self.ends(outcome, phase, cause, None, why);
    }

    /// What a reply means for all that are accepted.
    fn rule(&mut self, phase: Phase, reply: &Reply, why: &str) {
        let cause = cause_of(reply);
        match verdict(phase, cause, Standing::Proved) {
            Verdict::Recipients(disposition) => {
                let told = self.told();
                self.answers.settle(disposition, reply, told);
                self.session.reset = match phase {
                    Phase::EndOfData => Reset::Clean,
                    _ => Reset::Needed,
                };
                let after = match cause {
                    Cause::Closing => After::Spent,
                    _ => After::Usable,
                };
                let detail = format!("the site answered `{reply}`");
                self.end(Outcome::Transacted, None, &detail, after, phase);
            }
            Verdict::Ends(outcome) => self.ends(outcome, phase, cause, Some(reply), why),
            Verdict::NextHost(_) | Verdict::WithoutTls => {
                unreachable!("a proved session has no next host")
            }
        }
    }

    /// The session is over with it.
    fn ends(
        &mut self,
        outcome: Outcome,
        phase: Phase,
        cause: Cause,
        reply: Option<&Reply>,
        why: &str,
    ) {
        let after = match cause {
            Cause::TimedOut | Cause::Closed | Cause::Nonsense => After::Lost,
            _ => After::Spent,
        };
        // Nobody is left whom it could concern.
        if self.answers.has_all(self.message.envelope) {
            return self.nobody_accepted(after);
        }
        let who = if cause == Cause::Own { "" } else { "the site " };
        let detail = format!("{who}{why}");
        self.end(outcome, reply.cloned(), &detail, after, phase);
    }

    /// What [`dd_proto::smtp::compose`] does with the parameters.
    fn told(&self) -> Told {
        match self.offered.dsn {
            true => Told::PassedOn,
            false => Told::NotPassedOn,
        }
    }

    fn spend(&mut self) {
        if let State::Ended(ended) = &mut self.state
            && ended.after == After::Usable
        {
            ended.after = After::Spent;
        }
    }

    fn end(
        &mut self,
        outcome: Outcome,
        reply: Option<Reply>,
        detail: &str,
        after: After,
        phase: Phase,
    ) {
        self.unsent.clear();
        self.state = State::Ended(Box::new(Ended {
            outcome,
            recipients: self.answers.take_results(),
            reply,
            detail: format!("{detail} (proof: {})", self.session.proof()),
            dot_sent: self.dot_sent,
            after,
            phase,
            lost_together: self.lost_together,
            hand_over_refused: self.hand_over_refused,
        }));
    }
}
