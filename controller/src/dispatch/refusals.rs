//! Final refusals of a site with nothing accepted between: what they are about, and whom they hit.
//!
//! # Invariants
//! What is remembered is bounded.
//!
//! # Not here
//! What follows from them ([`super::kept`]).

use std::collections::VecDeque;
use std::time::Duration;

use dd_proto::report::{Disposition, RecipientResult, Reply, Report, Stage};

use super::lease::Leased;
use super::whom::Run;

/// So many in a row are no chance.
pub(super) const TOO_MANY: u32 = 3;
/// A home of which nothing good is known since the start and that refuses recipient after recipient so long is no
/// chance either.
const LONG: Duration = Duration::from_secs(3600);
/// Recipients that the home has taken mail for lately.
const MAILBOXES: usize = 32;
/// Kinds that are told apart.
const KINDS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Of a home that is not trusted, whatever they say.
    all: Refused,
    /// Of a trusted home those that say the same, each kind by itself: between two of one kind it may have refused a
    /// recipient or a sender.
    alike: VecDeque<(Kind, Refused)>,
    /// What the last one said.
    last: Kind,
    mailboxes: VecDeque<u64>,
}

/// Code and status of a reply.
type Kind = (u16, String);

fn kind(result: &RecipientResult) -> Kind {
    (result.reply.code, result.reply.enhanced.clone())
}

#[derive(Debug, Default)]
struct Refused {
    run: Run,
    /// Those of them that are about no recipient and no sender.
    of_home: u32,
    /// One of them was for a recipient that it took mail for before.
    of_known: bool,
    /// When the first of them came; monotonic.
    first: Option<Duration>,
}

/// What a final refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The recipient, the sender or the message itself: another one may be taken.
    TheMail,
    /// Neither: relaying, policy, the server's own trouble.
    TheHome,
}

impl Refusals {
    pub(super) fn forget(&mut self) {
        self.all = Refused::default();
        self.alike.clear();
    }

    /// The home has accepted these recipients.
    pub(super) fn accepted(&mut self, taken: &[u64]) {
        self.forget();
        for recipient in taken {
            if !self.mailboxes.contains(recipient) {
                self.mailboxes.truncate(MAILBOXES - 1);
                self.mailboxes.push_front(*recipient);
            }
        }
    }

    /// A home that is not trusted has refused a message.
    pub(super) fn of_untrusted(&mut self, report: &Report, leased: &Leased, now: Duration) {
        let results: Vec<_> = report.answers().collect();
        self.last = results.first().map(|it| kind(it)).unwrap_or_default();
        let about = about(report);
        self.all.add(&results, about, leased, &self.mailboxes, now);
    }

    /// A trusted home has. True if it says the same to everybody by now: it is trusted no more.
    pub(super) fn of_trusted(&mut self, report: &Report, leased: &Leased, now: Duration) -> bool {
        let mut kinds: Vec<Kind> = Vec::new();
        for kind in report.answers().map(kind) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for of in kinds {
            let results: Vec<_> = report.answers().filter(|it| kind(it) == of).collect();
            let about = about_all(report.stage, &results);
            let mut refused = self.take_alike(&of);
            refused.add(&results, about, leased, &self.mailboxes, now);
            self.last.clone_from(&of);
            if refused.run.count >= TOO_MANY && self.hits_everybody(&refused.run) {
                self.forget();
                self.all = refused;
                return true;
            }
            self.alike.push_back((of, refused));
        }
        false
    }

    /// Those of a kind so far.
    fn take_alike(&mut self, of: &Kind) -> Refused {
        let known = self.alike.iter().position(|(kind, _)| kind == of);
        match known.and_then(|at| self.alike.remove(at)) {
            Some((_, refused)) => refused,
            None => {
                if self.alike.len() == KINDS {
                    self.alike.pop_front();
                }
                Refused::default()
            }
        }
    }

    /// Whether a trusted home refuses more than one sender or one recipient.
    fn hits_everybody(&self, run: &Run) -> bool {
        let one_mailbox = self.mailboxes.iter().all(|it| run.names(*it));
        run.hits_several() || (one_mailbox && run.senders() >= 3)
    }

    /// Whether there were any since the home was doubted.
    pub(super) fn are_any(&self) -> bool {
        self.all.run.count > 0
    }

    /// Whether those that are about no mail are enough to say that the home is not set up.
    pub(super) fn are_the_homes(&self) -> bool {
        let run = &self.all.run;
        let several = run.recipients() >= 2 || run.senders() >= 3;
        self.all.of_home >= TOO_MANY && several
    }

    /// Whether they are the home's doing though each was about a recipient or a sender.
    pub(super) fn are_too_long(&self, now: Duration) -> bool {
        let Refused {
            run,
            of_known,
            first,
            ..
        } = &self.all;
        let long = first.is_some_and(|first| now >= first + LONG);
        run.count >= TOO_MANY && run.recipients() >= 2 && (*of_known || long)
    }

    /// For people.
    pub(super) fn last(&self) -> String {
        let (code, status) = &self.last;
        format!("{code} {status}")
    }
}

impl Refused {
    fn add(
        &mut self,
        results: &[&RecipientResult],
        about: About,
        leased: &Leased,
        mailboxes: &VecDeque<u64>,
        now: Duration,
    ) {
        self.run.count += 1;
        if let Some(whom) = &leased.whom {
            let to = whom.recipients(results.iter().map(|it| it.number));
            self.run.names_also(whom.sender, &to);
            self.of_known |= to.iter().any(|it| mailboxes.contains(it));
        }
        self.of_home += u32::from(about == About::TheHome);
        self.first = self.first.or(Some(now));
    }
}

/// What the refusals of a report are about: some may be about recipients, and the others about the home.
pub(super) fn about(report: &Report) -> About {
    let failed = report
        .answers()
        .filter(|it| it.disposition == Disposition::Failed);
    about_all(report.stage, &failed.collect::<Vec<_>>())
}

fn about_all(stage: Stage, failed: &[&RecipientResult]) -> About {
    let mut replies = failed.iter().map(|it| &it.reply);
    match replies.any(|reply| !is_about_mail(stage, reply)) {
        true => About::TheHome,
        false => About::TheMail,
    }
}

fn is_about_mail(stage: Stage, reply: &Reply) -> bool {
    // RFC 3463 §3: X.1 addresses, X.2 mailboxes, X.6 content; X.3.4 the message is too big.
    let status = reply.enhanced.as_str();
    // RFC 7372 and 7489: 5.7.20 to 5.7.24 and 5.7.26 are DKIM, SPF and DMARC, about the sender.
    let of_sender = ["5.7.20", "5.7.21", "5.7.22", "5.7.23", "5.7.24", "5.7.26"].contains(&status);
    let of_mail = ["5.1.", "5.2.", "5.6."]
        .iter()
        .any(|it| status.starts_with(it));
    // RFC 5321 §4.2.3: these are about the mailbox where they answer RCPT.
    let of_mailbox = stage == Stage::Rcpt && matches!(reply.code, 550 | 551 | 553);
    let of_recipient = of_mailbox && matches!(status, "" | "5.0.0");
    // What is said to the content was said by a home that had taken sender and recipient.
    let of_message = matches!(stage, Stage::Mail | Stage::EndOfData);
    of_mail || of_sender || status == "5.3.4" || of_recipient || of_message
}
