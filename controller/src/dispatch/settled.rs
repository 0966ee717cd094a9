//! The second log line of a message's life: one for each site, when its settlement is durable.

use std::fmt::Write as _;
use std::time::Duration;

use dd_proto::id::{DeliveryId, RecipientNumber};
use dd_proto::report::{Delays, RecipientResult, SaidBy};

use super::event::{By, Evidence, Settle};
use super::mail::Mail;
use crate::dsn::{Notifier, smarthost};
use crate::store::Settled;

/// How many different answers a line has.
const MOST_ANSWERS: usize = 8;

/// `mail`: None where it cannot be read.
pub(super) fn log(settle: &Settle, mail: Option<&Mail>, notifier: &Notifier) {
    let evidence = &settle.evidence;
    let reply = replies(&evidence.results, |number| path(mail, number));
    let delivery = &settle.settlement.delivery;
    let message_id = mail.map_or("", |mail| &mail.message_id);
    let reverse_path = mail.map_or("", |mail| mail.envelope.reverse_path.as_str());
    let (recipients, what) = (paths(settle, mail), what(settle));
    if delivery.site.as_str() == smarthost::NAME && gave_up(settle) {
        notifier.undeliverable(delivery.message, &recipients, &reply);
    }
    match &evidence.by {
        By::Site {
            agent,
            address,
            proof,
            ..
        } => tracing::info!(
            target: "mail",
            id = %delivery.message,
            message_id,
            reverse_path,
            recipients,
            site = %delivery.site,
            agent = %agent,
            address,
            proof,
            reply,
            delays = delays(evidence),
            "{what}"
        ),
        By::Lifetime | By::Operator => tracing::info!(
            target: "mail",
            id = %delivery.message,
            message_id,
            reverse_path,
            recipients,
            site = %delivery.site,
            reply,
            delays = delays(evidence),
            "{what}"
        ),
    }
}

fn gave_up(settle: &Settle) -> bool {
    let mut recipients = settle.settlement.recipients.iter();
    recipients.any(|(_, settled)| matches!(settled, Settled::Failed | Settled::Expired))
}

/// The line's word. What the site answered is settled, whatever it was.
fn what(settle: &Settle) -> &'static str {
    let all = |what| {
        let mut recipients = settle.settlement.recipients.iter();
        recipients.all(|(_, settled)| *settled == what)
    };
    match settle.evidence.by {
        By::Operator if all(Settled::Removed) => "removed",
        By::Operator => "given up",
        By::Lifetime => "expired",
        By::Site { .. } => "settled",
    }
}

/// Whoever finds two copies of a message finds this line too: the second went out knowingly.
pub(super) fn log_again(delivery: &DeliveryId) {
    tracing::info!(
        target: "mail",
        id = %delivery.message,
        site = %delivery.site,
        "sent again in doubt"
    );
}

/// What was answered: once, where all were answered alike; else who was answered what, in the order of the answers.
fn replies<'p>(
    results: &[RecipientResult],
    path: impl Fn(RecipientNumber) -> Option<&'p str>,
) -> String {
    let Some((first, rest)) = results.split_first() else {
        return String::new();
    };
    let first = said(first);
    if rest.iter().all(|it| said(it) == first) {
        return first;
    }
    let mut answers: Vec<(String, Vec<&str>)> = Vec::new();
    let mut others = 0_u32;
    for result in results {
        let (reply, whose) = (said(result), path(result.number).unwrap_or("?"));
        match answers.iter().position(|(known, _)| *known == reply) {
            Some(at) => answers[at].1.push(whose),
            // Each answer may have a page of its own; a line of the log has not.
            None if answers.len() == MOST_ANSWERS => others += 1,
            None => answers.push((reply, vec![whose])),
        }
    }
    let told = answers.iter();
    let told = told.map(|(reply, whose)| format!("{}: {reply}", whose.join(",")));
    let told = told.collect::<Vec<_>>().join("; ");
    match others {
        0 => told,
        others => format!("{told}; and {others} more, answered otherwise"),
    }
}

