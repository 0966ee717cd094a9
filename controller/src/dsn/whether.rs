//! Which recipients of a message its sender is owed a word about, and which word. Pure.
//!
//! # Invariants
//! - Nothing is ever owed about a message with the null reverse-path: that is a notification itself, and answering it
//!   could go on for ever (RFC 5321 §4.5.5, RFC 3461 §6.1).
//! - What NOTIFY does not ask for is not told; without NOTIFY failures and delays are, successes are not.
//!
//! # Not here
//! The words: [`super::text`].

use dd_proto::envelope::{Envelope, Recipient};
use dd_proto::id::RecipientNumber;
use dd_proto::path::ReversePath;
use dd_proto::report::{Reply, Told};
use jiff::Timestamp;

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    pub number: RecipientNumber,
    pub what: What,
    /// The site's answer; with code 0 a sentence about why there is none.
    pub reply: Option<Reply>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The site has it.
    Relayed(Told),
    /// The site's final answer.
    Failed,
    /// An operator's decision that its sender shall know of.
    GivenUp,
    /// Its lifetime is over.
    Expired,
    /// An operator's decision that its sender shall not know of.
    Removed,
    /// It is late, and tried until then.
    Delayed { until: Timestamp },
}

/// What a report says about a recipient: RFC 3464 §2.3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Relayed,
    Delayed,
    Failed,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
        }
    }
}

/// One recipient that the sender is told about.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    pub recipient: &'a Recipient,
    pub fate: &'a Fate,
    pub action: Action,
}

/// The recipients that the sender is owed a word about; all of them go into one report.
pub fn owed<'a>(envelope: &'a Envelope, fates: &'a [Fate]) -> Vec<Entry<'a>> {
    if envelope.reverse_path == ReversePath::Null {
        return Vec::new();
    }
    let entry = |fate: &'a Fate| {
        let mut recipients = envelope.recipients.iter();
        let recipient = recipients.find(|it| it.number == fate.number)?;
        let action = action(fate.what)?;
        wanted(recipient.notify.as_deref(), action).then_some(Entry {
            recipient,
            fate,
            action,
        })
    };
    fates.iter().filter_map(entry).collect()
}

fn action(what: What) -> Option<Action> {
    match what {
        // RFC 3461 §5.2.2: who was told what the sender asked tells the sender.
        What::Relayed(Told::PassedOn) | What::Removed => None,
        // RFC 3461 §5.2.3: we are the last who could.
        What::Relayed(Told::NotPassedOn) => Some(Action::Relayed),
        What::Failed | What::GivenUp | What::Expired => Some(Action::Failed),
        What::Delayed { .. } => Some(Action::Delayed),
    }
}

/// RFC 3461 §4.1 and §5.2.5.
fn wanted(notify: Option<&str>, action: Action) -> bool {
    let Some(notify) = notify else {
        return action != Action::Relayed;
    };
    let word = match action {
        Action::Relayed => "SUCCESS",
        Action::Delayed => "DELAY",
        Action::Failed => "FAILURE",
    };
    notify.split(',').any(|it| it.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsn::samples::envelope;
    use proptest::prelude::*;

    const UNTIL: Timestamp = Timestamp::UNIX_EPOCH;

    fn check(notify: Option<&str>, what: What) -> Option<&'static str> {
        let mut envelope = envelope(&["a@home.example"]);
        envelope.recipients[0].notify = notify.map(str::to_owned);
        let fates = [Fate {
            number: RecipientNumber(0),
            what,
            reply: None,
        }];
        let owed = owed(&envelope, &fates);
        owed.first().map(|entry| entry.action.as_str())
    }

    #[test]
    fn what_a_sender_is_told_is_what_was_asked_for() {
        let relayed = What::Relayed(Told::NotPassedOn);
        let passed_on = What::Relayed(Told::PassedOn);
        let delayed = What::Delayed { until: UNTIL };
        for (notify, what, expected) in [
            (None, What::Failed, Some("failed")),
            (None, What::Expired, Some("failed")),
            (None, What::GivenUp, Some("failed")),
            (None, What::Removed, None),
            (None, delayed, Some("delayed")),
            (None, relayed, None),
            (Some("NEVER"), What::Failed, None),
            (Some("NEVER"), What::Expired, None),
            (Some("never"), delayed, None),
            (Some("NEVER"), relayed, None),
            (Some("SUCCESS"), relayed, Some("relayed")),
            (Some("SUCCESS"), passed_on, None),
            (Some("SUCCESS"), What::Failed, None),
            (Some("SUCCESS"), delayed, None),
            (Some("FAILURE"), What::Failed, Some("failed")),
            (Some("FAILURE"), What::GivenUp, Some("failed")),
            (Some("FAILURE"), What::Removed, None),
            (Some("FAILURE"), relayed, None),
            (Some("FAILURE"), delayed, None),
            (Some("DELAY"), delayed, Some("delayed")),
            (Some("DELAY"), What::Failed, None),
            (Some("success,Failure"), relayed, Some("relayed")),
            (Some("success,Failure"), What::Expired, Some("failed")),
            (Some("SUCCESS,FAILURE,DELAY"), passed_on, None),
            (Some("SUCCESS,FAILURE,DELAY"), delayed, Some("delayed")),
        ] {
            assert_eq!(check(notify, what), expected, "{notify:?} {what:?}");
        }
    }

    #[test]
    fn only_recipients_that_are_owed_a_word_are_in_the_report() {
        let mut envelope = envelope(&["a@home.example", "b@home.example", "c@home.example"]);
        envelope.recipients[2].notify = Some("NEVER".to_owned());
        let fates = [1, 2].map(|number| Fate {
            number: RecipientNumber(number),
            what: What::Failed,
            reply: None,
        });
        let owed = owed(&envelope, &fates);
        let paths: Vec<_> = owed.iter().map(|it| it.recipient.path.as_str()).collect();
        assert_eq!(paths, ["b@home.example"]);
    }

    fn whats() -> impl Strategy<Value = What> {
        prop_oneof![
            Just(What::Relayed(Told::PassedOn)),
            Just(What::Relayed(Told::NotPassedOn)),
            Just(What::Failed),
            Just(What::GivenUp),
            Just(What::Expired),
            Just(What::Removed),
            Just(What::Delayed { until: UNTIL }),
        ]
    }

    fn notifies() -> impl Strategy<Value = Option<String>> {
        let words = proptest::sample::subsequence(vec!["SUCCESS", "FAILURE", "DELAY"], 1..=3);
        let some = prop_oneof![Just("NEVER".to_owned()), words.prop_map(|it| it.join(","))];
        proptest::option::of(some)
    }

    proptest! {
        #[test]
        fn nothing_is_owed_about_a_null_reverse_path(
            all in proptest::collection::vec((whats(), notifies()), 1..6),
        ) {
            let paths: Vec<String> = (0..all.len()).map(|n| format!("u{n}@home.example")).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let mut envelope = envelope(&paths);
            let mut fates = Vec::new();
            for (recipient, (what, notify)) in envelope.recipients.iter_mut().zip(all) {
                recipient.notify = notify;
                fates.push(Fate { number: recipient.number, what, reply: None });
            }
            let never = |it: &Entry<'_>| it.recipient.notify.as_deref() == Some("NEVER");
            prop_assert!(!owed(&envelope, &fates).iter().any(never));
            envelope.reverse_path = ReversePath::Null;
            prop_assert!(owed(&envelope, &fates).is_empty());
        }
    }
}
