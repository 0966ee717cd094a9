//! What a report must not say: the rules of `docs/agent-protocol.md`, one after the other.

use std::collections::BTreeSet;

use dd_proto::pb;

use super::Flaw;
use super::given::Out;

/// Looks at a report by itself, and beside what was assigned where that is known.
///
/// # Errors
/// It lacks something, or contradicts itself.
pub(super) fn judge(report: &pb::Report, out: Option<&Out>) -> Result<(), Flaw> {
    lease(report)?;
    if report.outcome == 0 {
        return Err(missing("outcome"));
    }
    if let Some(reply) = &report.reply {
        code(reply, "reply.code")?;
    }
    for result in &report.recipients {
        recipient(result).map_err(|flaw| flaw.of(result.number))?;
    }
    if let Some(number) = named_twice(report) {
        return Err(Flaw::new("number", "is named twice").of(number));
    }
    // What a later version calls an outcome is not known here: its recipients' answers are.
    if let Ok(outcome) = pb::Outcome::try_from(report.outcome) {
        ends(report, outcome)?;
    }
    let dot = report.dot_sent || out.is_some_and(|out| out.dot_told);
    if let Some(relayed) = report.recipients.iter().find(|it| is_relayed(it))
        && !dot
    {
        let says = "is RELAYED, and no dot was sent: dot_sent is false, and no DotSent came";
        return Err(Flaw::new("disposition", says).of(relayed.number));
    }
    match out {
        Some(out) => assigned(report, out),
        None => Ok(()),
    }
}

/// Whether something in it says that the site may have the message.
pub(super) fn may_have_sent_a_dot(report: &pb::Report) -> bool {
    report.dot_sent
        || report.outcome == i32::from(pb::Outcome::InDoubt)
        || report.recipients.iter().any(is_relayed)
}

fn missing(field: &'static str) -> Flaw {
    Flaw::new(field, "is missing, or a name that is spelt wrong")
}

fn is_relayed(result: &pb::RecipientResult) -> bool {
    result.disposition == i32::from(pb::Disposition::Relayed)
}

fn lease(report: &pb::Report) -> Result<(), Flaw> {
    let Some(lease) = &report.lease else {
        return Err(Flaw::new("lease", "is missing"));
    };
    if lease.message_id.len() != 16 {
        let says = format!("has {} bytes: expected 16", lease.message_id.len());
        return Err(Flaw::new("lease.message_id", says));
    }
    if lease.generation.is_none() {
        return Err(Flaw::new("lease.generation", "is missing"));
    }
    Ok(())
}

fn code(reply: &pb::Reply, field: &'static str) -> Result<(), Flaw> {
    match reply.code {
        200..600 => Ok(()),
        other => {
            let says = format!("is {other}, which is no reply: expected 200 to 599");
            Err(Flaw::new(field, says))
        }
    }
}

/// One recipient's answer, and whether it is one to say so.
fn recipient(result: &pb::RecipientResult) -> Result<(), Flaw> {
    if result.number > u32::from(u16::MAX) {
        return Err(Flaw::new("number", "is no recipient's"));
    }
    let Some(reply) = &result.reply else {
        return Err(Flaw::new("reply", "is missing"));
    };
    code(reply, "reply.code")?;
    let against = |word: &str, expected: &str| {
        let says = format!("is {word}, and the reply is {}, no {expected}", reply.code);
        Err(Flaw::new("disposition", says))
    };
    if result.not_asked && result.disposition != i32::from(pb::Disposition::Failed) {
        let says =
            "is no FAILED, and not_asked is true: what a site was not asked cannot be tried again";
        return Err(Flaw::new("disposition", says));
    }
    match (pb::Disposition::try_from(result.disposition), reply.code / 100) {
        (Ok(pb::Disposition::Unspecified), _) => Err(missing("disposition")),
        (Err(_), _) => {
            let says = format!("is {}, which this controller does not know", result.disposition);
            Err(Flaw::new("disposition", says))
        }
        (Ok(pb::Disposition::Relayed), 2)
        // A 5yz may be taken for one that passes (RFC 5321 §4.5.3.1.10: 552 to RCPT).
        | (Ok(pb::Disposition::Deferred), 4 | 5)
        | (Ok(pb::Disposition::Failed), 5) => Ok(()),
        (Ok(pb::Disposition::Relayed), _) => against("RELAYED", "2yz"),
        (Ok(pb::Disposition::Deferred), _) => against("DEFERRED", "4yz or 5yz"),
        (Ok(pb::Disposition::Failed), _) => against("FAILED", "5yz"),
    }
}

/// How it ended, beside the dot and the answers.
fn ends(report: &pb::Report, outcome: pb::Outcome) -> Result<(), Flaw> {
    use pb::Outcome as O;
    let word = outcome.as_str_name();
    match outcome {
        O::Transacted if report.recipients.is_empty() => {
            let says = "is empty: OUTCOME_TRANSACTED says what each recipient was answered";
            Err(Flaw::new("recipients", says))
        }
        // In LMTP a host answers for some behind the dot, and is lost before it has for others (RFC 2033 §4.2).
        O::Transacted | O::Unspecified | O::InDoubt => Ok(()),
        _ if report.recipients.iter().any(is_relayed) => {
            let says = format!("is {word}, and a recipient is RELAYED: that is OUTCOME_TRANSACTED");
            Err(Flaw::new("outcome", says))
        }
        _ if report.dot_sent => {
            let says = format!(
                "is {word}, and dot_sent is true: what ends behind the dot without an answer is OUTCOME_IN_DOUBT"
            );
            Err(Flaw::new("outcome", says))
        }
        _ => Ok(()),
    }
}

/// Only those that were assigned. Who is not named is open, also with `OUTCOME_TRANSACTED`: one too many for a transaction.
fn assigned(report: &pb::Report, out: &Out) -> Result<(), Flaw> {
    let mut numbers = report.recipients.iter().map(|it| it.number);
    match numbers.find(|number| !out.recipients.contains(number)) {
        Some(stranger) => Err(Flaw::new("number", "was not in the assignment").of(stranger)),
        None => Ok(()),
    }
}

/// Most reports are about one.
fn named_twice(report: &pb::Report) -> Option<u32> {
    if report.recipients.len() < 2 {
        return None;
    }
    let mut named = BTreeSet::new();
    let mut numbers = report.recipients.iter().map(|it| it.number);
    numbers.find(|number| !named.insert(*number))
}
