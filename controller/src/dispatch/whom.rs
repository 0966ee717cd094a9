//! From whom and to whom a message is, as far as dispatch has to tell one from another.
//!
//! The queue's index does not say it. Whoever sends an assignment has the envelope in memory and tells it then, so every
//! answer finds it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use dd_proto::envelope::Envelope;
use dd_proto::id::RecipientNumber;

/// Of a message to many, so many recipients are told apart.
const MOST: usize = 8;

/// The paths' digests: they are compared and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whom {
    pub(super) sender: u64,
    recipients: Vec<(RecipientNumber, u64)>,
}

impl Whom {
    pub(super) fn of(envelope: &Envelope, open: &[RecipientNumber]) -> Self {
        let recipients = envelope.recipients.iter();
        let recipients = recipients.filter(|recipient| open.contains(&recipient.number));
        let recipients: Vec<_> = recipients
            .take(MOST)
            .map(|recipient| (recipient.number, digest(recipient.path.as_str())))
            .collect();
        // Reports come from nobody, whoever they are about: they are told apart by whom they are for.
        let sender = match envelope.reverse_path.as_str() {
            "" => recipients.first().map(|it| it.1).unwrap_or_default(),
            path => digest(path),
        };
        Self { sender, recipients }
    }

    /// These of the recipients, as far as they are told apart.
    pub(super) fn recipients(&self, of: impl Iterator<Item = RecipientNumber>) -> Vec<u64> {
        let named = |number| self.recipients.iter().find(|it| it.0 == number);
        of.filter_map(named).map(|it| it.1).collect()
    }

    /// A sender and a recipient of its own.
    #[cfg(test)]
    pub(crate) fn made_up(sender: u64, recipient: u64) -> Self {
        Self {
            sender,
            recipients: vec![(RecipientNumber(0), recipient)],
        }
    }
}

fn digest(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.to_ascii_lowercase().hash(&mut hasher);
    hasher.finish()
}

/// Answers of one kind in a row, with nothing accepted between: to how many different senders and recipients.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) count: u32,
    senders: Few,
    recipients: Few,
}

impl Run {
    pub(super) fn add(&mut self, whom: Option<&Whom>) {
        self.count += 1;
        if let Some(whom) = whom {
            let recipients: Vec<u64> = whom.recipients.iter().map(|it| it.1).collect();
            self.names_also(whom.sender, &recipients);
        }
    }

    /// One that was counted hit these.
    pub(super) fn names_also(&mut self, sender: u64, recipients: &[u64]) {
        self.senders.add(sender);
        for recipient in recipients {
            self.recipients.add(*recipient);
        }
    }

    pub(super) fn senders(&self) -> usize {
        self.senders.0.len()
    }

    pub(super) fn recipients(&self) -> usize {
        self.recipients.0.len()
    }

    pub(super) fn names(&self, recipient: u64) -> bool {
        self.recipients.0.contains(&recipient)
    }

    /// Several different senders and recipients got it.
    pub(super) fn hits_several(&self) -> bool {
        self.senders() >= 2 && self.recipients() >= 2
    }
}

/// Different ones, no more than matter.
#[derive(Debug, Default)]
struct Few(Vec<u64>);

impl Few {
    fn add(&mut self, one: u64) {
        if self.0.len() < 3 && !self.0.contains(&one) {
            self.0.push(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsn::samples;
    use dd_proto::path::ReversePath;

    #[test]
    fn reports_from_nobody_are_told_apart_by_whom_they_are_for() {
        let mut run = Run::default();
        for recipient in ["a@x.example", "b@x.example"] {
            let mut envelope = samples::envelope(&[recipient]);
            envelope.reverse_path = ReversePath::Null;
            let open: Vec<_> = envelope.recipients.iter().map(|it| it.number).collect();
            run.add(Some(&Whom::of(&envelope, &open)));
        }
        assert!(run.hits_several());
    }
}