fn said(result: &RecipientResult) -> String {
    match result.reply.code {
        // The site gave none.
        0 => result.reply.text.clone(),
        _ if result.by == SaidBy::TheAgent => format!("not sent: {}", result.reply),
        _ => result.reply.to_string(),
    }
}

fn path(mail: Option<&Mail>, number: RecipientNumber) -> Option<&str> {
    let recipients = &mail?.envelope.recipients;
    let recipient = recipients.iter().find(|it| it.number == number);
    recipient.map(|it| it.path.as_str())
}

fn paths(settle: &Settle, mail: Option<&Mail>) -> String {
    let settled = &settle.settlement.recipients;
    let is_settled = |number| settled.iter().any(|(settled, _)| *settled == number);
    let recipients = mail.into_iter().flat_map(|mail| &mail.envelope.recipients);
    let settled = recipients.filter(|recipient| is_settled(recipient.number));
    let paths: Vec<&str> = settled.map(|recipient| recipient.path.as_str()).collect();
    paths.join(",")
}

/// In seconds: since it arrived; of that connecting, until the proof, and until the reply, each since it was assigned.
fn delays(evidence: &Evidence) -> String {
    let delays = match &evidence.by {
        By::Site { delays, .. } => *delays,
        By::Lifetime | By::Operator => Delays::default(),
    };
    let parts = [evidence.waited, delays.connect, delays.proof, delays.total];
    let mut told = String::with_capacity(32);
    for part in parts {
        let rounded = part + Duration::from_micros(500);
        let separator = if told.is_empty() { "" } else { "/" };
        // Writing into a String cannot fail.
        let _ = write!(told, "{separator}{}.", rounded.as_secs());
        let digits = [100, 10, 1].map(|power| rounded.subsec_millis() / power % 10);
        told.extend(digits.into_iter().filter_map(|it| char::from_digit(it, 10)));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dd_proto::report::{Disposition, Reply, Told};

    use super::*;

    fn answered(number: u16, code: u16, text: &str) -> RecipientResult {
        RecipientResult {
            number: RecipientNumber(number),
            disposition: Disposition::Failed,
            reply: Reply {
                code,
                enhanced: String::new(),
                text: text.to_owned(),
            },
            told: Told::NotPassedOn,
            by: SaidBy::TheSite,
        }
    }

    #[test]
    fn a_line_says_who_was_answered_what_where_answers_differ() {
        let paths = ["a@home.example", "b@home.example", "c@home.example"];
        let path = |number: RecipientNumber| paths.get(usize::from(number.0)).copied();
        let taken = |number| answered(number, 250, "ok");
        let refused = |number| answered(number, 550, "no such user");
        for (results, expected) in [
            (vec![], ""),
            (vec![taken(0)], "250 ok"),
            (vec![refused(0), refused(1)], "550 no such user"),
            (
                vec![refused(1), taken(0), refused(2)],
                "b@home.example,c@home.example: 550 no such user; a@home.example: 250 ok",
            ),
            (
                vec![taken(0), refused(9)],
                "a@home.example: 250 ok; ?: 550 no such user",
            ),
        ] {
            assert_eq!(replies(&results, path), expected);
        }
        let many: Vec<_> = (0..1000)
            .map(|n| answered(0, 550, &n.to_string()))
            .collect();
        let line = replies(&many, path);
        assert_eq!(line.matches("550").count(), MOST_ANSWERS);
        assert!(
            line.ends_with("; and 992 more, answered otherwise"),
            "{line}"
        );
    }

    #[test]
    fn delays_are_seconds_to_the_thousandth() {
        let evidence = |waited| Evidence {
            waited,
            results: Vec::new(),
            by: By::Lifetime,
        };
        for (waited, expected) in [
            (Duration::from_micros(499), "0.000/0.000/0.000/0.000"),
            (Duration::from_micros(500), "0.001/0.000/0.000/0.000"),
            (Duration::from_micros(3_999_600), "4.000/0.000/0.000/0.000"),
            (
                Duration::from_millis(432_000_020),
                "432000.020/0.000/0.000/0.000",
            ),
        ] {
            assert_eq!(delays(&evidence(waited)), expected);
        }
    }
}
