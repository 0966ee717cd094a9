//! What the answers to RSET, MAIL, RCPT and DATA do, and what they tell of commands that travelled together.

use dd_proto::report::{Disposition, Outcome, Reply};
use dd_proto::site::Speaks;

use super::{After, Parameters, State, Transaction};
use crate::session::Bears;
use crate::session::established::{Reset, Step};
use crate::session::outcome::{Cause, Phase, Standing, Verdict, cause_of, verdict};

impl Transaction<'_> {
    pub(super) fn step_answered(&mut self, step: Step, reply: &Reply) {
        if self.is_lost_with_others(step, reply) {
            self.loses_together();
            let why = format!("answered `{reply}` to a command that had travelled with others");
            let cause = Cause::OutOfPlace;
            return self.ends(Outcome::Broken, step.phase(), cause, Some(reply), &why);
        }
        if step == Step::Data && self.grouped {
            self.bears_together();
        }
        match step {
            Step::Reset | Step::Mail if reply.is_positive() => self.session.reset = Reset::Clean,
            // Such as Exim's to the twelfth: it says nothing about the message.
            Step::Reset => {
                let why = format!("answered `{reply}` to RSET");
                let cause = cause_of(reply);
                self.ends(Outcome::Broken, Phase::Mail, cause, Some(reply), &why);
            }
            Step::Forward | Step::Client | Step::Hello => self.told_of_client(step, reply),
            Step::Mail => self.sender_refused(reply),
            _ if self.answers.sender_refused() => {
                self.answered_behind_a_refused_sender(step, reply);
            }
            Step::Rcpt(index) | Step::PlainRcpt(index) if reply.is_positive() => {
                let number = self.message.envelope.recipients[index].number;
                self.answers.accept(number);
            }
            Step::Rcpt(index) | Step::PlainRcpt(index) => {
                self.recipient_refused(step, index, reply);
            }
            // RFC 2033 §4.2: it had to say 503, and nothing answers a lone dot.
            Step::Data
                if reply.code == 354
                    && self.accepted().is_empty()
                    && self.session.speaks == Speaks::Lmtp =>
            {
                self.nobody_accepted(After::Spent);
            }
            Step::Data if reply.code == 354 && self.accepted().is_empty() => {
                self.out.extend_from_slice(b".\r\n");
                self.state = State::LoneDot;
            }
            Step::Data if reply.code == 354 => self.state = State::Content,
            Step::Data if self.accepted().is_empty() && cause_of(reply) != Cause::Closing => {
                self.session.reset = Reset::Needed;
                self.nobody_accepted(After::Usable);
            }
            Step::Data => self.rule(Phase::Data, reply, &format!("answered `{reply}`")),
        }
    }

    /// RFC 2033 §4.2: behind the dot each recipient that was accepted has an answer of his own, in the order of RCPT. Those
    /// whose answers do not come are in doubt, and the others are not.
    pub(super) fn answered_for_one(&mut self, reply: &Reply) {
        let disposition = match verdict(Phase::EndOfData, cause_of(reply), Standing::Proved) {
            _ if reply.is_positive() => Disposition::Relayed,
            Verdict::Recipients(disposition) => disposition,
            _ => return self.rule(Phase::EndOfData, reply, &format!("answered `{reply}`")),
        };
        let Some(number) = self.owed.pop_front() else {
            return;
        };
        let told = self.told();
        self.answers.settle_one(number, disposition, reply, told);
        if disposition == Disposition::Relayed {
            self.session.took_a_message();
        }
        let closes = cause_of(reply) == Cause::Closing;
        if self.owed.is_empty() {
            self.session.reset = Reset::Clean;
            let after = match closes {
                true => After::Spent,
                false => After::Usable,
            };
            let detail = format!("the site answered `{reply}`");
            self.end(Outcome::Transacted, None, &detail, after, Phase::EndOfData);
        }
    }

    /// The answer to what says from whom the message came. It is no answer to the message, which goes on without.
    fn told_of_client(&mut self, step: Step, reply: &Reply) {
        // XCLIENT is answered with a greeting.
        if reply.is_positive() {
            if step == Step::Client {
                self.session.is_told(self.message);
            }
            return;
        }
        self.refuses_hand_over();
        let why = format!("answered `{reply}` when it was told from whom the message came");
        let cause = cause_of(reply);
        match step {
            Step::Forward if cause == Cause::Closing => self.rule(Phase::Mail, reply, &why),
            Step::Forward => {}
            // Where the session stands now nobody knows.
            _ => self.ends(Outcome::Broken, Phase::Mail, cause, Some(reply), &why),
        }
    }

    fn refuses_hand_over(&mut self) {
        self.hand_over_refused = true;
        self.session.refuses_hand_over();
    }

    fn sender_refused(&mut self, reply: &Reply) {
        let doubted = self.are_parameters_refused(Step::Mail, reply);
        if doubted {
            self.parameters = Parameters::Refused;
        }
        let disposition = match verdict(Phase::Mail, cause_of(reply), Standing::Proved) {
            Verdict::Recipients(_) if doubted => Disposition::Deferred,
            Verdict::Recipients(disposition) => disposition,
            _ => return self.rule(Phase::Mail, reply, &format!("answered `{reply}`")),
        };
        let (envelope, told) = (self.message.envelope, self.told());
        self.answers
            .refuse_sender(envelope, disposition, reply, told);
        self.unsent.clear();
        // RFC 5321 §4.1.1.2: without a sender there is no transaction to be reset.
        self.session.reset = Reset::Clean;
        if self.unanswered.is_empty() {
            self.nobody_accepted(After::Usable);
        }
    }

    /// RCPT and DATA that travelled with a MAIL that was refused. Their answers say nothing; read, they are out of the way.
    fn answered_behind_a_refused_sender(&mut self, step: Step, reply: &Reply) {
        match (step, cause_of(reply)) {
            (_, Cause::Closing) => self.nobody_accepted(After::Spent),
            // Content is waited for, and a lone dot could be taken for some: the session ends without another byte.
            (Step::Data, _) if reply.code == 354 => self.nobody_accepted(After::Spent),
            _ => {
                if reply.is_positive() {
                    self.session.reset = Reset::Needed;
                }
                if self.unanswered.is_empty() {
                    self.nobody_accepted(After::Usable);
                }
            }
        }
    }

    fn recipient_refused(&mut self, step: Step, index: usize, reply: &Reply) {
        let doubted = self.are_parameters_refused(step, reply);
        if doubted && self.unsent.back() == Some(&Step::Data) {
            return self.ask_plainly(index);
        }
        if self.is_one_too_many(reply) {
            // Those who are left would only add to the errors that a server counts.
            self.unsent.retain(|step| *step == Step::Data);
            return;
        }
        if doubted && self.parameters == Parameters::AsOffered {
            self.parameters = Parameters::Refused;
        }
        let disposition = match verdict(Phase::Rcpt, cause_of(reply), Standing::Proved) {
            Verdict::Recipients(_) if doubted => Disposition::Deferred,
            Verdict::Recipients(disposition) => disposition,
            _ => return self.rule(Phase::Rcpt, reply, &format!("answered `{reply}`")),
        };
        let (number, told) = (self.message.envelope.recipients[index].number, self.told());
        self.answers.refuse(number, disposition, reply, told);
    }

    /// RFC 5321 §4.5.3.1.10, RFC 3463 §3.6 (X.5.3): not about this recipient, who is left open. He goes in another transaction,
    /// in which he may be the first; there it is about him.
    fn is_one_too_many(&self, reply: &Reply) -> bool {
        let too_many = match &*reply.enhanced {
            // Old servers say 552.
            "" => matches!(reply.code, 452 | 552),
            "4.5.3" | "5.5.3" => true,
            _ => false,
        };
        too_many && !self.accepted().is_empty()
    }

    /// Once more, in the same transaction; those that are left at once, and whatever the session sends later: the next
    /// envelope may travel with this one's dot.
    fn ask_plainly(&mut self, index: usize) {
        self.parameters = Parameters::LeftOut;
        self.session.leave_parameters_out();
        let data = self.unsent.len() - 1;
        self.unsent.insert(data, Step::PlainRcpt(index));
        for step in &mut self.unsent {
            if let Step::Rcpt(index) = *step {
                *step = Step::PlainRcpt(index);
            }
        }
        let recipients = &self.message.envelope.recipients;
        let plain = self.unsent.iter().filter_map(|step| match step {
            Step::PlainRcpt(index) => Some(recipients[*index].number),
            _ => None,
        });
        self.answers.are_asked_plainly(plain);
    }

    /// All answers are in, and none of them leaves a recipient to send the content to.
    pub(super) fn nobody_accepted(&mut self, after: After) {
        if after == After::Usable && self.parameters == Parameters::Refused {
            return self.ask_without_parameters();
        }
        let reply = self.answers.for_all();
        let phase = match reply {
            Some(_) => Phase::Mail,
            None => Phase::Rcpt,
        };
        let detail = self.answers.why_nobody();
        self.end(Outcome::Transacted, reply, &detail, after, phase);
    }

    /// Once, and for the rest of the session.
    fn ask_without_parameters(&mut self) {
        self.parameters = Parameters::Without;
        self.session.leave_parameters_out();
        self.offered = self.session.spoken();
        self.answers = self.message.answers_from_us(&self.offered);
        // What is said again travels alone.
        (self.sent_ahead, self.grouped) = (false, false);
        self.unsent = self.session.steps(self.message);
        self.send_more();
    }

    /// Whether it was the parameters that were refused (RFC 5321 §4.1.1.11: 501, 504, 555), though they were offered: so
    /// far they were sent, and the same without them would say another thing.
    fn are_parameters_refused(&self, step: Step, reply: &Reply) -> bool {
        let plain = self.offered.without_parameters();
        let has_some = self.message.line(step, &self.offered) != self.message.line(step, &plain);
        // RFC 3463 §3.2: X.1.Y is about the address.
        let by_code = matches!(reply.code, 501 | 504 | 555) && !reply.enhanced.starts_with("5.1.");
        by_code && has_some && self.parameters != Parameters::Without
    }

    /// Whether a command was taken for one out of its place because others travelled with it: a server that reads one
    /// line of a group, or throws some away, says 503 to what it takes next. What a server says that reads them all is
    /// 503 only where the sender or all recipients were refused before.
    fn is_lost_with_others(&self, step: Step, reply: &Reply) -> bool {
        let in_place = match step {
            Step::Reset | Step::Forward | Step::Client | Step::Hello => false,
            Step::Mail => true,
            Step::Rcpt(_) | Step::PlainRcpt(_) => !self.answers.sender_refused(),
            Step::Data => !self.accepted().is_empty(),
        };
        let out_of_place = matches!(reply.code, 500 | 502 | 503)
            || (reply.code, &*reply.enhanced) == (554, "5.5.1");
        self.grouped && in_place && out_of_place
    }

    /// Whether the server has answered such a group to its end before.
    pub(super) fn is_proven(&self) -> bool {
        match self.sent_ahead {
            true => self.session.together.behind_dot == Bears::Yes,
            false => self.session.together.group == Bears::Yes,
        }
    }

    fn bears_together(&mut self) {
        let together = &mut self.session.together;
        together.group = together.group.max(Bears::Yes);
        if self.sent_ahead {
            together.behind_dot = together.behind_dot.max(Bears::Yes);
        }
    }

    fn loses_together(&mut self) {
        self.lost_together = true;
        match self.sent_ahead {
            true => self.session.together.behind_dot = Bears::No,
            false => self.session.together.group = Bears::No,
        }
    }

    /// A connection that ended, or stays silent, may have lost what travelled together.
    pub(super) fn look_at_the_loss(&mut self, cause: Cause) {
        let commands = matches!(self.state, State::Commands);
        let first = self.unanswered.front().copied();
        let telling = matches!(first, Some(Step::Forward | Step::Client | Step::Hello));
        // Silence behind a dot is about what stood behind the dot, whatever that was.
        let behind_dot = self.sent_ahead && cause == Cause::TimedOut;
        if commands && telling && !behind_dot && cause != Cause::Own {
            return self.refuses_hand_over();
        }
        let at_mail = self.sent_ahead && (telling || first == Some(Step::Mail));
        let lost = match cause {
            Cause::TimedOut => at_mail || !self.is_proven(),
            Cause::Closed => at_mail && !self.is_proven(),
            _ => false,
        };
        if commands && self.grouped && lost && !self.answers.sender_refused() {
            self.loses_together();
        }
    }
}
