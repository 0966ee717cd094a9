//! What the site has answered for a message's sender and recipients so far.
//!
//! # Invariants
//! What a recipient was answered stands, whatever ends the session behind it (RFC 5321 §4.2).

use dd_proto::envelope::Envelope;
use dd_proto::id::RecipientNumber;
use dd_proto::report::{Disposition, RecipientResult, Reply, SaidBy, Told};

#[derive(Debug, Default)]
pub(super) struct Answers {
    results: Vec<RecipientResult>,
    accepted: Vec<RecipientNumber>,
    /// Those who were asked for without parameters, though the server offers DSN.
    plain: Vec<RecipientNumber>,
    /// MAIL was not taken, which is an answer for every recipient.
    sender: Option<Reply>,
}

impl Answers {
    /// Recipients that the server cannot be told of have theirs from us.
    pub(super) fn from_us(unwritable: Vec<(RecipientNumber, Reply)>) -> Self {
        let mut answers = Self::default();
        for (number, reply) in unwritable {
            answers.refuse_unasked(number, &reply);
        }
        answers
    }

    /// The server cannot take the message as it is, whatever it would say.
    pub(super) fn refuse_all_unasked(&mut self, envelope: &Envelope, reply: &Reply) {
        self.results.clear();
        for recipient in &envelope.recipients {
            self.refuse_unasked(recipient.number, reply);
        }
    }

    fn refuse_unasked(&mut self, number: RecipientNumber, reply: &Reply) {
        self.results.push(RecipientResult {
            number,
            disposition: Disposition::Failed,
            reply: reply.clone(),
            told: Told::NotPassedOn,
            by: SaidBy::TheAgent,
        });
    }

    /// What is to be told to their sender was left out.
    pub(super) fn are_asked_plainly(&mut self, numbers: impl Iterator<Item = RecipientNumber>) {
        self.plain.extend(numbers);
    }

    pub(super) fn accept(&mut self, number: RecipientNumber) {
        self.accepted.push(number);
    }

    /// Those whom only DATA and the dot decide about.
    pub(super) fn accepted(&self) -> &[RecipientNumber] {
        &self.accepted
    }

    pub(super) fn refuse(
        &mut self,
        number: RecipientNumber,
        disposition: Disposition,
        reply: &Reply,
        told: Told,
    ) {
        let told = match self.plain.contains(&number) {
            true => Told::NotPassedOn,
            false => told,
        };
        self.results.push(RecipientResult {
            number,
            disposition,
            reply: reply.clone(),
            told,
            by: SaidBy::TheSite,
        });
    }

    /// The answer to MAIL, which every recipient of the message has.
    pub(super) fn refuse_sender(
        &mut self,
        envelope: &Envelope,
        disposition: Disposition,
        reply: &Reply,
        told: Told,
    ) {
        self.settle_all(envelope, disposition, reply, told);
        self.sender = Some(reply.clone());
    }

    pub(super) fn sender_refused(&self) -> bool {
        self.sender.is_some()
    }

    /// The answer to DATA or to the dot.
    pub(super) fn settle(&mut self, disposition: Disposition, reply: &Reply, told: Told) {
        for number in std::mem::take(&mut self.accepted) {
            self.refuse(number, disposition, reply, told);
        }
    }

    /// The answer to the dot that is about one of them, as LMTP gives it.
    pub(super) fn settle_one(
        &mut self,
        number: RecipientNumber,
        disposition: Disposition,
        reply: &Reply,
        told: Told,
    ) {
        self.accepted.retain(|it| *it != number);
        self.refuse(number, disposition, reply, told);
    }

    /// Every recipient, asked for or not.
    pub(super) fn settle_all(
        &mut self,
        envelope: &Envelope,
        disposition: Disposition,
        reply: &Reply,
        told: Told,
    ) {
        self.results.clear();
        self.accepted = envelope.recipients.iter().map(|it| it.number).collect();
        self.settle(disposition, reply, told);
    }

    /// Whether nobody is left without an answer.
    pub(super) fn has_all(&self, envelope: &Envelope) -> bool {
        self.results.len() == envelope.recipients.len()
    }

    /// Why nobody was accepted, in the server's words.
    pub(super) fn why_nobody(&self) -> String {
        if let Some(reply) = &self.sender {
            return format!("the site answered `{reply}` to MAIL");
        }
        let answers = self.results.iter().filter(|it| it.by == SaidBy::TheSite);
        match answers.collect::<Vec<_>>().as_slice() {
            [] => "the site accepted no recipient".to_owned(),
            [only] => format!("the site accepted no recipient: {}", only.reply),
            [first, rest @ ..] => {
                let reply = &first.reply;
                let more = match rest.len() {
                    1 => "one more answer".to_owned(),
                    more => format!("{more} more answers"),
                };
                format!("the site accepted no recipient: {reply} (and {more})")
            }
        }
    }

    /// The reply that was about all of them.
    pub(super) fn for_all(&self) -> Option<Reply> {
        self.sender.clone()
    }

    pub(super) fn take_results(&mut self) -> Vec<RecipientResult> {
        std::mem::take(&mut self.results)
    }
}
