//! What came of an attempt: the evidence an agent gives, as plain data.

use jiff::Timestamp;
use std::time::Duration;

use crate::id::{Lease, RecipientNumber, SessionId};

/// An SMTP reply as the far end gave it, bounded and made printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// "5.7.1"; empty where the reply had none.
    pub enhanced: String,
    /// The lines' texts, joined with a line feed.
    pub text: String,
}

impl Reply {
    /// 2yz.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 5yz.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        for part in [self.enhanced.as_str(), &self.text.replace('\n', " / ")] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The transaction ran to its end; see the recipients.
    Transacted,
    /// No connection.
    Unreachable,
    /// Connected, but not proved.
    WrongHost,
    /// The proved host's 5yz to greeting or EHLO, or one to MAIL that is about the session (502, 503, 530).
    Refused,
    /// 4yz to greeting or EHLO, or 421.
    Busy,
    /// Broke after the proof and before the final dot: nothing was delivered.
    Broken,
    /// Broke or stalled after the final dot: nobody knows.
    InDoubt,
    /// The agent's own trouble: counts against nobody.
    AgentTrouble,
}

/// What became of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    Relayed,
    Deferred,
    Failed,
}

/// One recipient's share of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    pub number: RecipientNumber,
    pub disposition: Disposition,
    pub reply: Reply,
    pub told: Told,
    pub by: SaidBy,
}

/// Who has decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaidBy {
    TheSite,
    /// The message needs what the site does not offer, and the site was not asked: final, and no evidence about the site.
    TheAgent,
}

/// Whether the far end was told what the sender wants to be told of (RFC 3461 §5.2): for a recipient it accepted that
/// is its job then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    PassedOn,
    /// It does not offer DSN.
    NotPassedOn,
}

/// One attempt has ended: all the evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub lease: Lease,
    pub session: SessionId,
    pub outcome: Outcome,
    /// One sentence for people.
    pub detail: String,
    pub observed: Observed,
    pub recipients: Vec<RecipientResult>,
    /// The final dot, or its first byte, may have reached the site.
    pub dot_sent: bool,
    /// The reply that ended the attempt for the whole site, if one did.
    pub reply: Option<Reply>,
    pub delays: Delays,
    /// The agent's wall clock.
    pub at: Timestamp,
    /// What the deciding reply answered, or what was awaited when the session ended.
    pub stage: Stage,
}

/// The command whose answer decided an attempt, for an answer is about what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// An agent that does not say.
    Unknown,
    /// Greeting, EHLO, STARTTLS.
    Session,
    Mail,
    Rcpt,
    Data,
    /// The content, up to its final dot.
    Content,
    EndOfData,
}

impl Report {
    /// What the site itself has answered: all that speaks for it or against it.
    pub fn answers(&self) -> impl Iterator<Item = &RecipientResult> {
        let results = self.recipients.iter();
        results.filter(|result| result.by == SaidBy::TheSite)
    }

    /// Whether the site has the message for somebody.
    pub fn accepted_some(&self) -> bool {
        let mut results = self.recipients.iter();
        results.any(|result| result.disposition == Disposition::Relayed)
    }

    /// Whether nothing is left to be done.
    pub fn accepted_all(&self) -> bool {
        let mut results = self.recipients.iter();
        let relayed = |result: &RecipientResult| result.disposition == Disposition::Relayed;
        self.outcome == Outcome::Transacted && results.all(relayed)
    }
}

/// From the assignment on; zero where not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delays {
    pub connect: Duration,
    pub proof: Duration,
    pub total: Duration,
}

/// What was seen at the far end, on which the proof ruled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// host:port as configured.
    pub host: String,
    /// Address and port connected to.
    pub peer: String,
    /// The agent's own address.
    pub local: String,
    pub greeting: String,
    /// "TLSv1.3", "TLSv1.2"; empty without TLS.
    pub tls_version: String,
    pub tls_cipher: String,
    pub certificate: Option<PeerCertificate>,
    /// The kind of the proof that ruled.
    pub proof: String,
    /// Why the proof was withheld.
    pub refusal: Option<RefusalReason>,
}

/// The certificate the far end presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    /// Of the DER, lower-case hexadecimal.
    pub sha256: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub chain_length: u32,
    /// Of the public key (SubjectPublicKeyInfo), lower-case hexadecimal.
    pub spki_sha256: String,
}

/// Proof withheld, as it travels: a greppable word and one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalReason {
    pub reason: String,
    pub sentence: String,
    /// What the site's record asks for.
    pub wanted: String,
    /// What was there instead.
    pub seen: String,
}

/// Written to the agent's journal before the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotSent {
    pub lease: Lease,
    /// The recipients the site accepted at RCPT.
    pub recipients: Vec<RecipientNumber>,
}

/// Why an assignment goes back untried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GivenBack {
    StalePlan,
    Closing,
    LeaseExpired,
    SessionEnded,
    /// The site was released, and its session did not answer.
    Recalled,
}
