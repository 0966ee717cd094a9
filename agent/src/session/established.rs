//! A session that has proved to end at the site, and what of the next message is on its way already.
//!
//! Where the server offers PIPELINING, the final dot of one message and MAIL, RCPT and DATA of the next travel
//! together, so that a message costs one round trip (RFC 2920 §3.1: the end of the content may be the first command of
//! a group, DATA has to be the last).
//!
//! # Invariants
//! - What was sent ahead is the envelope of the message that is begun next; of its content nothing is sent before
//!   every command ahead of it, the dot of the message before included, is answered.
//! - An envelope sent ahead is never in doubt: only its own dot could make it so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dd_proto::client::Client;
use dd_proto::envelope::{Envelope, Recipient};
use dd_proto::path::ReversePath;
use dd_proto::report::Reply;
use dd_proto::site::{HandOver, Speaks};
use dd_proto::smtp::compose;
use dd_proto::smtp::extensions::Extensions;
use dd_proto::smtp::reply::ReplyParser;

use super::answers::Answers;
use super::outcome::Phase;
use super::{BEHIND_DOT_PACES, BEHIND_DOT_TIMEOUT, Bears, GROUP_TIMEOUT, Together, Transaction};
use crate::proof::{Seen, Verified};

/// Commands that may be unanswered at once. RFC 2920 §3.1: more could fill both ends' buffers and block for ever.
pub(super) const MAX_UNANSWERED: usize = 100;
/// RSETs in a session. Exim ends it at the twelfth command that is no mail.
const MAX_RESETS: u32 = 8;
/// Refusals in a row, without a message that was taken. Postfix slows down at ten and hangs up at twenty.
const MAX_REFUSALS: u32 = 8;

/// A refusal that takes longer is held back on purpose. Courier does so for eight seconds, then for forty, then for minutes,
/// counted in each session.
const TARPIT: Duration = Duration::from_secs(5);

/// A session that has proved to end at the site.
#[derive(Debug)]
pub struct Established {
    pub(super) verified: Verified,
    /// Our own name.
    helo: String,
    pub(super) speaks: Speaks,
    pub(super) offered: Extensions,
    /// It refused parameters that it had offered to understand.
    plain: bool,
    pub(super) replies: ReplyParser,
    seen: Seen,
    pub(super) reset: Reset,
    pub(super) ahead: Option<Ahead>,
    pub(super) together: Together,
    /// The longest that it took to answer a command in its turn.
    pace: Duration,
    /// How long it took for what it says now.
    waited: Duration,
    tarpit: bool,
    /// What it is told of clients, as long as it takes that.
    hand_over: HandOver,
    /// The client that XCLIENT has named.
    told: Option<Box<Client>>,
    resets: u32,
    refusals: u32,
}

/// Whether an unfinished transaction lies behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    Clean,
    Needed,
}

/// The message that comes next, for what of it travels with the dot of this one.
#[derive(Debug, Clone, Copy)]
pub struct Next<'m> {
    pub envelope: &'m Arc<Envelope>,
    pub content_bytes: u64,
}

/// The envelope that went out with the last dot, as far as it did.
#[derive(Debug)]
pub(super) struct Ahead {
    envelope: Arc<Envelope>,
    /// What its lines are written with.
    pub(super) offered: Extensions,
    pub(super) unsent: VecDeque<Step>,
    pub(super) unanswered: VecDeque<Step>,
}

/// One command of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reset,
    /// XFORWARD.
    Forward,
    /// XCLIENT, and the EHLO behind it: the session stands behind its greeting again.
    Client,
    Hello,
    Mail,
    /// Index into the envelope's recipients.
    Rcpt(usize),
    /// The same without parameters that were refused.
    PlainRcpt(usize),
    Data,
}

