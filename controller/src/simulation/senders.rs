//! What senders have to be told: worked out here from what becomes of their mail, and held against the reports that the
//! store is asked to take and the smarthost gets.
//!
//! # Invariants checked
//! - A report goes into the record that settles what it is about, and names just those whose sender asked for it.
//! - Nothing is said about a null reverse-path.
//! - Once all has recovered, each recipient that failed or expired is in one report, neither more nor less, though
//!   the process was killed and the power cut in between.

use std::collections::BTreeMap;

use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::path::ReversePath;

use super::ledger::{Entries, To};
use crate::store::{Note, Notification, Owing, Settled, Settlement};

/// RFC 3464 §2.3.3, as the report says it.
type Said = BTreeMap<RecipientNumber, String>;

/// Where reports leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Smarthost {
    /// Nowhere: they wait, and are owed by nobody.
    #[default]
    Missing,
    There,
}

#[derive(Debug, Default)]
pub(super) struct Senders {
    pub(super) smarthost: Smarthost,
    mail: BTreeMap<MessageId, Envelope>,
    /// Reports that the store was asked to take, durable or not, and what each is about.
    reports: BTreeMap<DeliveryId, (DeliveryId, Said)>,
}

impl Senders {
    pub(super) fn sent(&mut self, id: MessageId, envelope: Envelope) {
        self.mail.insert(id, envelope);
    }

    /// The store is asked. Returns the report, which is mail that we owe once the store has answered.
    ///
    /// `unread`: the disk may have lost who the sender is, and then nobody can be told.
    ///
    /// # Errors
    /// Not what is owed goes with it.
    pub(super) fn settling(
        &mut self,
        owing: &Owing<Settlement>,
        unread: bool,
    ) -> Result<Option<To>, String> {
        let delivery = &owing.what.delivery;
        let said = |(number, settled): &(RecipientNumber, Settled)| {
            let (word, said) = match settled {
                Settled::Failed | Settled::Expired => ("FAILURE", "failed"),
                Settled::Relayed => ("SUCCESS", "relayed"),
                Settled::Removed => return None,
            };
            let wanted = self.wants(delivery, *number, word);
            wanted.then(|| (*number, said.to_owned()))
        };
        let owed: Said = owing.what.recipients.iter().filter_map(said).collect();
        let report = owing.dsn.as_ref();
        let told = report.map(says).unwrap_or_default();
        if told != owed && (report.is_some() || !unread) {
            return Err(format!(
                "{delivery}: {owed:?} is owed, and {told:?} is told"
            ));
        }
        Ok(report.and_then(|report| self.reported(delivery, report)))
    }

    pub(super) fn noting(&mut self, owing: &Owing<Note>) -> Option<To> {
        let (delivery, report) = (&owing.what.delivery, owing.dsn.as_ref()?);
        for (number, said) in says(report) {
            assert_eq!(said, "delayed", "{delivery}");
            assert!(
                self.wants(delivery, number, "DELAY"),
                "{delivery} {number:?}"
            );
        }
        self.reported(delivery, report)
    }

    fn reported(&mut self, about: &DeliveryId, report: &Notification) -> Option<To> {
        assert_eq!(report.envelope.reverse_path, ReversePath::Null);
        let delivery = DeliveryId {
            message: report.id,
            site: report.site.clone(),
        };
        self.mail.insert(report.id, report.envelope.clone());
        let about = (about.clone(), says(report));
        let before = self.reports.insert(delivery.clone(), about);
        assert!(before.is_none(), "{delivery} is there twice");
        (self.smarthost == Smarthost::There).then_some((delivery, RecipientNumber(0)))
    }

    /// RFC 3461 §4.1: without NOTIFY failures and delays are told.
    fn wants(&self, delivery: &DeliveryId, number: RecipientNumber, word: &str) -> bool {
        let envelope = &self.mail[&delivery.message];
        let mut recipients = envelope.recipients.iter();
        let recipient = recipients.find(|it| it.number == number).unwrap();
        let notify = recipient.notify.as_deref().unwrap_or("FAILURE,DELAY");
        envelope.reverse_path != ReversePath::Null && notify.contains(word)
    }
}

/// Recipients are called `r` and their number.
fn says(report: &Notification) -> Said {
    let text = std::str::from_utf8(&report.content).unwrap();
    let mut said = Said::new();
    let mut last = None;
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("Final-Recipient: rfc822;") {
            let number = path
                .trim()
                .strip_prefix('r')
                .and_then(|it| it.split_once('@'));
            last = Some(RecipientNumber(number.unwrap().0.parse().unwrap()));
        } else if let Some(action) = line.strip_prefix("Action: ") {
            said.insert(last.take().unwrap(), action.to_owned());
        }
    }
    assert!(!said.is_empty(), "{text}");
    said
}

impl Entries {
    /// When all has recovered, and nothing waits any more.
    pub(super) fn everybody_was_told(&self) {
        if self.senders.smarthost == Smarthost::Missing {
            return;
        }
        for to in self.acknowledged.iter().filter(|to| !self.is_unread(&to.0)) {
            let (failed, relayed) = (
                self.reports_of(to, "failed"),
                self.reports_of(to, "relayed"),
            );
            let wants = |word| usize::from(self.senders.wants(&to.0, to.1, word));
            // What was settled may be durable though nobody lived to be told.
            let (least, most, successes) = match self.settled.get(to) {
                Some(Settled::Failed | Settled::Expired) => (1, 1, 0..=0),
                Some(Settled::Relayed) => (0, 0, 1..=1),
                Some(Settled::Removed) => (0, 0, 0..=0),
                None if self.given_up.contains(&to.0) => (0, 1, 0..=1),
                None if self.received.has(to) => (0, 1, 0..=1),
                None => (1, 1, 0..=0),
            };
            let wanted = wants("FAILURE");
            assert!(
                (least * wanted..=most * wanted).contains(&failed),
                "{} {:?}: {failed} reports of a failure:\n{}",
                to.0,
                to.1,
                self.life_of(&to.0)
            );
            let wanted = wants("SUCCESS");
            let successes = successes.start() * wanted..=successes.end() * wanted;
            assert!(
                successes.contains(&relayed),
                "{} {:?}: {relayed} reports of a success:\n{}",
                to.0,
                to.1,
                self.life_of(&to.0)
            );
        }
    }

    /// Reports that are at the smarthost, or that it refused, or that an operator gave up, or the disk lost.
    fn reports_of(&self, to: &To, said: &str) -> usize {
        let reports = self.senders.reports.iter();
        let about = reports.filter(|(_, (about, says))| {
            *about == to.0 && says.get(&to.1).is_some_and(|it| it == said)
        });
        let durable = about.filter(|(report, _)| {
            let to = ((*report).clone(), RecipientNumber(0));
            let refused = self.refused.contains(&to);
            let went = self.received.has(&to) || refused || self.given_up.contains(&to.0);
            went || self.is_unread(report)
        });
        durable.count()
    }
}
