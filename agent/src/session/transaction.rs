//! One mail transaction on a proved session.
//!
//! # Not here
//! What goes out together with the final dot ([`super::established`]).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::id::RecipientNumber;
use dd_proto::report::{Disposition, Outcome, RecipientResult, Reply, Told};
use dd_proto::smtp::data::Stuffer;
use dd_proto::smtp::extensions::Extensions;
use dd_proto::smtp::reply::ReplyParser;

use super::established::{Ahead, MAX_UNANSWERED, Next, Reset, Step};
use super::outcome::{Cause, Phase, Standing, Verdict, cause_of, verdict};
use super::{BLOCK_TIMEOUT, COMMAND_TIMEOUT, DATA_TIMEOUT, END_OF_DATA_TIMEOUT, Established, Lost};
use crate::proof::Verified;

/// Whether the session can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Usable,
    /// Close it.
    Spent,
}

/// What a transaction came to.
#[derive(Debug, Clone)]
pub struct Ended {
    pub outcome: Outcome,
    pub recipients: Vec<RecipientResult>,
    /// The reply that ended it for the whole site.
    pub reply: Option<Reply>,
    pub detail: String,
    /// The final dot, or its first byte, may have reached the site.
    pub dot_sent: bool,
    pub after: After,
    pub phase: Phase,
}

/// One message on its way. Borrows the proof for as long as it lives.
#[derive(Debug)]
pub struct Transaction<'s> {
    proof: &'s Verified,
    offered: Extensions,
    replies: &'s mut ReplyParser,
    reset: &'s mut Reset,
    ahead: &'s mut Option<Ahead>,
    message: Next<'s>,
    unsent: VecDeque<Step>,
    unanswered: VecDeque<Step>,
    results: Vec<RecipientResult>,
    accepted: Vec<RecipientNumber>,
    stuffer: Stuffer,
    out: BytesMut,
    state: State,
    dot_sent: bool,
}

#[derive(Debug)]
enum State {
    /// Until DATA is answered.
    Commands,
    Content,
    /// The content is out, the dot is not.
    Dot,
    /// RFC 2920 §3.1: DATA was accepted although no recipient was; a lone dot ends it, and its answer says nothing.
    LoneDot,
    EndOfData,
    Ended(Box<Ended>),
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
        match message.unmet(&transaction.offered) {
            Some(reply) => transaction.fail_all_unsent(&reply),
            None => transaction.send_more(),
        }
        transaction
    }

    /// One whose first commands went out with the dot before. Some answers may have come already.
    pub(super) fn sent_ahead(
        session: &'s mut Established,
        message: Next<'s>,
        unsent: VecDeque<Step>,
        unanswered: VecDeque<Step>,
    ) -> Self {
        let mut transaction = Self::with(session, message, unsent, unanswered);
        transaction.received(&[]);
        transaction
    }

    fn with(
        session: &'s mut Established,
        message: Next<'s>,
        unsent: VecDeque<Step>,
        unanswered: VecDeque<Step>,
    ) -> Self {
        Self {
            proof: &session.verified,
            offered: session.offered,
            replies: &mut session.replies,
            reset: &mut session.reset,
            ahead: &mut session.ahead,
            message,
            unsent,
            unanswered,
            results: unwritable(&message, &session.offered),
            accepted: Vec::new(),
            stuffer: Stuffer::new(),
            out: BytesMut::new(),
            state: State::Commands,
            dot_sent: false,
        }
    }
}