impl Established {
    pub(super) fn new(
        verified: Verified,
        (helo, speaks): (String, Speaks),
        offered: Extensions,
        replies: ReplyParser,
        seen: Seen,
    ) -> Self {
        Self {
            verified,
            helo,
            speaks,
            offered,
            plain: false,
            replies,
            seen,
            reset: Reset::Clean,
            ahead: None,
            together: Together::default(),
            pace: Duration::ZERO,
            waited: Duration::ZERO,
            tarpit: false,
            hand_over: HandOver::None,
            told: None,
            resets: 0,
            refusals: 0,
        }
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What the EHLO behind the proof said.
    pub fn offered(&self) -> &Extensions {
        &self.offered
    }

    /// The kind of the proof that ruled.
    pub fn proof(&self) -> &'static str {
        self.verified.proof()
    }

    /// Whether an envelope was sent ahead and its transaction has not begun. Its DATA may be answered at any moment, so
    /// what would be said now, a goodbye too, could be taken for content.
    pub fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// What the server has shown to do with commands that travel together.
    pub fn together(&self) -> Together {
        self.together
    }

    /// What it has shown elsewhere.
    pub fn learn(&mut self, together: Together) {
        self.together = self.together.and(together);
    }

    /// Whether commands go out before the one in front of them is answered.
    pub(super) fn pipelines(&self) -> bool {
        self.offered.pipelining && self.together.group != Bears::No
    }

    /// Whether an envelope may go out behind a dot. Not in LMTP, where the dot has an answer for each recipient.
    pub fn sends_ahead(&self) -> bool {
        let bears = self.pipelines() && self.together.behind_dot != Bears::No;
        bears && self.speaks == Speaks::Smtp
    }

    /// Whether it has come near the number of refusals and RSETs that servers end a session for, or is in a tarpit, which only
    /// grows deeper.
    pub fn is_worn(&self) -> bool {
        self.refusals >= MAX_REFUSALS
            || (self.reset == Reset::Needed && self.resets >= MAX_RESETS)
            || (self.tarpit && self.refusals > 0)
    }

    /// Whether the server has held a refusal back on purpose.
    pub fn is_held_back(&self) -> bool {
        self.tarpit
    }

    /// For the answer to a command.
    pub(super) fn took(&mut self, time: Duration) {
        self.waited = time;
    }

    /// The same, where nothing else was in front of that command.
    pub(super) fn keeps_pace(&mut self) {
        self.pace = self.pace.max(self.waited);
    }

    /// How long MAIL behind a dot may be unanswered, when the dot is answered.
    pub(super) fn behind_dot_patience(&self) -> Duration {
        (self.pace * BEHIND_DOT_PACES).clamp(BEHIND_DOT_TIMEOUT, GROUP_TIMEOUT)
    }

    /// For the rest of the session.
    pub(super) fn leave_parameters_out(&mut self) {
        self.plain = true;
    }

    /// What of the offer is used in lines that are written now. The limit of SIZE holds without.
    pub(super) fn spoken(&self) -> Extensions {
        match self.plain {
            true => self.offered.without_parameters(),
            false => self.offered,
        }
    }

    pub(super) fn sends(&mut self, step: Step) {
        self.resets += u32::from(step == Step::Reset);
    }

    pub(super) fn hears(&mut self, reply: &Reply) {
        if matches!(reply.code, 400..=599) {
            self.refusals += 1;
            self.tarpit |= self.waited >= TARPIT;
        }
    }

    pub(super) fn took_a_message(&mut self) {
        self.refusals = 0;
    }

    /// From now on it is told of clients, or no more.
    pub fn hands_over(&mut self, hand_over: HandOver) {
        self.hand_over = hand_over;
    }

    pub(super) fn refuses_hand_over(&mut self) {
        self.hand_over = HandOver::None;
    }

    /// XCLIENT was taken.
    pub(super) fn is_told(&mut self, message: Next<'_>) {
        self.told.clone_from(&message.envelope.client);
    }

    /// Whether the message may follow on this session. XCLIENT names the client once a session: Postfix asks the client
    /// that was named, and no more us, whether it may name another.
    pub fn is_for_client_of(&self, envelope: &Envelope) -> bool {
        self.told.is_none() || self.told == envelope.client
    }

    /// What goes before MAIL, so that the server knows from whom the message came.
    fn telling(&self, message: Next<'_>) -> [Option<Step>; 2] {
        let client = &message.envelope.client;
        match self.hand_over {
            HandOver::XForward if client.is_some() && self.offered.xforward.is_useful() => {
                [Some(Step::Forward), None]
            }
            HandOver::XClient
                if client.is_some() && self.told.is_none() && self.offered.xclient.is_useful() =>
            {
                [Some(Step::Client), Some(Step::Hello)]
            }
            _ => [None, None],
        }
    }

    /// The EHLO behind XCLIENT says what the client said.
    pub(super) fn hello_again(&self, message: Next<'_>) -> String {
        let client = message.envelope.client.as_deref();
        let helo = client.and_then(|it| it.helo.as_deref());
        let helo = helo.filter(|it| !it.contains(' '));
        hello(self.speaks, helo.unwrap_or(&self.helo))
    }

    /// The commands up to DATA.
    pub(super) fn steps(&self, message: Next<'_>) -> VecDeque<Step> {
        let reset = (self.reset == Reset::Needed).then_some(Step::Reset);
        reset
            .into_iter()
            .chain(self.telling(message).into_iter().flatten())
            .chain(message.steps(&self.offered))
            .collect()
    }

    /// Begins a transaction. What the server's EHLO rules out ends at once, without a byte.
    ///
    /// # Panics
    /// The envelope of another message was sent ahead: its commands would get this one's content.
    pub fn begin<'s>(
        &'s mut self,
        envelope: &'s Arc<Envelope>,
        content_bytes: u64,
    ) -> Transaction<'s> {
        let next = Next {
            envelope,
            content_bytes,
        };
        if let Some(ahead) = self.ahead.take() {
            let same = Arc::ptr_eq(&ahead.envelope, envelope);
            assert!(same, "the envelope sent ahead is that of the next message");
            return Transaction::sent_ahead(self, next, ahead);
        }
        let steps = self.steps(next);
        Transaction::new(self, next, steps)
    }
}

impl Ahead {
    /// Writes as much of the next envelope as may go out behind a dot: nothing where the server does not offer what the
    /// message needs, or has to be told of the client by XCLIENT, whose answer nothing may travel with.
    pub(super) fn write(next: Next<'_>, session: &Established, out: &mut BytesMut) -> Option<Self> {
        let telling = session.telling(next);
        let is_alone = telling[0] == Some(Step::Client) || !session.is_for_client_of(next.envelope);
        if next.unmet(&session.offered).is_some() || is_alone {
            return None;
        }
        let offered = session.spoken();
        let telling = telling.into_iter().flatten();
        let mut unsent: VecDeque<Step> = telling.chain(next.steps(&offered)).collect();
        // The dot is unanswered too.
        let behind = unsent.split_off(unsent.len().min(MAX_UNANSWERED - 1));
        let unanswered = std::mem::replace(&mut unsent, behind);
        for step in &unanswered {
            out.extend_from_slice(next.line(*step, &offered).as_bytes());
        }
        Some(Self {
            envelope: Arc::clone(next.envelope),
            offered,
            unsent,
            unanswered,
        })
    }
}

impl Step {
    /// What its answer is about.
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Reset | Self::Forward | Self::Client | Self::Hello | Self::Mail => Phase::Mail,
            Self::Rcpt(_) | Self::PlainRcpt(_) => Phase::Rcpt,
            Self::Data => Phase::Data,
        }
    }
}