impl Transaction<'_> {
    pub fn want(&self) -> TransactionWant {
        match &self.state {
            State::Commands if self.unanswered.front() == Some(&Step::Data) => {
                TransactionWant::Bytes(DATA_TIMEOUT)
            }
            State::Commands => TransactionWant::Bytes(COMMAND_TIMEOUT),
            State::Content => TransactionWant::Content,
            State::Dot => TransactionWant::Dot,
            State::LoneDot | State::EndOfData => TransactionWant::Bytes(END_OF_DATA_TIMEOUT),
            State::Ended(_) => TransactionWant::Nothing,
        }
    }

    /// The name of the state, as in the diagram of [`super`].
    pub fn state_name(&self) -> &'static str {
        match (&self.state, self.unanswered.front()) {
            (State::Commands, Some(Step::Reset)) => "Reset",
            (State::Commands, Some(Step::Rcpt(_))) => "Rcpt",
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
        &self.accepted
    }

    /// Bytes have come. Returns how many replies they complete.
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        self.replies.push(bytes);
        let mut replies = 0;
        while !matches!(self.state, State::Ended(_)) {
            match self.replies.next_reply() {
                Ok(None) => {
                    self.send_more();
                    return replies;
                }
                Ok(Some(reply)) => {
                    replies += 1;
                    self.answered(&reply);
                }
                Err(error) => self.fail(Cause::Nonsense, None, &error.to_string()),
            }
        }
        // What lies behind the last answer is unasked for, unless an envelope was sent ahead: then it answers that.
        if !self.replies.is_empty() && self.ahead.is_none() {
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
            if !self.replies.is_empty() {
                return self.fail(Cause::Nonsense, None, "spoke before the final dot");
            }
            self.out.extend_from_slice(self.stuffer.end());
            *self.ahead = next.and_then(|next| Ahead::write(next, &self.offered, &mut self.out));
            self.dot_sent = true;
            self.state = State::EndOfData;
        }
    }

    pub fn lost(&mut self, lost: Lost) {
        self.fail(lost.cause(), None, lost.words());
    }

    /// The agent cannot go on; no dot is sent, so the site drops what it got.
    pub fn give_up(&mut self, why: &str) {
        self.fail(Cause::Own, None, why);
    }

    /// What it came to. Called before its end, that the agent gave it up.
    pub fn finish(mut self) -> Ended {
        self.give_up("the agent gave the transaction up");
        match self.state {
            State::Ended(ended) => *ended,
            _ => unreachable!("giving up ends every transaction that has not ended"),
        }
    }

    fn fail_all_unsent(&mut self, reply: &Reply) {
        self.settle_all(Disposition::Failed, reply);
        let detail = format!("not sent: {reply}");
        self.end(Outcome::Transacted, None, &detail, After::Usable);
    }

    fn send_more(&mut self) {
        while let Some(&step) = self.unsent.front() {
            let full = self.unanswered.len() >= MAX_UNANSWERED;
            let in_turn = self.offered.pipelining && !full;
            if !self.unanswered.is_empty() && !in_turn {
                return;
            }
            // Where every answer is in and nobody was accepted, DATA would be pointless.
            if step == Step::Data && self.unanswered.is_empty() && self.accepted.is_empty() {
                self.unsent.clear();
                *self.reset = Reset::Needed;
                let detail = "the site accepted no recipient";
                return self.end(Outcome::Transacted, None, detail, After::Usable);
            }
            self.unsent.pop_front();
            self.unanswered.push_back(step);
            let line = self.message.line(step, &self.offered);
            self.out.extend_from_slice(line.as_bytes());
        }
    }

    fn answered(&mut self, reply: &Reply) {
        match &self.state {
            State::Commands => match self.unanswered.pop_front() {
                Some(step) => self.step_answered(step, reply),
                None => self.fail(Cause::Nonsense, None, "speaks unasked"),
            },
            State::Content | State::Dot => {
                let detail = format!("answered `{reply}` in the middle of the content");
                self.fail(cause_of(reply), Some(reply), &detail);
            }
            State::LoneDot => {
                // Whether this answers the lone dot or something before it cannot be told: the session ends.
                let detail = "the site accepted no recipient";
                self.end(Outcome::Transacted, None, detail, After::Spent);
            }
            State::EndOfData if reply.is_positive() => {
                self.settle_accepted(Disposition::Relayed, reply);
                let detail = format!("the site answered `{reply}`");
                *self.reset = Reset::Clean;
                self.end(Outcome::Transacted, None, &detail, After::Usable);
            }
            State::EndOfData => self.fail(cause_of(reply), Some(reply), "refused the message"),
            State::Ended(_) => {}
        }
    }

    fn step_answered(&mut self, step: Step, reply: &Reply) {
        match step {
            Step::Reset | Step::Mail if reply.is_positive() => *self.reset = Reset::Clean,
            Step::Reset => self.fail(Cause::Nonsense, None, "refused RSET"),
            Step::Rcpt(index) if reply.is_positive() => {
                self.accepted
                    .push(self.message.envelope.recipients[index].number);
            }
            Step::Data if reply.code == 354 && self.accepted.is_empty() => {
                self.out.extend_from_slice(b".\r\n");
                self.state = State::LoneDot;
            }
            Step::Data if reply.code == 354 => self.state = State::Content,
            Step::Data if self.accepted.is_empty() && cause_of(reply) != Cause::Closing => {
                *self.reset = Reset::Needed;
                let detail = "the site accepted no recipient";
                self.end(Outcome::Transacted, None, detail, After::Usable);
            }
            Step::Rcpt(index) => self.recipient_refused(index, reply),
            Step::Mail => self.fail_at(Phase::Mail, reply),
            Step::Data => self.fail_at(Phase::Data, reply),
        }
    }

    fn recipient_refused(&mut self, index: usize, reply: &Reply) {
        match verdict(Phase::Rcpt, cause_of(reply), Standing::Proved) {
            Verdict::Recipients(disposition) => self.results.push(RecipientResult {
                number: self.message.envelope.recipients[index].number,
                disposition,
                reply: reply.clone(),
                told: self.told(),
            }),
            _ => self.fail_at(Phase::Rcpt, reply),
        }
    }

    fn fail_at(&mut self, phase: Phase, reply: &Reply) {
        self.apply(
            phase,
            cause_of(reply),
            Some(reply),
            &format!("answered `{reply}`"),
        );
    }

    fn phase(&self) -> Phase {
        match (&self.state, self.unanswered.front()) {
            (State::Content | State::Dot, _) => Phase::Body,
            (State::EndOfData, _) => Phase::EndOfData,
            (State::LoneDot, _) | (_, Some(Step::Data)) => Phase::Data,
            (_, Some(Step::Rcpt(_))) => Phase::Rcpt,
            _ => Phase::Mail,
        }
    }

    fn fail(&mut self, cause: Cause, reply: Option<&Reply>, why: &str) {
        if !matches!(self.state, State::Ended(_)) {
            self.apply(self.phase(), cause, reply, why);
        }
    }

    fn apply(&mut self, phase: Phase, cause: Cause, reply: Option<&Reply>, why: &str) {
        match (verdict(phase, cause, Standing::Proved), reply) {
            (Verdict::Recipients(disposition), Some(reply)) => {
                let after = self.after_refusal(phase, cause);
                match phase {
                    Phase::Mail => self.settle_all(disposition, reply),
                    _ => self.settle_accepted(disposition, reply),
                }
                let detail = format!("the site answered `{reply}`");
                self.end(Outcome::Transacted, None, &detail, after);
            }
            (Verdict::Ends(outcome), reply) => {
                // What single recipients were told before does not stand for an attempt that ended for all.
                self.results.clear();
                let who = if cause == Cause::Own { "" } else { "the site " };
                self.end(
                    outcome,
                    reply.cloned(),
                    &format!("{who}{why}"),
                    After::Spent,
                );
            }
            (Verdict::Recipients(_) | Verdict::NextHost(_) | Verdict::WithoutTls, _) => {
                unreachable!(
                    "a proved session has no next host, and only a reply settles recipients"
                )
            }
        }
    }

    fn after_refusal(&mut self, phase: Phase, cause: Cause) -> After {
        *self.reset = match phase {
            Phase::EndOfData => Reset::Clean,
            _ => Reset::Needed,
        };
        // Answers to what was pipelined behind it are still on their way.
        if cause == Cause::Closing || !self.unanswered.is_empty() {
            After::Spent
        } else {
            After::Usable
        }
    }

    /// Every recipient, asked for or not.
    fn settle_all(&mut self, disposition: Disposition, reply: &Reply) {
        self.results.clear();
        let recipients = self.message.envelope.recipients.iter();
        self.accepted = recipients.map(|recipient| recipient.number).collect();
        self.settle_accepted(disposition, reply);
    }

    fn settle_accepted(&mut self, disposition: Disposition, reply: &Reply) {
        let told = self.told();
        let results = self.accepted.iter().map(|&number| RecipientResult {
            number,
            disposition,
            reply: reply.clone(),
            told,
        });
        self.results.extend(results);
    }

    /// What [`compose`] does with the parameters.
    fn told(&self) -> Told {
        match self.offered.dsn {
            true => Told::PassedOn,
            false => Told::NotPassedOn,
        }
    }

    fn spend(&mut self) {
        if let State::Ended(ended) = &mut self.state {
            ended.after = After::Spent;
        }
    }

    fn end(&mut self, outcome: Outcome, reply: Option<Reply>, detail: &str, after: After) {
        let phase = self.phase();
        self.unsent.clear();
        self.state = State::Ended(Box::new(Ended {
            outcome,
            recipients: std::mem::take(&mut self.results),
            reply,
            detail: format!("{detail} (proof: {})", self.proof.proof()),
            dot_sent: self.dot_sent,
            after,
            phase,
        }));
    }
}

/// Recipients that are answered before anything is said: the server cannot be told of them.
fn unwritable(message: &Next<'_>, offered: &Extensions) -> Vec<RecipientResult> {
    let answered = message.unwritable(offered);
    answered
        .map(|(recipient, reply)| RecipientResult {
            number: recipient.number,
            disposition: Disposition::Failed,
            reply,
            told: Told::NotPassedOn,
        })
        .collect()
}