impl Next<'_> {
    /// RCPT only for those whom the server can be told of.
    fn steps(&self, offered: &Extensions) -> impl Iterator<Item = Step> + use<> {
        let recipients = self.envelope.recipients.iter().enumerate();
        let writable = recipients.filter(|(_, it)| compose::is_writable(&it.path.0, offered));
        let writable: Vec<Step> = writable.map(|(index, _)| Step::Rcpt(index)).collect();
        std::iter::once(Step::Mail)
            .chain(writable)
            .chain(std::iter::once(Step::Data))
    }

    pub(super) fn line(&self, step: Step, offered: &Extensions) -> String {
        match step {
            Step::Reset => compose::RSET.to_owned(),
            Step::Forward => {
                let client = self.envelope.client.as_deref();
                let line = client.and_then(|it| it.xforward(offered.xforward));
                line.unwrap_or_default()
            }
            Step::Client => {
                let client = self.envelope.client.as_deref();
                let line = client.and_then(|it| it.xclient(offered.xclient));
                line.unwrap_or_default()
            }
            // Its line is the session's.
            Step::Hello => String::new(),
            Step::Mail => compose::mail(self.envelope, self.content_bytes, offered),
            Step::Rcpt(index) => self.rcpt(index, offered),
            Step::PlainRcpt(index) => self.rcpt(index, &offered.without_parameters()),
            Step::Data => compose::DATA.to_owned(),
        }
    }

    fn rcpt(&self, index: usize, offered: &Extensions) -> String {
        let wants_utf8 = self.envelope.wants_utf8();
        compose::rcpt(&self.envelope.recipients[index], wants_utf8, offered)
    }

    /// What recipients are answered before anything is said.
    pub(super) fn answers_from_us(&self, offered: &Extensions) -> Answers {
        let unwritable = self.unwritable(offered);
        let unwritable = unwritable.map(|(recipient, reply)| (recipient.number, reply));
        Answers::from_us(unwritable.collect())
    }

    /// The recipients that this server cannot be told of, with the reply that it amounts to. The others get the message.
    fn unwritable<'m>(
        &'m self,
        offered: &'m Extensions,
    ) -> impl Iterator<Item = (&'m Recipient, Reply)> {
        let recipients = self.envelope.recipients.iter();
        recipients
            .filter(|it| !compose::is_writable(&it.path.0, offered))
            .map(|it| (it, needs_utf8("the recipient's address")))
    }

    /// What the whole message needs and the server does not offer, as the reply that it amounts to.
    ///
    /// Only an address is a need: it cannot be written otherwise (RFC 6531 §3.5: no downgrade in flight). A header in
    /// UTF-8 goes as it is, as 8-bit content does, for which RFC 6152 §3 asks the same and is not followed: like Exim and
    /// qmail, the agent sends it. Old servers pass eight bits whether they say so or not, a bounce would lose the mail for
    /// certain, and a conversion would break its signatures.
    ///
    /// A message above the server's limit is no such need either: MAIL says its SIZE (RFC 1870 §6.1), and the server answers.
    /// So a home whose limit is a mistake of its own refuses it itself, which is judged like all else that it refuses.
    pub(super) fn unmet(&self, offered: &Extensions) -> Option<Reply> {
        if let ReversePath::Mailbox(sender) = &self.envelope.reverse_path
            && !compose::is_writable(sender, offered)
        {
            return Some(needs_utf8("the sender's address"));
        }
        (self.unwritable(offered).count() == self.envelope.recipients.len())
            .then(|| needs_utf8("the recipient's address"))
    }
}

/// By what a session begins.
pub(super) fn hello(speaks: Speaks, name: &str) -> String {
    match speaks {
        Speaks::Smtp => compose::ehlo(name),
        Speaks::Lmtp => compose::lhlo(name),
    }
}

/// RFC 6531 §3.5.
fn needs_utf8(what: &str) -> Reply {
    Reply {
        code: 553,
        enhanced: "5.6.7".to_owned(),
        text: format!("the site's server does not offer SMTPUTF8, which {what} needs"),
    }
}
